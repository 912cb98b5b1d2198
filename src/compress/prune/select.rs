//! Which channels go: the least important, within what each axis must keep.

use super::costs::Costs;
use super::groups::{LISTED, PRUNABLE};
use super::{Analysis, Group, Prune, Ranking};
use compresso_base::error::{Error, Result};
use compresso_model::names::found;
use compresso_model::ops::channels::{Atom, AxisLabels};
use std::collections::{HashMap, HashSet};

/// What an axis of a value or weight is made of.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Axis {
    /// Indices that stay in any case.
    pub fixed: usize,
    /// Group, and how many indices each of its atoms has on this axis.
    pub parts: Vec<(usize, usize)>,
}

impl Axis {
    fn size(&self, kept: &[usize]) -> usize {
        self.fixed + self.parts.iter().map(|&(g, times)| times * kept[g]).sum::<usize>()
    }
}

/// What reads the labels of an axis; `None` for one without channels of `groups`.
fn reader<'a>(found: &'a Analysis, groups: &'a [&'a Group]) -> impl Fn(&AxisLabels) -> Option<Axis> + 'a {
    let group_of: HashMap<Atom, usize> =
        groups.iter().enumerate().flat_map(|(g, group)| group.atoms.iter().map(move |&a| (a, g))).collect();
    move |l| {
        let labelled = l.as_deref()?;
        let mut counts: HashMap<usize, usize> = HashMap::new();
        let mut fixed = 0;
        for &a in labelled {
            match group_of.get(&found.labels.root(a)) {
                Some(&g) => *counts.entry(g).or_default() += 1,
                None => fixed += 1,
            }
        }
        let mut parts: Vec<(usize, usize)> = counts.into_iter().map(|(g, n)| (g, n / groups[g].channels)).collect();
        parts.sort_unstable();
        (!parts.is_empty()).then_some(Axis { fixed, parts })
    }
}

/// The atoms to remove, lowest scores first, such that the axes of weights get the sizes that `wanted` has for the weights' names. Axes of
/// few groups decide for those of many.
pub(super) fn to_sizes(found: &Analysis, groups: &[&Group], scores: &[Vec<f64>], wanted: &HashMap<&str, &[usize]>) -> HashSet<Atom> {
    let axis = reader(found, groups);
    let mut axes: Vec<(Axis, usize)> = Vec::new();
    for layer in found.labels.layers() {
        let sizes = wanted.get(layer.weight.as_str()).into_iter().flat_map(|dims| dims.iter());
        axes.extend(found.labels.of(&layer.weight).iter().zip(sizes).filter_map(|(labels, &size)| Some((axis(labels)?, size))));
    }
    axes.sort_by_key(|(a, _)| a.parts.len());
    let order: Vec<Vec<usize>> = scores.iter().map(|s| ascending(s)).collect();
    let full: Vec<usize> = groups.iter().map(|g| g.channels).collect();
    let mut kept = full.clone();
    let mut settled = vec![false; full.len()];
    for (axis, target) in &axes {
        let open: Vec<(usize, usize)> = axis.parts.iter().copied().filter(|&(g, _)| !settled[g]).collect();
        while axis.size(&kept) > *target {
            let size = axis.size(&kept);
            let can = open.iter().filter(|&&(g, times)| size - times >= *target && kept[g] > 1);
            // Of halves that nothing else tells apart the larger gives first.
            let next = can.min_by(|a, b| {
                let of = |g: usize| (std::cmp::Reverse(kept[g]), scores[g][order[g][full[g] - kept[g]]]);
                let ((ka, sa), (kb, sb)) = (of(a.0), of(b.0));
                ka.cmp(&kb).then(sa.total_cmp(&sb))
            });
            let Some(&(g, _)) = next else { break };
            kept[g] -= 1;
        }
        open.iter().for_each(|&(g, _)| settled[g] = true);
    }
    let gone = |g: usize| order[g][..full[g] - kept[g]].iter().map(move |&i| groups[g].atoms[i]);
    (0..groups.len()).flat_map(gone).collect()
}

