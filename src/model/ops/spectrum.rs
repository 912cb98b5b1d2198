//! Spectra: DFT, STFT, HannWindow, HammingWindow, BlackmanWindow, MelWeightMatrix.
//!
//! <https://onnx.ai/onnx/operators/onnx__DFT.html>: since version 20 the axis is an input, −2 by default; before it was an
//! attribute, 1 by default. <https://onnx.ai/onnx/operators/onnx__STFT.html> and siblings. A transform is a product with the matrix
//! of its waves, hence differentiable, and refused for lengths whose matrix is too large.

use super::cost;
use super::def::{OpDef, operators};
use super::elementwise::{Binary, binary};
use super::facts::{Item, axis_of, fact, items, size};
use super::ints::count;
use super::matmul::matmul;
use super::roles::{Data, Float16Rule};
use super::run::Exec;
use super::slice::select;
use crate::element::Element;
use crate::graph::{Dim, Fact, Infer, Node};
use crate::value::Value;
use candle_core::{Device, Tensor};
use compresso_base::error::{Error, Result};
use std::f64::consts::TAU;

const fn window(name: &'static str, forward: fn(&Exec<'_>) -> Result<Vec<Value>>) -> OpDef {
    OpDef::new(name, &[17], infer_window, forward).data(Data::At(&[])).float16(Float16Rule::Float32)
}

operators! {
    pub const DFT: &str = "DFT";
}

/// Fourier transforms, their windows, and weights of mel filters.
pub const OPS: &[OpDef] = &[
    OpDef::new(DFT, &[17, 20], infer_dft, dft).cost(cost::per_output).float16(Float16Rule::Float32),
    OpDef::new("STFT", &[17], infer_stft, stft).cost(cost::per_output).float16(Float16Rule::Float32),
    window("HannWindow", |cx| make_window(cx, [0.5, 0.5, 0.0])),
    window("HammingWindow", |cx| make_window(cx, [25.0 / 46.0, 21.0 / 46.0, 0.0])),
    window("BlackmanWindow", |cx| make_window(cx, [0.42, 0.5, 0.08])),
    OpDef::new("MelWeightMatrix", &[17], infer_mel, mel).data(Data::At(&[])).float16(Float16Rule::Float32),
];

/// Entries of the matrix of a transform's waves.
const LARGEST: usize = 1 << 25;

/// The cosines and sines of a transform from `inputs` samples to `outputs`, of waves that divide `length`: `[inputs, outputs]`.
/// `weight` multiplies each input.
fn waves(like: &Tensor, [inputs, outputs]: [usize; 2], length: usize, weight: impl Fn(usize) -> f64) -> Result<[Tensor; 2]> {
    if inputs.checked_mul(outputs).is_none_or(|n| n > LARGEST) {
        let e = Error::unsupported(format!("a transform from {inputs} to {outputs} numbers is too large"));
        return Err(e.hint(format!("their product may be {LARGEST}")));
    }
    let turn = |i: usize, o: usize| TAU * (i as u64 * o as u64 % length as u64) as f64 / length as f64;
    let matrix = |f: fn(f64) -> f64| -> Result<Tensor> {
        let data: Vec<f64> = (0..inputs).flat_map(|i| (0..outputs).map(move |o| (i, o))).map(|(i, o)| weight(i) * f(turn(i, o))).collect();
        Ok(Tensor::from_vec(data, (inputs, outputs), like.device())?.to_dtype(like.dtype())?)
    };
    Ok([matrix(f64::cos)?, matrix(f64::sin)?])
}

/// How a transform is done.
#[derive(Debug, Clone, Copy)]
struct Transform {
    /// Of the signal, filled up with zeros or cut off.
    length: usize,
    inverse: bool,
    onesided: bool,
}

