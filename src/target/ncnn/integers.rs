//! Layers on integers: NCNN rounds what such a layer reads itself, to int8 with zero point 0, and stores the weight as int8.

use super::build::{Build, Rounded, input, output};
use super::net::Weight;
use super::window::Numbers;
use compresso_base::error::{Error, Result};
use compresso_model::{Constant, Element, Node};

/// A scale and zero point as NCNN has them: one scale above 0, zero point 0 of int8.
fn scale_of(cx: &Build<'_>, node: &Node) -> Result<f32> {
    let scale = cx.floats(node, 1, "the scale")?;
    let zero = cx.ints(node, 2, "the zero point")?.unwrap_or_default();
    let is_int8 = node.input(2).and_then(|z| cx.constant(z)).is_some_and(|z| z.element() == Element::I8);
    match scale[..] {
        [scale] if scale > 0.0 && scale.is_finite() && is_int8 && zero.iter().all(|&z| z == 0) => Ok(scale),
        _ => Err(Error::unsupported("NCNN rounds to int8 with one scale and zero point 0").hint("quantize with target: \"ncnn\"")),
    }
}

/// QuantizeLinear is done by the layers that read what it makes.
pub(super) fn quantize(cx: &mut Build<'_>, node: &Node) -> Result<()> {
    let scale = scale_of(cx, node)?;
    let rounded = Rounded { source: input(node, 0)?.to_string(), scale };
    cx.rounded.insert(output(node)?.to_string(), rounded);
    Ok(())
}

pub(super) fn dequantize(cx: &mut Build<'_>, node: &Node) -> Result<()> {
    let from = input(node, 0)?;
    // Weights and biases are taken by the layers that read them.
    if cx.graph.constant(from).is_some() {
        return Ok(());
    }
    let scale = scale_of(cx, node)?;
    let made = cx.rounded.get(from).cloned().ok_or_else(|| Error::unsupported(format!("'{from}' was not made by QuantizeLinear")))?;
    if (made.scale - scale).abs() > scale * 1e-6 {
        return Err(Error::unsupported(format!("it reads integers of scale {} with scale {scale}", made.scale)));
    }
    cx.rounded.insert(output(node)?.to_string(), made);
    Ok(())
}

/// A stored tensor behind a DequantizeLinear: integers and their scales.
struct Stored<'g> {
    integers: &'g Constant,
    scales: Vec<f32>,
    values: Vec<f32>,
}

fn stored<'g>(cx: &Build<'g>, name: &str) -> Result<Option<Stored<'g>>> {
    let Some(node) = cx.graph.nodes().iter().find(|n| n.is("DequantizeLinear") && n.output(0) == Some(name)) else { return Ok(None) };
    let Some(integers) = node.input(0).and_then(|n| cx.graph.constant(n)) else { return Ok(None) };
    let scales = cx.floats(node, 1, "the scale")?;
    let zero = cx.ints(node, 2, "the zero point")?.unwrap_or_default();
    if zero.iter().any(|&z| z != 0) {
        return Err(Error::unsupported(format!("'{name}' has a zero point other than 0")).hint("quantize with target: \"ncnn\""));
    }
    let dims = integers.dims();
    let axis = compresso_model::graph::normalize_axis(node.get_int("axis", 1)?, dims.len().max(2))?;
    let inner: usize = dims.iter().skip(axis + 1).product();
    if scales.len() != 1 && dims.get(axis) != Some(&scales.len()) {
        return Err(Error::unsupported(format!("'{name}' has {} scales for {dims:?}", scales.len())));
    }
    let values = integers.to_i64s()?.iter().enumerate().map(|(i, &v)| v as f32 * scales[i / inner.max(1) % scales.len()]).collect();
    Ok(Some(Stored { integers, scales, values }))
}

/// The numbers of a layer's weight, with `outputs` scales at the most; `None` where it is computed. `integer`: the layer multiplies
/// integers, where both its operands are.
pub(super) fn numbers(cx: &Build<'_>, node: &Node, outputs: usize, integer: bool) -> Result<Option<Numbers>> {
    let (x, name) = (input(node, 0)?, input(node, 1)?);
    let source = x.to_string();
    if let Some(stored) = stored(cx, name)? {
        return Ok(Some(match cx.rounded.get(x) {
            Some(rounded)
                if integer && stored.integers.element() == Element::I8 && matches!(stored.scales.len(), n if n == 1 || n == outputs) =>
            {
                let integers = stored.integers.to_i64s()?.iter().map(|&v| i8::try_from(v).unwrap_or_default()).collect();
                let (weight, scales) = (Weight::Int8(integers), Some((rounded.scale, stored.scales)));
                Numbers { weight, scales, source: rounded.source.clone() }
            }
            _ => Numbers { weight: Weight::Tagged(stored.values), scales: None, source },
        }));
    }
    let Some(constant) = cx.constant(name) else { return Ok(None) };
    Ok(Some(Numbers { weight: Weight::Tagged(constant.to_f32s()?), scales: None, source }))
}