/// All different axes that consist of channels of `groups`, and those of them that weights of layers have, fewest groups
/// first.
pub(super) fn axes(found: &Analysis, groups: &[&Group]) -> (Vec<Axis>, Vec<Axis>) {
    let labels = &found.labels;
    let axis = reader(found, groups);
    let mut seen = HashSet::new();
    let weights = labels.layers().iter().flat_map(|l| labels.of(&l.weight)).filter_map(&axis);
    let mut weights: Vec<Axis> = weights.filter(|a| seen.insert(a.clone())).collect();
    weights.sort_by_key(|a| a.parts.len());
    // Entries for groups of channels are fewer than the channels, of which a layer keeps its minimum.
    let blocks = labels.blocks();
    let mut most: HashMap<usize, usize> = HashMap::new();
    for &(g, times) in weights.iter().flat_map(|a| &a.parts) {
        most.entry(g).and_modify(|m| *m = times.max(*m)).or_insert(times);
    }
    let of_blocks: Vec<bool> = groups.iter().map(|g| g.atoms.iter().any(|a| blocks.contains(a))).collect();
    let fewer = |a: &Axis| a.parts.iter().all(|&(g, times)| of_blocks[g] && most.get(&g).is_some_and(|&m| m > times));
    let all: HashSet<Axis> = labels.values().flat_map(|(_, axes)| axes.iter().filter_map(&axis)).filter(|a| !fewer(a)).collect();
    let mut all: Vec<Axis> = all.into_iter().collect();
    all.sort_unstable_by(|a, b| (&a.parts, a.fixed).cmp(&(&b.parts, b.fixed)));
    (all, weights)
}

/// The atoms to remove from `groups`, given a score per atom of each (higher stays). `all` are the axes that must not
/// shrink below the minimum, `weights` those whose sizes are rounded, in order. With `costs`, the ratio is a share of these.
///
/// # Errors
/// `Argument` when an axis would be left empty.
pub(super) fn select(
    options: &Prune,
    groups: &[&Group],
    scores: &[Vec<f64>],
    all: &[Axis],
    weights: &[Axis],
    costs: Option<&Costs>,
) -> Result<Selected> {
    let choice = Choice { shares: shares(options, groups)?, ..Choice::new(options, groups, scores, all, weights) };
    let kept = match costs {
        None => choice.kept(options.ratio),
        Some(costs) => choice.within(costs),
    };
    if let Some(axis) = all.iter().find(|a| a.size(&kept) == 0) {
        let layer = axis.parts.first().and_then(|&(g, _)| groups[g].layers.first()).map_or("", String::as_str);
        let e = Error::argument(format!("ratio {} would leave layer '{layer}' without channels", options.ratio));
        return Err(e.hint("set min_channels to at least 1, or a lower ratio"));
    }
    let gone = |g: usize| choice.order[g][..choice.full[g] - kept[g]].iter().map(move |&i| groups[g].atoms[i]);
    let (went, asked) = choice.shares_gone(&kept, costs);
    Ok(Selected { atoms: (0..groups.len()).flat_map(gone).collect(), went, asked })
}

/// What goes.
#[derive(Debug)]
pub(super) struct Selected {
    pub atoms: HashSet<Atom>,
    /// The share of the budget that goes with them, and the one that the options ask for.
    pub went: f64,
    pub asked: f64,
}

/// The share that each group loses, where the options say so for single layers. What is said of a group by its own name goes before what
/// patterns of layers say.
///
/// # Errors
/// `Missing` for a name that fits no layer; `Argument` for shares that are no numbers from 0 to 1.
fn shares(options: &Prune, groups: &[&Group]) -> Result<Option<Vec<f64>>> {
    if options.ratios.is_empty() {
        return Ok(None);
    }
    let names: Vec<Vec<&str>> = groups.iter().map(|g| g.names()).collect();
    let mut shares = vec![0.0; groups.len()];
    let mut own = Vec::new();
    for (pattern, share) in &options.ratios {
        let number = share.as_f64().filter(|s| (0.0..1.0).contains(s));
        let wrong = || Error::argument(format!("option 'ratios' gives '{pattern}' the share {share}: it must be at least 0 and below 1"));
        let share = number.ok_or_else(wrong)?;
        match groups.iter().position(|g| g.name == *pattern) {
            Some(g) => own.push((g, share)),
            None => {
                let fit = found("ratios", pattern, &names, PRUNABLE, LISTED)?;
                shares.iter_mut().zip(fit).filter(|(_, fits)| *fits).for_each(|(s, _)| *s = share);
            }
        }
    }
    own.into_iter().for_each(|(g, share)| shares[g] = share);
    Ok(Some(shares))
}

/// How often the share of channels is halved in until a cost fits.
const HALVINGS: usize = 16;

/// What is chosen from.
struct Choice<'a> {
    options: &'a Prune,
    groups: &'a [&'a Group],
    scores: &'a [Vec<f64>],
    weights: &'a [Axis],
    /// Axes that have channels of each group.
    of_group: Vec<Vec<&'a Axis>>,
    /// The channels of each group, least important first.
    order: Vec<Vec<usize>>,
    /// Score and group of all channels, least important first.
    ranked: Vec<(f64, usize)>,
    full: Vec<usize>,
    /// What each group loses, where that is given.
    shares: Option<Vec<f64>>,
}

