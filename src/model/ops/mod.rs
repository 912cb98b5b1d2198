//! The operators: one file per family, one table entry per operator.
//!
//! An [`OpDef`] owns everything the library knows of an operator: shape rule, forward computation (differentiable where
//! the operator is), cost, channel rule for pruning, quantization rule. Each family file has a `pub const OPS: &[OpDef]`;
//! [`FAMILIES`] lists them. See docs/adding-an-op.md.

pub mod activation;
pub mod arithmetic;
pub mod cast;
pub mod channels;
pub mod concat;
pub mod constant;
pub mod control;
pub mod conv;
pub mod cost;
pub mod detection;
pub mod einsum;
pub mod elementwise;
pub mod facts;
pub mod gather;
pub mod grid_sample;
pub mod ints;
pub mod logic;
pub mod math;
pub mod matmul;
pub mod norm;
pub mod order;
pub mod pool;
pub mod quantize;
pub mod random;
pub mod rearrange;
pub mod reduce;
pub mod resize;
pub mod scatter;
pub mod shape;
pub mod slice;
pub mod softmax;
pub mod transpose;
pub mod window;

use super::graph::{Fact, Infer, Node};
use super::value::Value;
use candle_core::{DType, Device, Tensor};
use compresso_base::error::{Error, Result, nearest};
use std::collections::HashMap;
use std::sync::{Mutex, OnceLock};

pub use channels::Channels;
pub use cost::CostInput;

/// How static quantization treats an operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuantRule {
    /// Stays in floating point; its inputs are dequantized.
    Float,
    /// Multiplies with weights: the data input and the weight are quantized (bias stays float).
    /// `weight` is the input index of the weight, `axis` its output-channel axis.
    Weighted { weight: usize, axis: usize },
    /// Moves or selects values without changing them (MaxPool, Reshape, Concat, …): inputs and outputs share one scale.
    SameScale,
    /// May run on quantized inputs with an output scale of its own (Add, Mul, GlobalAveragePool, …).
    Elementwise,
}

/// What a constant float input of an operator is to training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ParamKind {
    /// Trained, with weight decay.
    Weight,
    /// Trained, without weight decay. On an operator that has no weight of its own (Add), only where it is added to the
    /// result of one that has.
    Bias,
    /// Scale of a norm: trained, without weight decay.
    Scale,
    /// Running mean or variance: not trained, updated by the operator in training mode.
    Statistic,
}

