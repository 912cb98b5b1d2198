use super::super::plan::{Arg, Element, Plan, int};
use crate::softmax::Kind;
use compresso_base::error::Result;

fn logarithm(kind: Kind) -> Arg {
    Arg::Int(i32::from(kind == Kind::Log))
}

/// `x: [outer, n, inner]` to its softmax along the middle axis.
pub fn softmax(kind: Kind, outer: usize, n: usize, inner: usize) -> Result<Plan> {
    let len = outer * n * inner;
    let mut p = Plan::floats(&[len])?;
    let y = p.result(Element::F32, len)?;
    let (x, kind) = (Arg::Buffer(0), logarithm(kind));
    if inner == 1 {
        p.rows("softmax_rows", outer, [x, y, int(outer)?, int(n)?, kind]);
    } else {
        p.each("softmax_columns", outer * inner, [x, y, int(outer)?, int(n)?, int(inner)?, kind]);
    }
    Ok(p)
}

/// The result and its gradient to that of `x`.
pub fn softmax_backward(kind: Kind, outer: usize, n: usize, inner: usize) -> Result<Plan> {
    let len = outer * n * inner;
    let mut p = Plan::floats(&[len, len])?;
    let gx = p.result(Element::F32, len)?;
    let ([y, gy], kind) = ([0, 1].map(Arg::Buffer), logarithm(kind));
    if inner == 1 {
        p.rows("softmax_rows_backward", outer, [y, gy, gx, int(outer)?, int(n)?, kind]);
    } else {
        p.each("softmax_columns_backward", outer * inner, [y, gy, gx, int(outer)?, int(n)?, int(inner)?, kind]);
    }
    Ok(p)
}
