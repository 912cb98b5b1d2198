//! [NCNN](https://github.com/Tencent/ncnn): a text of layers (.param) and their weights (.bin), the format most used on small ARM boards.
//!
//! Its blobs have up to four axes and no batch. The writer sees a tensor's blob in whatever shape a layer wants it, so that reshapes cost a
//! layer only where a layer reads another shape, and a transpose moves as few axes as it can. What NCNN cannot run is found
//! by translating the graph, so that `lint` lists exactly what the writer would refuse. Sources:
//! <https://github.com/Tencent/ncnn/wiki/param-and-model-file-structure>, <https://github.com/Tencent/ncnn/wiki/operators> and
//! <https://github.com/Tencent/ncnn/wiki/quantized-int8-inference>.
//!
//! Its integer layers round what they read to int8 with one scale and zero point 0, multiply with int8 weights with a scale for each
//! output channel, and make floats.

mod build;
mod elementwise;
mod encode;
mod fixed;
mod fuse;
mod integers;
mod metadata;
mod moves;
mod net;
mod product;
mod reduce;
mod resize;
mod shape;
mod translate;
mod window;
mod write;

use super::onnxruntime::has_matrix;
use super::{Destination, Elementwise, Finding, Float16, Grid, Joining, Op, Quantization, Severity, Takes, TargetSpec};
use compresso_base::error::Result;
use compresso_model::passes::pipelines;
use compresso_model::{Element, Graph, Node, ops};

/// NCNN as a target: a folder, with sizes fixed. Which operators it takes the writer itself knows, and `lint` asks it.
pub const SPEC: TargetSpec = TargetSpec {
    name: "ncnn",
    title: "NCNN",
    summary: "A folder with the layers (.param) and weights (.bin) of NCNN, and metadata.yaml",
    // Which operators in which form: what `rules` finds by translating the graph.
    operators: Takes::AllBut(&[]),
    elements: Takes::AllBut(&[Element::Str, Element::Complex64, Element::Complex128]),
    advice: &[],
    rules: &[translates],
    quantization: Some(QUANTIZATION),
    pipeline: pipelines::INFERENCE,
    open_sizes: false,
    empty: false,
    float16: Float16::Stored,
    destination: Destination::Folder,
    calibration: false,
    names: write::names,
    told: |_| Ok(Vec::new()),
    runtime: Some("ncnn"),
    write: write::write,
};

/// Integers in NCNN: what layers read is int8 with zero point 0, what they make is float.
pub const QUANTIZATION: Quantization = Quantization {
    activations: Grid::INT8,
    weights: Grid::INT8,
    reduced_weights: false,
    dynamic: false,
    wide: None,
    hybrid: &[],
    layers: &[Op::any("Conv").when(has_integer_layer), Op::any("Gemm").when(is_inner_product), Op::any("MatMul").when(has_matrix)],
    channel_scales: &[Op::any("Conv"), Op::any("Gemm"), Op::any("MatMul")],
    min_channels: 0,
    int32_bias: &[],
    writes: &[],
    fused: &[],
    float: &[],
    elementwise: Elementwise::Never,
    ends: false,
    joining: Joining::Rescale,
    residual: &[],
    spread_limit: None,
};

/// Convolutions over images, all channels with all or each by itself: others have no integer layer.
fn has_integer_layer(graph: &Graph, node: &Node) -> bool {
    let Ok(Some(weight)) = ops::layer_weight(graph, node) else { return false };
    let group = node.get_int("group", 1).ok().and_then(|g| usize::try_from(g).ok());
    weight.constant.dims().len() == 4 && group.is_some_and(|g| g == 1 || g == weight.constant.dims()[0])
}

fn is_inner_product(graph: &Graph, node: &Node) -> bool {
    has_matrix(graph, node) && node.get_int("transA", 0).is_ok_and(|t| t == 0) && node.get_float("alpha", 1.0).is_ok_and(|a| a == 1.0)
}

/// What the writer would refuse. A graph whose images have any size is translated when they have one.
fn translates(graph: &Graph) -> Result<Vec<Finding>> {
    if let Some(input) = fixed::open_input(graph, None) {
        let message =
            format!("it is {}; NCNN's files have fixed sizes, and what of the graph NCNN lacks is told when they are known", input.fact);
        return Ok(vec![Finding { severity: Severity::Advice, place: format!("input '{}'", input.name), message }]);
    }
    let (_, refused) = translate::translate(&fixed::fixed(graph, None)?)?;
    Ok(refused.iter().map(|e| Finding::refusal(e, e.places().last())).collect())
}
