//! A graph as a network of NCNN's layers, node by node; all nodes that cannot be one are told together.

use super::build::{Build, input, output};
use super::elementwise::{self, activation, binary, chain, prelu};
use super::fuse::fuse;
use super::integers::{dequantize, numbers, quantize};
use super::net::{Layer, Net};
use super::shape::canonical;
use super::{moves, product, reduce, resize, window};
use compresso_base::error::{Error, Result};
use compresso_model::{Graph, Node};

/// A network, with the shapes of its outputs.
#[derive(Debug)]
pub(super) struct Translated {
    pub net: Net,
    pub inputs: Vec<Vec<usize>>,
    pub outputs: Vec<Vec<usize>>,
}

/// A place and what is wrong there.
pub(super) type Refusals = Vec<Error>;

/// The network of a graph whose sizes are fixed.
///
/// # Errors
/// What inference reports. What NCNN lacks is in the second result, at the place of each.
pub(super) fn translate(graph: &Graph) -> Result<(Translated, Refusals)> {
    let facts = graph.facts()?;
    let mut cx = Build::new(graph, &facts);
    let mut refused = Vec::new();
    let mut inputs = Vec::new();
    for feed in graph.feeds() {
        cx.label.clone_from(&feed.name);
        match feed_shape(&cx, &feed.name) {
            Ok(shape) => {
                let blob = cx.layer(Layer::new("Input").sizes(&shape), &[]);
                cx.set(&feed.name, blob, shape.clone());
                inputs.push(shape);
            }
            Err(e) => refused.push(e.at(format!("input '{}'", feed.name))),
        }
    }
    // What follows from a refusal is none of its own.
    let mut broken: std::collections::HashSet<&str> = graph.feeds().filter(|_| !refused.is_empty()).map(|f| f.name.as_str()).collect();
    for node in graph.nodes() {
        let follows = node.reads().any(|r| broken.contains(r));
        cx.label = if node.name.is_empty() { node.outputs.first().cloned().unwrap_or_default() } else { node.name.clone() };
        let done = if follows && is_known(node) { Ok(false) } else { one(&mut cx, node).map(|()| true) };
        match done {
            Ok(true) => continue,
            Ok(false) => {}
            Err(e) => refused.push(e.at(node.label())),
        }
        broken.extend(node.outputs.iter().map(String::as_str));
    }
    let mut outputs = Vec::new();
    for out in graph.outputs().iter().filter(|o| !broken.contains(o.name.as_str())) {
        cx.label.clone_from(&out.name);
        let made = cx.dims(&out.name).and_then(|dims| {
            let shape = canonical(&dims);
            Ok((cx.view(&out.name, &shape)?, shape))
        });
        match made {
            Ok((blob, shape)) => {
                cx.net.outputs.push(blob);
                outputs.push(shape);
            }
            Err(e) => refused.push(e.at(format!("output '{}'", out.name))),
        }
    }
    let mut net = std::mem::take(&mut cx.net);
    fuse(&mut net);
    let net = net.finish();
    Ok((Translated { net, inputs, outputs }, refused))
}

fn feed_shape(cx: &Build<'_>, name: &str) -> Result<Vec<usize>> {
    let dims = cx.dims(name)?;
    let fact = &cx.facts[name];
    if !fact.element.is_float() {
        return Err(Error::unsupported(format!("it is {fact}, and NCNN takes float blobs")));
    }
    if dims.len() >= 4 && dims[0] != 1 {
        let e = format!("it is {fact}, a batch of {}, and NCNN's blobs have no batch", dims[0]);
        return Err(Error::unsupported(e).hint("make the model with batch 1, or leave its batch open"));
    }
    if canonical(&dims).len() + 1 < dims.len() {
        return Err(Error::unsupported(format!("it is {fact}, and NCNN's blobs have four axes at the most")));
    }
    Ok(canonical(&dims))
}

/// Whether there is a layer for an operator in some form.
fn is_known(node: &Node) -> bool {
    matches!(node.domain.as_str(), "" | "ai.onnx") && OPERATORS.contains(&node.op.as_str())
}

/// Operators that the writer knows in some form; those that constants are computed with are gone before it.
pub(super) const OPERATORS: &[&str] = &[
    "Abs",
    "Acos",
    "Add",
    "Asin",
    "Atan",
    "AveragePool",
    "BatchNormalization",
    "Cast",
    "Ceil",
    "Celu",
    "Clip",
    "Concat",
    "Conv",
    "ConvTranspose",
    "Cos",
    "CumSum",
    "DepthToSpace",
    "DequantizeLinear",
    "Div",
    "Dropout",
    "Elu",
    "Erf",
    "Exp",
    "Expand",
    "Flatten",
    "Floor",
    "Gather",
    "Gelu",
    "Gemm",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "GridSample",
    "GroupNormalization",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "InstanceNormalization",
    "LRN",
    "LayerNormalization",
    "LeakyRelu",
    "Log",
    "LogSoftmax",
    "LpNormalization",
    "MatMul",
    "Max",
    "MaxPool",
    "Mean",
    "Min",
    "Mish",
    "Mul",
    "Neg",
    "PRelu",
    "Pad",
    "Pow",
    "QuantizeLinear",
    "Reciprocal",
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSum",
    "ReduceSumSquare",
    "Relu",
    "Reshape",
    "Resize",
    "Round",
    "Selu",
    "Sigmoid",
    "Sin",
    "Slice",
    "Softmax",
    "Softplus",
    "SpaceToDepth",
    "Split",
    "Sqrt",
    "Squeeze",
    "Sub",
    "Sum",
    "Swish",
    "Tan",
    "Tanh",
    "Tile",
    "Transpose",
    "Unsqueeze",
    "Upsample",
];

