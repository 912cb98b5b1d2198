//! Scores of channels: how much a model would miss each.

use super::Whole;
use super::combine::{Normalization, Reduction, Total};
use super::criteria::{Criterion, Score};
use super::gather::Gathered;
use super::slices::{GroupSlices, Role, Slice};
use super::{Group, Prune};
use compresso_base::context::Context;
use compresso_base::error::{Error, Result};
use compresso_model::ops::channels::Atom;
use rand::SeedableRng;
use std::collections::{HashMap, HashSet};

/// How scores are made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scoring {
    pub criterion: &'static Criterion,
    reduction: Reduction,
    normalization: Normalization,
    /// Weights that read the channels count, too.
    readers: bool,
    /// Channels that each layer keeps, and the share that goes.
    least: usize,
    ratio: f64,
}

impl Scoring {
    /// What `options` say, and the criterion where they do not.
    pub fn new(options: &Prune, criterion: &'static Criterion) -> Self {
        Self {
            criterion,
            reduction: options.reduction.unwrap_or(criterion.reduction),
            normalization: options.normalization.unwrap_or(criterion.normalization),
            readers: options.readers,
            least: options.min_channels,
            ratio: options.ratio,
        }
    }

    /// One score per atom of each group.
    ///
    /// # Errors
    /// `Unsupported` for models that the criterion refuses or finds nothing in; `Check` for scores that are not numbers.
    pub fn scores(&self, gathered: &Gathered<'_>, groups: &[&Group], ctx: &Context) -> Result<Vec<Vec<f64>>> {
        let slices = gathered.slices();
        (self.criterion.check)(&slices)?;
        let wanted: HashSet<Atom> = groups.iter().flat_map(|g| g.atoms.iter().copied()).collect();
        let counts = |s: &Slice<'_>| {
            (self.readers || self.criterion.readers || s.role != Role::Reader) && s.roots.iter().any(|r| wanted.contains(r))
        };
        let slices: Vec<Slice<'_>> = slices.into_iter().filter(counts).collect();
        let mut scores = self.by_atom(self.criterion, gathered, &slices, groups, ctx)?;
        let mut fallback = self.criterion.fallback;
        while let Some(criterion) = fallback.filter(|_| wanted.iter().any(|a| !scores.contains_key(a))) {
            for (atom, score) in self.by_atom(criterion, gathered, &slices, groups, ctx)? {
                scores.entry(atom).or_insert(score);
            }
            fallback = criterion.fallback;
        }
        if !wanted.is_empty() && !wanted.iter().any(|a| scores.contains_key(a)) {
            let e = Error::unsupported(format!("importance \"{}\" finds nothing to go by in this model", self.criterion.name));
            return Err(e.hint("use importance: \"l2\""));
        }
        Ok(groups.iter().map(|g| g.atoms.iter().map(|a| scores.get(a).copied().unwrap_or(0.0)).collect()).collect())
    }

    /// Scores of the atoms that `criterion` says something about.
    fn by_atom(
        &self,
        criterion: &Criterion,
        gathered: &Gathered<'_>,
        slices: &[Slice<'_>],
        groups: &[&Group],
        ctx: &Context,
    ) -> Result<HashMap<Atom, f64>> {
        let mut found = HashMap::new();
        match criterion.score {
            Score::Slice(score) => {
                let mut totals: HashMap<Atom, Total> = HashMap::new();
                for slice in slices {
                    ctx.check()?;
                    let Some(scores) = score(slice)? else { continue };
                    let place = || format!("'{}' of layer '{}'", slice.name, slice.layer);
                    for (root, score) in self.of_slice(criterion, slice, scores).map_err(|e| e.at(place()))? {
                        totals.entry(root).and_modify(|t| t.add(score)).or_insert(Total::new(score));
                    }
                }
                found.extend(totals.into_iter().map(|(atom, t)| (atom, t.reduced(self.reduction))));
            }
            Score::Model(score) => {
                let whole = Whole { gathered, groups, least: self.least, ratio: self.ratio, ctx };
                found = score(&whole)?;
            }
            Score::Group(score) => {
                let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(ctx.seed);
                for (group, slices) in groups.iter().zip(by_group(slices, groups)) {
                    ctx.check()?;
                    let mut scores = score(&mut GroupSlices { slices, atoms: &group.atoms, rng: &mut rng })?;
                    check(criterion, &scores, group.atoms.len())?;
                    let unit = self.normalization.apply(&mut scores);
                    found.extend(group.atoms.iter().zip(&scores).map(|(&a, &s)| (a, unit.of(s))));
                }
            }
        }
        Ok(found)
    }

    /// The normalized score of each atom of a slice; indices that go together have the mean of theirs.
    fn of_slice(&self, criterion: &Criterion, slice: &Slice<'_>, mut scores: Vec<f64>) -> Result<HashMap<Atom, f64>> {
        check(criterion, &scores, slice.len())?;
        let unit = self.normalization.apply(&mut scores);
        let mut means: HashMap<Atom, (f64, f64)> = HashMap::new();
        for (&root, &s) in slice.roots.iter().zip(&scores) {
            let mean = means.entry(root).or_default();
            mean.0 += s;
            mean.1 += 1.0;
        }
        Ok(means.into_iter().map(|(root, (s, n))| (root, unit.of(s / n))).collect())
    }
}

/// The slices that have channels of each group.
fn by_group<'a>(slices: &[Slice<'a>], groups: &[&Group]) -> Vec<Vec<Slice<'a>>> {
    let of_atom: HashMap<Atom, usize> = groups.iter().enumerate().flat_map(|(g, group)| group.atoms.iter().map(move |&a| (a, g))).collect();
    let mut found = vec![Vec::new(); groups.len()];
    for slice in slices {
        let own: HashSet<usize> = slice.roots.iter().filter_map(|r| of_atom.get(r).copied()).collect();
        own.into_iter().for_each(|g| found[g].push(*slice));
    }
    found
}

fn check(criterion: &Criterion, scores: &[f64], wanted: usize) -> Result<()> {
    let name = criterion.name;
    if scores.len() != wanted {
        return Err(Error::internal(format!("importance \"{name}\" gives {} scores for {wanted} channels", scores.len())));
    }
    match scores.iter().position(|s| !s.is_finite()) {
        Some(i) => {
            let e = Error::check(format!("importance \"{name}\" gives channel {i} the score {}", scores[i]));
            Err(e.hint("the model itself is broken: evaluate it first"))
        }
        None => Ok(()),
    }
}
