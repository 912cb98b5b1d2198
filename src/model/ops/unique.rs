//! Unique: the different elements of a tensor, or its different slices along an axis.
//!
//! <https://onnx.ai/onnx/operators/onnx__Unique.html>. Version 28 widened the types.

use super::def::OpDef;
use super::facts::{axis_of, fact};
use super::ints::Ints;
use super::run::Exec;
use super::slice::select;
use crate::element::Element;
use crate::graph::{Dim, Fact, Infer};
use crate::value::Value;
use compresso_base::error::Result;
use std::cmp::Ordering;

/// The operator that finds distinct elements.
pub const OPS: &[OpDef] = &[OpDef::new("Unique", &[11, 28], infer, unique)];

fn infer(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    let x = cx.input(0)?;
    let shape = match (cx.node.find_int("axis")?, &x.shape) {
        (None, _) => Some(vec![Dim::Unknown]),
        (Some(_), None) => None,
        (Some(axis), Some(s)) => {
            let mut out = s.clone();
            out[axis_of(axis, s.len())?] = Dim::Unknown;
            Some(out)
        }
    };
    let list = || fact(Element::I64, Some(vec![Dim::Unknown]));
    Ok(vec![fact(x.element, shape), list(), list(), list()])
}

/// Elements in an order in which they can be compared.
enum Keys {
    Ints(Vec<i64>),
    Floats(Vec<f64>),
}

impl Keys {
    fn compare(&self, a: usize, b: usize) -> Ordering {
        match self {
            Self::Ints(v) => v[a].cmp(&v[b]),
            // Zeros of both signs are equal.
            Self::Floats(v) => v[a].partial_cmp(&v[b]).unwrap_or_else(|| v[a].total_cmp(&v[b])),
        }
    }
}

fn unique(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let input = cx.input(0)?;
    let (x, axis) = match cx.node.find_int("axis")? {
        None => (input.tensor.flatten_all()?, 0),
        Some(axis) => (input.tensor.clone(), axis_of(axis, input.dims().len())?),
    };
    let dims = x.dims();
    let (outer, n, inner): (usize, usize, usize) = (dims[..axis].iter().product(), dims[axis], dims[axis + 1..].iter().product());
    let keys = if input.element.is_float() { Keys::Floats(input.to_f64s()?) } else { Keys::Ints(input.to_i64s()?) };
    let compare = |a: usize, b: usize| {
        let at = |i: usize, o: usize, k: usize| (o * n + i) * inner + k;
        let each = (0..outer).flat_map(|o| (0..inner).map(move |k| (o, k)));
        each.map(|(o, k)| keys.compare(at(a, o, k), at(b, o, k))).find(|o| o.is_ne()).unwrap_or(Ordering::Equal)
    };
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&a, &b| compare(a, b));
    // Of equal slices the first one stands for all: the sort keeps their order.
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for i in order {
        match groups.last_mut() {
            Some(g) if compare(g[0], i).is_eq() => g.push(i),
            _ => groups.push(vec![i]),
        }
    }
    if cx.node.get_int("sorted", 1)? == 0 {
        groups.sort_by_key(|g| g[0]);
    }
    let mut inverse = vec![0i64; n];
    for (g, members) in groups.iter().enumerate() {
        members.iter().for_each(|&i| inverse[i] = g as i64);
    }
    let firsts: Vec<usize> = groups.iter().map(|g| g[0]).collect();
    let list = |data: Vec<i64>| Ints { dims: vec![data.len()], data }.into_value(Element::I64, x.device());
    Ok(vec![
        input.with(select(&x, axis, &firsts)?)?,
        list(firsts.iter().map(|&i| i as i64).collect())?,
        list(inverse)?,
        list(groups.iter().map(|g| g.len() as i64).collect())?,
    ])
}
