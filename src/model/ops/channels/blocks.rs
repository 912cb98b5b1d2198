//! Labels through Reshape and its relatives.

use super::{Atom, AxisLabels, Channels};
use crate::graph::Dim;
use std::collections::HashMap;
use std::sync::Arc;

/// Elements of a block up to which its indices are followed one by one.
const BLOCK_LIMIT: usize = 1 << 24;

/// Labels of a row-major reshape from `from` (with its labels) to `to`.
///
/// The two shapes are cut into the smallest runs of axes with equal products. Within a run, labels of an inner or outer
/// factor spread over merged axes: flattening `[C, H, W]` gives each index the label of its channel. An axis that is
/// split into factors, such as `[g·c] → [g, c]`, becomes one labelled factor, along which its labels already repeat or
/// else the largest; indices that differ only in the other factors are joined, since they can only go together.
pub fn reshape(cx: &mut Channels<'_>, from: &[Dim], labels: &[AxisLabels], to: &[Dim]) -> Vec<AxisLabels> {
    let mut out: Vec<AxisLabels> = vec![None; to.len()];
    let (from, to) = same_unknown(from, to);
    let mut ins: Vec<usize> = Vec::new();
    for (a, d) in from.iter().enumerate() {
        if *d == Dim::Known(1) {
            cx.freeze(&labels[a]);
        } else {
            ins.push(a);
        }
    }
    let mut outs: Vec<usize> = (0..to.len()).filter(|&a| to[a] != Dim::Known(1)).collect();
    let same = |i: usize, o: usize| !matches!(from[i], Dim::Unknown) && from[i] == to[o];
    while let (Some(&i), Some(&o)) = (ins.first(), outs.first())
        && same(i, o)
    {
        out[o].clone_from(&labels[i]);
        ins.remove(0);
        outs.remove(0);
    }
    while let (Some(&i), Some(&o)) = (ins.last(), outs.last())
        && same(i, o)
    {
        out[o].clone_from(&labels[i]);
        ins.pop();
        outs.pop();
    }
    let sizes = |axes: &[usize], dims: &[Dim]| axes.iter().map(|&a| dims[a].known().filter(|&n| n > 0)).collect::<Option<Vec<usize>>>();
    let (Some(in_sizes), Some(out_sizes)) = (sizes(&ins, &from), sizes(&outs, &to)) else {
        cx.because("rearranges them with sizes that are known only at run time");
        if let (Some((&i, rest)), Some(&o)) = (ins.split_first(), outs.first())
            && let Some(leading) = leading(cx, &labels[i], from[i].known(), to[o].known())
        {
            out[o] = Some(leading);
            ins = rest.to_vec();
        }
        ins.iter().for_each(|&i| cx.freeze(&labels[i]));
        return out;
    };
    cx.because("rearranges them");
    let (mut i, mut o) = (0, 0);
    while i < ins.len() && o < outs.len() {
        let (mut i_end, mut o_end) = (i + 1, o + 1);
        let (mut a, mut b) = (in_sizes[i], out_sizes[o]);
        while a != b {
            if a < b && i_end < ins.len() {
                a = a.saturating_mul(in_sizes[i_end]);
                i_end += 1;
            } else if b < a && o_end < outs.len() {
                b = b.saturating_mul(out_sizes[o_end]);
                o_end += 1;
            } else {
                break;
            }
        }
        let axes: Vec<(usize, AxisLabels)> = (i..i_end).map(|k| (in_sizes[k], labels[ins[k]].clone())).collect();
        if a == b && a <= BLOCK_LIMIT {
            if let Some((k, found)) = block(cx, &axes, &out_sizes[o..o_end], &outs[o..o_end]) {
                out[outs[o + k]] = Some(found.into());
            }
        } else {
            axes.iter().for_each(|(_, l)| cx.freeze(l));
        }
        (i, o) = (i_end, o_end);
    }
    ins[i..].iter().for_each(|&k| cx.freeze(&labels[k]));
    out
}