impl Transform {
    fn outputs(self) -> usize {
        if self.onesided && !self.inverse { self.length / 2 + 1 } else { self.length }
    }
    /// The transform of `[…, n, 1 or 2]` along the last but one axis: `[…, outputs, 2]`, or `[…, length, 1]` from half a spectrum.
    fn run(self, x: &Tensor) -> Result<Tensor> {
        let rank = x.rank();
        let (given, parts) = (x.dims()[rank - 2], x.dims()[rank - 1]);
        let half = self.inverse && self.onesided;
        let n = given.min(if half { self.length / 2 + 1 } else { self.length });
        let mut dims = x.dims().to_vec();
        (dims[rank - 2], dims[rank - 1]) = (self.outputs(), if half { 1 } else { 2 });
        count(&dims)?;
        if dims.contains(&0) || n == 0 {
            return Ok(Tensor::zeros(dims, x.dtype(), x.device())?);
        }
        let part = |i: usize| -> Result<Tensor> { Ok(x.narrow(rank - 2, 0, n)?.narrow(rank - 1, i, 1)?.squeeze(rank - 1)?.contiguous()?) };
        let real = part(0)?;
        let imaginary = if parts == 2 { Some(part(1)?) } else { None };
        let scale = if self.inverse { 1.0 / self.length as f64 } else { 1.0 };
        // The other half of the spectrum mirrors all but the first entry and, of an even number, the middle one.
        let twice = |i: usize| if half && i > 0 && 2 * i != self.length { 2.0 * scale } else { scale };
        let [cos, sin] = waves(x, [n, self.outputs()], self.length, twice)?;
        let product = |t: &Tensor, w: &Tensor| -> Result<Tensor> {
            let t = if t.rank() == 1 { t.unsqueeze(0)? } else { t.clone() };
            Ok(matmul(&t, w)?.reshape(&dims[..rank - 1])?)
        };
        // e^(−i·t) forwards, e^(i·t) backwards.
        let sign = if self.inverse { -1.0 } else { 1.0 };
        let mut re = product(&real, &cos)?;
        let mut im = (product(&real, &sin)? * -sign)?;
        if let Some(imaginary) = &imaginary {
            re = (re + (product(imaginary, &sin)? * sign)?)?;
            im = (im + product(imaginary, &cos)?)?;
        }
        Ok(if half { re.unsqueeze(rank - 1)? } else { Tensor::stack(&[re, im], rank - 1)? })
    }
}

/// The axis of a DFT in an input of `rank`, unless it is known only when the graph runs.
fn dft_axis(node: &Node, opset: i64, rank: usize, input: Option<Option<i64>>) -> Result<Option<usize>> {
    let axis = match (opset >= 20, input) {
        (true, Some(given)) => given,
        (true, None) => Some(-2),
        (false, _) => Some(node.get_int("axis", 1)?),
    };
    let Some(axis) = axis else { return Ok(None) };
    let axis = axis_of(axis, rank)?;
    if axis + 1 == rank {
        return Err(Error::shape("the last axis holds the parts of complex numbers and is not transformed"));
    }
    Ok(Some(axis))
}

fn check_parts(dims: &[usize]) -> Result<()> {
    match dims.last() {
        Some(1 | 2) if dims.len() >= 2 => Ok(()),
        _ => Err(Error::shape(format!("expected a signal with a last axis of one or two parts, got {dims:?}"))),
    }
}

/// The length that is given, or follows from `n` samples.
fn dft_length(given: Option<i64>, n: usize, half: bool) -> Result<usize> {
    match given {
        Some(v) => size(v, "the length of a transform"),
        None if half => Ok(2 * n.saturating_sub(1)),
        None => Ok(n),
    }
}

fn infer_dft(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    let x = cx.input(0)?;
    let Some(shape) = &x.shape else { return Ok(vec![fact(x.element, None)]) };
    let axis_input = cx.get(2).map(|f| items(f).and_then(|v| v.first().and_then(Item::int)));
    let (inverse, onesided) = (cx.node.get_int("inverse", 0)? != 0, cx.node.get_int("onesided", 0)? != 0);
    let mut out = shape.clone();
    let last = out.len().checked_sub(1).ok_or_else(|| Error::shape("a signal has two axes or more"))?;
    out[last] = Dim::Known(if inverse && onesided { 1 } else { 2 });
    match dft_axis(cx.node, cx.opset, shape.len(), axis_input)? {
        Some(axis) => {
            let given = cx.get(1).map(|f| items(f).and_then(|v| v.first().and_then(Item::int)));
            out[axis] = match (given, &shape[axis]) {
                (Some(Some(v)), _) => Dim::Known(dft_length(Some(v), 0, false)?),
                (None, Dim::Known(n)) => Dim::Known(dft_length(None, *n, inverse && onesided)?),
                (None, d) if !(inverse && onesided) => d.clone(),
                _ => Dim::Unknown,
            };
            if onesided && !inverse {
                out[axis] = out[axis].map("({}/2+1)", |n| Some(n / 2 + 1));
            }
        }
        None => out[..last].fill(Dim::Unknown),
    }
    Ok(vec![fact(x.element, Some(out))])
}

