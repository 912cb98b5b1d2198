//! Operators that move, cut, join and repeat.

use super::lower::{Entry, Form, Lower, RANK, held, lacks, open};
use super::program::{Ref, Type};
use compresso_base::error::{Error, Result};
use compresso_model::graph::normalize_axis;

pub(super) const OPS: &[Entry] = &[
    ("Reshape", Form::With(reshape)),
    ("Flatten", Form::With(reshape)),
    ("Squeeze", Form::With(reshape)),
    ("Unsqueeze", Form::With(reshape)),
    ("Transpose", Form::With(transpose)),
    ("Concat", Form::With(concat)),
    ("Split", Form::With(split)),
    ("Expand", Form::With(expand)),
    ("Tile", Form::With(tile)),
    ("DepthToSpace", Form::With(depth_to_space)),
    ("SpaceToDepth", Form::With(space_to_depth)),
    ("Shape", Form::With(known)),
    ("Size", Form::With(known)),
    ("Range", Form::With(known)),
    ("ConstantOfShape", Form::With(known)),
    ("Constant", Form::With(known)),
];

/// The same elements in the sizes of the output.
fn reshape(cx: &mut Lower<'_>) -> Result<()> {
    let x = cx.raw(0)?.ok_or_else(|| Error::format("input 0 is missing"))?;
    let made = held(&cx.out_dims(0)?);
    let y = cx.reshape(x, &made);
    cx.one(y)
}

/// Axes that stay beside each other move as one, so that more of them than tensors have can be moved.
fn transpose(cx: &mut Lower<'_>) -> Result<()> {
    let x = cx.raw(0)?.ok_or_else(|| Error::format("input 0 is missing"))?;
    let dims = cx.dims(0)?;
    let order: Vec<usize> = match cx.node.find_ints("perm")? {
        Some(order) => order.iter().map(|&a| normalize_axis(a, dims.len())).collect::<Result<_>>()?,
        None => (0..dims.len()).rev().collect(),
    };
    if dims.len() <= RANK {
        let y = cx.transpose(x, &order);
        return cx.one(y);
    }
    // Runs of axes as they stand in the output; those of size 1 go anywhere.
    let mut runs: Vec<Vec<usize>> = Vec::new();
    for axis in order.into_iter().filter(|&a| dims[a] != 1) {
        let between = |last: usize| last < axis && (last + 1..axis).all(|a| dims[a] == 1);
        match runs.last_mut() {
            Some(run) if run.last().is_some_and(|&last| between(last)) => run.push(axis),
            _ => runs.push(vec![axis]),
        }
    }
    let mut sorted: Vec<usize> = (0..runs.len()).collect();
    sorted.sort_by_key(|&r| runs[r][0]);
    let size = |run: usize| runs[run].iter().map(|&a| dims[a]).product::<usize>();
    let y = if runs.len() <= RANK {
        let from: Vec<usize> = sorted.iter().map(|&r| size(r)).collect();
        let order: Vec<usize> = (0..runs.len()).filter_map(|r| sorted.iter().position(|&s| s == r)).collect();
        let x = cx.reshape(x, &from);
        cx.transpose(x, &order)
    } else {
        one_by_one(cx, x, sorted, size)
    };
    let made = held(&cx.out_dims(0)?);
    let y = cx.reshape(y, &made);
    cx.one(y)
}

/// Brings the groups of axes that stand as in `now` into the order 0, 1, 2, …, each past those before it.
fn one_by_one(cx: &mut Lower<'_>, x: Ref, mut now: Vec<usize>, size: impl Fn(usize) -> usize) -> Ref {
    let mut y = x;
    for to in 0..now.len() {
        let Some(from) = now.iter().position(|&g| g == to).filter(|&from| from != to) else { continue };
        let product = |groups: &[usize]| groups.iter().map(|&g| size(g)).product::<usize>();
        y = cx.reshape(y, &[product(&now[..to]), product(&now[to..from]), size(to), product(&now[from + 1..])]);
        y = cx.transpose(y, &[0, 2, 1, 3]);
        let group = now.remove(from);
        now.insert(to, group);
    }
    y
}

fn concat(cx: &mut Lower<'_>) -> Result<()> {
    let (inputs, rank) = (cx.inputs()?, cx.rank(0)?);
    let axis = cx.axis(1, rank)?;
    let y = if inputs.len() == 1 { inputs[0] } else { cx.join(inputs, axis) };
    cx.one(y)
}

