//! Scales of activations chosen by what they cost at the model's outputs, for observers that let choose.
//!
//! One group of values after the other is rounded in an otherwise exact graph with each of its candidates, so that what is
//! compared is the error of that choice alone.

use super::Settings;
use super::affine::Affine;
use super::calibrate::Ranges;
use super::fit::Chosen;
use super::judge::Judge;
use super::observers::Observe;
use super::placement::Plan;
use super::static_int8;
use compresso_base::context::Context;
use compresso_base::error::Result;
use compresso_model::Graph;
use std::collections::{BTreeMap, BTreeSet};

/// Scales that differ by less are one candidate.
const ALIKE: f32 = 0.01;

/// Chooses for each group of the plan's values among the observer's candidates. Groups with a single candidate are left out.
///
/// # Errors
/// Whatever running the graph reports; `Cancelled`.
pub(super) fn choose(
    graph: &Graph,
    plan: &Plan,
    ranges: &Ranges,
    observer: &Observe,
    settings: &Settings,
    judge: &Judge<'_>,
    ctx: &Context,
) -> Result<Chosen> {
    let mut groups: BTreeMap<usize, Vec<&str>> = BTreeMap::new();
    for (name, &group) in &plan.values {
        groups.entry(group).or_default().push(name);
    }
    let mut progress = ctx.progress("choose ranges", groups.len() as u64);
    let mut chosen = Chosen::new();
    for (group, names) in groups {
        let seen: Vec<&str> = names.iter().copied().filter(|n| ranges.get(n).is_some_and(|m| !m.range().is_empty())).collect();
        let candidates = if seen.is_empty() { Vec::new() } else { candidates(ranges, observer, &seen, settings)? };
        if candidates.len() > 1 {
            let alone = alone(graph, plan, group);
            let mut least = f64::INFINITY;
            for (name, affine) in candidates {
                let scales = names.iter().map(|n| (n.to_string(), affine)).collect();
                let error = judge.error(&static_int8::insert(graph, &alone, &scales, settings)?)?.noise;
                // The first candidate stands where nothing can be told.
                if error < least || !chosen.contains_key(names[0]) {
                    least = error;
                    chosen.extend(names.iter().map(|n| (n.to_string(), (affine, name))));
                }
            }
        }
        progress.step("")?;
    }
    Ok(chosen)
}

/// The scales that an observer lets choose from, those that are alike once.
fn candidates(ranges: &Ranges, observer: &Observe, values: &[&str], settings: &Settings) -> Result<Vec<(&'static str, Affine)>> {
    let grid = settings.activations;
    let mut found: Vec<(&'static str, Affine)> = Vec::new();
    for (name, range) in ranges.candidates(observer, values, grid)? {
        let Some(affine) = Affine::finest(range, grid) else { continue };
        let alike = |a: &Affine| (a.scale - affine.scale).abs() <= ALIKE * affine.scale && a.zero_point == affine.zero_point;
        if !found.iter().any(|(_, a)| alike(a)) {
            found.push((name, affine));
        }
    }
    Ok(found)
}

/// The plan in which a group of values is rounded and nothing else.
fn alone(graph: &Graph, plan: &Plan, group: usize) -> Plan {
    let values: BTreeMap<String, usize> = plan.values.iter().filter(|(_, g)| **g == group).map(|(n, g)| (n.clone(), *g)).collect();
    let reads: BTreeSet<(usize, usize)> =
        plan.reads.iter().copied().filter(|&(node, input)| values.contains_key(&graph.nodes()[node].inputs[input])).collect();
    Plan { values, reads, ..Plan::default() }
}
