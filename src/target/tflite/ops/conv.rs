//! Convolutions: [Conv](https://onnx.ai/onnx/operators/onnx__Conv.html) and ConvTranspose.

use super::window::{Windows, padded};
use crate::tflite::builder::{Builder, Form, permute};
use crate::tflite::codes::{self, Fused, Window};
use crate::tflite::layout::channels_last;
use crate::tflite::model::{Call, Grid, Kind, Type};
use crate::tflite::rounding::Rounding;
use compresso_base::error::{Error, Result};
use compresso_base::memory;
use compresso_model::{Graph, Node};

/// One or two axes of space, padding inside of it.
pub(super) fn takes(graph: &Graph, node: &Node) -> bool {
    let rank = graph.facts().ok().and_then(|f| f.get(node.input(0)?)?.rank());
    let pads = node.find_ints("pads").is_ok_and(|p| p.is_none_or(|p| p.iter().all(|&p| p >= 0)));
    pads && rank.is_none_or(|r| r == 3 || r == 4)
}

/// Without dilation, besides.
pub(super) fn takes_transposed(graph: &Graph, node: &Node) -> bool {
    takes(graph, node) && node.find_ints("dilations").is_ok_and(|d| d.is_none_or(|d| d.iter().all(|&d| d == 1)))
}

/// A kernel as the file has it: shape, order of the value's axes, and what else its operator wants to know.
struct Kernel {
    /// In integers, where the layer computes on these.
    rounded: bool,
    tensor: usize,
    /// Scales of its output channels, when rounded.
    scales: Vec<f32>,
}

/// The kernel of a layer, whose dims with two axes of space are `dims`, with its axes in this order and this shape.
fn kernel(b: &mut Builder<'_>, name: &str, dims: &[usize], perm: &[usize], shape: &[usize], axis: usize, rounded: bool) -> Result<Kernel> {
    if !rounded {
        let values = permute(&b.floats(name)?, dims, perm);
        return Ok(Kernel { rounded, tensor: b.weight(name, shape, &values)?, scales: Vec::new() });
    }
    let stored = b.stored_integers(name)?.ok_or_else(|| Error::internal("the kernel is stored in integers"))?;
    let data = permute(&stored.values, dims, perm).iter().map(|&v| v as u8).collect();
    let grid = Grid { zero_points: vec![0; stored.scales.len()], scales: stored.scales.clone(), axis };
    let made = Type { kind: Kind::I8, shape: shape.to_vec(), grid: Some(grid) };
    Ok(Kernel { rounded, tensor: b.store(name, made, data), scales: stored.scales })
}

/// The bias of a layer, zeros where it has none: real, or int32 in steps of what input and kernel make.
fn bias(b: &mut Builder<'_>, node: &Node, channels: usize, kernel: &Kernel, input: usize) -> Result<usize> {
    let values = match node.input(2) {
        Some(name) => b.floats(name)?,
        None => vec![0.0; channels],
    };
    let name = node.input(2).unwrap_or("bias").to_string();
    if kernel.rounded { int_bias(b, &name, &values, &kernel.scales, input) } else { Ok(b.f32s(&name, &[channels], &values)) }
}

/// A bias in int32, for an input tensor and a weight with these scales.
pub(super) fn int_bias(b: &mut Builder<'_>, name: &str, values: &[f32], scales: &[f32], input: usize) -> Result<usize> {
    let step = b.of(input).grid.as_ref().and_then(|g| g.scales.first().copied()).ok_or_else(|| Error::internal("the input has a scale"))?;
    let steps: Vec<f32> = scales.iter().map(|s| s * step).collect();
    let round = |(i, &v): (usize, &f32)| (f64::from(v) / f64::from(steps[i % steps.len()])).round_ties_even() as i32;
    let data = values.iter().enumerate().map(round).flat_map(i32::to_le_bytes).collect();
    let grid = Grid { zero_points: vec![0; steps.len()], scales: steps, axis: 0 };
    Ok(b.store(name, Type { kind: Kind::I32, shape: vec![values.len()], grid: Some(grid) }, data))
}

