//! Sums, means and orders along axes, and normalizations.

use super::elementwise::{chained, simple};
use super::lower::{Attrs, Entry, Form, Lower, flag, lacks};
use super::net::Port;
use compresso_base::error::{Error, Result};
use compresso_model::Element;

pub(super) const OPS: &[Entry] = &[
    ("ReduceMean", Form::With(|cx| plain(cx, "ReduceMean"))),
    ("ReduceSum", Form::With(|cx| plain(cx, "ReduceSum"))),
    ("ReduceMax", Form::With(|cx| plain(cx, "ReduceMax"))),
    ("ReduceMin", Form::With(|cx| plain(cx, "ReduceMin"))),
    ("ReduceProd", Form::With(|cx| plain(cx, "ReduceProd"))),
    ("ReduceL1", Form::With(|cx| mapped(cx, |cx, x| Ok(cx.layer("Abs", 1, Vec::new(), &[x])), |_, y| y))),
    ("ReduceL2", Form::With(|cx| mapped(cx, squared, |cx, y| cx.layer("Sqrt", 1, Vec::new(), &[y])))),
    ("ReduceSumSquare", Form::With(|cx| mapped(cx, squared, |_, y| y))),
    ("ReduceLogSum", Form::With(|cx| mapped(cx, |_, x| Ok(x), |cx, y| cx.layer("Log", 1, Vec::new(), &[y])))),
    ("ReduceLogSumExp", Form::With(log_sum_exp)),
    ("ArgMax", Form::With(|cx| arg(cx, "max"))),
    ("ArgMin", Form::With(|cx| arg(cx, "min"))),
    ("TopK", Form::With(top_k)),
    ("CumSum", Form::With(cum_sum)),
    ("Softmax", Form::With(|cx| softmax(cx, "Softmax", 8))),
    ("LogSoftmax", Form::With(|cx| softmax(cx, "LogSoftmax", 5))),
    ("BatchNormalization", Form::With(batch_norm)),
    ("LayerNormalization", Form::With(layer_norm)),
    ("RMSNormalization", Form::With(rms_norm)),
    ("InstanceNormalization", Form::With(instance_norm)),
    ("GroupNormalization", Form::With(group_norm)),
    ("MeanVarianceNormalization", Form::With(mean_variance)),
    ("LpNormalization", Form::With(lp_norm)),
    ("LRN", Form::With(lrn)),
];

fn keep(on: bool) -> Attrs {
    vec![("keep_dims", flag(on))]
}

/// The axes that are reduced; `None` where the operator is to do nothing.
fn axes(cx: &mut Lower<'_>) -> Result<Option<Port>> {
    let none = cx.fact(1).is_some_and(|f| f.dim(0) == Some(0)) || cx.known_list("axes", 1)?.is_some_and(|v| v.is_empty());
    match cx.list("axes", 1)? {
        Some(axes) if !none => Ok(Some(axes)),
        _ if cx.node.get_int("noop_with_empty_axes", 0)? != 0 => Ok(None),
        _ => {
            let all: Vec<i64> = (0..cx.rank(0)? as i64).collect();
            Ok(Some(cx.of_ints(&all)))
        }
    }
}

fn keeps(cx: &Lower<'_>) -> Result<Attrs> {
    cx.node.get_int("keepdims", 1).map(|k| keep(k != 0))
}

fn plain(cx: &mut Lower<'_>, kind: &'static str) -> Result<()> {
    let x = cx.input(0)?;
    if cx.net.element(x) == Element::Bool {
        return Err(lacks("reductions of booleans in the forms of ONNX"));
    }
    match axes(cx)? {
        None => cx.alias(x),
        Some(axes) => {
            let attrs = keeps(cx)?;
            let y = cx.layer(kind, 1, attrs, &[x, axes]);
            cx.one(y)
        }
    }
}

fn squared(cx: &mut Lower<'_>, x: Port) -> Result<Port> {
    Ok(cx.binary("Multiply", x, x))
}

