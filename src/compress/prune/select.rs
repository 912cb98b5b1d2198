//! Which channels go: the least important, within what each group must keep.

use super::{Group, Prune, Scope};
use crate::error::{Error, Result};
use crate::model::ops::channels::Atom;
use std::collections::HashSet;

/// The atoms to remove from `groups`, given a score per atom of each (higher stays).
///
/// # Errors
/// `Argument` when a group would be left empty.
pub(super) fn select(options: &Prune, groups: &[&Group], scores: &[Vec<f64>]) -> Result<HashSet<Atom>> {
    let kept = match options.scope {
        Scope::Layer => groups.iter().map(|g| g.channels - share(options.ratio, g.channels)).collect(),
        Scope::Global => kept_globally(options, groups, scores),
    };
    let mut removed = HashSet::new();
    for ((group, scores), kept) in groups.iter().zip(scores).zip(kept) {
        let keep = rounded(kept, group.channels, options.align).max(options.min_channels.min(group.channels));
        if keep == 0 {
            let layer = group.layers.first().map_or("", String::as_str);
            let e = Error::argument(format!("ratio {} would leave layer '{layer}' without channels", options.ratio));
            return Err(e.hint("set min_channels to at least 1, or a lower ratio"));
        }
        let order = ascending(scores);
        removed.extend(order[..group.channels - keep].iter().map(|&i| group.atoms[i]));
    }
    Ok(removed)
}

/// How many of `n` to remove.
fn share(ratio: f64, n: usize) -> usize {
    // The product is at most `n`.
    (ratio * n as f64).round() as usize
}

/// `kept` to the nearest multiple of `align` (upwards when halfway), at most `all`.
fn rounded(kept: usize, all: usize, align: usize) -> usize {
    if kept == all { all } else { ((kept + align / 2) / align * align).min(all) }
}

fn ascending(scores: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[a].total_cmp(&scores[b]));
    order
}

/// How many each group keeps when the lowest scores of all go, and each group keeps its minimum.
fn kept_globally(options: &Prune, groups: &[&Group], scores: &[Vec<f64>]) -> Vec<usize> {
    let mut kept: Vec<usize> = groups.iter().map(|g| g.channels).collect();
    let mut left = share(options.ratio, kept.iter().sum());
    let mut ranked: Vec<(f64, usize)> = scores.iter().enumerate().flat_map(|(g, s)| s.iter().map(move |&s| (s, g))).collect();
    ranked.sort_by(|a, b| a.0.total_cmp(&b.0));
    for (_, g) in ranked {
        if left == 0 {
            break;
        }
        if kept[g] > options.min_channels.min(groups[g].channels) {
            kept[g] -= 1;
            left -= 1;
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(first: Atom, n: usize) -> Group {
        Group { layers: vec![format!("conv{first}")], weights: vec![], channels: n, atoms: (first..first + n as Atom).collect() }
    }

    #[test]
    fn global_scope_takes_the_lowest_of_all_and_leaves_each_its_minimum() {
        let (a, b) = (group(0, 4), group(10, 4));
        let scores = [vec![0.1, 0.2, 0.3, 0.4], vec![9.0, 0.35, 8.0, 7.0]];
        let options = Prune { ratio: 0.5, align: 1, min_channels: 1, ..Prune::default() };
        let removed = select(&options, &[&a, &b], &scores).unwrap();
        assert_eq!(removed, HashSet::from([0, 1, 2, 11]));
    }

    #[test]
    fn layer_scope_rounds_to_the_nearest_multiple() {
        let g = group(0, 20);
        let scores = [(0..20).map(f64::from).collect::<Vec<_>>()];
        for (ratio, kept) in [(0.25, 16), (0.5, 8), (0.45, 8), (0.4, 16), (0.9, 8), (0.01, 20)] {
            let options = Prune { ratio, scope: Scope::Layer, ..Prune::default() };
            assert_eq!(20 - select(&options, &[&g], &scores).unwrap().len(), kept, "{ratio}");
        }
    }

    #[test]
    fn an_empty_layer_is_an_error_that_names_it() {
        let g = group(0, 4);
        let options = Prune { ratio: 0.9, scope: Scope::Layer, align: 1, min_channels: 0, ..Prune::default() };
        let e = select(&options, &[&g], &[vec![1.0; 4]]).unwrap_err();
        assert!(e.to_string().contains("would leave layer 'conv0' without channels"), "{e}");
    }
}
