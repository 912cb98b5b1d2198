//! Windows that slide over two axes of space, and the padding around these.

use crate::tflite::builder::Builder;
use crate::tflite::codes::{self, Window};
use compresso_base::error::{Error, Result};
use compresso_model::Node;

/// Windows of a node, height before width; one axis of space is the width.
#[derive(Debug, Clone)]
pub(super) struct Windows {
    pub input: [usize; 2],
    pub output: [usize; 2],
    pub kernel: [usize; 2],
    pub strides: [usize; 2],
    pub dilations: [usize; 2],
    /// Cells before the first one.
    pub begins: [usize; 2],
    /// Cells behind the last one that a window touches.
    pub ends: [usize; 2],
    /// Cells behind the last one that the node says.
    pub said: [usize; 2],
}

/// Two numbers of an attribute that has one for each axis of space.
fn pair(node: &Node, name: &str, default: usize) -> Result<[usize; 2]> {
    let got = node.find_ints(name)?.unwrap_or_default();
    let size = |v: i64| usize::try_from(v).map_err(|_| Error::unsupported(format!("attribute '{name}' is {got:?}")));
    match *got {
        [w] => Ok([default, size(w)?]),
        [h, w] => Ok([size(h)?, size(w)?]),
        _ => Ok([default; 2]),
    }
}

impl Windows {
    pub fn strides(node: &Node) -> Result<[usize; 2]> {
        Ok(pair(node, "strides", 1)?.map(|s| s.max(1)))
    }

    pub fn of(node: &Node, input: [usize; 2], output: [usize; 2], kernel: [usize; 2]) -> Result<Self> {
        let (strides, dilations) = (Self::strides(node)?, pair(node, "dilations", 1)?.map(|d| d.max(1)));
        let reach = |i: usize| (output[i].max(1) - 1) * strides[i] + (kernel[i].max(1) - 1) * dilations[i] + 1;
        let (mut begins, mut said) = ([0; 2], [0; 2]);
        let pads: Vec<usize> =
            node.find_ints("pads")?.unwrap_or_default().iter().map(|&p| usize::try_from(p).unwrap_or_default()).collect();
        for i in 0..2 {
            let total = reach(i).saturating_sub(input[i]);
            (begins[i], said[i]) = match (node.get_str("auto_pad", "NOTSET")?, pads.as_slice()) {
                ("SAME_UPPER", _) => (total / 2, total - total / 2),
                ("SAME_LOWER", _) => (total - total / 2, total / 2),
                ("VALID", _) => (0, 0),
                (_, &[left, right]) if i == 1 => (left, right),
                (_, &[top, left, bottom, right]) => ([top, left][i], [bottom, right][i]),
                _ => (0, 0),
            };
        }
        let ends = [0, 1].map(|i| reach(i).saturating_sub(input[i] + begins[i]));
        Ok(Self { input, output, kernel, strides, dilations, begins, ends, said })
    }

    /// How many cells of a transposed convolution's whole result stand before the first that it keeps.
    pub fn transposed_begins(node: &Node, input: [usize; 2], output: [usize; 2], kernel: [usize; 2]) -> Result<[usize; 2]> {
        let (strides, more) = (Self::strides(node)?, pair(node, "output_padding", 0)?);
        let pads = node.find_ints("pads")?.unwrap_or_default();
        let sized = node.find_ints("output_shape")?.is_some_and(|s| !s.is_empty());
        let auto = node.get_str("auto_pad", "NOTSET")?;
        Ok([0, 1].map(|i| {
            if sized || auto.starts_with("SAME") {
                let total = ((input[i] - 1) * strides[i] + more[i] + kernel[i]).saturating_sub(output[i]);
                return if auto == "SAME_UPPER" { total / 2 } else { total - total / 2 };
            }
            let pad = match *pads {
                [left, _] => [0, left][i],
                [top, left, ..] => [top, left][i],
                _ => 0,
            };
            usize::try_from(pad).unwrap_or_default()
        }))
    }

    /// True where each window is one cell, and all cells have one.
    pub fn is_pointwise(&self) -> bool {
        self.kernel == [1, 1] && self.strides == [1, 1] && self.begins == [0, 0] && self.ends == [0, 0]
    }

    /// The padding as TensorFlow Lite works it out by itself: so many cells that the results are the input's size over the stride,
    /// and the odd one behind.
    fn is_same(&self) -> bool {
        (0..2).all(|i| {
            let out = self.input[i].div_ceil(self.strides[i]);
            let reach = (out.max(1) - 1) * self.strides[i] + self.kernel[i].saturating_sub(1) * self.dilations[i] + 1;
            out == self.output[i] && self.begins[i] == reach.saturating_sub(self.input[i]) / 2
        })
    }

    pub fn is_padded(&self) -> bool {
        self.begins != [0, 0] || self.ends != [0, 0]
    }
    pub fn window(&self, same: bool) -> Window {
        Window { same, strides: self.strides, dilations: self.dilations }
    }
}

/// The tensor (NHWC) as the windows want it, padded where the operator cannot do it by itself; `fill` is what with, zero when left out.
pub(super) fn padded(b: &mut Builder<'_>, t: usize, windows: &Windows, fill: Option<usize>) -> Result<(usize, Window)> {
    if !windows.is_padded() {
        return Ok((t, windows.window(false)));
    }
    if windows.is_same() {
        return Ok((t, windows.window(true)));
    }
    Ok((pad(b, t, windows, fill)?, windows.window(false)))
}

/// The tensor (NHWC) with its padding.
pub(super) fn pad(b: &mut Builder<'_>, t: usize, windows: &Windows, fill: Option<usize>) -> Result<usize> {
    let ([top, left], [bottom, right]) = (windows.begins, windows.ends);
    let mut shape = b.of(t).shape.clone();
    shape[1] += top + bottom;
    shape[2] += left + right;
    let widths = [0, 0, top, bottom, left, right, 0, 0].map(|p| i32::try_from(p).unwrap_or(i32::MAX));
    let widths = b.i32s(&[4, 2], &widths);
    let made = b.of(t).shaped(&shape);
    Ok(match fill {
        Some(fill) => b.op(codes::padv2(), &[t, widths, fill], made),
        None => b.op(codes::pad(), &[t, widths], made),
    })
}
