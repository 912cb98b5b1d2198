//! Sums, means and orders along axes, and normalizations.

use super::lower::{Entry, Form, Lower, lacks};
use super::program::{Kind, Ref, Type};
use compresso_base::error::{Error, Result};
use compresso_model::graph::normalize_axis;

pub(super) const OPS: &[Entry] = &[
    ("ReduceMean", Form::With(|cx| plain(cx, "reduce_mean"))),
    ("ReduceSum", Form::With(|cx| plain(cx, "reduce_sum"))),
    ("ReduceMax", Form::With(|cx| plain(cx, "reduce_max"))),
    ("ReduceMin", Form::With(|cx| plain(cx, "reduce_min"))),
    ("ReduceProd", Form::With(|cx| plain(cx, "reduce_prod"))),
    ("ReduceL1", Form::With(|cx| plain(cx, "reduce_l1_norm"))),
    ("ReduceL2", Form::With(|cx| plain(cx, "reduce_l2_norm"))),
    ("ReduceSumSquare", Form::With(|cx| plain(cx, "reduce_sum_square"))),
    ("ReduceLogSum", Form::With(|cx| plain(cx, "reduce_log_sum"))),
    ("ReduceLogSumExp", Form::With(|cx| plain(cx, "reduce_log_sum_exp"))),
    ("ArgMax", Form::With(|cx| arg(cx, "reduce_argmax"))),
    ("ArgMin", Form::With(|cx| arg(cx, "reduce_argmin"))),
    ("TopK", Form::With(top_k)),
    ("CumSum", Form::With(cum_sum)),
    ("Softmax", Form::With(|cx| softmax(cx, false))),
    ("LogSoftmax", Form::With(|cx| softmax(cx, true))),
    ("BatchNormalization", Form::With(batch_norm)),
    ("LayerNormalization", Form::With(layer_norm)),
    ("RMSNormalization", Form::With(rms_norm)),
    ("InstanceNormalization", Form::With(instance_norm)),
    ("GroupNormalization", Form::With(group_norm)),
    ("LpNormalization", Form::With(lp_norm)),
    ("LRN", Form::With(lrn)),
];

/// The axes that are reduced; `None` where the operator is to do nothing to them.
fn axes(cx: &Lower<'_>, rank: usize) -> Result<Option<Vec<usize>>> {
    let said = cx.list("axes", 1)?.unwrap_or_default();
    if said.is_empty() {
        let nothing = cx.node.get_int("noop_with_empty_axes", 0)? != 0;
        return Ok((!nothing).then(|| (0..rank).collect()));
    }
    said.iter().map(|&a| normalize_axis(a, rank)).collect::<Result<_>>().map(Some)
}

fn plain(cx: &mut Lower<'_>, kind: &'static str) -> Result<()> {
    let x = cx.input(0)?;
    // Of integers, means and roots are others.
    if !(cx.kind(x).is_float() || cx.kind(x) == Kind::I32 && matches!(kind, "reduce_sum" | "reduce_max" | "reduce_min" | "reduce_prod")) {
        return Err(lacks(format!("{kind} of {} in the form of ONNX", cx.kind(x).word())));
    }
    let rank = cx.rank(0)?;
    let keep = cx.node.get_int("keepdims", 1)? != 0;
    let Some(axes) = axes(cx, rank)? else {
        // What is done to each element is done all the same.
        if matches!(kind, "reduce_mean" | "reduce_sum" | "reduce_max" | "reduce_min" | "reduce_prod") {
            return cx.one(x);
        }
        return Err(lacks(format!("{kind} along no axis")));
    };
    let y = if rank == 0 { x } else { cx.reduce(kind, x, &axes, keep) };
    cx.one(y)
}

fn arg(cx: &mut Lower<'_>, kind: &'static str) -> Result<()> {
    if cx.node.get_int("select_last_index", 0)? != 0 {
        return Err(lacks("choice of the last of equal elements"));
    }
    let (x, rank) = (cx.input(0)?, cx.rank(0)?);
    let axis = cx.axis(0, rank)?;
    let keep = cx.node.get_int("keepdims", 1)? != 0;
    let made = Type::new(Kind::I32, &cx.out_dims(0)?);
    let (axis, keep) = (cx.int(axis as i64), cx.flag(keep));
    let y = cx.op(kind, &[("x", x), ("axis", axis), ("keep_dims", keep)], made);
    cx.one(y)
}

fn top_k(cx: &mut Lower<'_>) -> Result<()> {
    let x = cx.input(0)?;
    let mut dims = cx.sizes(x);
    let axis = cx.axis(-1, dims.len())?;
    let known = match cx.node.find_int("k")? {
        Some(k) => Some(k),
        None => cx.ints(1)?.and_then(|k| k.first().copied()),
    };
    let k = known.and_then(|k| usize::try_from(k).ok()).filter(|k| (1..=dims[axis]).contains(k));
    let k = k.ok_or_else(|| Error::shape(format!("expected a k from 1 to {}, got {known:?}", dims[axis])))?;
    dims[axis] = k;
    let smallest = cx.node.get_int("largest", 1)? == 0;
    let made = vec![Type { kind: cx.kind(x), dims: dims.clone() }, Type { kind: Kind::I32, dims }];
    let (k, axis, ascending) = (cx.int(k as i64), cx.int(axis as i64), cx.flag(smallest));
    let out = cx.several("topk", &[("x", x), ("k", k), ("axis", axis), ("ascending", ascending)], made);
    out.into_iter().enumerate().try_for_each(|(i, y)| cx.set(i, y))
}

