//! Operators on quantized numbers as onnxruntime's quantizer writes them in its QOperator form: QLinearAdd, QLinearMul,
//! QLinearSigmoid, QLinearLeakyRelu, QLinearSoftmax, QLinearConcat, QLinearAveragePool, QLinearGlobalAveragePool,
//! QLinearReduceMean, QLinearWhere and QGemm of the domain com.microsoft.
//!
//! <https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md>. Each is defined as what it stands for,
//! DequantizeLinear, an operator on floats, QuantizeLinear: [`expand`] gives these nodes, and shape rule and computation follow
//! from them. QLinearConv and QLinearMatMul of ONNX have computations of their own (`quantize.rs`) and are expanded alike.

use super::arithmetic::{ADD, MUL};
use super::cast::CAST;
use super::conv::CONV;
use super::cost::{self, CostInput};
use super::def::OpDef;
use super::find;
use super::matmul::{GEMM, MATMUL, gemm_axes};
use super::pool::{AVERAGE_POOL, GLOBAL_AVERAGE_POOL};
use super::quantize::{DEQUANTIZE_LINEAR, QUANTIZE_LINEAR};
use super::reduce::REDUCE_MEAN;
use super::roles::Data;
use super::run::Exec;
use super::shape::{FLATTEN, RESHAPE};
use super::softmax::SOFTMAX;
use super::transpose::TRANSPOSE;
use super::weight::WeightRule;
use crate::constant::{Constant, Payload};
use crate::element::Element;
use crate::graph::{Attr, Cost, Fact, Facts, Infer, Node, normalize_axis};
use crate::value::Value;
use compresso_base::error::{At, Error, Result};
use std::collections::HashMap;

/// The domain of onnxruntime's own operators.
pub const MICROSOFT: &str = "com.microsoft";

/// The quantized operators of onnxruntime's own domain, [`MICROSOFT`].
pub const OPS: &[OpDef] = &[
    own("QLinearAdd").data(Data::At(&[0, 3])),
    own("QLinearMul").data(Data::At(&[0, 3])),
    own("QLinearSigmoid"),
    own("QLinearLeakyRelu"),
    own("QLinearSoftmax"),
    own("QLinearConcat").data(Data::At(&[2])),
    own("QLinearAveragePool").cost(cost::per_input),
    own("QLinearGlobalAveragePool").cost(cost::per_input),
    own("QLinearReduceMean").cost(cost::per_input),
    own("QLinearWhere").data(Data::At(&[1, 4])),
    own("QGemm").cost(gemm_cost).quantized(Some(WeightRule::new(3, gemm_axes))),
];

const fn own(name: &'static str) -> OpDef {
    OpDef::new(name, &[1], infer, forward).domain(MICROSOFT).cost(cost::per_output).quantized(None)
}

/// The ONNX operator set by which the nodes of an expansion are read when one is computed by itself.
const OPSET: i64 = 13;

/// What a node stands for: nodes of ONNX operators in order, the last of which makes its output, and their constants.
#[derive(Debug, Default)]
pub struct Expansion {
    /// In an order in which they can run.
    pub nodes: Vec<Node>,
    /// What the nodes read beside the inputs of the quantized one, by name.
    pub constants: Vec<(String, Constant)>,
}

/// The nodes that a quantized operator stands for in the ONNX operator set `opset`, `None` for any other operator. `fact` knows the
/// node's inputs, `fresh` makes names that nothing has.
///
/// # Errors
/// `Unsupported` where it has no such form in that set, or needs a rank or type that is not known; `Format` for missing inputs.
pub fn expand<'f>(
    node: &Node,
    opset: i64,
    fact: &dyn Fn(&str) -> Option<&'f Fact>,
    fresh: &mut dyn FnMut(&str) -> String,
) -> Result<Option<Expansion>> {
    let Some(rule) = rule(node) else { return Ok(None) };
    if opset < 10 {
        return Err(Error::unsupported(format!("operator set {opset} has no {QUANTIZE_LINEAR}, which came with 10")));
    }
    let mut expanding = Expanding { node, opset, fact, fresh, made: Expansion::default() };
    rule(&mut expanding)?;
    Ok(Some(expanding.made))
}

