//! [TensorRT](https://docs.nvidia.com/deeplearning/tensorrt/): an ONNX graph whose types say the precision, and what builds
//! an engine from it.
//!
//! TensorRT 10 and newer are strongly typed: fp16 and int8 are in the graph (float16 constants and values; explicit
//! QuantizeLinear/DequantizeLinear). For TensorRT up to 10 there is also a calibration cache beside the float32 graph.
//!
//! Its builder fuses what follows a layer into the layer's kernel, so only what layers read is rounded, and the skip input of
//! a sum; what a Concat or a pool joins shares one scale. Zero points are 0, and biases stay in float.

mod cache;
mod script;
mod sparsity;
mod write;

pub use script::WORKSPACE;
pub use write::{RTX_ENDING, engine_file, plan_file};

use super::onnxruntime::has_matrix;
use super::{Destination, Elementwise, Float16, Grid, Joining, Names, Op, Quantization, Remark, Takes, TargetSpec};
use compresso_model::passes::pipelines;
use compresso_model::{Constant, Element, Graph, Node};

/// TensorRT as a target: a folder with a typed ONNX file, in which open sizes stay open, and what builds an engine from it.
pub const SPEC: TargetSpec = TargetSpec {
    name: "tensorrt",
    title: "TensorRT",
    summary: "A folder with a typed ONNX file for TensorRT and what builds an engine from it",
    operators: Takes::AllBut(REFUSED),
    elements: Takes::AllBut(&[Element::Str, Element::Complex64, Element::Complex128, Element::U16, Element::U32, Element::U64]),
    advice: &[Remark::any("NonZero", "its output's size depends on the data, which keeps TensorRT from planning ahead")],
    rules: &[],
    quantization: Some(QUANTIZATION),
    pipeline: pipelines::TENSORRT,
    open_sizes: true,
    empty: true,
    float16: Float16::Typed,
    destination: Destination::Folder,
    calibration: true,
    names: Names::same,
    told: |_| Ok(Vec::new()),
    runtime: None,
    write: write::write,
};

/// Integers in TensorRT: what layers read is int8 with zero point 0; convolutions of fewer than 16 channels stay in float.
pub const QUANTIZATION: Quantization = Quantization {
    activations: Grid::INT8,
    weights: Grid::INT8,
    reduced_weights: false,
    dynamic: false,
    wide: None,
    hybrid: &[],
    layers: &[Op::any("Conv"), Op::any("ConvTranspose"), Op::any("Gemm"), Op::any("MatMul")],
    channel_scales: &[Op::any("Conv"), Op::any("ConvTranspose"), Op::any("Gemm"), Op::any("MatMul").when(has_matrix)],
    min_channels: 16,
    int32_bias: &[],
    writes: &[],
    fused: &[],
    float: &[],
    elementwise: Elementwise::Never,
    ends: false,
    joining: Joining::Share,
    residual: &[Op::any("Add")],
    spread_limit: None,
};

const RUN_TIME: &str = "scales computed at run time are not accepted; quantize with mode: \"static\", target: \"tensorrt\"";
const ZERO_POINT: &str = "zero points must be int8 and 0; quantize with target: \"tensorrt\"";
const BIAS: &str = "biases must stay in float; quantize with target: \"tensorrt\"";
const UNKNOWN: &str = "TensorRT's parser does not know this operator";

const REFUSED: &[Remark] = &[
    Remark::any("ConvInteger", RUN_TIME),
    Remark::any("MatMulInteger", RUN_TIME),
    Remark::any("DynamicQuantizeLinear", RUN_TIME),
    Remark::any("QLinear*", "integer operators are not accepted; explicit QuantizeLinear/DequantizeLinear are"),
    Remark::new(Op::any("QuantizeLinear").when(has_zero_point), ZERO_POINT),
    Remark::new(Op::any("DequantizeLinear").when(has_zero_point), ZERO_POINT),
    Remark::new(Op::any("DequantizeLinear").when(reads_int32), BIAS),
    Remark::any("RandomNormal", UNKNOWN),
    Remark::any("RandomUniform", UNKNOWN),
    Remark::any("RandomNormalLike", UNKNOWN),
    Remark::any("RandomUniformLike", UNKNOWN),
    Remark::any("Multinomial", UNKNOWN),
    Remark::any("Unique", UNKNOWN),
    Remark::any("Det", UNKNOWN),
    Remark::any("StringNormalizer", UNKNOWN),
    Remark::any("TfIdfVectorizer", UNKNOWN),
    Remark::any("SequenceConstruct", UNKNOWN),
    Remark::any("SequenceAt", UNKNOWN),
    Remark::any("Optional", UNKNOWN),
    Remark::any("MaxUnpool", UNKNOWN),
    Remark::any("MelWeightMatrix", UNKNOWN),
];

/// A zero point other than 0, or of another type than int8.
fn has_zero_point(graph: &Graph, node: &Node) -> bool {
    let plain = |zero: &Constant| zero.element() == Element::I8 && zero.to_i64s().is_ok_and(|v| v.iter().all(|&z| z == 0));
    node.input(2).and_then(|z| graph.constant(z)).is_some_and(|zero| !plain(zero))
}

/// A bias in int32, which has no zero point.
fn reads_int32(graph: &Graph, node: &Node) -> bool {
    let is_constant = |i: usize| node.input(i).and_then(|n| graph.constant(n));
    is_constant(2).is_none() && is_constant(0).is_some_and(|c| c.element() == Element::I32)
}
