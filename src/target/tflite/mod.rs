//! [TensorFlow Lite](https://ai.google.dev/edge/litert) (LiteRT): a flatbuffer with one graph of fixed sizes.
//!
//! Its kernels for images want channels last. The writer keeps for each value in which order of axes tensors hold it, and turns
//! axes only where an operator asks for another order (`layout`). Float16 stores the weights in two bytes, which the runtime
//! widens when it loads the file.
//!
//! Integers follow [its quantization specification](https://ai.google.dev/edge/litert/conversion/tensorflow/quantization/quantization_spec):
//! activations int8 with any zero point, weights int8 from -127 to 127 with zero point 0 and a scale per output channel, biases
//! int32 with the product of both scales. What a layer makes is rounded, so that its activation is done by the rounding, and so is what
//! the last layers make, which would stay in float otherwise. int16 activations have zero point 0 and int64 biases. A layer that reads floats can have an integer weight too (`Numbers::Hybrid`).

mod builder;
mod codes;
mod ends;
mod flat;
mod layout;
mod model;
mod ops;
mod prune;
mod rounding;
mod serialize;
mod tensors;
mod values;
mod write;

pub use ends::{EndType, INPUTS, OUTPUTS};

use super::onnxruntime::has_matrix;
use super::{Destination, Elementwise, Float16, Grid, Joining, Op, Quantization, Remark, Takes, TargetSpec};
use compresso_model::Element;
use compresso_model::passes::pipelines;

/// TensorFlow Lite as a target: one file, with sizes fixed and images fed with their channels last.
pub const SPEC: TargetSpec = TargetSpec {
    name: "tflite",
    title: "TensorFlow Lite",
    summary: "A .tflite file for TensorFlow Lite (LiteRT), images with channels last",
    operators: Takes::Only(ops::OPERATORS),
    elements: Takes::Only(&[
        Element::F32,
        Element::F16,
        Element::BF16,
        Element::F64,
        Element::I64,
        Element::I32,
        Element::Bool,
        Element::U8,
        Element::I8,
        Element::I16,
    ]),
    advice: &[Remark::any("Erf", "outside of a GELU it is computed by a formula of some fifteen operators")],
    rules: &[],
    quantization: Some(QUANTIZATION),
    pipeline: pipelines::INFERENCE,
    open_sizes: false,
    empty: false,
    float16: Float16::Stored,
    destination: Destination::File("tflite"),
    calibration: false,
    names: write::names,
    told: write::told,
    runtime: Some("tflite"),
    write: write::write,
};

/// Integers by the format's specification: int8 with any zero point (or int16 with 0), both what layers read and what they make.
pub const QUANTIZATION: Quantization = Quantization {
    activations: Grid { element: Element::I8, low: -128, high: 127, symmetric: false },
    weights: Grid::INT8,
    reduced_weights: false,
    dynamic: false,
    wide: Some(Grid::INT16),
    hybrid: &[
        Op::any("Conv").when(rounding::is_hybrid),
        Op::any("ConvTranspose").when(rounding::is_hybrid),
        Op::any("Gemm"),
        Op::any("MatMul").when(has_matrix),
    ],
    layers: &[Op::any("Conv"), Op::any("ConvTranspose"), Op::any("Gemm"), Op::any("MatMul").when(has_matrix)],
    channel_scales: &[Op::any("Conv"), Op::any("ConvTranspose"), Op::any("Gemm"), Op::any("MatMul").when(has_matrix)],
    min_channels: 0,
    int32_bias: &[Op::any("Conv"), Op::any("ConvTranspose"), Op::any("Gemm")],
    writes: &[Op::any("Conv"), Op::any("ConvTranspose"), Op::any("Gemm"), Op::any("MatMul").when(has_matrix)],
    fused: &[Op::any("Relu"), Op::any("Clip").when(rounding::is_relu6)],
    float: &[],
    elementwise: Elementwise::Usual,
    ends: true,
    joining: Joining::Share,
    residual: &[],
    spread_limit: Some(128.0),
};
