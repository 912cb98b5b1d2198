//! Element types: Cast, CastLike, BitCast.
//!
//! <https://onnx.ai/onnx/operators/onnx__Cast.html> and siblings.

use super::def::{OpDef, operators};
use super::facts::fact;
use super::ints::{Ints, to_storage};
use super::run::Exec;
use super::shape::labels;
use crate::constant::{Constant, Payload};
use crate::element::Element;
use crate::graph::{Fact, Infer, Node};
use crate::value::Value;
use candle_core::{DType, Tensor};
use compresso_base::error::{Error, Result};
operators! {
    pub const CAST: &str = "Cast";
}

/// Conversions between element types.
pub const OPS: &[OpDef] = &[
    OpDef::new(CAST, &[6, 9, 13, 19, 21, 23, 24, 25], infer_cast, cast_op).channels(labels::cast),
    OpDef::new("CastLike", &[15, 19, 21, 23, 24, 25], infer_cast_like, cast_like).channels(labels::cast),
    OpDef::new("BitCast", &[26], infer_bits, bit_cast),
];

/// The value converted to another element type: floats to integers by truncation, anything to bool by "is not zero".
///
/// # Errors
/// `Unsupported` for types that cannot be computed with.
pub fn cast(value: &Value, element: Element) -> Result<Value> {
    let storage = element.storage().ok_or_else(|| Error::unsupported(format!("a cast to {element} is not supported")))?;
    if value.element == element {
        return Ok(value.clone());
    }
    let x = &value.tensor;
    if element.is_float() {
        return Value::new(element, to_storage(x, storage)?);
    }
    if element == Element::Bool {
        let zero = Tensor::zeros((), x.dtype(), x.device())?;
        return Value::bool(x.broadcast_ne(&zero)?);
    }
    let data = if value.element.is_float() {
        x.flatten_all()?.to_dtype(DType::F64)?.to_vec1::<f64>()?.into_iter().map(|v| v as i64).collect()
    } else {
        value.to_i64s()?
    };
    Ints { dims: value.dims().to_vec(), data }.into_value(element, x.device())
}

fn cast_target(node: &Node) -> Result<Element> {
    let code = node.find_int("to")?.ok_or_else(|| Error::format("attribute 'to' is missing"))?;
    let known = i32::try_from(code).ok().and_then(Element::from_code);
    known.ok_or_else(|| Error::unsupported(format!("a cast to ONNX type {code} is not supported")))
}

fn infer_cast(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    recast(cx, cast_target(cx.node)?)
}

fn recast(cx: &Infer<'_>, to: Element) -> Result<Vec<Fact>> {
    let x = cx.input(0)?;
    let mut out = fact(to, x.shape.clone());
    // Sizes fit both types; what narrower types cut off is left to folding.
    if matches!((x.element, to), (Element::I64 | Element::I32, Element::I64 | Element::I32)) && x.constant.is_none() {
        out.contents.clone_from(&x.contents);
    }
    Ok(vec![out])
}

fn cast_op(cx: &Exec<'_>) -> Result<Vec<Value>> {
    Ok(vec![cast(cx.input(0)?, cast_target(cx.node)?)?])
}

fn infer_cast_like(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    recast(cx, cx.input(1)?.element)
}

fn cast_like(cx: &Exec<'_>) -> Result<Vec<Value>> {
    Ok(vec![cast(cx.input(0)?, cx.input(1)?.element)?])
}

/// The element that bits are read as.
fn bits_target(node: &Node, from: Element) -> Result<Element> {
    let to = cast_target(node)?;
    if to.bits() != from.bits() || from.bits() == 0 {
        return Err(Error::dtype(format!("{from} has {} bits and {to} has {}", from.bits(), to.bits())));
    }
    Ok(to)
}

fn infer_bits(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    let x = cx.input(0)?;
    Ok(vec![fact(bits_target(cx.node, x.element)?, x.shape.clone())])
}

/// The same bits as another type; passes no gradient.
fn bit_cast(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let x = cx.input(0)?;
    let to = bits_target(cx.node, x.element)?;
    let raw = Constant::from_storage(x.element, &x.tensor)?.to_raw()?;
    let bits = Constant::new(to, x.dims().to_vec(), Payload::Raw(raw))?;
    Ok(vec![Value::of_constant(&bits, x.tensor.device())?])
}
