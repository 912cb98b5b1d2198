//! Where onnxruntime computes with integers, which files for any runtime follow too.

use crate::{Grid, Joining, Op, Quantization};
use compresso_model::{Graph, Node};

pub const QUANTIZATION: Quantization = Quantization {
    activations: Grid::UINT8,
    weights: Grid::INT8,
    // Its int8 kernels for x86 without VNNI add two products up in 16 bits.
    reduced_weights: true,
    dynamic: true,
    layers: &[Op::any("Conv"), Op::any("ConvTranspose"), Op::any("Gemm"), Op::any("MatMul")],
    min_channels: 0,
    int32_bias: &[Op::any("Conv"), Op::any("Gemm").when(is_plain_gemm)],
    // It has no int8 ConvTranspose: what that makes stays in float.
    writes: &[Op::any("Conv"), Op::any("Gemm"), Op::any("MatMul")],
    fused: &[Op::any("Relu"), Op::any("Clip").when(clips_at_zero)],
    elementwise: true,
    joining: Joining::Rescale,
    residual: &[],
    spread_limit: Some(128.0),
};

fn is_plain_gemm(_: &Graph, node: &Node) -> bool {
    ["alpha", "beta"].iter().all(|name| node.get_float(name, 1.0).is_ok_and(|v| v == 1.0))
}

/// A Clip from zero on, such as Relu6. Its bounds were attributes up to operator set 10.
fn clips_at_zero(graph: &Graph, node: &Node) -> bool {
    match node.input(1) {
        Some(low) => graph.constant(low).and_then(|c| c.to_f32s().ok()).is_some_and(|v| v.first() == Some(&0.0)),
        None => node.attrs.contains_key("min") && node.get_float("min", 1.0).is_ok_and(|low| low == 0.0),
    }
}
