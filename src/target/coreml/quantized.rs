//! QuantizeLinear and DequantizeLinear.
//!
//! Weights in integers stay so, with a scale for each channel or one for all (`constexpr_affine_dequantize`). What is rounded when the model
//! runs becomes `quantize` and `dequantize`, which came with iOS 17.

use super::lower::{Entry, Form, Lower, lacks};
use super::program::{Kind, Literal, Type};
use compresso_base::error::{Error, Result};
use compresso_model::graph::normalize_axis;
use compresso_model::{Constant, Element};

pub(super) const OPS: &[Entry] = &[("QuantizeLinear", Form::With(quantize)), ("DequantizeLinear", Form::With(dequantize))];

/// Scales and zero points of a node.
struct Steps {
    scales: Vec<f32>,
    /// Of the integers' own type.
    zeros: Vec<i64>,
    /// The axis along which they are; `None` where there is one for all.
    axis: Option<usize>,
}

impl Steps {
    fn of(cx: &Lower<'_>) -> Result<Self> {
        let computed = || {
            Error::unsupported("Core ML's writer takes scales and zero points that are constants")
                .hint("quantize with mode: \"static\", target: \"coreml\"")
        };
        let scale = cx.constant(1).ok_or_else(computed)?;
        if scale.dims().len() > 1 || cx.node.get_int("block_size", 0)? != 0 {
            return Err(lacks("quantization in blocks at this version of the format"));
        }
        let zeros = match cx.node.input(2) {
            None => vec![0; scale.count()],
            Some(_) => cx.constant(2).ok_or_else(computed)?.to_i64s()?,
        };
        if zeros.len() != scale.count() {
            return Err(Error::shape(format!("expected {} zero points as there are scales, got {}", scale.count(), zeros.len())));
        }
        let scales = scale.to_f32s()?;
        let axis = if scales.len() == 1 { None } else { Some(normalize_axis(cx.node.get_int("axis", 1)?, cx.rank(0)?)?) };
        Ok(Self { scales, zeros, axis })
    }
    fn scale(&self, kind: Kind) -> Literal {
        let dims: &[usize] = if self.axis.is_some() { &[self.scales.len()] } else { &[] };
        Literal::floats(kind, dims, &self.scales)
    }
    fn zero(&self, kind: Kind) -> Literal {
        let dims: &[usize] = if self.axis.is_some() { &[self.zeros.len()] } else { &[] };
        Literal::new(kind, dims, self.zeros.iter().map(|&z| z as u8).collect::<Vec<_>>())
    }
}

fn bytes_of(element: Element) -> Result<Kind> {
    match element {
        Element::I8 => Ok(Kind::I8),
        Element::U8 => Ok(Kind::U8),
        other => Err(lacks(format!("values that are quantized to {other}")).hint("quantize to int8 or uint8")),
    }
}

fn quantize(cx: &mut Lower<'_>) -> Result<()> {
    let steps = Steps::of(cx)?;
    let element = cx.node.output(0).and_then(|name| cx.facts.get(name)).map_or(Element::U8, |f| f.element);
    let (x, kind) = (cx.float(0)?, bytes_of(element)?);
    let made = Type { kind, dims: cx.sizes(x) };
    let (scale, zero) = (steps.scale(cx.kind(x)), steps.zero(kind));
    let y = rounding(cx, "quantize", x, scale, zero, steps.axis, Some(kind), made);
    cx.one(y)
}

#[expect(clippy::too_many_arguments, reason = "all that the two operations have")]
fn rounding(
    cx: &mut Lower<'_>,
    operation: &'static str,
    x: super::program::Ref,
    scale: Literal,
    zero: Literal,
    axis: Option<usize>,
    to: Option<Kind>,
    made: Type,
) -> super::program::Ref {
    cx.net.rounds = true;
    let (scale, zero) = (cx.net.constant("scale", scale), cx.net.constant("zero_point", zero));
    let mut inputs = vec![("input", x), ("zero_point", zero), ("scale", scale)];
    if let Some(axis) = axis {
        inputs.push(("axis", cx.int(axis as i64)));
    }
    if let Some(to) = to {
        inputs.push(("output_dtype", cx.text(to.word())));
    }
    cx.op(operation, &inputs, made)
}

fn dequantize(cx: &mut Lower<'_>) -> Result<()> {
    let steps = Steps::of(cx)?;
    let kind = cx.out_kind(0)?;
    if let Some(c) = cx.constant(0).cloned() {
        return stored(cx, &c, &steps, kind);
    }
    let x = cx.input(0)?;
    if !matches!(cx.kind(x), Kind::I8 | Kind::U8) {
        return Err(lacks(format!("integers of {} that stand for floats, other than stored ones", cx.kind(x).word())));
    }
    let made = Type { kind, dims: cx.sizes(x) };
    let (scale, zero) = (steps.scale(kind), steps.zero(cx.kind(x)));
    let y = rounding(cx, "dequantize", x, scale, zero, steps.axis, None, made);
    cx.one(y)
}

/// Integers of the model: weights as they are, biases in int32 as floats.
fn stored(cx: &mut Lower<'_>, c: &Constant, steps: &Steps, kind: Kind) -> Result<()> {
    let dims = c.dims();
    let name = cx.node.output(0).unwrap_or_default();
    if !matches!(c.element(), Element::I8 | Element::U8) || dims.is_empty() {
        let behind = steps.axis.map_or(1, |a| dims[a + 1..].iter().product::<usize>());
        let at = |i: usize| i / behind % steps.scales.len();
        let real = |(i, v): (usize, &f64)| ((v - steps.zeros[at(i)] as f64) * f64::from(steps.scales[at(i)])) as f32;
        let values: Vec<f32> = c.to_f64s()?.iter().enumerate().map(real).collect();
        let y = cx.net.constant(name, Literal::floats(kind, dims, &values));
        return cx.one(y);
    }
    let integers = bytes_of(c.element())?;
    let attributes = vec![
        ("quantized_data", Literal::new(integers, dims, c.to_raw()?)),
        ("zero_point", steps.zero(integers)),
        ("scale", steps.scale(kind)),
        ("axis", Literal::i32s(&[], &[steps.axis.unwrap_or(0) as i64])),
    ];
    let made = Type::new(kind, dims);
    let y = cx.net.operation(name, "constexpr_affine_dequantize", Vec::new(), attributes, vec![made])[0];
    cx.one(y)
}
