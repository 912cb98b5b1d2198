//! Operators on tensors whose sizes are spread to each other.

use crate::tflite::builder::Builder;
use crate::tflite::model::{Call, Grid, Kind, Type};
use compresso_base::error::{Error, Result};

/// A function of each element.
pub(super) fn unary(b: &mut Builder<'_>, call: Call, x: usize) -> usize {
    let made: Type = b.of(x).clone();
    b.op(call, &[x], made)
}

/// The shape of a result whose inputs are spread to each other's sizes.
fn spread(a: &[usize], c: &[usize]) -> Vec<usize> {
    let rank = a.len().max(c.len());
    let size = |v: &[usize], i: usize| (i + v.len()).checked_sub(rank).map_or(1, |i| v[i]);
    (0..rank).map(|i| if size(a, i) == 1 { size(c, i) } else { size(a, i) }).collect()
}

/// Kernels spread inputs of up to four axes: neighbours that are spread alike are made one.
fn merged(shapes: &[&[usize]], rank: usize) -> Option<Vec<Vec<usize>>> {
    let full: Vec<Vec<usize>> = shapes.iter().map(|s| std::iter::repeat_n(1, rank - s.len()).chain(s.iter().copied()).collect()).collect();
    let one = |i: usize| full.iter().map(|s| s[i] == 1).collect::<Vec<_>>();
    let mut out: Vec<Vec<usize>> = vec![Vec::new(); shapes.len()];
    let mut last: Option<Vec<bool>> = None;
    for i in 0..rank {
        let ones = one(i);
        // Where all are one, any neighbour will do.
        if ones.iter().all(|&o| o) && last.is_some() {
            continue;
        }
        let joins = last.as_ref() == Some(&ones);
        for (to, from) in out.iter_mut().zip(&full) {
            match to.last_mut().filter(|_| joins) {
                Some(size) => *size *= from[i],
                None => to.push(from[i]),
            }
        }
        last = Some(ones);
    }
    (out[0].len() <= 4).then_some(out)
}

/// The operator on tensors that are spread to each other, with a result of this kind; the shape is worked out.
pub(super) fn spread_op(b: &mut Builder<'_>, call: Call, inputs: &[usize], kind: Kind, grid: Option<Grid>) -> Result<usize> {
    let shapes: Vec<Vec<usize>> = inputs.iter().map(|&t| b.of(t).shape.clone()).collect();
    let shape = shapes.iter().fold(Vec::new(), |all, s| spread(&all, s));
    let made = Type { kind, shape: shape.clone(), grid };
    if shape.len() <= 4 || shapes.iter().all(|s| *s == shape || s.is_empty()) && inputs.len() == 2 {
        return Ok(b.op(call, inputs, made));
    }
    let mut all: Vec<&[usize]> = shapes.iter().map(Vec::as_slice).collect();
    all.push(&shape);
    let merged = merged(&all, shape.len())
        .ok_or_else(|| Error::unsupported(format!("shapes {shapes:?} are spread to each other along more than four axes")))?;
    let inputs: Vec<usize> = inputs.iter().zip(&merged).map(|(&t, s)| b.reshape(t, s)).collect::<Result<_>>()?;
    let t = b.op(call, &inputs, made.shaped(&merged[shapes.len()]));
    b.reshape(t, &shape)
}

/// A sum, product or the like of two tensors of one kind.
pub(super) fn binary(b: &mut Builder<'_>, call: Call, x: usize, y: usize) -> Result<usize> {
    let kind = b.of(x).kind;
    spread_op(b, call, &[x, y], kind, None)
}
