//! If and Loop, inside which stand names that quantization would give.

use super::graphs::{Made, Random};
use compresso::model::{Attr, Constant, Element, Fact, GraphBuilder, Node, Payload};
use rand::prelude::*;

impl Random {
    /// A name that quantization gives to what belongs to `value`, unless an inner graph has it.
    fn clash(&mut self, value: &str) -> String {
        self.taken += 1;
        let part = self.one_of(&["scale", "zero_point", "quantized", "dequantized", "QuantizeLinear", "DequantizeLinear"]);
        let n = if self.rng.random_bool(0.5) { String::new() } else { format!("_{}", self.taken) };
        format!("{value}_{part}{n}")
    }
    /// A factor from an If, whose branches use names that quantization would give.
    pub(super) fn choice(&mut self, x: &Made) {
        let branch = |g: &mut Self, value: f32| {
            let mut b = GraphBuilder::new("branch", 17);
            let of = if g.rng.random_bool(0.5) { x.name.clone() } else { "w".into() };
            let names = [g.clash(&of), g.clash(&of)];
            let k = b.constant(&names[0], Constant::scalar(value));
            let out = if names[0] == names[1] { format!("{}_", names[1]) } else { names[1].clone() };
            b.node(Node::new("Identity", "", [k.as_str()], [out.as_str()]));
            b.output(&out);
            Attr::Graph(Box::new(b.finish().unwrap()))
        };
        let (then, other) = (branch(self, 0.5), branch(self, 2.0));
        let largest = self.node(Node::new("ReduceMax", "", ["x"], [""]).int("keepdims", 0));
        let least = self.b.constant("least", Constant::scalar(-1.0));
        let condition = self.node(Node::new("Greater", "", [largest.as_str(), &least], [""]));
        let factor = self.node(Node::new("If", "", [condition.as_str()], [""]).attr("then_branch", then).attr("else_branch", other));
        let node = self.op("Mul", &[&x.name, &factor]);
        let out = self.node(node);
        self.push(out, &x.dims);
    }
    /// A Loop that halves the value twice, with the same kind of names.
    pub(super) fn repeat(&mut self, x: &Made) {
        let mut b = GraphBuilder::new("body", 17);
        let stem = format!("loop{}", self.made.len());
        b.input(&format!("{stem}_round"), Fact::known(Element::I64, &[]));
        b.input(&format!("{stem}_go"), Fact::known(Element::Bool, &[]));
        let name = self.clash(&x.name);
        b.input(&name, Fact::known(Element::F32, &x.dims));
        let half = b.constant(&format!("{stem}_half"), Constant::scalar(0.5));
        b.node(Node::new("Identity", "", [format!("{stem}_go")], [format!("{stem}_goes")]));
        b.node(Node::new("Mul", "", [name.as_str(), half.as_str()], [format!("{stem}_next")]));
        b.output(&format!("{stem}_goes"));
        b.output(&format!("{stem}_next"));
        let body = Attr::Graph(Box::new(b.finish().unwrap()));
        let rounds =
            self.b.constant("rounds", Constant::new(Element::I64, vec![], Payload::Raw(2i64.to_le_bytes().to_vec().into())).unwrap());
        let out = self.node(Node::new("Loop", "", [rounds.as_str(), "", &x.name], [""]).attr("body", body));
        self.push(out, &x.dims);
    }
}