/// A sum of what `before` makes of the elements, and `after` of the sum.
fn mapped(cx: &mut Lower<'_>, before: fn(&mut Lower<'_>, Port) -> Result<Port>, after: fn(&mut Lower<'_>, Port) -> Port) -> Result<()> {
    let x = cx.input(0)?;
    let mut y = before(cx, x)?;
    if let Some(axes) = axes(cx)? {
        let attrs = keeps(cx)?;
        y = cx.layer("ReduceSum", 1, attrs, &[y, axes]);
    }
    let y = after(cx, y);
    if y == x { cx.alias(x) } else { cx.one(y) }
}

/// The largest element is taken out of the exponentials, so that they stay finite.
fn log_sum_exp(cx: &mut Lower<'_>) -> Result<()> {
    let x = cx.input(0)?;
    let Some(axes) = axes(cx)? else { return cx.alias(x) };
    let largest = cx.layer("ReduceMax", 1, keep(true), &[x, axes]);
    let y = cx.binary("Subtract", x, largest);
    let y = cx.layer("Exp", 1, Vec::new(), &[y]);
    let y = cx.layer("ReduceSum", 1, keep(true), &[y, axes]);
    let y = cx.layer("Log", 1, Vec::new(), &[y]);
    let mut y = cx.binary("Add", y, largest);
    if cx.node.get_int("keepdims", 1)? == 0 {
        y = cx.layer("Squeeze", 1, Vec::new(), &[y, axes]);
    }
    cx.one(y)
}

fn ordered(axis: usize, mode: &str) -> Attrs {
    vec![
        ("axis", axis.to_string()),
        ("mode", mode.into()),
        ("sort", "value".into()),
        ("index_element_type", "i64".into()),
        ("stable", "true".into()),
    ]
}

fn arg(cx: &mut Lower<'_>, mode: &str) -> Result<()> {
    if cx.node.get_int("select_last_index", 0)? != 0 {
        return Err(lacks("choice of the last of equal elements"));
    }
    let (x, rank) = (cx.input(0)?, cx.rank(0)?);
    let axis = cx.axis(0, rank)?;
    let one = cx.of_int(1);
    let element = cx.net.element(x);
    let mut y = cx.several("TopK", 11, ordered(axis, mode), &[x, one], &[element, Element::I64])[1];
    if cx.node.get_int("keepdims", 1)? == 0 {
        let axis = cx.of_ints(&[axis as i64]);
        y = cx.layer("Squeeze", 1, Vec::new(), &[y, axis]);
    }
    cx.one(y)
}

fn top_k(cx: &mut Lower<'_>) -> Result<()> {
    let (x, rank) = (cx.input(0)?, cx.rank(0)?);
    let axis = cx.axis(-1, rank)?;
    let known = match cx.node.find_int("k")? {
        Some(k) => Some(k),
        None => cx.ints(1)?.and_then(|k| k.first().copied()),
    };
    let k = match known {
        Some(k) => cx.of_int(k),
        None => {
            let k = cx.input(1)?;
            cx.as_scalar(k)
        }
    };
    let mode = if cx.node.get_int("largest", 1)? != 0 { "max" } else { "min" };
    let element = cx.net.element(x);
    let out = cx.several("TopK", 11, ordered(axis, mode), &[x, k], &[element, Element::I64]);
    out.into_iter().enumerate().for_each(|(i, port)| cx.set(i, port));
    Ok(())
}

fn cum_sum(cx: &mut Lower<'_>) -> Result<()> {
    let on = |name: &str| cx.node.get_int(name, 0).map(|v| flag(v != 0));
    let attrs = vec![("exclusive", on("exclusive")?), ("reverse", on("reverse")?)];
    let x = cx.input(0)?;
    let axis = match cx.ints(1)?.and_then(|a| a.first().copied()) {
        Some(axis) => cx.of_int(axis),
        None => {
            let axis = cx.input(1)?;
            cx.as_scalar(axis)
        }
    };
    let y = cx.layer("CumSum", 3, attrs, &[x, axis]);
    cx.one(y)
}