/// Between floats nothing is to be done: the runtime chooses what it computes in.
fn cast(cx: &mut Build<'_>, node: &Node) -> Result<()> {
    let is_float = |name: &str| cx.facts.get(name).is_some_and(|f| f.element.is_float());
    if !is_float(input(node, 0)?) || !is_float(output(node)?) {
        return Err(Error::unsupported("it casts to or from integers, and NCNN computes with floats only"));
    }
    cx.same(node)
}

fn one(cx: &mut Build<'_>, node: &Node) -> Result<()> {
    if !is_known(node) {
        let e = Error::unsupported(format!("NCNN has no layer for the operator {}", node.op));
        return Err(match node.op.as_str() {
            "TopK" | "NonMaxSuppression" => {
                e.hint("what selects detections is the program's: export the model without it (end2end: false, nms: false)")
            }
            _ => e,
        });
    }
    if let Some(layer) = activation(cx, node)? {
        return cx.elementwise(node, layer);
    }
    if let Some(op) = reduce::reduction(&node.op) {
        return reduce::reduce(cx, node, op);
    }
    match node.op.as_str() {
        "Add" => binary(cx, node, elementwise::ADD),
        "Sub" => binary(cx, node, elementwise::SUB),
        "Mul" => binary(cx, node, elementwise::MUL),
        "Div" => binary(cx, node, elementwise::DIV),
        "Pow" => binary(cx, node, elementwise::POW),
        "Sum" | "Mean" => chain(cx, node, elementwise::ADD),
        "Max" => chain(cx, node, elementwise::MAX),
        "Min" => chain(cx, node, elementwise::MIN),
        "PRelu" => prelu(cx, node),
        "Conv" => {
            let weight = cx.input_dims(node, 1)?;
            let group = node.get_int("group", 1)?;
            // Others have no integer layer.
            let integer = weight.len() == 4 && (group == 1 || usize::try_from(group).is_ok_and(|g| g == weight[0]));
            match numbers(cx, node, weight[0], integer)? {
                Some(numbers) => window::conv(cx, node, numbers),
                None => Err(Error::unsupported(format!("its weight '{}' is computed; NCNN wants a constant", input(node, 1)?))),
            }
        }
        "ConvTranspose" => window::conv_transpose(cx, node),
        "MaxPool" => window::pool(cx, node, false),
        "AveragePool" => window::pool(cx, node, true),
        "GlobalMaxPool" => window::global_pool(cx, node, false),
        "GlobalAveragePool" => window::global_pool(cx, node, true),
        "MatMul" => product::matmul(cx, node),
        "Gemm" => product::gemm(cx, node),
        "Softmax" => reduce::softmax(cx, node),
        "LogSoftmax" => reduce::log_softmax(cx, node),
        "LpNormalization" => reduce::lp_normalization(cx, node),
        "CumSum" => reduce::cumulative_sum(cx, node),
        "BatchNormalization" => reduce::batch_norm(cx, node),
        "InstanceNormalization" => reduce::instance_norm(cx, node),
        "GroupNormalization" => reduce::group_norm(cx, node),
        "LayerNormalization" => reduce::layer_norm(cx, node),
        "LRN" => reduce::local_response_norm(cx, node),
        "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" | "Identity" | "Dropout" => cx.same(node),
        "Cast" => cast(cx, node),
        "Transpose" => moves::transpose(cx, node),
        "Slice" => moves::slice(cx, node),
        "Concat" => moves::concat(cx, node),
        "Split" => moves::split(cx, node),
        "Gather" => moves::gather(cx, node),
        "Expand" | "Tile" => moves::tile(cx, node),
        "Pad" => moves::pad(cx, node),
        "DepthToSpace" => moves::depth_to_space(cx, node),
        "SpaceToDepth" => moves::space_to_depth(cx, node),
        "Resize" | "Upsample" => resize::resize(cx, node),
        "GridSample" => resize::grid_sample(cx, node),
        "QuantizeLinear" => quantize(cx, node),
        "DequantizeLinear" => dequantize(cx, node),
        op => Err(Error::unsupported(format!("NCNN's layers do not do {op} with these attributes"))),
    }
}
