//! Graphs of many nodes beside each other, each an output by its own name.

use candle_core::{Device, Tensor};
use compresso::model::{Constant, Element, Fact, Graph, GraphBuilder, Node, Value};
use compresso_test_support::Draw;
use std::collections::HashMap;

pub struct Cases {
    b: GraphBuilder,
    draw: Draw,
    feeds: HashMap<String, Value>,
    count: usize,
}

impl Cases {
    pub fn new(opset: i64) -> Self {
        Self { b: GraphBuilder::new("cases", opset), draw: Draw(opset as u64), feeds: HashMap::new(), count: 0 }
    }
    fn name(&mut self, stem: &str) -> String {
        self.count += 1;
        format!("{stem}{}", self.count)
    }
    /// An input of float32 from `low` to `high`.
    pub fn between(&mut self, dims: &[usize], low: f32, high: f32) -> String {
        let values: Vec<f32> = (0..dims.iter().product()).map(|_| low + (high - low) * self.draw.unit()).collect();
        self.fed(Value::plain(Tensor::from_vec(values, dims, &Device::Cpu).unwrap()).unwrap())
    }
    /// An input of float32 from -2 to 2.
    pub fn x(&mut self, dims: &[usize]) -> String {
        self.between(dims, -2.0, 2.0)
    }
    /// An input of these integers.
    pub fn ints(&mut self, dims: &[usize], values: &[i64]) -> String {
        self.fed(Value::new(Element::I64, Tensor::from_slice(values, dims, &Device::Cpu).unwrap()).unwrap())
    }
    pub fn fed(&mut self, value: Value) -> String {
        let name = self.name("in");
        self.b.input(&name, Fact::known(value.element, value.dims()));
        self.feeds.insert(name.clone(), value);
        name
    }
    /// A constant of float32 from -1 to 1.
    pub fn w(&mut self, dims: &[usize]) -> String {
        let values: Vec<f32> = (0..dims.iter().product()).map(|_| self.draw.signed()).collect();
        self.constant(Constant::floats(dims, &values).unwrap())
    }
    pub fn floats(&mut self, dims: &[usize], values: &[f32]) -> String {
        self.constant(Constant::floats(dims, values).unwrap())
    }
    /// A constant list of integers.
    pub fn list(&mut self, values: &[i64]) -> String {
        self.constant(Constant::ints(values))
    }
    pub fn constant(&mut self, value: Constant) -> String {
        let name = self.name("c");
        self.b.constant(&name, value)
    }
    /// A node in between.
    pub fn inner(&mut self, node: Node) -> String {
        self.b.node(node)
    }
    /// A node all of whose outputs are outputs of the graph.
    pub fn case(&mut self, label: &str, mut node: Node) {
        let label = self.name(&format!("{label} "));
        for (i, out) in node.outputs.iter_mut().enumerate() {
            *out = if i == 0 { label.clone() } else { format!("{label}, {i}") };
        }
        let outputs = node.outputs.clone();
        node.name.clone_from(&label);
        self.b.node(node);
        outputs.iter().for_each(|o| self.b.output(o));
    }
    /// A node with one output.
    pub fn op(&mut self, op: &str, inputs: &[&str], attrs: impl FnOnce(Node) -> Node) {
        self.case(op, attrs(Node::new(op, "", inputs.iter().copied(), [""])));
    }
    pub fn finish(self) -> (Graph, HashMap<String, Value>) {
        (self.b.finish().unwrap(), self.feeds)
    }
}