/// Everything the library knows of one operator.
pub struct OpDef {
    pub name: &'static str,
    /// Empty for the ONNX operator set.
    pub domain: &'static str,
    /// Operator-set versions at which the operator appeared or changed.
    pub since: &'static [i64],
    /// Facts of the outputs from those of the inputs. May return more facts than the node has outputs.
    pub infer: fn(&Infer<'_>) -> Result<Vec<Fact>>,
    pub forward: fn(&Exec<'_>) -> Result<Vec<Value>>,
    pub cost: fn(&CostInput<'_>) -> super::graph::Cost,
    pub channels: fn(&mut Channels<'_>) -> Result<()>,
    pub quant: QuantRule,
    /// True when constant inputs are parameters of the model (weights), not settings such as shapes and axes.
    pub weights: bool,
    /// Input indices that training changes where they are constants, and how.
    pub params: &'static [(usize, ParamKind)],
    /// False for operators whose result is not a function of their inputs (random numbers), or that need the enclosing
    /// graph (control flow).
    pub foldable: bool,
    /// The rule by which gradients flow back through a node in training, where there is one for these inputs. All inputs
    /// that are floating point are float32 on the CPU. Without a rule, candle differentiates [`OpDef::forward`].
    pub backward: fn(&Exec<'_>) -> Option<Rule>,
    /// True when the rule works on any device.
    pub backward_anywhere: bool,
}

/// How gradients flow back through a node: what each input receives, by its index, any number of times.
pub type Rule = fn(&Back<'_>) -> Result<Vec<(usize, Flow)>>;

/// What a [`Rule`] sees.
pub struct Back<'a> {
    /// The node with its inputs, as the forward computation saw them.
    pub cx: &'a Exec<'a>,
    /// What the forward computation returned; it may have returned more than the node has outputs.
    pub made: &'a [Value],
    /// Gradients of the node's outputs.
    pub gradients: Vec<Option<Tensor>>,
    /// Whether the gradient of each input is asked for; others are dropped.
    pub needs: &'a [bool],
}

impl Back<'_> {
    /// The gradient of the first output.
    ///
    /// # Errors
    /// `Internal` when there is none.
    pub fn gradient(&self) -> Result<&Tensor> {
        self.gradients.first().and_then(Option::as_ref).ok_or_else(|| Error::internal("a gradient of the first output is missing"))
    }
}

/// A gradient that an input receives.
#[derive(Debug, Clone)]
pub enum Flow {
    /// A contiguous tensor that nothing else holds: it may be changed.
    Own(Tensor),
    /// A tensor, or a view of one, that others may hold.
    Shared(Tensor),
    /// The gradient of some indices of an axis, from `start` on; the others receive zeros.
    Part { axis: usize, start: usize, gradient: Tensor },
}

impl OpDef {
    /// An operator with the defaults: no cost, channels may not be pruned through it, stays in float.
    pub const fn new(
        name: &'static str,
        since: &'static [i64],
        infer: fn(&Infer<'_>) -> Result<Vec<Fact>>,
        forward: fn(&Exec<'_>) -> Result<Vec<Value>>,
    ) -> Self {
        Self {
            name,
            domain: "",
            since,
            infer,
            forward,
            cost: cost::none,
            channels: channels::fixed,
            quant: QuantRule::Float,
            weights: false,
            params: &[],
            foldable: true,
            backward: |_| None,
            backward_anywhere: false,
        }
    }
    pub const fn cost(mut self, cost: fn(&CostInput<'_>) -> super::graph::Cost) -> Self {
        self.cost = cost;
        self
    }
    pub const fn channels(mut self, rule: fn(&mut Channels<'_>) -> Result<()>) -> Self {
        self.channels = rule;
        self
    }
    pub const fn quant(mut self, rule: QuantRule) -> Self {
        self.quant = rule;
        self
    }
    pub const fn weights(mut self) -> Self {
        self.weights = true;
        self
    }
    pub const fn params(mut self, params: &'static [(usize, ParamKind)]) -> Self {
        self.params = params;
        self
    }
    pub const fn backward(mut self, rule: fn(&Exec<'_>) -> Option<Rule>) -> Self {
        self.backward = rule;
        self
    }
    /// As [`OpDef::backward`], for inputs on any device.
    pub const fn backward_anywhere(mut self, rule: fn(&Exec<'_>) -> Option<Rule>) -> Self {
        self.backward = rule;
        self.backward_anywhere = true;
        self
    }
    pub const fn not_foldable(mut self) -> Self {
        self.foldable = false;
        self
    }
    pub const fn domain(mut self, domain: &'static str) -> Self {
        self.domain = domain;
        self
    }
}

/// The registration lines: every family's table.
pub const FAMILIES: &[&[OpDef]] = &[
    activation::OPS,
    arithmetic::OPS,
    cast::OPS,
    concat::OPS,
    constant::OPS,
    control::OPS,
    conv::OPS,
    detection::OPS,
    einsum::OPS,
    gather::OPS,
    grid_sample::OPS,
    logic::OPS,
    math::OPS,
    matmul::OPS,
    norm::OPS,
    order::OPS,
    pool::OPS,
    quantize::OPS,
    random::OPS,
    rearrange::OPS,
    reduce::OPS,
    resize::OPS,
    scatter::OPS,
    shape::OPS,
    slice::OPS,
    softmax::OPS,
    transpose::OPS,
];

/// The definition of a node's operator.
///
/// # Errors
/// `Unsupported`, naming the operator, with the nearest supported one.
pub fn find(node: &Node) -> Result<&'static OpDef> {
    static TABLE: OnceLock<HashMap<(&'static str, &'static str), &'static OpDef>> = OnceLock::new();
    let table = TABLE.get_or_init(|| FAMILIES.iter().flat_map(|f| f.iter()).map(|op| ((op.domain, op.name), op)).collect());
    let domain = if node.domain == "ai.onnx" { "" } else { node.domain.as_str() };
    table.get(&(domain, node.op.as_str())).copied().ok_or_else(|| {
        let of = if domain.is_empty() { String::new() } else { format!(" of domain '{domain}'") };
        let e = Error::unsupported(format!("the operator {}{of} is not supported", node.op)).at(node.label());
        match nearest(&node.op, all().map(|op| op.name)) {
            Some(near) => e.hint(format!("the nearest supported operator is {near}")),
            None => e.hint("docs/adding-an-op.md says how to add one"),
        }
    })
}

/// All supported operators.
pub fn all() -> impl Iterator<Item = &'static OpDef> {
    FAMILIES.iter().flat_map(|f| f.iter())
}

compresso_base::choice! {
    /// Numbers that convolutions and matrix products read and give; sums inside them, and all other operators, stay
    /// float32 (Micikevicius et al. 2018, "Mixed Precision Training").
    #[derive(Default)]
    pub enum Precision {
        #[default]
        Float32 = "float32",
        Bfloat16 = "bfloat16",
        Float16 = "float16",
    }
}

impl Precision {
    /// The type of the short numbers; `None` for float32.
    pub fn short(self) -> Option<DType> {
        match self {
            Self::Float32 => None,
            Self::Bfloat16 => Some(DType::BF16),
            Self::Float16 => Some(DType::F16),
        }
    }
    /// The type in which a node reads and gives its numbers, where it is one of those that are shortened.
    pub fn of(self, node: &Node) -> Option<DType> {
        let shortened = ["Conv", "ConvTranspose", "MatMul", "Gemm"].iter().any(|op| node.is(op));
        self.short().filter(|_| shortened)
    }
}

/// How a graph is being run.
#[derive(Debug, Default)]
pub struct Mode {
    /// Training: batch norms use batch statistics and report updates of their running ones, dropout drops.
    pub training: bool,
    /// Seed for random operators.
    pub seed: u64,
    /// Where batch norms leave the new running mean and variance: constant name → tensor.
    pub updates: Mutex<Vec<(String, Tensor)>>,
    pub device: Option<Device>,
    /// Mixed precision: see [`Precision`].
    pub precision: Precision,
}

/// What a forward computation sees.
pub struct Exec<'a> {
    pub node: &'a Node,
    pub opset: i64,
    inputs: &'a [Option<Value>],
    pub mode: &'a Mode,
    /// Runs an inner graph with the enclosing values; set by the executor.
    pub subgraph: Option<&'a dyn Fn(&super::graph::Graph, Vec<(String, Value)>) -> Result<Vec<Value>>>,
}

impl<'a> Exec<'a> {
    pub fn new(node: &'a Node, opset: i64, inputs: &'a [Option<Value>], mode: &'a Mode) -> Self {
        Self { node, opset, inputs, mode, subgraph: None }
    }
    pub fn input_count(&self) -> usize {
        self.inputs.len()
    }
    /// Input `i`, when it is given.
    pub fn get(&self, i: usize) -> Option<&'a Value> {
        self.inputs.get(i).and_then(Option::as_ref)
    }
    /// Input `i`.
    ///
    /// # Errors
    /// `Format` when it is left out.
    pub fn input(&self, i: usize) -> Result<&'a Value> {
        self.get(i).ok_or_else(|| Error::format(format!("input {i} is missing")))
    }
    /// The tensor of input `i`.
    pub fn tensor(&self, i: usize) -> Result<&'a Tensor> {
        Ok(&self.input(i)?.tensor)
    }
    /// Integers from input `i`, when it is given.
    pub fn ints(&self, i: usize) -> Result<Option<Vec<i64>>> {
        self.get(i).map(Value::to_i64s).transpose()
    }
    pub fn inputs(&self) -> impl Iterator<Item = &'a Value> {
        self.inputs.iter().flatten()
    }
    /// The device of the first input, else the mode's, else the CPU.
    pub fn device(&self) -> Device {
        self.inputs().next().map(|v| v.tensor.device().clone()).or_else(|| self.mode.device.clone()).unwrap_or(Device::Cpu)
    }
    /// One output of the same element as input 0.
    pub fn one(&self, tensor: Tensor) -> Result<Vec<Value>> {
        Ok(vec![Value::new(self.input(0)?.element, tensor)?])
    }
}

/// Shape rule of operators whose output is like input 0.
pub fn infer_same(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    let x = cx.input(0)?;
    Ok(vec![Fact { element: x.element, shape: x.shape.clone(), contents: None, constant: None }])
}
