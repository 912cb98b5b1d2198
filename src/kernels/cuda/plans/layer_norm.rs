use super::super::plan::{Arg, Element, Plan, int};
use compresso_base::error::Result;

/// Rows whose columns one block sums.
const EACH: usize = 256;

/// `x: [rows, n]`, scale and bias `[n]` to the normalized rows, and to `[2, rows]`: mean and `1 / sqrt(var + epsilon)`.
pub fn layer_norm(rows: usize, n: usize, epsilon: f32) -> Result<Plan> {
    let mut p = Plan::floats(&[rows * n, n, n])?;
    let y = p.result(Element::F32, rows * n)?;
    let moments = p.result(Element::F32, 2 * rows)?;
    let [x, scale, bias] = [0, 1, 2].map(Arg::Buffer);
    p.rows("layer_norm", rows, [x, scale, bias, y, moments, int(rows)?, int(n)?, Arg::Float(epsilon)]);
    Ok(p)
}

/// `x`, scale, the moments of [`layer_norm`] and the gradient of its result to that of `x`, and to `[2, n]`: those of scale and bias.
pub fn layer_norm_backward(rows: usize, n: usize) -> Result<Plan> {
    let mut p = Plan::floats(&[rows * n, n, 2 * rows, rows * n])?;
    let gx = p.result(Element::F32, rows * n)?;
    let gradients = p.result(Element::F32, 2 * n)?;
    let blocks = rows.div_ceil(EACH);
    let parts = p.scratch(Element::F32, 2 * n * blocks)?;
    let [x, scale, moments, gy] = [0, 1, 2, 3].map(Arg::Buffer);
    p.rows("layer_norm_backward", rows, [x, scale, moments, gy, gx, int(rows)?, int(n)?]);
    let columns = n.div_ceil(super::super::plan::THREADS as usize);
    p.tiles("layer_norm_parts", [columns, blocks], super::super::plan::THREADS, [x, moments, gy, parts, int(rows)?, int(n)?, int(EACH)?])?;
    p.each("join_sums", 2 * n, [parts, gradients, int(n)?, int(blocks)?]);
    Ok(p)
}
