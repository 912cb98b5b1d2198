//! Pocket, a made-up accelerator that runs chains of convolutions on int8.

use compresso::model::{Element, Graph, Node};
use compresso::target::{
    Artefact, Destination, Finding, Grid, Joining, Op, Quantization, Remark, Severity, Takes, TargetSpec, file_name, onnx, onnxruntime,
    write_text,
};
use compresso::{Error, Result};
use std::path::{Path, PathBuf};

pub const SPEC: TargetSpec = TargetSpec {
    name: "pocket",
    title: "Pocket",
    summary: "A folder with an ONNX file for Pocket and the order in which it loads weights",
    // A closed list: what is not in it is refused.
    operators: Takes::Only(&[
        Op::any("Conv").when(is_square),
        Op::any("Relu"),
        Op::any("MaxPool"),
        Op::any("AveragePool").opsets(11, i64::MAX),
        Op::any("GlobalAveragePool"),
        Op::any("Concat"),
        Op::any("Flatten"),
        Op::any("Gemm"),
        Op::any("QuantizeLinear"),
        Op::any("DequantizeLinear"),
    ]),
    elements: Takes::Only(&[Element::F32, Element::I8, Element::I32, Element::I64]),
    advice: &[Remark::any("Gemm", "matrix products run on the host")],
    rules: &[one_image],
    quantization: Some(Quantization {
        activations: Grid::INT8,
        reduced_weights: false,
        dynamic: false,
        layers: &[Op::any("Conv")],
        min_channels: 4,
        int32_bias: &[Op::any("Conv")],
        writes: &[Op::any("Conv")],
        fused: &[Op::any("Relu")],
        joining: Joining::Share,
        ..onnxruntime::QUANTIZATION
    }),
    destination: Destination::Folder,
    calibration: false,
    write,
    ..onnx::SPEC
};

/// Its convolution unit slides square windows.
fn is_square(graph: &Graph, node: &Node) -> bool {
    match node.input(1).and_then(|w| graph.constant(w)).map(|w| w.dims()) {
        Some([_, _, height, width]) => height == width,
        // A quantized weight is made by a DequantizeLinear.
        _ => true,
    }
}

fn one_image(graph: &Graph) -> Result<Vec<Finding>> {
    let several = graph.feeds().filter(|i| i.fact.dim(0) != Some(1));
    let finding = |name: &str| Finding {
        severity: Severity::Error,
        place: format!("input '{name}'"),
        message: "Pocket takes one image at a time; open the model with batch: 1".into(),
    };
    Ok(several.map(|i| finding(&i.name)).collect())
}

fn write(artefact: &Artefact<'_>, folder: &Path) -> Result<Vec<PathBuf>> {
    let model = folder.join(file_name(artefact.name, artefact.precision, "onnx"));
    artefact.model.save(&model)?;
    let order = folder.join("order.txt");
    let names: Vec<&str> = artefact.model.graph().constants().keys().map(String::as_str).collect();
    if names.is_empty() {
        return Err(Error::unsupported("Pocket runs nothing without weights"));
    }
    write_text(&order, &(names.join("\n") + "\n"))?;
    Ok(vec![model, order])
}