fn cum_sum(cx: &mut Lower<'_>) -> Result<()> {
    let on = |name: &str| cx.node.get_int(name, 0).map(|v| v != 0);
    let (exclusive, reverse) = (on("exclusive")?, on("reverse")?);
    let (x, rank) = (cx.input(0)?, cx.rank(0)?);
    let axis = cx.ints(1)?.and_then(|a| a.first().copied()).ok_or_else(|| Error::format("the axis is missing"))?;
    let axis = cx.int(normalize_axis(axis, rank)? as i64);
    let (exclusive, reverse) = (cx.flag(exclusive), cx.flag(reverse));
    let y = cx.like("cumsum", x, &[("axis", axis), ("exclusive", exclusive), ("reverse", reverse)]);
    cx.one(y)
}

/// Before operator set 13, all axes from the given one on are one.
fn softmax(cx: &mut Lower<'_>, log: bool) -> Result<()> {
    let x = cx.float(0)?;
    let own = cx.sizes(x);
    let axis = cx.axis(if cx.opset < 13 { 1 } else { -1 }, own.len())?;
    let flat = if cx.opset < 13 && axis + 1 != own.len() {
        own[..axis].iter().copied().chain([own[axis..].iter().product()]).collect()
    } else {
        own.clone()
    };
    let x = cx.reshape(x, &flat);
    let y = if log {
        let sum = cx.reduce("reduce_log_sum_exp", x, &[axis], true);
        cx.binary("sub", x, sum)?
    } else {
        let axis = cx.int(axis as i64);
        cx.like("softmax", x, &[("axis", axis)])
    };
    let y = cx.reshape(y, &own);
    cx.one(y)
}

fn epsilon(cx: &mut Lower<'_>, kind: Kind) -> Result<Ref> {
    let epsilon = cx.node.get_float("epsilon", 1e-5)?;
    Ok(cx.number(epsilon, kind))
}

fn batch_norm(cx: &mut Lower<'_>) -> Result<()> {
    if cx.node.get_int("training_mode", 0)? != 0 {
        return Err(lacks("batch normalization with the statistics of the batch"));
    }
    let (x, rank) = (cx.float(0)?, cx.rank(0)?);
    let eps = epsilon(cx, cx.kind(x))?;
    if (3..=5).contains(&rank) && (1..5).all(|i| cx.constant(i).is_some()) {
        let [gamma, beta, mean, variance] = [cx.input(1)?, cx.input(2)?, cx.input(3)?, cx.input(4)?];
        let settings = [("mean", mean), ("variance", variance), ("gamma", gamma), ("beta", beta), ("epsilon", eps)];
        let y = cx.like("batch_norm", x, &settings);
        return cx.one(y);
    }
    let variance = cx.per_channel(4, rank)?;
    let variance = cx.binary("add", variance, eps)?;
    let deviation = cx.like("sqrt", variance, &[]);
    let mean = cx.per_channel(3, rank)?;
    let y = cx.binary("sub", x, mean)?;
    let y = cx.binary("real_div", y, deviation)?;
    scaled(cx, y, rank)
}

/// Times input 1, plus input 2, numbers for each channel.
fn scaled(cx: &mut Lower<'_>, y: Ref, rank: usize) -> Result<()> {
    let gamma = cx.per_channel(1, rank)?;
    let y = cx.binary("mul", y, gamma)?;
    let beta = cx.per_channel(2, rank)?;
    let y = cx.binary("add", y, beta)?;
    cx.one(y)
}

/// Elements without their mean, over their deviation, along axes.
fn normalized(cx: &mut Lower<'_>, x: Ref, axes: &[usize], eps: Ref, scale: Option<Ref>, bias: Option<Ref>) -> Ref {
    let axes = cx.list_of(axes);
    let mut settings = vec![("axes", axes)];
    settings.extend(scale.map(|s| ("gamma", s)));
    settings.extend(bias.map(|b| ("beta", b)));
    settings.push(("epsilon", eps));
    cx.like("layer_norm", x, &settings)
}

