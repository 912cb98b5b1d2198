use super::super::plan::{Arg, Element, Plan, int};
use super::activation::{IDENTITY, code};
use super::{Channels, PART};
use crate::norm::Then;
use compresso_base::error::Result;

fn curve(then: Then) -> [Arg; 3] {
    then.activation().map_or(IDENTITY, code)
}

/// `x: [outer, channels, inner]` to `[4, channels]`: mean, population variance, minimum and maximum of each channel.
pub fn channel_statistics(c: Channels) -> Result<Plan> {
    let mut p = Plan::floats(&[c.len()])?;
    let result = p.result(Element::F32, 4 * c.channels)?;
    let parts = p.scratch(Element::F32, 4 * c.channels * c.parts())?;
    p.plane("channel_parts", c.parts(), c.channels, [Arg::Buffer(0), parts, int(c.outer)?, int(c.channels)?, int(c.inner)?]);
    p.each("channel_join", c.channels, [parts, result, int(c.outer * c.inner)?, int(c.channels)?, int(c.parts())?]);
    Ok(p)
}

/// `x`, scale, bias and the result of [`channel_statistics`] to the normalized tensor, with `then` applied.
pub fn batch_norm(c: Channels, epsilon: f32, then: Then) -> Result<Plan> {
    let n = c.len();
    let mut p = Plan::floats(&[n, c.channels, c.channels, 4 * c.channels])?;
    let y = p.result(Element::F32, n)?;
    let [x, scale, bias, statistics] = [0, 1, 2, 3].map(Arg::Buffer);
    let args = [x, scale, bias, statistics, y, int(n)?, int(c.channels)?, int(c.inner)?, Arg::Float(epsilon)];
    p.each("batch_norm", n, args.into_iter().chain(curve(then)));
    Ok(p)
}

/// `x`, scale, bias, statistics and the gradient of the result to that of `x`, and to `[2, channels]`: those of scale and bias.
pub fn batch_norm_backward(c: Channels, epsilon: f32, then: Then) -> Result<Plan> {
    let n = c.len();
    let mut p = Plan::floats(&[n, c.channels, c.channels, 4 * c.channels, n])?;
    let gx = p.result(Element::F32, n)?;
    let gradients = p.result(Element::F32, 2 * c.channels)?;
    let parts = p.scratch(Element::F32, 2 * c.channels * c.parts())?;
    let sums = p.scratch(Element::F32, 2 * c.channels)?;
    let given: [Arg; 5] = [0, 1, 2, 3, 4].map(Arg::Buffer);
    let sizes = [int(c.outer)?, int(c.channels)?, int(c.inner)?, int(PART)?, Arg::Float(epsilon)];
    p.plane("batch_norm_parts", c.parts(), c.channels, given.into_iter().chain([parts]).chain(sizes).chain(curve(then)));
    p.each("join_sums", 2 * c.channels, [parts, sums, int(c.channels)?, int(c.parts())?]);
    let sizes = [sums, gx, gradients, int(n)?, int(c.channels)?, int(c.inner)?, Arg::Float(epsilon)];
    p.each("batch_norm_backward", n, given.into_iter().chain(sizes).chain(curve(then)));
    Ok(p)
}
