//! Pools: MaxPool, [AveragePool](https://onnx.ai/onnx/operators/onnx__AveragePool.html) and their global forms.

use super::window::{Windows, pad, padded};
use crate::tflite::builder::{Builder, Form};
use crate::tflite::codes::{self, Reduction};
use crate::tflite::layout::channels_last;
use crate::tflite::model::{Kind, Type};
use compresso_base::error::{Error, Result};
use compresso_model::{Graph, Node};

/// One or two axes of space, without gaps in the windows, and without the places of the maxima.
pub(super) fn takes(graph: &Graph, node: &Node) -> bool {
    let rank = graph.facts().ok().and_then(|f| f.get(node.input(0)?)?.rank());
    let plain = |name: &str, least: i64, most: i64| {
        node.find_ints(name).is_ok_and(|d| d.is_none_or(|d| d.iter().all(|d| (least..=most).contains(d))))
    };
    plain("dilations", 1, 1) && plain("pads", 0, i64::MAX) && node.output(1).is_none() && rank.is_none_or(|r| r == 3 || r == 4)
}

/// The sizes of space of a value, height 1 where it has only a width.
fn space(dims: &[usize]) -> Result<[usize; 2]> {
    match *dims {
        [_, _, w] => Ok([1, w]),
        [_, _, h, w] => Ok([h, w]),
        _ => Err(Error::unsupported("one or two axes of space are expected")),
    }
}

/// The windows of a pool and its input as a tensor (NHWC).
fn read(b: &mut Builder<'_>, node: &Node, form: Form) -> Result<(Windows, usize)> {
    let x = &node.inputs[0];
    let (input, output) = (b.dims(x)?, b.dims(&node.outputs[0])?);
    let kernel = match node.find_ints("kernel_shape")?.unwrap_or_default() {
        &[w] => [1, w],
        &[h, w] => [h, w],
        other => return Err(Error::unsupported(format!("windows of one or two axes are expected, got {other:?}"))),
    };
    let kernel = kernel.map(|k| usize::try_from(k).unwrap_or(1).max(1));
    let windows = Windows::of(node, space(&input)?, space(&output)?, kernel)?;
    let perm = channels_last(input.len());
    let t = b.read(x, &perm, form)?;
    let t = if input.len() == 3 { b.reshape(t, &[input[0], 1, input[2], input[1]])? } else { t };
    Ok((windows, t))
}

/// What a pool makes of its input (NHWC).
fn made(b: &Builder<'_>, t: usize, windows: &Windows) -> Type {
    let of = b.of(t);
    of.shaped(&[of.shape[0], windows.output[0], windows.output[1], of.shape[3]])
}

fn hold(b: &mut Builder<'_>, node: &Node, t: usize, form: Form) -> Result<()> {
    let dims = b.dims(&node.outputs[0])?;
    let t = if dims.len() == 3 { b.reshape(t, &[dims[0], dims[2], dims[1]])? } else { t };
    b.hold(&node.outputs[0], channels_last(dims.len()), t, form);
    Ok(())
}

/// Maxima of integers are those of the numbers that they stand for.
pub(super) fn max_pool(b: &mut Builder<'_>, node: &Node) -> Result<()> {
    let form = if b.is_rounded(&node.inputs[0]) { Form::Rounded } else { Form::Real };
    let (windows, t) = read(b, node, form)?;
    let fill = match b.of(t).grid.clone() {
        Some(grid) => {
            let least = if grid.kind == Kind::I16 { i16::MIN.to_le_bytes().to_vec() } else { i8::MIN.to_le_bytes().to_vec() };
            b.store("least", Type::rounded(&[1], grid), least)
        }
        None => b.f32s("least", &[1], &[f32::MIN]),
    };
    let (t, window) = padded(b, t, &windows, Some(fill))?;
    let made = made(b, t, &windows);
    let t = b.op(codes::max_pool_2d(window, windows.kernel), &[t], made);
    hold(b, node, t, form)
}

pub(super) fn average_pool(b: &mut Builder<'_>, node: &Node) -> Result<()> {
    let (windows, t) = read(b, node, Form::Real)?;
    let counted = node.get_int("count_include_pad", 0)? != 0;
    let (t, t_windows) = if counted {
        (pad_if(b, t, &windows)?, None)
    } else {
        let (t, w) = padded(b, t, &windows, None)?;
        (t, Some(w))
    };
    let alone = t_windows.is_some_and(|w| w.same) || !windows.is_padded();
    let window = t_windows.unwrap_or_else(|| windows.window(false));
    let made = made(b, t, &windows);
    let shape = made.shape.clone();
    let mut t = b.op(codes::average_pool_2d(window, windows.kernel), &[t], made);
    // Windows that were padded by hand were divided by all of their cells.
    if !alone {
        let cells = windows.kernel[0] * windows.kernel[1];
        let counts = [0, 1].map(|i| counts(&windows, i, counted));
        let share: Vec<f32> = counts[0].iter().flat_map(|r| counts[1].iter().map(move |c| cells as f32 / (r * c).max(1) as f32)).collect();
        if share.iter().any(|&s| s != 1.0) {
            let share = b.f32s("share", &[1, shape[1], shape[2], 1], &share);
            t = b.op(codes::mul(), &[t, share], Type::f32(&shape));
        }
    }
    hold(b, node, t, Form::Real)
}

fn pad_if(b: &mut Builder<'_>, t: usize, windows: &Windows) -> Result<usize> {
    if windows.is_padded() { pad(b, t, windows, None) } else { Ok(t) }
}

/// For each window along an axis, how many of its cells count: those of the input, and of the padding that the node says when `padding`.
fn counts(windows: &Windows, axis: usize, padding: bool) -> Vec<usize> {
    let (before, size) = (windows.begins[axis], windows.input[axis]);
    let (first, end) = if padding { (0, before + size + windows.said[axis]) } else { (before, before + size) };
    let count = |o: usize| {
        let from = o * windows.strides[axis];
        (from + windows.kernel[axis]).min(end).saturating_sub(from.max(first))
    };
    (0..windows.output[axis]).map(count).collect()
}

/// The mean or the largest of all places.
pub(super) fn global(b: &mut Builder<'_>, node: &Node) -> Result<()> {
    let rank = b.dims(&node.inputs[0])?.len();
    let how = if node.is("GlobalMaxPool") { Reduction::Max } else { Reduction::Mean };
    super::reduce::over(b, node, how, &(2..rank).collect::<Vec<_>>(), true)
}