/// True for a node that [`expand`] knows.
pub fn is_expandable(node: &Node) -> bool {
    rule(node).is_some()
}

type Rule = fn(&mut Expanding<'_, '_>) -> Result<()>;

fn rule(node: &Node) -> Option<Rule> {
    Some(match (node.domain.as_str(), node.op.as_str()) {
        (MICROSOFT, "QLinearAdd") => |e| e.binary(ADD),
        (MICROSOFT, "QLinearMul") => |e| e.binary(MUL),
        (MICROSOFT, "QLinearSigmoid") => |e| e.unary(super::activation::SIGMOID, &[]),
        (MICROSOFT, "QLinearLeakyRelu") => |e| e.unary("LeakyRelu", &["alpha"]),
        (MICROSOFT, "QLinearSoftmax") => |e| e.softmax(),
        (MICROSOFT, "QLinearConcat") => |e| e.concat(),
        (MICROSOFT, "QLinearAveragePool") => {
            |e| e.pool(AVERAGE_POOL, &["auto_pad", "ceil_mode", "count_include_pad", "kernel_shape", "pads", "strides"])
        }
        (MICROSOFT, "QLinearGlobalAveragePool") => |e| e.pool(GLOBAL_AVERAGE_POOL, &[]),
        (MICROSOFT, "QLinearReduceMean") => |e| e.unary(REDUCE_MEAN, &["axes", "keepdims"]),
        (MICROSOFT, "QLinearWhere") => |e| e.choice(),
        (MICROSOFT, "QGemm") => |e| e.gemm(),
        ("" | "ai.onnx" | MICROSOFT, "QLinearConv") => |e| e.conv(),
        ("" | "ai.onnx", "QLinearMatMul") => |e| e.matmul(),
        _ => return None,
    })
}

struct Expanding<'a, 'f> {
    node: &'a Node,
    opset: i64,
    fact: &'a dyn Fn(&str) -> Option<&'f Fact>,
    fresh: &'a mut dyn FnMut(&str) -> String,
    made: Expansion,
}

