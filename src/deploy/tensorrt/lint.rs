//! What TensorRT does not take, and what it runs badly.

use crate::{Finding, Severity};
use compresso_base::error::Result;
use compresso_model::{Constant, Element, Graph, Node};

/// Findings of a graph, those that TensorRT refuses first.
pub(super) fn lint(graph: &Graph) -> Result<Vec<Finding>> {
    let mut found = Vec::new();
    for node in graph.nodes() {
        if let Some((severity, message)) = check(graph, node) {
            found.push(Finding { severity, place: node.label(), message });
        }
    }
    for (name, c) in graph.constants() {
        if matches!(c.element(), Element::Str | Element::Complex64 | Element::Complex128 | Element::U16 | Element::U32 | Element::U64) {
            let message = format!("TensorRT has no {} tensors", c.element());
            found.push(Finding { severity: Severity::Error, place: format!("constant '{name}'"), message });
        }
    }
    found.sort_by_key(|f| std::cmp::Reverse(f.severity));
    Ok(found)
}

fn check(graph: &Graph, node: &Node) -> Option<(Severity, String)> {
    let refuse = |message: &str| Some((Severity::Error, message.to_string()));
    match node.op.as_str() {
        "ConvInteger" | "MatMulInteger" | "DynamicQuantizeLinear" => {
            refuse("scales computed at run time are not accepted; quantize with mode: \"static\", target: \"tensorrt\"")
        }
        op if op.starts_with("QLinear") => refuse("integer operators are not accepted; explicit QuantizeLinear/DequantizeLinear are"),
        "QuantizeLinear" | "DequantizeLinear" => match node.input(2).and_then(|z| graph.constant(z)) {
            Some(zero) if !is_plain(zero) => refuse("zero points must be int8 and 0; quantize with target: \"tensorrt\""),
            // A bias in int32 has no zero point.
            None if graph.constant(node.input(0)?).is_some_and(|c| c.element() == Element::I32) => {
                refuse("biases must stay in float; quantize with target: \"tensorrt\"")
            }
            _ => None,
        },
        "RandomNormal" | "RandomUniform" | "RandomNormalLike" | "RandomUniformLike" | "Multinomial" | "Unique" | "Det"
        | "StringNormalizer" | "TfIdfVectorizer" | "SequenceConstruct" | "SequenceAt" | "Optional" | "MaxUnpool" | "MelWeightMatrix" => {
            refuse("TensorRT's parser does not know this operator")
        }
        "NonZero" => Some((Severity::Advice, "its output's size depends on the data, which keeps TensorRT from planning ahead".into())),
        _ => None,
    }
}

fn is_plain(zero: &Constant) -> bool {
    zero.element() == Element::I8 && zero.to_i64s().is_ok_and(|v| v.iter().all(|&z| z == 0))
}