impl<'a> Choice<'a> {
    fn new(options: &'a Prune, groups: &'a [&'a Group], scores: &'a [Vec<f64>], all: &'a [Axis], weights: &'a [Axis]) -> Self {
        let mut of_group: Vec<Vec<&Axis>> = vec![Vec::new(); groups.len()];
        for axis in all {
            axis.parts.iter().for_each(|&(g, _)| of_group[g].push(axis));
        }
        let mut ranked: Vec<(f64, usize)> = scores.iter().enumerate().flat_map(|(g, s)| s.iter().map(move |&s| (s, g))).collect();
        ranked.sort_by(|a, b| a.0.total_cmp(&b.0));
        let order = scores.iter().map(|s| ascending(s)).collect();
        Self { options, groups, scores, weights, of_group, order, ranked, full: groups.iter().map(|g| g.channels).collect(), shares: None }
    }

    /// The share that goes where so many are kept, and the one asked for.
    fn shares_gone(&self, kept: &[usize], costs: Option<&Costs>) -> (f64, f64) {
        if let Some(costs) = costs {
            return (1.0 - costs.with(self.groups, kept) / costs.total().max(f64::MIN_POSITIVE), self.options.ratio);
        }
        let whole = self.full.iter().sum::<usize>().max(1) as f64;
        let share = |g: usize| self.shares.as_ref().map_or(self.options.ratio, |s| s[g]);
        let asked = (0..kept.len()).map(|g| share(g) * self.full[g] as f64).sum::<f64>() / whole;
        (1.0 - kept.iter().sum::<usize>() as f64 / whole, asked)
    }

    /// Every axis of the group keeps its minimum when one more atom goes.
    fn spare(&self, g: usize, kept: &[usize]) -> bool {
        let fits = |axis: &&Axis| {
            let times = axis.parts.iter().find(|p| p.0 == g).map_or(0, |p| p.1);
            axis.size(kept) >= times + self.options.min_channels.min(axis.size(&self.full))
        };
        kept[g] > 0 && self.of_group[g].iter().all(fits)
    }

    /// Channels that are kept of each group when the smallest share goes that brings the cost down to what the options want, or the largest
    /// possible.
    fn within(&self, costs: &Costs) -> Vec<usize> {
        let wanted = (1.0 - self.options.ratio) * costs.total();
        let (mut low, mut high) = (0.0, 1.0);
        let mut best = self.kept(high);
        for _ in 0..HALVINGS {
            let middle = (low + high) / 2.0;
            let kept = self.kept(middle);
            if costs.with(self.groups, &kept) > wanted {
                low = middle;
            } else {
                high = middle;
                best = kept;
            }
        }
        best
    }

    /// Channels that are kept of each group when this share goes.
    fn kept(&self, share: f64) -> Vec<usize> {
        let Self { options, full, order, scores, .. } = self;
        let mut kept = full.clone();
        let scope = if self.shares.is_some() { Ranking::Layer } else { options.scope };
        let own = |g: usize| self.shares.as_ref().map_or(share, |s| s[g]);
        if scope == Ranking::Global {
            let mut left = (share * full.iter().sum::<usize>() as f64).round() as usize;
            for &(_, g) in &self.ranked {
                if left > 0 && self.spare(g, &kept) {
                    kept[g] -= 1;
                    left -= 1;
                }
            }
        }
        // Axis by axis, the groups that are not settled yet bring it to its size.
        let mut settled = vec![false; full.len()];
        for axis in self.weights {
            let open: Vec<(usize, usize)> = axis.parts.iter().copied().filter(|&(g, _)| !settled[g]).collect();
            let whole = axis.size(full);
            let wish = match scope {
                Ranking::Global => axis.size(&kept) as f64,
                Ranking::Layer => {
                    open.iter().for_each(|&(g, _)| kept[g] = full[g]);
                    axis.size(&kept) as f64 - open.iter().map(|&(g, times)| own(g) * (times * full[g]) as f64).sum::<f64>()
                }
            };
            let wish = wish.round() as usize;
            let target = if wish >= whole { whole } else { ((wish + options.align / 2) / options.align * options.align).min(whole) };
            let score = |g: usize, rank: usize| scores[g][order[g][rank]];
            loop {
                let size = axis.size(&kept);
                let next = if size > target {
                    let can = open.iter().filter(|&&(g, times)| size - times >= target && self.spare(g, &kept));
                    let lowest = can.min_by(|a, b| score(a.0, full[a.0] - kept[a.0]).total_cmp(&score(b.0, full[b.0] - kept[b.0])));
                    lowest.map(|&(g, _)| (g, kept[g] - 1))
                } else {
                    let can = open.iter().filter(|&&(g, times)| size + times <= target && kept[g] < full[g]);
                    let highest =
                        can.max_by(|a, b| score(a.0, full[a.0] - kept[a.0] - 1).total_cmp(&score(b.0, full[b.0] - kept[b.0] - 1)));
                    highest.map(|&(g, _)| (g, kept[g] + 1))
                };
                match next {
                    Some((g, n)) => kept[g] = n,
                    None => break,
                }
            }
            open.iter().for_each(|&(g, _)| settled[g] = true);
        }
        kept
    }
}

fn ascending(scores: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[a].total_cmp(&scores[b]));
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(first: Atom, n: usize) -> Group {
        Group {
            name: format!("conv{first}"),
            layers: vec![format!("conv{first}")],
            weights: vec![],
            channels: n,
            atoms: (first..first + n as Atom).collect(),
        }
    }