impl<'a> Expanding<'a, '_> {
    /// Input `i`.
    fn input(&self, i: usize) -> Result<&'a str> {
        self.node.input(i).ok_or_else(|| Error::format(format!("input {i} is missing")))
    }
    /// A node named after the value that it makes, `like` being what to call that.
    fn add(&mut self, op: &str, inputs: &[&str], like: &str) -> String {
        self.add_with(op, inputs, like, |n| n)
    }
    fn add_with(&mut self, op: &str, inputs: &[&str], like: &str, with: impl FnOnce(Node) -> Node) -> String {
        let made = (self.fresh)(like);
        self.made.nodes.push(with(Node::new(op, made.clone(), inputs.iter().copied(), [made.clone()])));
        made
    }
    /// The reals of input `at`, whose scale and zero point are the next two.
    fn real(&mut self, at: usize) -> Result<String> {
        self.real_along(at, None)
    }
    /// As [`Expanding::real`], with scales along an axis where there are several.
    fn real_along(&mut self, at: usize, axis: Option<usize>) -> Result<String> {
        let (x, scale, zero) = (self.input(at)?, self.input(at + 1)?, self.node.input(at + 2));
        self.dequantized(x, scale, zero, axis)
    }
    fn dequantized(&mut self, x: &str, scale: &str, zero: Option<&str>, axis: Option<usize>) -> Result<String> {
        let one = (self.fact)(scale).and_then(Fact::count) == Some(1);
        let axis = axis.filter(|_| !one);
        let like = format!("{x}_real");
        let Some(axis) = axis else {
            let inputs: Vec<&str> = [x, scale].into_iter().chain(zero).collect();
            return Ok(self.add(DEQUANTIZE_LINEAR, &inputs, &like));
        };
        let axis = i64::try_from(axis).map_err(|_| Error::internal("an axis"))?;
        if self.opset < 13 {
            return Err(Error::unsupported(format!("operator set {} has no scales per channel, which came with 13", self.opset)));
        }
        let inputs: Vec<&str> = [x, scale].into_iter().chain(zero).collect();
        Ok(self.add_with(DEQUANTIZE_LINEAR, &inputs, &like, |n| n.int("axis", axis)))
    }
    /// The last node: the numbers of `y`, which have the scale of input `at` and the zero point after it, or none and the type of
    /// input `like`.
    fn quantized(&mut self, y: &str, at: usize, like: usize) -> Result<()> {
        let scale = self.input(at)?;
        let zero = match self.node.input(at + 1) {
            Some(zero) => zero.to_string(),
            None => {
                let like = self.input(like)?;
                let element = (self.fact)(like).map(|f| f.element);
                let element = element.ok_or_else(|| Error::unsupported(format!("the type of '{like}' is not known")))?;
                let zero = (self.fresh)(&format!("{scale}_zero"));
                self.made.constants.push((zero.clone(), Constant::new(element, Vec::new(), Payload::Raw(vec![0].into()))?));
                zero
            }
        };
        let made = self.node.output(0).unwrap_or_default().to_string();
        self.made.nodes.push(Node::new(QUANTIZE_LINEAR, self.node.name.clone(), [y, scale, &zero], [made]));
        Ok(())
    }
    fn rank(&self, i: usize) -> Result<usize> {
        let name = self.input(i)?;
        (self.fact)(name)
            .and_then(|f| f.shape.as_ref())
            .map(Vec::len)
            .ok_or_else(|| Error::unsupported(format!("the rank of '{name}' is not known")))
    }
    /// A node with these of the attributes.
    fn keep(&self, names: &[&str]) -> impl FnOnce(Node) -> Node + use<> {
        let kept: Vec<(String, Attr)> = names.iter().filter_map(|n| Some(((*n).to_string(), self.node.attrs.get(*n)?.clone()))).collect();
        move |node| kept.into_iter().fold(node, |node, (name, value)| node.attr(name, value))
    }

    fn unary(&mut self, op: &str, attrs: &[&str]) -> Result<()> {
        let x = self.real(0)?;
        let with = self.keep(attrs);
        let y = self.add_with(op, &[&x], &format!("{}_real", self.node.outputs[0]), with);
        self.quantized(&y, 3, 0)
    }

    fn binary(&mut self, op: &str) -> Result<()> {
        let (a, b) = (self.real(0)?, self.real(3)?);
        let y = self.add(op, &[&a, &b], &format!("{}_real", self.node.outputs[0]));
        self.quantized(&y, 6, 0)
    }

    /// Pools that may have their channels last.
    fn pool(&mut self, op: &str, attrs: &[&str]) -> Result<()> {
        let last = self.node.get_int("channels_last", 0)? != 0;
        let mut x = self.real(0)?;
        let n = if last { i64::try_from(self.rank(0)?).map_err(|_| Error::internal("a rank"))? } else { 0 };
        if last {
            let first: Vec<i64> = [0, n - 1].into_iter().chain(1..n - 1).collect();
            x = self.add_with(TRANSPOSE, &[&x], &format!("{x}_first"), |node| node.ints("perm", &first));
        }
        let with = self.keep(attrs);
        let mut y = self.add_with(op, &[&x], &format!("{}_real", self.node.outputs[0]), with);
        if last {
            let back: Vec<i64> = [0].into_iter().chain(2..n).chain([1]).collect();
            y = self.add_with(TRANSPOSE, &[&y], &format!("{y}_last"), |node| node.ints("perm", &back));
        }
        self.quantized(&y, 3, 0)
    }

    /// Before operator set 13, which the attribute `opset` tells of, Softmax is over all axes from `axis` on.
    fn softmax(&mut self) -> Result<()> {
        let (rank, set) = (self.rank(0)?, self.node.get_int("opset", OPSET)?);
        let axis = normalize_axis(self.node.get_int("axis", if set < 13 { 1 } else { -1 })?, rank)?;
        let x = self.real(0)?;
        let like = format!("{}_real", self.node.outputs[0]);
        let int = |v: usize| i64::try_from(v).map_err(|_| Error::internal("an axis"));
        let (last, along) = (axis + 1 == rank, int(axis)?);
        let y = match (last, set < 13, self.opset < 13) {
            (true, ..) | (_, false, false) => self.add_with(SOFTMAX, &[&x], &like, |n| n.int("axis", along)),
            (false, true, _) => {
                let shape = self.add("Shape", &[&x], &format!("{x}_shape"));
                let flat = self.add_with(FLATTEN, &[&x], &format!("{x}_flat"), |n| n.int("axis", along));
                let y = self.add_with(SOFTMAX, &[&flat], &format!("{x}_softmax"), |n| n.int("axis", 1));
                self.add(RESHAPE, &[&y, &shape], &like)
            }
            (false, false, true) => {
                return Err(Error::unsupported(format!("operator set {} has no Softmax along axis {axis} of {rank}", self.opset)));
            }
        };
        self.quantized(&y, 3, 0)
    }

    fn concat(&mut self) -> Result<()> {
        let parts = (2..self.node.inputs.len()).step_by(3).map(|at| self.real(at)).collect::<Result<Vec<_>>>()?;
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let with = self.keep(&["axis"]);
        let y = self.add_with(super::concat::CONCAT, &parts, &format!("{}_real", self.node.outputs[0]), with);
        self.quantized(&y, 0, 2)
    }

    fn choice(&mut self) -> Result<()> {
        let condition = self.input(0)?;
        let (x, y) = (self.real(1)?, self.real(4)?);
        let z = self.add("Where", &[condition, &x, &y], &format!("{}_real", self.node.outputs[0]));
        self.quantized(&z, 7, 1)
    }

    /// The reals of a bias of 32 bits, whose scale is the product of two.
    fn bias(&mut self, at: usize, scales: [&str; 2]) -> Result<Option<String>> {
        let Some(bias) = self.node.input(at) else { return Ok(None) };
        let scale = self.add(MUL, &scales, &format!("{bias}_scale"));
        // An integer of 32 bits less no zero point, times a number for each channel.
        let floats = self.add_with(CAST, &[bias], &format!("{bias}_float"), |n| n.int("to", i64::from(Element::F32.code())));
        Ok(Some(self.add(MUL, &[&floats, &scale], &format!("{bias}_real"))))
    }

    fn conv(&mut self) -> Result<()> {
        if self.node.get_int("channels_last", 0)? != 0 {
            return Err(Error::unsupported("a QLinearConv whose channels are last"));
        }
        let (x, w) = (self.real(0)?, self.real_along(3, Some(0))?);
        let bias = self.bias(8, [self.input(1)?, self.input(4)?])?;
        let inputs: Vec<&str> = [x.as_str(), w.as_str()].into_iter().chain(bias.as_deref()).collect();
        let with = self.keep(&["auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"]);
        let y = self.add_with(CONV, &inputs, &format!("{}_real", self.node.outputs[0]), with);
        self.quantized(&y, 6, 0)
    }

    /// The axis of scales of a matrix, `from_end` axes from the last, where there are several.
    fn matrix_axis(&self, at: usize, from_end: usize) -> Result<Option<usize>> {
        let scale = self.input(at + 1)?;
        match (self.fact)(scale).and_then(|f| f.shape.as_ref().map(Vec::len)) {
            Some(0) => Ok(None),
            Some(1) => Ok(self.rank(at)?.checked_sub(from_end + 1)),
            _ => Err(Error::unsupported(format!("scales '{scale}' of more than one axis"))),
        }
    }

    fn matmul(&mut self) -> Result<()> {
        let (rows, columns) = (self.matrix_axis(0, 1)?, self.matrix_axis(3, 0)?);
        let (a, b) = (self.real_along(0, rows)?, self.real_along(3, columns)?);
        let y = self.add(MATMUL, &[&a, &b], &format!("{}_real", self.node.outputs[0]));
        self.quantized(&y, 6, 0)
    }

    /// The third operand has the scale of the products. Without a scale of its own the result is real.
    fn gemm(&mut self) -> Result<()> {
        let transposed = self.node.get_int("transB", 0)? != 0;
        let columns = self.matrix_axis(3, usize::from(transposed))?;
        let (a, b) = (self.real(0)?, self.real_along(3, columns)?);
        let mut bias = self.bias(6, [self.input(1)?, self.input(4)?])?;
        let alpha = self.node.get_float("alpha", 1.0)?;
        if let Some(whole) = bias.as_mut().filter(|_| alpha != 1.0) {
            let factor = (self.fresh)("alpha");
            self.made.constants.push((factor.clone(), Constant::scalar(alpha)));
            *whole = self.add(MUL, &[whole.as_str(), &factor], &format!("{whole}_alpha"));
        }
        let inputs: Vec<&str> = [a.as_str(), b.as_str()].into_iter().chain(bias.as_deref()).collect();
        let with = self.keep(&["alpha", "transA", "transB"]);
        if self.node.input(7).is_some() {
            let y = self.add_with(GEMM, &inputs, &format!("{}_real", self.node.outputs[0]), with);
            return self.quantized(&y, 7, 0);
        }
        let made = self.node.output(0).unwrap_or_default().to_string();
        self.made.nodes.push(with(Node::new(GEMM, self.node.name.clone(), inputs, [made])));
        Ok(())
    }
}

