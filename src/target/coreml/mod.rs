//! [Core ML](https://developer.apple.com/documentation/coreml): a package (`.mlpackage`) with an ML program, as iOS 16 and macOS 13 read it.
//!
//! Operations are those of the set "CoreML6"
//! ([reference](https://apple.github.io/coremltools/source/coremltools.converters.mil.mil.ops.defs.html)); a graph that rounds what layers
//! read takes "CoreML7", of iOS 17. What cannot be written is found by translating the graph, so that `lint` lists exactly what the writer
//! would refuse.
//!
//! Float16 is the type of values: the Neural Engine computes in nothing else. What the conversion to float16 leaves in float32, and inputs
//! and outputs, are cast. Core ML's integer layers round what they read to int8 with one scale and zero point 0, multiply with int8 weights
//! that have a scale for each output channel, and make floats.

mod activation;
mod arithmetic;
mod blob;
mod cuts;
mod describe;
mod emit;
mod image;
mod indexing;
mod layers;
mod lower;
mod names;
mod palette;
mod pools;
mod program;
mod quantized;
mod reduce;
mod resize;
mod serialize;
mod shapes;
mod translate;
mod weights;
mod wire;
mod write;

pub use weights::{BITS, Weights, decoded, rounded};
pub use write::{IMAGE, computed};

use super::onnxruntime::has_matrix;
use super::{Destination, Elementwise, Float16, Grid, Joining, Op, Quantization, Takes, TargetSpec};
use compresso_model::Element;
use compresso_model::passes::pipelines;

/// Core ML as a target: a package, with sizes fixed. Which operators it takes the writer itself knows, and `lint` asks it.
pub const SPEC: TargetSpec = TargetSpec {
    name: "coreml",
    title: "Core ML",
    summary: "A .mlpackage with an ML program for Core ML, from iOS 16 and macOS 13 on",
    // What the writer cannot write it says itself, of the graph that its passes leave: see `write`.
    operators: Takes::AllBut(&[]),
    elements: Takes::AllBut(&[Element::Str, Element::Complex64, Element::Complex128, Element::F64, Element::BF16]),
    advice: &[],
    rules: &[write::unwritable],
    quantization: Some(QUANTIZATION),
    pipeline: pipelines::INFERENCE,
    open_sizes: false,
    empty: false,
    float16: Float16::Typed,
    destination: Destination::Package("mlpackage"),
    calibration: false,
    names: names::names,
    told: |_| Ok(Vec::new()),
    // Prediction is macOS' own.
    runtime: None,
    write: write::write,
};

/// Integers in Core ML: what layers read is int8 with zero point 0, what they make is float.
pub const QUANTIZATION: Quantization = Quantization {
    activations: Grid::INT8,
    weights: Grid::INT8,
    reduced_weights: false,
    dynamic: false,
    wide: None,
    hybrid: &[],
    layers: &[Op::any("Conv"), Op::any("Gemm"), Op::any("MatMul").when(has_matrix)],
    channel_scales: &[Op::any("Conv"), Op::any("Gemm"), Op::any("MatMul").when(has_matrix)],
    min_channels: 0,
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