fn split(cx: &mut Lower<'_>) -> Result<()> {
    let x = cx.input(0)?;
    let own = cx.sizes(x);
    let axis = cx.axis(0, own.len())?;
    let made: Vec<Type> = (0..cx.node.outputs.len())
        .map(|i| {
            // The sizes of an output that nothing reads are those of the others'.
            let size = if cx.node.output(i).is_some() { cx.out_dims(i)?[axis] } else { part(cx, i, own[axis])? };
            let mut dims = own.clone();
            dims[axis] = size;
            Ok(Type { kind: cx.kind(x), dims })
        })
        .collect::<Result<_>>()?;
    if made.len() == 1 {
        return cx.set(0, x);
    }
    let sizes: Vec<usize> = made.iter().map(|m| m.dims[axis]).collect();
    let (sizes, axis) = (cx.list_of(&sizes), cx.int(axis as i64));
    let parts = cx.several("split", &[("x", x), ("split_sizes", sizes), ("axis", axis)], made);
    parts.into_iter().enumerate().try_for_each(|(i, part)| cx.set(i, part))
}

/// The size of part `i` of `n` elements.
fn part(cx: &Lower<'_>, i: usize, n: usize) -> Result<usize> {
    let parts = cx.node.outputs.len();
    match cx.list("split", 1)? {
        Some(sizes) => sizes.get(i).and_then(|&s| usize::try_from(s).ok()).ok_or_else(|| open("the sizes of the parts")),
        None => {
            let each = n.div_ceil(parts);
            Ok(n.saturating_sub(i * each).min(each))
        }
    }
}

fn expand(cx: &mut Lower<'_>) -> Result<()> {
    let x = cx.input(0)?;
    let made = cx.out_dims(0)?;
    if made.len() > RANK {
        return Err(lacks(format!("tensors of {} axes; it has up to {RANK}", made.len())));
    }
    let y = cx.spread(x, &made)?;
    cx.one(y)
}

fn tile(cx: &mut Lower<'_>) -> Result<()> {
    if cx.opset < 6 {
        return Err(lacks("Tile in the form of operator sets before 6").hint("raise the model's operator set"));
    }
    let x = cx.input(0)?;
    let (own, made) = (cx.sizes(x), cx.out_dims(0)?);
    let repeats: Vec<usize> = own.iter().zip(&made).map(|(d, m)| m / d).collect();
    let y = cx.repeat(x, &repeats)?;
    cx.one(y)
}

fn block(cx: &Lower<'_>) -> Result<i64> {
    cx.node.find_int("blocksize")?.ok_or_else(|| Error::format("attribute 'blocksize' is missing"))
}

fn moved(cx: &mut Lower<'_>, kind: &'static str, setting: &'static str) -> Result<()> {
    let (x, size) = (cx.float(0)?, block(cx)?);
    let made = Type::new(cx.kind(x), &cx.out_dims(0)?);
    if size == 1 {
        return cx.one(x);
    }
    let size = cx.int(size);
    let y = cx.op(kind, &[("x", x), (setting, size)], made);
    cx.one(y)
}

fn depth_to_space(cx: &mut Lower<'_>) -> Result<()> {
    if cx.node.get_str("mode", "DCR")? == "CRD" {
        moved(cx, "pixel_shuffle", "upscale_factor")
    } else {
        moved(cx, "depth_to_space", "block_size")
    }
}

fn space_to_depth(cx: &mut Lower<'_>) -> Result<()> {
    moved(cx, "space_to_depth", "block_size")
}

/// What follows from sizes is computed here.
fn known(cx: &mut Lower<'_>) -> Result<()> {
    let name = cx.node.output(0).unwrap_or_default();
    let fact = cx.facts.get(name).ok_or_else(|| Error::internal("an output without a type"))?;
    if let Some(c) = &fact.constant {
        let y = super::lower::constant_value(cx.net, &std::collections::BTreeMap::new(), name, c)?;
        return cx.one(y);
    }
    let contents: Option<Vec<i64>> = fact.contents.iter().flatten().map(|d| i64::try_from(d.known()?).ok()).collect();
    let dims = fact.dims().unwrap_or_default();
    match contents.filter(|c| fact.contents.is_some() && c.len() == dims.iter().product::<usize>()) {
        Some(contents) => {
            let y = cx.int_tensor(&dims, &contents);
            cx.one(y)
        }
        None => Err(open("what this operator makes")),
    }
}