/// Before operator set 13, all axes from the given one on are one.
fn softmax(cx: &mut Lower<'_>, kind: &'static str, set: u8) -> Result<()> {
    let (x, rank) = (cx.input(0)?, cx.rank(0)?);
    let axis = cx.axis(if cx.opset < 13 { 1 } else { -1 }, rank)?;
    if cx.opset >= 13 || axis + 1 == rank {
        return simple(cx, kind, set, vec![("axis", axis.to_string())]);
    }
    let shape = cx.shape_of(x);
    let pattern: Vec<i64> = if axis == 0 { vec![1, -1] } else { (0..axis).map(|_| 0).chain([-1]).collect() };
    let flat = cx.reshape(x, &pattern);
    let y = cx.layer(kind, set, vec![("axis", (pattern.len() - 1).to_string())], &[flat]);
    let y = cx.layer("Reshape", 1, vec![("special_zero", "false".into())], &[y, shape]);
    cx.one(y)
}

fn epsilon(cx: &Lower<'_>) -> Result<String> {
    cx.node.get_float("epsilon", 1e-5).map(|e| format!("{e:e}"))
}

fn batch_norm(cx: &mut Lower<'_>) -> Result<()> {
    if cx.node.get_int("training_mode", 0)? != 0 {
        return Err(lacks("batch normalization with the statistics of the batch"));
    }
    let inputs = cx.inputs()?;
    let eps = epsilon(cx)?;
    let y = cx.layer("BatchNormInference", 5, vec![("epsilon", eps)], &inputs);
    cx.one(y)
}

/// Elements without their mean, over their deviation, along axes.
fn normalized(cx: &mut Lower<'_>, x: Port, axes: &[i64], eps: String, centred: &str) -> Port {
    let axes = cx.of_ints(axes);
    let attrs = vec![("normalize_variance", "true".into()), ("eps", eps), ("eps_mode", centred.into())];
    cx.layer("MVN", 6, attrs, &[x, axes])
}

/// Times input 1, plus input 2, where they are given.
fn affine(cx: &mut Lower<'_>, y: Port) -> Result<()> {
    let mut y = y;
    for (i, kind) in [(1, "Multiply"), (2, "Add")] {
        if let Some(with) = cx.get(i)? {
            y = cx.binary(kind, y, with);
        }
    }
    cx.one(y)
}

fn trailing(cx: &Lower<'_>) -> Result<Vec<i64>> {
    let rank = cx.rank(0)?;
    Ok((cx.axis(-1, rank)? as i64..rank as i64).collect())
}

fn layer_norm(cx: &mut Lower<'_>) -> Result<()> {
    let (x, axes, eps) = (cx.input(0)?, trailing(cx)?, epsilon(cx)?);
    let y = normalized(cx, x, &axes, eps, "inside_sqrt");
    affine(cx, y)
}

fn rms_norm(cx: &mut Lower<'_>) -> Result<()> {
    let (x, axes) = (cx.input(0)?, trailing(cx)?);
    let (axes, eps) = (cx.of_ints(&axes), cx.node.get_float("epsilon", 1e-5)?);
    let eps = cx.scalar(f64::from(eps), cx.net.element(x))?;
    let square = cx.binary("Multiply", x, x);
    let mean = cx.layer("ReduceMean", 1, keep(true), &[square, axes]);
    let mean = cx.binary("Add", mean, eps);
    let root = cx.layer("Sqrt", 1, Vec::new(), &[mean]);
    let y = cx.binary("Divide", x, root);
    affine(cx, y)
}

fn instance_norm(cx: &mut Lower<'_>) -> Result<()> {
    let (x, rank, eps) = (cx.input(0)?, cx.rank(0)?, epsilon(cx)?);
    let axes: Vec<i64> = (2..rank as i64).collect();
    let mut y = normalized(cx, x, &axes, eps, "inside_sqrt");
    for (i, kind) in [(1, "Multiply"), (2, "Add")] {
        let with = cx.per_channel(i, rank)?;
        y = cx.binary(kind, y, with);
    }
    cx.one(y)
}

