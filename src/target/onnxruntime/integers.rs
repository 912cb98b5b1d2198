//! Where onnxruntime computes with integers, which files for any runtime follow too.

use crate::{Elementwise, Grid, Joining, Op, Quantization};
use compresso_model::{Graph, Node, ops};

/// Integers in onnxruntime's CPU provider: uint8 with any zero point, both what layers read and what most of them make.
pub const QUANTIZATION: Quantization = Quantization {
    activations: Grid::UINT8,
    weights: Grid::INT8,
    // Its int8 kernels for x86 without VNNI add two products up in 16 bits.
    reduced_weights: true,
    dynamic: true,
    wide: None,
    hybrid: &[],
    layers: &[Op::any("Conv"), Op::any("ConvTranspose"), Op::any("Gemm"), Op::any("MatMul")],
    channel_scales: &[Op::any("Conv"), Op::any("ConvTranspose"), Op::any("Gemm"), Op::any("MatMul").when(has_matrix)],
    min_channels: 0,
    // A bias that a file leaves in float is made int32 by onnxruntime itself, where what the layer makes is rounded.
    int32_bias: &[Op::any("Conv"), Op::any("ConvTranspose"), Op::any("Gemm")],
    // It has no int8 ConvTranspose: what that makes stays in float.
    writes: &[Op::any("Conv"), Op::any("Gemm"), Op::any("MatMul")],
    fused: &[Op::any("Relu"), Op::any("Clip").when(clips_at_zero)],
    // Its QLinearAveragePool has no dilations, and counts cells beyond the padding that ceil_mode adds.
    float: &[Op::any("AveragePool").when(is_dilated), Op::any("AveragePool").when(counts_beyond_padding)],
    elementwise: Elementwise::Asked,
    ends: false,
    joining: Joining::Rescale,
    residual: &[],
    spread_limit: Some(128.0),
};

/// A weight of rank 2. A batch of matrices has one scale: kernels want its scales per column repeated for each matrix, which
/// DequantizeLinear cannot say.
pub(crate) fn has_matrix(graph: &Graph, node: &Node) -> bool {
    ops::layer_weight(graph, node).is_ok_and(|w| w.is_some_and(|w| w.constant.dims().len() == 2))
}

fn is_dilated(_: &Graph, node: &Node) -> bool {
    !node.find_ints("dilations").is_ok_and(|d| d.is_none_or(|d| d.iter().all(|&d| d == 1)))
}

fn counts_beyond_padding(_: &Graph, node: &Node) -> bool {
    ["ceil_mode", "count_include_pad"].iter().all(|name| !node.get_int(name, 0).is_ok_and(|v| v == 0))
}

/// A Clip from zero on, such as Relu6. Its bounds were attributes up to operator set 10.
fn clips_at_zero(graph: &Graph, node: &Node) -> bool {
    match node.input(1) {
        Some(low) => graph.constant(low).and_then(|c| c.to_f32s().ok()).is_some_and(|v| v.first() == Some(&0.0)),
        None => node.attrs.contains_key("min") && node.get_float("min", 1.0).is_ok_and(|low| low == 0.0),
    }
}
