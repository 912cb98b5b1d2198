//! [OpenVINO](https://docs.openvino.ai): its intermediate representation, version 11, a network as XML with its constants in a file
//! beside it.
//!
//! The CPU plugin finds integer layers by the FakeQuantize before their data and the Convert and Multiply after their int8 weights;
//! it fuses what follows a layer into the layer's kernel up to the next FakeQuantize, so only what layers read is rounded, and the
//! skip input of a sum. Biases stay in float. Operators are those of the sets 1 to 16, which the runtime has from 2024.5 on.
//!
//! Sizes that the model leaves open stay open.

mod element;
mod elementwise;
mod indexing;
mod layers;
mod lower;
mod metadata;
mod net;
mod quantized;
mod reduce;
mod resize;
mod shapes;
mod translate;
mod write;
mod xml;

use super::onnxruntime::has_matrix;
use super::{Destination, Elementwise, Float16, Grid, Joining, Names, Op, Quantization, Takes, TargetSpec};
use compresso_model::Element;
use compresso_model::passes::{Pipeline, pipelines};

/// OpenVINO as a target: its representation in two files, in which open sizes stay open. Which operators it takes the writer itself knows.
pub const SPEC: TargetSpec = TargetSpec {
    name: "openvino",
    title: "OpenVINO",
    summary: "OpenVINO's IR: a network as .xml and its constants as .bin beside it",
    // What the writer cannot write it says itself, of the graph that its passes leave: see `write`.
    operators: Takes::AllBut(&[]),
    elements: Takes::AllBut(&[Element::Str, Element::Complex64, Element::Complex128]),
    advice: &[],
    rules: &[write::unwritable],
    quantization: Some(QUANTIZATION),
    pipeline: PIPELINE,
    open_sizes: true,
    empty: true,
    float16: Float16::Stored,
    destination: Destination::File("xml"),
    calibration: false,
    names: Names::same,
    told: |_| Ok(Vec::new()),
    runtime: Some("openvino"),
    write: write::write,
};

const PIPELINE: Pipeline = pipelines::OPENVINO;

/// Integers in OpenVINO's CPU plugin: what layers read is uint8 with any zero point, what they make is float.
pub const QUANTIZATION: Quantization = Quantization {
    activations: Grid::UINT8,
    weights: Grid::INT8,
    // Its int8 kernels for x86 without VNNI add two products up in 16 bits.
    reduced_weights: true,
    dynamic: false,
    wide: None,
    hybrid: &[],
    // Its ConvTranspose runs on integers only where the zero point is 0.
    layers: &[Op::any("Conv"), Op::any("Gemm"), Op::any("MatMul")],
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
