//! Convolutions: [Conv](https://onnx.ai/onnx/operators/onnx__Conv.html) and ConvTranspose.

use super::window::{Windows, padded};
use crate::tflite::builder::Builder;
use crate::tflite::codes::{self, Fused, Window};
use crate::tflite::layout::channels_last;
use crate::tflite::model::{Call, Grid, Kind, Type};
use crate::tflite::rounding::Numbers;
use crate::tflite::tensors::permute;
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

/// The kernel of a layer, whose dims with two axes of space are `dims`, with its axes in this order and this shape. `axis` is that of the
/// output channels.
fn kernel(
    b: &mut Builder<'_>,
    name: &str,
    numbers: &Numbers,
    dims: &[usize],
    perm: &[usize],
    shape: &[usize],
    axis: usize,
) -> Result<usize> {
    let (stored, scales) = match numbers {
        Numbers::Real => {
            let values = permute(&b.floats(name)?, dims, perm);
            return b.weight(name, shape, &values);
        }
        Numbers::Integers(stored, _) => (stored, stored.scales.clone()),
        // Kernels that round by themselves want a scale for each channel.
        Numbers::Hybrid(stored) if stored.scales.len() == 1 => (stored, vec![stored.scales[0]; shape[axis]]),
        Numbers::Hybrid(stored) => (stored, stored.scales.clone()),
    };
    let data = permute(&stored.values, dims, perm).iter().map(|&v| v as u8).collect();
    Ok(b.store(name, Type::rounded(shape, Grid::around_zero(Kind::I8, scales, axis)), data))
}

/// The bias of a layer, zeros where it has none: real, or int32 in steps of what input and kernel make.
fn bias(b: &mut Builder<'_>, node: &Node, channels: usize, numbers: &Numbers, input: usize) -> Result<usize> {
    let values = match node.input(2) {
        Some(name) => b.floats(name)?,
        None => vec![0.0; channels],
    };
    let name = node.input(2).unwrap_or("bias").to_string();
    match numbers {
        Numbers::Integers(stored, _) => int_bias(b, &name, &values, &stored.scales, input),
        _ => Ok(b.f32s(&name, &[channels], &values)),
    }
}

/// A bias in int32, or in int64 beside an input in int16, for an input tensor and a weight with these scales.
pub(super) fn int_bias(b: &mut Builder<'_>, name: &str, values: &[f32], scales: &[f32], input: usize) -> Result<usize> {
    let (kind, step) = b
        .of(input)
        .grid
        .as_ref()
        .and_then(|g| Some((g.kind, *g.scales.first()?)))
        .ok_or_else(|| Error::internal("the input has a scale"))?;
    let steps: Vec<f32> = scales.iter().map(|s| s * step).collect();
    let rounded = values.iter().enumerate().map(|(i, &v)| (f64::from(v) / f64::from(steps[i % steps.len()])).round_ties_even());
    let (kind, data) = if kind == Kind::I16 {
        (Kind::I64, rounded.flat_map(|v| (v as i64).to_le_bytes()).collect())
    } else {
        (Kind::I32, rounded.flat_map(|v| (v as i32).to_le_bytes()).collect())
    };
    Ok(b.store(name, Type::rounded(&[values.len()], Grid::around_zero(kind, steps, 0)), data))
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
    let numbers = b.layer(node, w, |s| s.scales.len() == 1 || s.axis == 0)?;
    let windows = Windows::of(node, [input[2], input[3]], [output[2], output[3]], [kh, kw])?;
    let perm = near(b, x, rank, &windows)?;
    let t = b.read(x, &perm, numbers.read())?;
    // The spatial axes as the tensor has them, which a window of one cell need not have in the value's order.
    let t = if rank == 3 { b.reshape(t, &[input[0], 1, input[3], input[1]])? } else { t };
    let (t, window) = padded(b, t, &windows, None)?;
    let groups = node.get_int("group", 1)?.max(1) as usize;
    let depthwise = groups == input[1] && inner == 1 && groups > 1;
    let kernel = if depthwise {
        kernel(b, w, &numbers, &dims, &[1, 2, 3, 0], &[1, kh, kw, out], 3)?
    } else {
        kernel(b, w, &numbers, &dims, &[0, 2, 3, 1], &[out, kh, kw, inner], 0)?
    };
    let bias = bias(b, node, out, &numbers, t)?;
    let fused = numbers.fused();
    let call = if depthwise { codes::depthwise_conv_2d(window, out / groups, fused) } else { codes::conv_2d(window, fused) };
    let version = match &numbers {
        Numbers::Real => 2,
        Numbers::Integers(_, r) if r.grid.kind == Kind::I16 => 4 + i32::from(depthwise),
        Numbers::Integers(..) => 3,
        Numbers::Hybrid(_) => 5 + i32::from(depthwise),
    };
    let call = Call { version, ..call };
    let logical = [output[0], out, output[2], output[3]];
    let full = if rank == 3 { channels_last(4) } else { perm.clone() };
    let made = numbers.made(&full.iter().map(|&a| logical[a]).collect::<Vec<_>>());
    let made = b.op(call, &[t, kernel, bias], made);
    finish(b, y, rank, &logical, perm, made, numbers)
}

/// Holds what a convolution made, without the height that the value lacks.
fn finish(b: &mut Builder<'_>, y: &str, rank: usize, logical: &[usize], perm: Vec<usize>, made: usize, numbers: Numbers) -> Result<()> {
    let made = if rank == 3 { b.reshape(made, &[logical[0], logical[3], logical[1]])? } else { made };
    b.hold_layer(y, numbers, perm, made);
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
    let numbers = if groups == 1 { b.layer(node, w, |s| s.scales.len() == 1 || s.axis == 1)? } else { Numbers::Real };
    let numbers = if numbers.fused() == Fused::Nothing { numbers } else { Numbers::Real };
    let perm = channels_last(rank);
    let t = b.read(x, &perm, numbers.read())?;
    let t = if rank == 3 { b.reshape(t, &[input[0], 1, input[3], input[1]])? } else { t };
    let channels = out * groups;
    let kernel = if groups == 1 {
        kernel(b, w, &numbers, &dims, &[1, 2, 3, 0], &[out, kh, kw, inner], 0)?
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
        b.weight(w, &[channels, kh, kw, inner], &dense)?
    };
    let bias = bias(b, node, channels, &numbers, t)?;
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
    let made = numbers.made(&shape);
    let mut made = b.op(codes::transpose_conv(window), &[sizes, kernel, t, bias], made);
    if whole != output[2..] {
        let sizes = [input[0], output[2], output[3], channels];
        let (from, sized) = (b.ints_tensor(&[0, begins[0], begins[1], 0])?, b.ints_tensor(&sizes)?);
        let cut = b.of(made).shaped(&sizes);
        made = b.op(codes::slice(), &[made, from, sized], cut);
    }
    finish(b, y, rank, &[output[0], channels, output[2], output[3]], perm, made, numbers)
}
