//! Labels through Reshape and its relatives.

use super::{Atom, AxisLabels, Channels};
use crate::graph::Dim;
use std::collections::HashMap;

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
        ins.iter().for_each(|&i| cx.freeze(&labels[i]));
        return out;
    };
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
            if let Some((k, found)) = block(cx, &axes, &out_sizes[o..o_end]) {
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

/// One run of axes into another of the same product: the labelled axis of the result and its labels.
fn block(cx: &mut Channels<'_>, axes: &[(usize, AxisLabels)], to: &[usize]) -> Option<(usize, Vec<Atom>)> {
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
    let k = by_size.iter().copied().find(|&k| follows(k)).unwrap_or(by_size[0]);
    let mut found: HashMap<usize, Atom> = HashMap::new();
    for (p, &a) in flat.iter().enumerate() {
        let index = (p / stride(k)) % to[k];
        let first = *found.entry(index).or_insert(a);
        cx.labels.join(first, a);
    }
    Some((k, (0..to[k]).map(|i| found[&i]).collect()))
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
