//! [onnxruntime](https://onnxruntime.ai), whose rules for integers are those of its CPU provider.
//!
//! It runs quantized graphs by finding QuantizeLinear and DequantizeLinear around operators and putting integer kernels in
//! their place. Its int8 convolutions and products write int8, so that what they make is rounded; a Relu between the two is
//! done by the rounding. Its int8 Concat rescales what it joins.

pub(super) mod integers;

pub use integers::QUANTIZATION;
pub(crate) use integers::has_matrix;

use super::{TargetSpec, onnx};
use compresso_model::passes::pipelines;

/// onnxruntime as a target: ONNX as [`onnx::SPEC`] has it, with the runtime's own list of passes.
pub const SPEC: TargetSpec = TargetSpec {
    name: "onnxruntime",
    title: "onnxruntime",
    summary: "An ONNX file for onnxruntime on a CPU",
    quantization: Some(QUANTIZATION),
    pipeline: pipelines::ONNXRUNTIME,
    ..onnx::SPEC
};