fn layer_norm(cx: &mut Lower<'_>) -> Result<()> {
    let x = cx.float(0)?;
    let dims = cx.sizes(x);
    let axis = cx.axis(-1, dims.len())?;
    let axes: Vec<usize> = (axis..dims.len()).collect();
    let eps = epsilon(cx, cx.kind(x))?;
    let fits = |cx: &Lower<'_>, i: usize| cx.node.input(i).is_none() || cx.constant(i).is_some_and(|c| c.dims() == &dims[axis..]);
    if fits(cx, 1) && fits(cx, 2) {
        let (scale, bias) = (cx.get(1)?, cx.get(2)?);
        let y = normalized(cx, x, &axes, eps, scale, bias);
        return cx.one(y);
    }
    let mut y = normalized(cx, x, &axes, eps, None, None);
    for (i, kind) in [(1, "mul"), (2, "add")] {
        if let Some(with) = cx.get(i)? {
            y = cx.binary(kind, y, with)?;
        }
    }
    cx.one(y)
}

fn rms_norm(cx: &mut Lower<'_>) -> Result<()> {
    let x = cx.float(0)?;
    let rank = cx.rank(0)?;
    let axes: Vec<usize> = (cx.axis(-1, rank)?..rank).collect();
    let eps = epsilon(cx, cx.kind(x))?;
    let square = cx.binary("mul", x, x)?;
    let mean = cx.reduce("reduce_mean", square, &axes, true);
    let mean = cx.binary("add", mean, eps)?;
    let root = cx.like("sqrt", mean, &[]);
    let mut y = cx.binary("real_div", x, root)?;
    if let Some(scale) = cx.get(1)? {
        y = cx.binary("mul", y, scale)?;
    }
    cx.one(y)
}

fn instance_norm(cx: &mut Lower<'_>) -> Result<()> {
    let (x, rank) = (cx.float(0)?, cx.rank(0)?);
    let eps = epsilon(cx, cx.kind(x))?;
    if (3..=4).contains(&rank) && cx.constant(1).is_some() && cx.constant(2).is_some() {
        let (gamma, beta) = (cx.input(1)?, cx.input(2)?);
        let y = cx.like("instance_norm", x, &[("gamma", gamma), ("beta", beta), ("epsilon", eps)]);
        return cx.one(y);
    }
    let axes: Vec<usize> = (2..rank).collect();
    let y = normalized(cx, x, &axes, eps, None, None);
    scaled(cx, y, rank)
}

/// Scale and bias have a number per group up to operator set 20, per channel from 21 on.
fn group_norm(cx: &mut Lower<'_>) -> Result<()> {
    let groups = cx.node.find_int("num_groups")?.and_then(|g| usize::try_from(g).ok()).filter(|&g| g > 0);
    let groups = groups.ok_or_else(|| Error::format("attribute 'num_groups' must be at least 1"))?;
    let x = cx.float(0)?;
    let dims = cx.sizes(x);
    let eps = epsilon(cx, cx.kind(x))?;
    let per_group = cx.opset < 21;
    let count: usize = dims[1..].iter().product();
    if !dims[1].is_multiple_of(groups) {
        return Err(Error::shape(format!("{} channels cannot be cut into {groups} groups", dims[1])));
    }
    let flat = cx.reshape(x, &[dims[0], groups, count / groups]);
    let mut y = normalized(cx, flat, &[2], eps, None, None);
    if !per_group {
        y = cx.reshape(y, &dims);
    }
    for (i, kind) in [(1, "mul"), (2, "add")] {
        let with = cx.per_channel(i, if per_group { 3 } else { dims.len() })?;
        y = cx.binary(kind, y, with)?;
    }
    let y = cx.reshape(y, &dims);
    cx.one(y)
}

/// Vectors of length 0 stay as they are.
fn lp_norm(cx: &mut Lower<'_>) -> Result<()> {
    let (x, rank) = (cx.float(0)?, cx.rank(0)?);
    let (axis, kind) = (cx.axis(-1, rank)?, cx.kind(x));
    let norm = if cx.node.get_int("p", 2)? == 1 { "reduce_l1_norm" } else { "reduce_l2_norm" };
    let length = cx.reduce(norm, x, &[axis], true);
    let (zero, one) = (cx.number(0.0, kind), cx.number(1.0, kind));
    let empty = cx.test("equal", length, zero)?;
    let length = cx.select(empty, one, length)?;
    let y = cx.binary("real_div", x, length)?;
    cx.one(y)
}

fn lrn(cx: &mut Lower<'_>) -> Result<()> {
    let x = cx.float(0)?;
    let (rank, kind) = (cx.rank(0)?, cx.kind(x));
    let size = cx.node.get_int("size", 1)?;
    if !(3..=4).contains(&rank) || size % 2 == 0 {
        return Err(lacks(format!("LRN of {rank} axes over {size} channels: three or four axes, and odd numbers")));
    }
    let number = |cx: &mut Lower<'_>, name: &str, default: f32| -> Result<Ref> {
        let value = cx.node.get_float(name, default)?;
        Ok(cx.number(value, kind))
    };
    let (alpha, beta, bias) = (number(cx, "alpha", 1e-4)?, number(cx, "beta", 0.75)?, number(cx, "bias", 1.0)?);
    let size = cx.int(size);
    let y = cx.like("local_response_norm", x, &[("size", size), ("alpha", alpha), ("beta", beta), ("k", bias)]);
    cx.one(y)
}