/// The expansion of a node by itself. Its names begin with a sign that no value of the node has.
fn alone<'f>(node: &Node, fact: &dyn Fn(&str) -> Option<&'f Fact>) -> Result<Expansion> {
    let mut count = 0;
    let mut fresh = |stem: &str| {
        count += 1;
        format!("{count} {stem}")
    };
    expand(node, OPSET, fact, &mut fresh)?.ok_or_else(|| Error::internal(format!("{} without its form", node.op)))
}

/// The node with its inputs and outputs named by their places, so that names do not matter.
fn numbered(node: &Node, count: usize, given: impl Fn(usize) -> bool) -> Node {
    let mut inner = node.clone();
    inner.inputs = (0..count).map(|i| if given(i) { format!("in{i}") } else { String::new() }).collect();
    inner.outputs = vec!["out".into()];
    inner
}

fn infer(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    let node = numbered(cx.node, cx.input_count(), |i| cx.get(i).is_some());
    let mut facts: Facts = (0..cx.input_count()).filter_map(|i| Some((format!("in{i}"), cx.get(i)?.clone()))).collect();
    let given = facts.clone();
    let expansion = alone(&node, &|name| given.get(name))?;
    facts.extend(expansion.constants.into_iter().map(|(name, c)| (name, Fact::of(&c))));
    for inner in &expansion.nodes {
        let made = find(inner)?.facts(&Infer::new(inner, OPSET, &facts)).at(|| inner.op.clone())?;
        facts.extend(inner.outputs.iter().cloned().zip(made));
    }
    Ok(facts.remove("out").into_iter().collect())
}

