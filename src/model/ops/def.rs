//! What the library knows of one operator.

use super::backward::BackwardRule;
use super::channels::{self, Channels};
use super::cost::{self, CostInput};
use super::roles::{Data, Float16Rule, Span};
use super::run::{self, Exec};
use super::weight::WeightRule;
use crate::graph::{Cost, Fact, Infer, Node};
use crate::value::Value;
use compresso_base::error::Result;

/// Domain of operators that no file has: what training makes of others.
pub const OWN_DOMAIN: &str = "compresso";

/// Names operators of ONNX by constants, each with its type and the page that specifies it.
macro_rules! operators {
    ($(pub const $name:ident: &str = $op:literal;)+) => {$(
        #[doc = concat!("The operator type [`", $op, "`](https://onnx.ai/onnx/operators/onnx__", $op, ".html).")]
        pub const $name: &str = $op;
    )+};
}
pub(crate) use operators;

/// How static quantization treats an operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuantRule {
    /// Stays in floating point; its inputs are dequantized.
    Float,
    /// Multiplies with weights: the data input and the weight are quantized (bias stays float). [`OpDef::weight`] says where
    /// they lie.
    Weighted,
    /// Moves or selects values without changing them (MaxPool, Reshape, Concat, …): inputs and outputs share one scale.
    SameScale,
    /// May run on quantized inputs with an output scale of its own (Add, Mul, GlobalAveragePool, …).
    Elementwise,
    /// Found in quantized graphs alone: reads or makes the integers that stand for floats.
    Quantized,
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
    /// Its type, such as `Conv`.
    pub name: &'static str,
    /// Empty for the ONNX operator set.
    pub domain: &'static str,
    /// Operator-set versions at which the operator appeared or changed.
    pub since: &'static [i64],
    /// Facts of the outputs from those of the inputs. May return more facts than the node has outputs.
    pub infer: fn(&Infer<'_>) -> Result<Vec<Fact>>,
    /// What it computes, in the types of its inputs. [`OpDef::run`] calls it.
    pub forward: fn(&Exec<'_>) -> Result<Vec<Value>>,
    /// True when an element of the outputs is a sum or product of several: see [`OpDef::run`].
    pub sums: bool,
    /// What a node costs at the sizes that are known.
    pub cost: fn(&CostInput<'_>) -> Cost,
    /// How channel labels go from inputs to outputs: see [`Channels`].
    pub channels: fn(&mut Channels<'_>) -> Result<()>,
    /// What static quantization makes of it.
    pub quant: QuantRule,
    /// Which inputs are data.
    pub data: Data,
    /// True when each element of the outputs is an element of the data, chosen by its place alone (Transpose, Slice, Concat).
    pub moves: bool,
    /// True when `f(s · x) = s · f(x)` for each channel of the data and every `s > 0` of its own (Relu, pools).
    pub homogeneous: bool,
    /// How it multiplies with a weight, if it does.
    pub weight: Option<WeightRule>,
    /// What conversion to float16 makes of it.
    pub float16: Float16Rule,
    /// How large its results are.
    pub span: Span,
    /// Input indices that training changes where they are constants, and how.
    pub params: &'static [(usize, ParamKind)],
    /// False for operators whose result is not a function of their inputs (random numbers), or that need the enclosing
    /// graph (control flow).
    pub foldable: bool,
    /// True for operators that may be given sequences of tensors.
    pub sequences: bool,
    /// The rule by which gradients flow back through a node in training, where there is one for these inputs. All inputs
    /// that are floating point are float32 on the CPU. Without a rule, candle differentiates [`OpDef::forward`].
    pub backward: fn(&Exec<'_>) -> Option<BackwardRule>,
    /// True when the rule works on any device.
    pub backward_anywhere: bool,
}

impl OpDef {
    /// The inputs of a node that are data and given: position and name.
    pub fn data_inputs<'n>(&self, node: &'n Node) -> impl Iterator<Item = (usize, &'n str)> + use<'n> {
        let data = self.data;
        node.inputs.iter().enumerate().filter(move |&(i, n)| data.has(i) && !n.is_empty()).map(|(i, n)| (i, n.as_str()))
    }
    /// The input that is added to the result, one number per output channel.
    pub fn bias(&self) -> Option<usize> {
        self.params.iter().find(|(_, kind)| *kind == ParamKind::Bias).map(|(input, _)| *input)
    }
    /// An operator with the defaults: no cost, channels may not be pruned through it, stays in float, input 0 is data, goes
    /// with its data to float16.
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
            sums: false,
            cost: cost::none,
            channels: channels::fixed,
            quant: QuantRule::Float,
            data: Data::At(&[0]),
            moves: false,
            homogeneous: false,
            weight: None,
            float16: Float16Rule::All,
            span: Span::Same,
            params: &[],
            foldable: true,
            sequences: false,
            backward: |_| None,
            backward_anywhere: false,
        }
    }
    /// The operator's own computation. Sums over numbers shorter than float32 are computed in float32 on the CPU and rounded once, as other runtimes and
    /// devices do: in float16 a sum stops growing at 2048 times its terms.
    ///
    /// # Errors
    /// Whatever the operator reports.
    pub(super) fn compute(&self, cx: &Exec<'_>) -> Result<Vec<Value>> {
        let short = cx.get(0).filter(|v| self.sums && run::is_short(v));
        match short {
            Some(first) => run::in_float32(cx, first.element, self.forward),
            None => (self.forward)(cx),
        }
    }
    /// An element of its outputs, which are of the type of input 0, is a sum or product of several.
    pub const fn sums(mut self) -> Self {
        self.sums = true;
        self
    }
    /// Its cost, in place of nothing.
    pub const fn cost(mut self, cost: fn(&CostInput<'_>) -> Cost) -> Self {
        self.cost = cost;
        self
    }
    /// Its rule for channel labels, in place of one by which nothing is pruned through it.
    pub const fn channels(mut self, rule: fn(&mut Channels<'_>) -> Result<()>) -> Self {
        self.channels = rule;
        self
    }
    /// What static quantization makes of it, in place of leaving it in float.
    pub const fn quant(mut self, rule: QuantRule) -> Self {
        self.quant = rule;
        self
    }
    /// Which inputs are data, in place of input 0 alone.
    pub const fn data(mut self, data: Data) -> Self {
        self.data = data;
        self
    }
    /// Its outputs have elements of the data, chosen by place; so they share the data's scale when they are quantized.
    pub const fn moves(mut self) -> Self {
        self.moves = true;
        self.quant = QuantRule::SameScale;
        self
    }
    /// A positive factor of a channel goes through it.
    pub const fn homogeneous(mut self) -> Self {
        self.homogeneous = true;
        self
    }
    /// It is a layer: it multiplies with a weight.
    pub const fn layer(mut self, weight: WeightRule) -> Self {
        self.weight = Some(weight);
        self.quant = QuantRule::Weighted;
        self
    }
    /// It reads or makes integers that stand for floats. `weight`: what it multiplies with.
    pub const fn quantized(mut self, weight: Option<WeightRule>) -> Self {
        self.weight = weight;
        self.quant = QuantRule::Quantized;
        self
    }
    /// What conversion to float16 makes of it, in place of converting it with its data.
    pub const fn float16(mut self, rule: Float16Rule) -> Self {
        self.float16 = rule;
        self
    }
    /// How large its results are, in place of about as large as what it reads.
    pub const fn span(mut self, span: Span) -> Self {
        self.span = span;
        self
    }
    /// Constant inputs that training changes, in place of none.
    pub const fn params(mut self, params: &'static [(usize, ParamKind)]) -> Self {
        self.params = params;
        self
    }
    /// A rule for gradients on the CPU, in place of candle's; for nodes for which `rule` gives `None`, candle's stays.
    pub const fn backward(mut self, rule: fn(&Exec<'_>) -> Option<BackwardRule>) -> Self {
        self.backward = rule;
        self
    }
    /// As [`OpDef::backward`], for inputs on any device.
    pub const fn backward_anywhere(mut self, rule: fn(&Exec<'_>) -> Option<BackwardRule>) -> Self {
        self.backward = rule;
        self.backward_anywhere = true;
        self
    }
    /// Constant inputs make no constant of its result, which does not follow from them alone.
    pub const fn not_foldable(mut self) -> Self {
        self.foldable = false;
        self
    }
    /// It may be given sequences of tensors.
    pub const fn sequences(mut self) -> Self {
        self.sequences = true;
        self
    }
    /// Its domain, in place of ONNX's own.
    pub const fn domain(mut self, domain: &'static str) -> Self {
        self.domain = domain;
        self
    }
}
