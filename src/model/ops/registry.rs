//! All operators, by name.

use super::def::OpDef;
use crate::graph::Node;
use compresso_base::error::{Error, Result, nearest};
use std::collections::HashMap;
use std::sync::OnceLock;

/// The registration lines: every family's table.
pub const FAMILIES: &[&[OpDef]] = &[
    super::activation::OPS,
    super::arithmetic::OPS,
    super::attention::OPS,
    super::cast::OPS,
    super::concat::OPS,
    super::constant::OPS,
    super::control::OPS,
    super::conv::OPS,
    super::deform_conv::OPS,
    super::detection::OPS,
    super::einsum::OPS,
    super::gather::OPS,
    super::grid_sample::OPS,
    super::logic::OPS,
    super::loss::OPS,
    super::math::OPS,
    super::matmul::OPS,
    super::norm::OPS,
    super::order::OPS,
    super::pool::OPS,
    super::product::OPS,
    super::qlinear::OPS,
    super::quantize::OPS,
    super::random::OPS,
    super::rearrange::OPS,
    super::recurrent::OPS,
    super::reduce::OPS,
    super::region::OPS,
    super::resize::OPS,
    super::rotary::OPS,
    super::scan::OPS,
    super::scatter::OPS,
    super::sequence::OPS,
    super::shape::OPS,
    super::shrink::OPS,
    super::slice::OPS,
    super::softmax::OPS,
    super::spectrum::OPS,
    super::stream::OPS,
    super::transpose::OPS,
    super::unique::OPS,
    super::unpool::OPS,
];

/// The definition of a node's operator.
///
/// # Errors
/// `Unsupported`, naming the operator, with the nearest supported one.
pub fn find(node: &Node) -> Result<&'static OpDef> {
    static TABLE: OnceLock<HashMap<(&'static str, &'static str), &'static OpDef>> = OnceLock::new();
    let table = TABLE.get_or_init(|| FAMILIES.iter().flat_map(|f| f.iter()).map(|op| ((op.domain, op.name), op)).collect());
    let domain = if node.domain == "ai.onnx" { "" } else { node.domain.as_str() };
    table.get(&(domain, node.op.as_str())).copied().ok_or_else(|| {
        let of = if domain.is_empty() { String::new() } else { format!(" of domain '{domain}'") };
        let e = Error::unsupported(format!("the operator {}{of} is not supported", node.op)).at(node.label());
        match nearest(&node.op, all().map(|op| op.name)) {
            Some(near) => e.hint(format!("the nearest supported operator is {near}")),
            None => e.hint("docs/adding-an-op.md says how to add one"),
        }
    })
}

/// All supported operators.
pub fn all() -> impl Iterator<Item = &'static OpDef> {
    FAMILIES.iter().flat_map(|f| f.iter())
}