/// How a layer computes on integers; `None` where it computes on real numbers.
fn on_integers(b: &Builder<'_>, node: &Node, axis: usize) -> Result<Option<Rounding>> {
    let Some(rounding) = b.integers(node, &[0])? else { return Ok(None) };
    let stored = b.stored_integers(&node.inputs[1])?;
    Ok(stored.filter(|s| s.scales.len() == 1 || s.axis == axis).map(|_| rounding))
}

/// Sizes with an axis of height put in where there is only a width: `at` is where.
fn with_height(dims: &[usize], at: usize) -> Vec<usize> {
    let mut dims = dims.to_vec();
    if dims.len() == 3 {
        dims.insert(at, 1);
    }
    dims
}

pub(super) fn conv(b: &mut Builder<'_>, node: &Node) -> Result<()> {
    let (x, w, y) = (&node.inputs[0], &node.inputs[1], &node.outputs[0]);
    let rank = b.dims(x)?.len();
    let (input, output, dims) = (with_height(&b.dims(x)?, 2), with_height(&b.dims(y)?, 2), with_height(&b.dims(w)?, 2));
    let &[out, inner, kh, kw] = dims.as_slice() else { return Err(Error::unsupported("a kernel of two axes of space is expected")) };
    let rounding = on_integers(b, node, 0)?;
    let form = if rounding.is_some() { Form::Rounded } else { Form::Real };
    let windows = Windows::of(node, [input[2], input[3]], [output[2], output[3]], [kh, kw])?;
    let perm = near(b, x, rank, &windows)?;
    let t = b.read(x, &perm, form)?;
    // The spatial axes as the tensor has them, which a window of one cell need not have in the value's order.
    let t = if rank == 3 { b.reshape(t, &[input[0], 1, input[3], input[1]])? } else { t };
    let (t, window) = padded(b, t, &windows, None)?;
    let groups = node.get_int("group", 1)?.max(1) as usize;
    let depthwise = groups == input[1] && inner == 1 && groups > 1;
    let rounded = rounding.is_some();
    let kernel = if depthwise {
        kernel(b, w, &dims, &[1, 2, 3, 0], &[1, kh, kw, out], 3, rounded)?
    } else {
        kernel(b, w, &dims, &[0, 2, 3, 1], &[out, kh, kw, inner], 0, rounded)?
    };
    let bias = bias(b, node, out, &kernel, t)?;
    let fused = rounding.as_ref().map_or(Fused::Nothing, |r| r.fused);
    let call = if depthwise { codes::depthwise_conv_2d(window, out / groups, fused) } else { codes::conv_2d(window, fused) };
    let call = Call { version: if rounded { 3 } else { 2 }, ..call };
    let logical = [output[0], out, output[2], output[3]];
    let full = if rank == 3 { channels_last(4) } else { perm.clone() };
    let made = Type {
        kind: if rounded { Kind::I8 } else { Kind::F32 },
        shape: full.iter().map(|&a| logical[a]).collect(),
        grid: rounding.as_ref().map(|r| r.grid.clone()),
    };
    let made = b.op(call, &[t, kernel.tensor, bias], made);
    finish(b, y, rank, &logical, perm, made, rounding)
}

/// Holds what a convolution made, without the height that the value lacks.
fn finish(
    b: &mut Builder<'_>,
    y: &str,
    rank: usize,
    logical: &[usize],
    perm: Vec<usize>,
    made: usize,
    rounding: Option<Rounding>,
) -> Result<()> {
    let made = if rank == 3 { b.reshape(made, &[logical[0], logical[3], logical[1]])? } else { made };
    match rounding {
        Some(rounding) => b.hold_rounded(rounding, perm, made),
        None => b.hold(y, perm, made, Form::Real),
    }
    Ok(())
}