fn first_int(cx: &Exec<'_>, input: usize) -> Result<Option<i64>> {
    match cx.ints(input)? {
        None => Ok(None),
        Some(v) => v.first().copied().map(Some).ok_or_else(|| Error::shape(format!("input {input} is empty, expected a scalar"))),
    }
}

fn dft(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let x = cx.tensor(0)?;
    check_parts(x.dims())?;
    let axis_input = first_int(cx, 2)?.map(Some);
    let axis = dft_axis(cx.node, cx.opset, x.rank(), axis_input)?.ok_or_else(|| Error::internal("an axis that is not known"))?;
    let (inverse, onesided) = (cx.node.get_int("inverse", 0)? != 0, cx.node.get_int("onesided", 0)? != 0);
    let length = dft_length(first_int(cx, 1)?, x.dims()[axis], inverse && onesided)?;
    let wide = x.to_dtype(super::run::wide(x.dtype()))?;
    let turned = wide.transpose(axis, x.rank() - 2)?;
    let y = Transform { length, inverse, onesided }.run(&turned)?;
    cx.one(y.transpose(axis, x.rank() - 2)?.contiguous()?.to_dtype(x.dtype())?)
}

/// Length of a frame and number of frames.
fn frames(samples: usize, step: i64, given: Option<i64>, window: Option<usize>) -> Result<[usize; 2]> {
    let step = usize::try_from(step)
        .ok()
        .filter(|&s| s > 0)
        .ok_or_else(|| Error::shape(format!("the step of frames must be positive, got {step}")))?;
    let length = match (given, window) {
        (Some(n), _) => size(n, "the length of a frame")?,
        (None, Some(n)) => n,
        (None, None) => samples,
    };
    if window.is_some_and(|w| w != length) {
        return Err(Error::shape(format!("a window of {window:?} does not fit frames of {length}")));
    }
    let rest = samples.checked_sub(length).filter(|_| length > 0);
    let rest = rest.ok_or_else(|| Error::shape(format!("a signal of {samples} samples has no frame of {length}")))?;
    Ok([length, rest / step + 1])
}

fn infer_stft(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    let x = cx.input(0)?;
    let Some([batch, samples, _]) = x.shape.as_deref() else { return Ok(vec![fact(x.element, None)]) };
    let int = |i: usize| cx.get(i).and_then(|f| items(f)?.first()?.int());
    let window = cx.get(2).map(|f| f.dim(0));
    let (mut count, mut bins) = (Dim::Unknown, Dim::Unknown);
    let known = (cx.get(3).is_none() || int(3).is_some()) && window != Some(None);
    if let (Some(n), Some(step), true) = (samples.known(), int(1), known) {
        let [length, found] = frames(n, step, int(3), window.flatten())?;
        let onesided = cx.node.get_int("onesided", 1)? != 0;
        (count, bins) = (Dim::Known(found), Dim::Known(if onesided { length / 2 + 1 } else { length }));
    }
    Ok(vec![fact(x.element, Some(vec![batch.clone(), count, bins, Dim::Known(2)]))])
}

fn stft(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let x = cx.tensor(0)?;
    let &[batch, samples, parts] = x.dims() else {
        return Err(Error::shape(format!("expected a signal [batch, samples, parts], got {:?}", x.dims())));
    };
    check_parts(x.dims())?;
    let step = first_int(cx, 1)?.ok_or_else(|| Error::format("the step of frames is missing"))?;
    let window = cx.get(2).map(|w| &w.tensor);
    if let Some(w) = window.filter(|w| w.rank() != 1) {
        return Err(Error::shape(format!("expected a window with one axis, got {:?}", w.dims())));
    }
    let [length, count_] = frames(samples, step, first_int(cx, 3)?, window.map(Tensor::elem_count))?;
    count(&[batch, count_, length, parts])?;
    let step = usize::try_from(step).unwrap_or(1);
    let wide = x.to_dtype(super::run::wide(x.dtype()))?;
    let places: Vec<usize> = (0..count_).flat_map(|f| (0..length).map(move |i| f * step + i)).collect();
    let mut framed = select(&wide, 1, &places)?.reshape((batch, count_, length, parts))?;
    if let Some(w) = window {
        framed = binary(Binary::Mul, &framed, &w.to_dtype(wide.dtype())?.reshape((1, 1, length, 1))?)?;
    }
    let onesided = cx.node.get_int("onesided", 1)? != 0;
    cx.one(Transform { length, inverse: false, onesided }.run(&framed)?.to_dtype(x.dtype())?)
}