/// One run of axes into another of the same product, whose axes have the numbers `axes_of`: the labelled axis of the result and its labels.
fn block(cx: &mut Channels<'_>, axes: &[(usize, AxisLabels)], to: &[usize], axes_of: &[usize]) -> Option<(usize, Vec<Atom>)> {
    // Indices of two labelled axes cannot both go: the rest would not be a full grid. The one with more choices stays.
    let choices = |cx: &Channels<'_>, l: &AxisLabels| {
        let free = l.iter().flat_map(|l| l.iter()).filter(|&&a| !cx.labels.is_frozen(a));
        free.map(|&a| cx.labels.root(a)).collect::<std::collections::HashSet<_>>().len()
    };
    let (main, most) = axes.iter().enumerate().map(|(k, (_, l))| (k, choices(cx, l))).max_by_key(|&(k, n)| (n, std::cmp::Reverse(k)))?;
    for (_, other) in axes.iter().enumerate().filter(|(k, _)| *k != main).map(|(_, a)| a) {
        cx.freeze(other);
    }
    let labels = axes[main].1.clone().filter(|_| most > 0)?;
    let inner: usize = axes[main + 1..].iter().map(|(n, _)| n).product();
    let total: usize = to.iter().product();
    let flat: Vec<Atom> = (0..total).map(|p| labels[(p / inner) % labels.len()]).collect();
    if to.len() == 1 {
        return Some((0, flat));
    }
    let stride = |k: usize| to[k + 1..].iter().product::<usize>();
    let roots: Vec<Atom> = flat.iter().map(|&a| cx.labels.root(a)).collect();
    let mut by_size: Vec<usize> = (0..to.len()).collect();
    by_size.sort_by_key(|&k| (std::cmp::Reverse(to[k]), std::cmp::Reverse(k)));
    let follows = |k: usize| {
        let mut at: Vec<Option<Atom>> = vec![None; to[k]];
        roots.iter().enumerate().all(|(p, &r)| *at[(p / stride(k)) % to[k]].get_or_insert(r) == r)
    };
    // Where nothing follows yet, an axis that no reader of the result fixes: groups of a norm go whole.
    let free = |k: &usize| !cx.labels.ahead.contains(&axes_of[*k]);
    let followed = by_size.iter().copied().find(|&k| follows(k));
    let k = followed.or_else(|| by_size.iter().copied().find(free)).unwrap_or(by_size[0]);
    if followed.is_none() && k != by_size[0] {
        cx.labels.blocks.extend((0..total).step_by(stride(k)).map(|p| flat[p]));
    }
    let mut found: HashMap<usize, Atom> = HashMap::new();
    for (p, &a) in flat.iter().enumerate() {
        let index = (p / stride(k)) % to[k];
        let first = *found.entry(index).or_insert(a);
        cx.labels.join(first, a);
    }
    Some((k, (0..to[k]).map(|i| found[&i]).collect()))
}

/// Labels of the first axis of a result from those of the first axis of what is rearranged, where the sizes behind them are open: each
/// index becomes several, or whole runs of them become one.
fn leading(cx: &mut Channels<'_>, labels: &AxisLabels, from: Option<usize>, to: Option<usize>) -> Option<Arc<[Atom]>> {
    let (labels, from, to) = (labels.clone()?, from.filter(|&n| n > 0)?, to.filter(|&n| n > 0 && n <= BLOCK_LIMIT)?);
    if to % from == 0 {
        let times = to / from;
        return Some((0..to).map(|i| labels[i / times]).collect());
    }
    (from % to == 0).then(|| cx.whole_runs(&labels, to))
}

/// When each shape has one size that is not known and the others have equal products, that size is the same in both.
fn same_unknown(from: &[Dim], to: &[Dim]) -> (Vec<Dim>, Vec<Dim>) {
    let (mut from, mut to) = (from.to_vec(), to.to_vec());
    let open = |s: &[Dim]| s.iter().enumerate().filter(|(_, d)| d.known().is_none()).map(|(i, _)| i).collect::<Vec<_>>();
    let product = |s: &[Dim]| s.iter().filter_map(Dim::known).try_fold(1usize, |n, d| n.checked_mul(d)).filter(|&n| n > 0);
    if let ([i], [o]) = (open(&from).as_slice(), open(&to).as_slice())
        && product(&from).is_some()
        && product(&from) == product(&to)
    {
        from[*i] = Dim::symbol("same");
        to[*o] = Dim::symbol("same");
    }
    (from, to)
}