/// The order in which a convolution reads: channels last. Windows of one cell may have the axes of space in either order.
fn near(b: &Builder<'_>, x: &str, rank: usize, windows: &Windows) -> Result<Vec<usize>> {
    let at = b.order(x)?;
    let cells = windows.is_pointwise() && rank == 4 && at.first() == Some(&0) && at.last() == Some(&1);
    Ok(if cells { at } else { channels_last(rank) })
}

pub(super) fn conv_transpose(b: &mut Builder<'_>, node: &Node) -> Result<()> {
    let (x, w, y) = (&node.inputs[0], &node.inputs[1], &node.outputs[0]);
    let rank = b.dims(x)?.len();
    let (input, output, dims) = (with_height(&b.dims(x)?, 2), with_height(&b.dims(y)?, 2), with_height(&b.dims(w)?, 2));
    let &[inner, out, kh, kw] = dims.as_slice() else { return Err(Error::unsupported("a kernel of two axes of space is expected")) };
    let groups = node.get_int("group", 1)?.max(1) as usize;
    let strides = Windows::strides(node)?;
    let rounding = if groups == 1 { on_integers(b, node, 1)?.filter(|r| r.fused == Fused::Nothing) } else { None };
    let rounded = rounding.is_some();
    let form = if rounded { Form::Rounded } else { Form::Real };
    let perm = channels_last(rank);
    let t = b.read(x, &perm, form)?;
    let t = if rank == 3 { b.reshape(t, &[input[0], 1, input[3], input[1]])? } else { t };
    let channels = out * groups;
    let kernel = if groups == 1 {
        kernel(b, w, &dims, &[1, 2, 3, 0], &[out, kh, kw, inner], 0, rounded)?
    } else {
        // Each group's block in a kernel of zeros.
        let values = b.floats(w)?;
        memory::claim_tensor(&[channels, kh, kw, inner], 4, 2, || format!("the kernel '{w}' with its groups side by side"))?;
        let mut dense = vec![0.0; channels * kh * kw * inner];
        for (i, &v) in values.iter().enumerate() {
            let (k, o, c) = (i % (kh * kw), i / (kh * kw) % out, i / (kh * kw * out));
            let row = c / (inner / groups) * out + o;
            dense[(row * kh * kw + k) * inner + c] = v;
        }
        Kernel { rounded, tensor: b.weight(w, &[channels, kh, kw, inner], &dense)?, scales: Vec::new() }
    };
    let bias = bias(b, node, channels, &kernel, t)?;
    // Where the result lies in the whole of what the windows touch.
    let begins = Windows::transposed_begins(node, [input[2], input[3]], [output[2], output[3]], [kh, kw])?;
    let span = |i: usize, k: usize| (input[2 + i] - 1) * strides[i] + k;
    let same = [kh, kw].iter().enumerate().all(|(i, &k)| {
        let cut = span(i, k).saturating_sub(output[2 + i]);
        output[2 + i].div_ceil(strides[i]) == input[2 + i] && cut / 2 == begins[i] && span(i, k) >= output[2 + i]
    });
    let whole: Vec<usize> =
        [kh, kw].iter().enumerate().map(|(i, &k)| if same { output[2 + i] } else { span(i, k).max(begins[i] + output[2 + i]) }).collect();
    let shape = [input[0], whole[0], whole[1], channels];
    let sizes = b.ints_tensor(&shape)?;
    let window = Window { same, strides, dilations: [1, 1] };
    let made =
        Type { kind: if rounded { Kind::I8 } else { Kind::F32 }, shape: shape.to_vec(), grid: rounding.as_ref().map(|r| r.grid.clone()) };
    let mut made = b.op(codes::transpose_conv(window), &[sizes, kernel.tensor, t, bias], made);
    if whole != output[2..] {
        let sizes = [input[0], output[2], output[3], channels];
        let (from, sized) = (b.ints_tensor(&[0, begins[0], begins[1], 0])?, b.ints_tensor(&sizes)?);
        let cut = b.of(made).shaped(&sizes);
        made = b.op(codes::slice(), &[made, from, sized], cut);
    }
    finish(b, y, rank, &[output[0], channels, output[2], output[3]], perm, made, rounding)
}