fn forward(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let node = numbered(cx.node, cx.input_count(), |i| cx.get(i).is_some());
    let mut values: HashMap<String, Value> = (0..cx.input_count()).filter_map(|i| Some((format!("in{i}"), cx.get(i)?.clone()))).collect();
    let facts: Facts = values.iter().map(|(name, v)| (name.clone(), Fact::known(v.element, v.dims()))).collect();
    let expansion = alone(&node, &|name| facts.get(name))?;
    for (name, c) in &expansion.constants {
        values.insert(name.clone(), Value::of_constant(c, &cx.device())?);
    }
    for inner in &expansion.nodes {
        let inputs: Vec<Option<Value>> = inner.inputs.iter().map(|n| values.get(n).cloned()).collect();
        let made = find(inner)?.run(&Exec::new(inner, OPSET, &inputs, cx.mode)).at(|| inner.op.clone())?;
        values.extend(inner.outputs.iter().cloned().zip(made));
    }
    Ok(values.remove("out").into_iter().collect())
}

fn gemm_cost(cx: &CostInput<'_>) -> Cost {
    let axis = if cx.node.get_int("transA", 0).unwrap_or(0) == 0 { -1 } else { -2 };
    let inner = cx.inputs.first().copied().flatten().and_then(|f| f.dim(axis)).unwrap_or(0) as u64;
    Cost { macs: cost::times(cx.outputs.first().and_then(|f| cost::elements(f)).unwrap_or(0), inner), other: 0 }
}
