use super::super::plan::{Arg, Element, Plan, int};
use super::{Channels, PART};
use compresso_base::error::Result;

/// The smallest and largest integer that values are rounded to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Grid {
    /// The smallest: a whole number.
    pub low: f32,
    /// The largest: a whole number.
    pub high: f32,
}

impl Grid {
    /// All of int8.
    pub const INT8: Self = Self { low: -128.0, high: 127.0 };
    /// All of uint8.
    pub const UINT8: Self = Self { low: 0.0, high: 255.0 };

    fn args(self) -> [Arg; 2] {
        [Arg::Float(self.low), Arg::Float(self.high)]
    }
}

/// `x`, scales and zero points (whole floats) to 8-bit codes.
pub fn quantize(c: Channels, grid: Grid) -> Result<Plan> {
    let mut p = Plan::floats(&[c.len(), c.channels, c.channels])?;
    let q = p.result(Element::U8, c.len())?;
    elementwise(&mut p, "quantize", c, &[q], &grid.args())?;
    Ok(p)
}

/// Codes, scales and zero points to floats.
pub fn dequantize(c: Channels, signed: bool) -> Result<Plan> {
    let mut p = Plan::of(&[(Element::U8, c.len()), (Element::F32, c.channels), (Element::F32, c.channels)])?;
    let y = p.result(Element::F32, c.len())?;
    elementwise(&mut p, "dequantize", c, &[y], &[Arg::Int(i32::from(signed))])?;
    Ok(p)
}

/// `x`, scales and zero points to `(clamp(round(x / scale) + zero) - zero) * scale`.
pub fn fake_quantize(c: Channels, grid: Grid) -> Result<Plan> {
    let mut p = Plan::floats(&[c.len(), c.channels, c.channels])?;
    let y = p.result(Element::F32, c.len())?;
    elementwise(&mut p, "fake_quantize", c, &[y], &grid.args())?;
    Ok(p)
}

/// `x`, scales, zero points and the gradient of the result to that of `x`, straight through, and with `learned` to `[2, channels]`, whose
/// first row is the gradient of the scales (LSQ).
pub fn fake_quantize_backward(c: Channels, grid: Grid, learned: bool) -> Result<Plan> {
    let mut p = Plan::floats(&[c.len(), c.channels, c.channels, c.len()])?;
    let gx = p.result(Element::F32, c.len())?;
    elementwise(&mut p, "fake_quantize_backward", c, &[Arg::Buffer(3), gx], &grid.args())?;
    if learned {
        let sums = p.result(Element::F32, 2 * c.channels)?;
        let parts = p.scratch(Element::F32, 2 * c.channels * c.parts())?;
        let [x, scale, zero, gy] = [0, 1, 2, 3].map(Arg::Buffer);
        let [low, high] = grid.args();
        p.plane(
            "scale_parts",
            c.parts(),
            c.channels,
            [x, scale, zero, gy, parts, int(c.outer)?, int(c.channels)?, int(c.inner)?, int(PART)?, low, high],
        );
        p.each("join_sums", 2 * c.channels, [parts, sums, int(c.channels)?, int(c.parts())?]);
    }
    Ok(p)
}

/// A kernel over the elements of the first three inputs' tensor.
fn elementwise(p: &mut Plan, kernel: &'static str, c: Channels, buffers: &[Arg], last: &[Arg]) -> Result<()> {
    let sizes = [int(c.len())?, int(c.channels)?, int(c.inner)?];
    let given = [0, 1, 2].map(Arg::Buffer);
    p.each(kernel, c.len(), given.into_iter().chain(buffers.iter().copied()).chain(sizes).chain(last.iter().copied()));
    Ok(())
}