    fn axis(parts: &[(usize, usize)]) -> Axis {
        Axis { fixed: 0, parts: parts.to_vec() }
    }

    #[test]
    fn global_scope_takes_the_lowest_of_all_and_leaves_each_its_minimum() {
        let (a, b) = (group(0, 4), group(10, 4));
        let axes = [axis(&[(0, 1)]), axis(&[(1, 1)])];
        let scores = [vec![0.1, 0.2, 0.3, 0.4], vec![9.0, 0.35, 8.0, 7.0]];
        let options = Prune { ratio: 0.5, align: 1, min_channels: 1, ..Prune::default() };
        let removed = select(&options, &[&a, &b], &scores, &axes, &axes, None).unwrap().atoms;
        assert_eq!(removed, HashSet::from([0, 1, 2, 11]));
    }

    #[test]
    fn layer_scope_rounds_to_the_nearest_multiple() {
        let g = group(0, 20);
        let axes = [axis(&[(0, 1)])];
        let scores = [(0..20).map(f64::from).collect::<Vec<_>>()];
        for (ratio, kept) in [(0.25, 16), (0.5, 8), (0.45, 8), (0.4, 16), (0.9, 8), (0.01, 20)] {
            let options = Prune { ratio, scope: Ranking::Layer, ..Prune::default() };
            assert_eq!(20 - select(&options, &[&g], &scores, &axes, &axes, None).unwrap().atoms.len(), kept, "{ratio}");
        }
    }

    /// Two halves of one layer and three pieces of another, none of which is a multiple of eight by itself.
    #[test]
    fn layers_made_of_several_groups_are_rounded_as_a_whole() {
        let groups = [group(0, 16), group(20, 16), group(40, 3), group(50, 5), group(60, 8)];
        let groups: Vec<&Group> = groups.iter().collect();
        let halves = [axis(&[(1, 1)]), axis(&[(0, 1), (1, 1)])];
        let pieces = [axis(&[(2, 2), (3, 2), (4, 1)])];
        let weights = [halves.as_slice(), &pieces].concat();
        let scores: Vec<Vec<f64>> = groups.iter().map(|g| (0..g.channels).map(|i| ((i * 7 + 3) % 11) as f64).collect()).collect();
        for scope in [Ranking::Global, Ranking::Layer] {
            for ratio in [0.3, 0.45, 0.6] {
                let options = Prune { ratio, scope, min_channels: 1, ..Prune::default() };
                let removed = select(&options, &groups, &scores, &weights, &weights, None).unwrap().atoms;
                let kept: Vec<usize> = groups.iter().map(|g| g.atoms.iter().filter(|a| !removed.contains(a)).count()).collect();
                assert!(weights.iter().all(|a| a.size(&kept) % 8 == 0), "{scope} {ratio} {kept:?}");
                assert!(!removed.is_empty());
            }
        }
    }

    #[test]
    fn an_empty_layer_is_an_error_that_names_it() {
        let g = group(0, 4);
        let axes = [axis(&[(0, 1)])];
        let options = Prune { ratio: 0.9, scope: Ranking::Layer, align: 1, min_channels: 0, ..Prune::default() };
        let e = select(&options, &[&g], &[vec![1.0; 4]], &axes, &axes, None).unwrap_err();
        assert!(e.to_string().contains("would leave layer 'conv0' without channels"), "{e}");
    }
}