fn element(node: &Node) -> Result<Element> {
    let code = node.get_int("output_datatype", 1)?;
    let e = i32::try_from(code).ok().and_then(Element::from_code).filter(|e| e.storage().is_some());
    e.ok_or_else(|| Error::unsupported(format!("ONNX type {code} is not supported here")))
}

fn made(node: &Node, data: Vec<f64>, dims: &[usize], device: &Device) -> Result<Vec<Value>> {
    let element = element(node)?;
    let t = Tensor::from_vec(data, dims, &Device::Cpu)?;
    let storage = element.storage().ok_or_else(|| Error::internal("a type without storage"))?;
    Ok(vec![Value::new(element, t.to_dtype(storage)?.to_device(device)?)?])
}

fn infer_window(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    let n = items(cx.input(0)?).and_then(|v| v.first().map(Item::to_dim)).unwrap_or(Dim::Unknown);
    Ok(vec![fact(element(cx.node)?, Some(vec![n]))])
}

/// `a − b · cos(t) + c · cos(2 · t)` over one turn.
fn make_window(cx: &Exec<'_>, [a, b, c]: [f64; 3]) -> Result<Vec<Value>> {
    let n = size(first_int(cx, 0)?.ok_or_else(|| Error::format("the size is missing"))?, "the size of a window")?;
    count(&[n])?;
    let turn = if cx.node.get_int("periodic", 1)? != 0 { n } else { n.saturating_sub(1) }.max(1) as f64;
    let at = |i: usize| TAU * i as f64 / turn;
    let data: Vec<f64> = (0..n).map(|i| a - b * at(i).cos() + c * (2.0 * at(i)).cos()).collect();
    made(cx.node, data, &[n], &cx.device())
}

fn infer_mel(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    let n = |i: usize| -> Result<Dim> { Ok(items(cx.input(i)?).and_then(|v| v.first().map(Item::to_dim)).unwrap_or(Dim::Unknown)) };
    Ok(vec![fact(element(cx.node)?, Some(vec![n(1)?.map("({}/2+1)", |n| Some(n / 2 + 1)), n(0)?]))])
}

/// Triangles over the bins of a spectrum, evenly spaced on the mel scale.
fn mel(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let int = |i: usize| first_int(cx, i)?.ok_or_else(|| Error::format(format!("input {i} is missing")));
    let float = |i: usize| -> Result<f64> {
        cx.input(i)?.to_f64s()?.first().copied().ok_or_else(|| Error::shape(format!("input {i} is empty, expected a scalar")))
    };
    let (bands, length, rate) = (size(int(0)?, "the number of bands")?, size(int(1)?, "the length of a transform")?, int(2)? as f64);
    let bins = length / 2 + 1;
    let mut out = vec![0.0; count(&[bins, bands])?];
    let mel = |hertz: f64| 2595.0 * (hertz / 700.0).ln_1p() / std::f64::consts::LN_10;
    let (low, high) = (mel(float(3)?), mel(float(4)?));
    let step = (high - low) / (bands + 2) as f64;
    let edge = |i: usize| -> Result<usize> {
        let hertz = 700.0 * ((i as f64 * step + low) / 2595.0 * std::f64::consts::LN_10).exp_m1();
        let bin = ((length + 1) as f64 * hertz / rate).floor();
        if bin >= 0.0 && bin < bins as f64 { Ok(bin as usize) } else { Err(Error::shape(format!("{hertz} Hz lie outside the spectrum"))) }
    };
    for band in 0..bands {
        let (low, center, high) = (edge(band)?, edge(band + 1)?, edge(band + 2)?);
        for j in low..center {
            out[j * bands + band] = (j - low) as f64 / (center - low) as f64;
        }
        out[center * bands + band] = 1.0;
        for j in center..high {
            out[j * bands + band] = (high - j) as f64 / (high - center) as f64;
        }
    }
    made(cx.node, out, &[bins, bands], &cx.device())
}
