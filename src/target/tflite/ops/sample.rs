//! [GridSample](https://onnx.ai/onnx/operators/onnx__GridSample.html), of which the runtime has nothing: the four pixels around each place
//! are gathered, weighted and added.

use super::spread::{binary, spread_op, unary};
use crate::tflite::builder::{Builder, Form};
use crate::tflite::codes;
use crate::tflite::layout::{channels_last, plain};
use crate::tflite::model::{Call, Kind, Type};
use compresso_base::error::{Error, Result};
use compresso_model::{Graph, Node};

/// Linear between the pixels of images, zeros or the border's pixels outside.
pub(super) fn takes(graph: &Graph, node: &Node) -> bool {
    let rank = graph.facts().ok().and_then(|f| f.get(node.input(0)?)?.rank());
    let mode = node.get_str("mode", "linear").is_ok_and(|m| matches!(m, "linear" | "bilinear"));
    let outside = node.get_str("padding_mode", "zeros").is_ok_and(|p| matches!(p, "zeros" | "border"));
    mode && outside && rank.is_none_or(|r| r == 4)
}

fn with(b: &mut Builder<'_>, call: Call, x: usize, by: f32) -> Result<usize> {
    let by = b.number(by);
    binary(b, call, x, by)
}

/// Along one axis of this size: the pixel before each place, the one behind, and the share of that one. `places` go from -1 to 1.
struct Neighbours {
    pixels: [usize; 2],
    shares: [usize; 2],
}

fn neighbours(b: &mut Builder<'_>, places: usize, size: usize, corners: bool, border: bool) -> Result<Neighbours> {
    let size = size as f32;
    // -1 and 1 are the centres of the outer pixels, or their outer edges.
    let (factor, shift) = if corners { ((size - 1.0) / 2.0, (size - 1.0) / 2.0) } else { (size / 2.0, (size - 1.0) / 2.0) };
    let at = with(b, codes::mul(), places, factor)?;
    let mut at = with(b, codes::add(), at, shift)?;
    let inside = |b: &mut Builder<'_>, x: usize| -> Result<usize> {
        let x = with(b, codes::maximum(), x, 0.0)?;
        with(b, codes::minimum(), x, size - 1.0)
    };
    if border {
        at = inside(b, at)?;
    }
    let before = unary(b, codes::floor(), at);
    let behind = with(b, codes::add(), before, 1.0)?;
    let share = binary(b, codes::sub(), at, before)?;
    let one = b.number(1.0);
    let rest = binary(b, codes::sub(), one, share)?;
    let (mut pixels, mut shares) = ([before, behind], [rest, share]);
    for (pixel, share) in pixels.iter_mut().zip(&mut shares) {
        let within = inside(b, *pixel)?;
        // A pixel that is none counts nothing.
        let is = spread_op(b, codes::equal(), &[*pixel, within], Kind::Bool, None)?;
        let made = Type::f32(&b.of(is).shape.clone());
        let is = b.op(codes::cast(Kind::Bool, Kind::F32), &[is], made);
        *share = binary(b, codes::mul(), *share, is)?;
        *pixel = within;
    }
    Ok(Neighbours { pixels, shares })
}

pub(super) fn grid_sample(b: &mut Builder<'_>, node: &Node) -> Result<()> {
    let (x, grid, y) = (&node.inputs[0], &node.inputs[1], &node.outputs[0]);
    let (dims, to) = (b.dims(x)?, b.dims(y)?);
    let (&[batch, channels, height, width], &[_, _, rows, columns]) = (dims.as_slice(), to.as_slice()) else {
        return Err(Error::unsupported("images are expected"));
    };
    // Numbers of pixels are worked out in float32.
    if batch * height * width > 1 << 24 {
        return Err(Error::unsupported(format!("it looks at {batch} images of {height} by {width}, more than 2^24 pixels")));
    }
    let corners = node.get_int("align_corners", 0)? != 0;
    let border = node.get_str("padding_mode", "zeros")? == "border";
    let image = b.read(x, &channels_last(4), Form::Real)?;
    let image = b.reshape(image, &[batch * height * width, channels])?;
    let grid = b.read(grid, &plain(4), Form::Real)?;
    let spots = [batch, rows, columns, 1];
    let sizes = b.ints_tensor(&spots)?;
    let mut axes = Vec::new();
    for (i, size) in [(0, width), (1, height)] {
        let from = b.ints_tensor(&[0, 0, 0, i])?;
        let places = b.op(codes::slice(), &[grid, from, sizes], Type::f32(&spots));
        axes.push(neighbours(b, places, size, corners, border)?);
    }
    // Where each image of the batch begins.
    let starts: Vec<f32> = (0..batch).map(|n| (n * height * width) as f32).collect();
    let starts = b.f32s("starts", &[batch, 1, 1, 1], &starts);
    let mut sum: Option<usize> = None;
    for (row, row_share) in axes[1].pixels.into_iter().zip(axes[1].shares) {
        for (column, column_share) in axes[0].pixels.into_iter().zip(axes[0].shares) {
            let at = with(b, codes::mul(), row, width as f32)?;
            let at = binary(b, codes::add(), at, column)?;
            let at = binary(b, codes::add(), at, starts)?;
            let at = b.op(codes::cast(Kind::F32, Kind::I32), &[at], Type::new(Kind::I32, &spots));
            let at = b.reshape(at, &[batch, rows, columns])?;
            let pixels = b.op(codes::gather(0), &[image, at], Type::f32(&[batch, rows, columns, channels]));
            let share = binary(b, codes::mul(), row_share, column_share)?;
            let part = binary(b, codes::mul(), pixels, share)?;
            sum = Some(match sum {
                Some(sum) => binary(b, codes::add(), sum, part)?,
                None => part,
            });
        }
    }
    let made = sum.ok_or_else(|| Error::internal("there are four neighbours"))?;
    b.hold(y, channels_last(4), made, Form::Real);
    Ok(())
}
