use super::super::plan::{Arg, Element, Plan, THREADS, int, window};
use super::quantize::Grid;
use crate::window::Window2;
use compresso_base::error::{Error, Result};

/// Rows and columns of a block's piece of the result; `TILE` of the kernels.
const TILE: usize = 64;

/// Words of four codes.
fn words(codes: usize) -> Result<usize> {
    if codes.is_multiple_of(4) {
        Ok(codes / 4)
    } else {
        Err(Error::unsupported(format!("rows of {codes} codes; they must be filled up to whole words of 4")))
    }
}

/// Signed codes `a: [m, k]` and `b: [n, k]` to `[m, n]`, 32-bit sums of `a · bᵀ`.
///
/// # Errors
/// `Unsupported` for `k` that 4 does not divide.
pub fn int8_matmul(m: usize, n: usize, k: usize) -> Result<Plan> {
    let mut p = Plan::of(&[(Element::U8, m * k), (Element::U8, n * k)])?;
    let c = p.result(Element::I32, m * n)?;
    let grid = [m.div_ceil(TILE), n.div_ceil(TILE)];
    p.tiles("int8_matmul", grid, THREADS, [Arg::Buffer(0), Arg::Buffer(1), c, int(m)?, int(n)?, int(words(k)?)?])?;
    Ok(p)
}

/// A convolution of codes, channels last.
#[derive(Debug, Clone, Copy)]
pub struct Int8Conv {
    /// Images.
    pub batch: usize,
    /// Filled up to whole words of 4.
    pub channels: usize,
    /// Channels of the result.
    pub filters: usize,
    /// Sizes, stride, dilation and padding along height and width.
    pub window: Window2,
    /// Whether the input's codes have a sign. Without one they are read as signed ones less 128.
    pub signed: bool,
    /// The code of zero of the input, as it is stored.
    pub x_zero: i32,
    /// The code of zero of the result.
    pub y_zero: i32,
    /// The codes that the result may have: it is clamped to them.
    pub grid: Grid,
}

/// Codes `x: [batch, h, w, channels]`, signed codes `w: [filters, kh, kw, channels]`, `bias: [filters]` (32 bits, less the zero point
/// of the signed reading times the sum of the filter's codes) and `factor: [filters]` (the scales of input and filter over that of
/// the result) to codes `[batch, oh, ow, filters]`.
///
/// # Errors
/// `Unsupported` for channels that 4 does not divide.
pub fn int8_conv(c: &Int8Conv) -> Result<Plan> {
    let (plane_in, plane_out) = (c.window.input.iter().product::<usize>(), c.window.output.iter().product::<usize>());
    let taps: usize = c.window.kernel.iter().product();
    let window = window(&c.window)?;
    let mut p = Plan::of(&[
        (Element::U8, c.batch * plane_in * c.channels),
        (Element::U8, c.filters * taps * c.channels),
        (Element::I32, c.filters),
        (Element::F32, c.filters),
    ])?;
    let rows = c.batch * plane_out;
    let y = p.result(Element::U8, rows * c.filters)?;
    let flip = if c.signed { 0 } else { i32::from_ne_bytes([0x80; 4]) };
    let zero = if c.signed { c.x_zero } else { c.x_zero - 128 };
    let padding = i32::from_ne_bytes([zero as i8 as u8; 4]);
    let [x, w, bias, factor] = [0, 1, 2, 3].map(Arg::Buffer);
    let sizes = [int(c.batch)?, int(words(c.channels)?)?, int(c.filters)?, Arg::Int(flip), Arg::Int(padding)];
    let range = [Arg::Float(c.y_zero as f32), Arg::Float(c.grid.low), Arg::Float(c.grid.high), window];
    let grid = [rows.div_ceil(TILE), c.filters.div_ceil(TILE)];
    p.tiles("int8_conv", grid, THREADS, [x, w, bias, factor, y].into_iter().chain(sizes).chain(range))?;
    Ok(p)
}