/// Scale and bias have a number per group up to operator set 20, per channel from 21 on.
fn group_norm(cx: &mut Lower<'_>) -> Result<()> {
    let groups = cx.node.find_int("num_groups")?.ok_or_else(|| Error::format("attribute 'num_groups' is missing"))?;
    let (x, eps) = (cx.input(0)?, epsilon(cx)?);
    let channels = cx.shape(0)?.get(1).and_then(compresso_model::Dim::known);
    let mut inputs = vec![x];
    for i in [1, 2] {
        let mut with = cx.input(i)?;
        if cx.opset < 21 {
            let per = channels.and_then(|c| i64::try_from(c).ok()).filter(|c| groups > 0 && c % groups == 0);
            let per = per.ok_or_else(|| super::lower::open("the number of channels"))? / groups;
            let column = cx.reshape(with, &[-1, 1]);
            let repeats = cx.of_ints(&[1, per]);
            let tiled = cx.layer("Tile", 1, Vec::new(), &[column, repeats]);
            with = cx.reshape(tiled, &[-1]);
        }
        inputs.push(with);
    }
    let y = cx.layer("GroupNormalization", 12, vec![("num_groups", groups.to_string()), ("epsilon", eps)], &inputs);
    cx.one(y)
}

fn mean_variance(cx: &mut Lower<'_>) -> Result<()> {
    let x = cx.input(0)?;
    let axes = cx.node.find_ints("axes")?.map_or_else(|| vec![0, 2, 3], <[i64]>::to_vec);
    let y = normalized(cx, x, &axes, "1e-9".into(), "outside_sqrt");
    cx.one(y)
}

/// Vectors of length 0 stay as they are.
fn lp_norm(cx: &mut Lower<'_>) -> Result<()> {
    let (x, rank) = (cx.input(0)?, cx.rank(0)?);
    let element = cx.net.element(x);
    let axis = cx.axis(-1, rank)?;
    let axis = cx.of_ints(&[axis as i64]);
    let kind = if cx.node.get_int("p", 2)? == 1 { "ReduceL1" } else { "ReduceL2" };
    let length = cx.layer(kind, 4, keep(true), &[x, axis]);
    let (zero, one) = (cx.scalar(0.0, element)?, cx.scalar(1.0, element)?);
    let empty = cx.typed("Equal", 1, super::lower::broadcast(), &[length, zero], Element::Bool);
    let length = cx.typed("Select", 1, super::lower::broadcast(), &[empty, one, length], element);
    let y = cx.binary("Divide", x, length);
    cx.one(y)
}

/// The CPU plugin takes every bias for 1, so the bias is taken out: `(b + s)^β` is `b^β · (1 + s / b)^β`.
fn lrn(cx: &mut Lower<'_>) -> Result<()> {
    let number = |name: &str, default: f32| cx.node.get_float(name, default).map(f64::from);
    let (alpha, beta, bias) = (number("alpha", 1e-4)?, number("beta", 0.75)?, number("bias", 1.0)?);
    if bias <= 0.0 {
        return Err(lacks(format!("LRN with the bias {bias}")));
    }
    let attrs = vec![
        ("alpha", format!("{:e}", alpha / bias)),
        ("beta", format!("{beta:e}")),
        ("bias", "1".into()),
        ("size", cx.node.get_int("size", 1)?.to_string()),
    ];
    let (x, axes) = (cx.input(0)?, cx.of_ints(&[1]));
    let mut y = cx.layer("LRN", 1, attrs, &[x, axes]);
    if bias != 1.0 {
        let factor = cx.scalar(bias.powf(-beta), cx.net.element(x))?;
        y = cx.binary("Multiply", y, factor);
    }
    cx.one(y)
}

/// The smallest, largest or sum of several values: see [`Form::Chain`].
pub(super) fn chain(cx: &mut Lower<'_>, kind: &'static str) -> Result<()> {
    let inputs = cx.inputs()?;
    let y = chained(cx, kind, &inputs)?;
    if inputs.len() == 1 { cx.alias(y) } else { cx.one(y) }
}
