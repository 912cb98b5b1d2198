use super::super::plan::{Arg, Constant, Element, Plan, int, window};
use crate::reference;
use crate::window::Window;
use compresso_base::error::{Error, Result};

/// The window, elements of the input and of the output, and elements of a plane of each.
fn sizes(w: &Window, planes: usize) -> Result<(Arg, usize, usize)> {
    let w2 = w.as_2d().ok_or_else(|| Error::unsupported("pools over three axes run on the CPU only"))?;
    Ok((window(&w2)?, planes.saturating_mul(w.input_len()), planes.saturating_mul(w.output_len())))
}

/// `x: [planes, w.input…]` to `[planes, w.output…]`.
///
/// # Errors
/// `Unsupported` for three axes.
pub fn max_pool(w: &Window, planes: usize) -> Result<Plan> {
    let (window, ins, outs) = sizes(w, planes)?;
    let mut p = Plan::floats(&[ins])?;
    let y = p.result(Element::F32, outs)?;
    p.each("max_pool", outs, [Arg::Buffer(0), y, int(planes)?, window]);
    Ok(p)
}

/// `x` and the gradient of the result to that of `x`.
pub fn max_pool_backward(w: &Window, planes: usize) -> Result<Plan> {
    let (window, ins, outs) = sizes(w, planes)?;
    let mut p = Plan::floats(&[ins, outs])?;
    let gx = p.result(Element::F32, ins)?;
    let at = p.scratch(Element::I32, outs)?;
    p.each("max_pool_index", outs, [Arg::Buffer(0), at, int(planes)?, window]);
    p.each("max_pool_backward", ins, [at, Arg::Buffer(1), gx, int(planes)?, window]);
    Ok(p)
}

/// One over the number of elements that each output of a plane counts.
fn scales(w: &Window, count_padding: bool) -> Constant {
    Constant::F32((0..w.output_len()).map(|o| 1.0 / reference::average_divisor(w, o, count_padding) as f32).collect())
}

/// As [`max_pool`].
pub fn average_pool(w: &Window, planes: usize, count_padding: bool) -> Result<Plan> {
    let (window, ins, outs) = sizes(w, planes)?;
    let mut p = Plan::floats(&[ins])?;
    let scale = p.constant(scales(w, count_padding));
    let y = p.result(Element::F32, outs)?;
    p.each("average_pool", outs, [Arg::Buffer(0), scale, y, int(planes)?, window]);
    Ok(p)
}

/// The gradient of the result to that of the input.
pub fn average_pool_backward(w: &Window, planes: usize, count_padding: bool) -> Result<Plan> {
    let (window, ins, outs) = sizes(w, planes)?;
    let mut p = Plan::floats(&[outs])?;
    let scale = p.constant(scales(w, count_padding));
    let gx = p.result(Element::F32, ins)?;
    p.each("average_pool_backward", ins, [Arg::Buffer(0), scale, gx, int(planes)?, window]);
    Ok(p)
}
