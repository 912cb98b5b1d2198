//! A pruning in several rounds: each ranks anew what the rounds before left.

use super::costs::{Budget, Costs};
use super::gather::{Evidence, Gathered, in_the_models_classes};
use super::latency::{Timed, timed_select};
use super::recover::{self, Recover, Recovery};
use super::score::Scoring;
use super::{Analysis, Granularity, Importance, Prune, Removal, head_values, select, verify, weights};
use crate::images::image_size;
use compresso_base::context::Context;
use compresso_base::error::{At, Error, Result};
use compresso_learn::data::Dataset;
use compresso_model::{Graph, Model, Task};

compresso_base::choice! {
    /// How the removed share grows from round to round.
    pub enum Ramp {
        /// By the same share of what there was at first.
        Linear = "linear",
        /// Slowly at first and at the end.
        Cosine = "cosine",
        /// By the same share of what is left.
        Exponential = "exponential",
        /// Fast at first, then ever more slowly: Zhu and Gupta, "To prune, or not to prune" (2018).
        Cubic = "cubic",
    }
}

impl Ramp {
    /// The share of all channels that is gone after round `round` of `rounds`, of which the last leaves `ratio` gone.
    pub fn share(self, ratio: f64, round: usize, rounds: usize) -> f64 {
        if round >= rounds {
            return ratio;
        }
        let t = round as f64 / rounds as f64;
        match self {
            Self::Linear => ratio * t,
            Self::Cosine => ratio * (1.0 - (std::f64::consts::PI * t).cos()) / 2.0,
            Self::Exponential => 1.0 - (1.0 - ratio).powf(t),
            Self::Cubic => ratio * (1.0 - (1.0 - t).powi(3)),
        }
    }
}

/// What a pruning found on its way.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// The model as the first round saw it, where channels are removed.
    pub first: Option<Analysis>,
    /// Of each round.
    pub recoveries: Vec<Recovery>,
    /// Where a time was asked for.
    pub timed: Option<Timed>,
    /// The share of the budget that is left, and the one that the options ask for, after each round.
    pub left: Vec<(f64, f64)>,
}

/// A share of the channels that rounding of sizes may leave.
const ROUNDED: f64 = 0.02;
/// And of a time, which is measured.
const OF_TIME: f64 = 0.03;

impl Seen {
    /// What is told where less went than was asked for.
    pub fn short(&self, options: &Prune) -> Option<String> {
        let (left, asked) = self.left.iter().fold((1.0, 1.0), |a, b| (a.0 * b.0, a.1 * b.1));
        let (what, rounded) = match options.budget {
            Budget::Channels => ("channels", ROUNDED),
            Budget::Params => ("weights", 1e-6),
            Budget::Macs => ("multiply-accumulates", 1e-6),
            Budget::Latency => ("time of a run", OF_TIME),
        };
        let Prune { min_channels, align, exclude, include, .. } = options;
        let named = if exclude.is_empty() && include.is_empty() { "" } else { ", exclude and include" };
        let kept = format!("min_channels: {min_channels}, align: {align}{named} keep the rest");
        let [went, asked] = [left, asked].map(|l| 100.0 * (1.0 - l));
        ((asked - went) / 100.0 > rounded).then(|| format!("prune: {went:.1} % of the {what} went, not the {asked:.1} % asked for: {kept}"))
    }
}

impl Prune {
    /// The graph of the pruned model; `None` when all stays. `between` is given what each round but the last leaves and
    /// that round's number, from 1; what it returns goes into the next: a place to train at. It must leave the shapes of
    /// all constants as they are.
    ///
    /// # Errors
    /// As [`Prune::apply`]; whatever `between` reports.
    pub fn rounds(
        &self,
        model: &Model,
        data: Option<&Dataset>,
        ctx: &Context,
        between: &mut dyn FnMut(Model, usize) -> Result<Model>,
    ) -> Result<Option<Graph>> {
        self.rounds_seen(model, data, ctx, between, &mut Seen::default())
    }

    /// The importance where it is left out: of those that look at images, where there are some that fit the model.
    pub(super) fn ranks_by(&self, model: &Model, data: Option<&Dataset>) -> Importance {
        let fit = || self.method == Granularity::Channels && data.is_some() && image_size(model.graph(), model.task()).is_ok();
        self.importance.unwrap_or_else(|| if fit() { Importance::RECONSTRUCTION } else { Importance::L2 })
    }

    /// As [`Prune::rounds`]; `seen` gets what is found on the way.
    pub(super) fn rounds_seen(
        &self,
        model: &Model,
        data: Option<&Dataset>,
        ctx: &Context,
        between: &mut dyn FnMut(Model, usize) -> Result<Model>,
        seen: &mut Seen,
    ) -> Result<Option<Graph>> {
        self.possible(data)?;
        let criterion = self.ranks_by(model, data).criterion();
        let matched = data.map(|d| in_the_models_classes(criterion, model.task(), d, self.classes, ctx)).transpose()?;
        let data = matched.as_ref();
        let mut current = model.clone();
        let mut changed = false;
        let mut before = 0.0;
        for round in 1..=self.steps {
            let share = self.schedule.share(self.ratio, round, self.steps);
            let last = round == self.steps;
            // Sizes are rounded once, at the end: a small share of a small layer would be rounded away each time.
            let align = if last { self.align } else { 1 };
            let pruned = match self.method {
                Granularity::Channels => {
                    let ratio = (share - before) / (1.0 - before);
                    let options = Self { ratio, align, importance: Some(Importance::of(criterion)), ..self.clone() };
                    let found = Analysis::new(current.graph(), &head_values(model.task()))?;
                    let pruned = options.channels(&found, model.task(), data, seen, ctx);
                    seen.first.get_or_insert(found);
                    pruned.map(|p| {
                        p.map(|(graph, recovery)| {
                            seen.recoveries.extend(recovery);
                            graph
                        })
                    })
                }
                // Weights that are zero already are the first to be so again.
                Granularity::Weights => weights::prune(&Self { ratio: share, ..self.clone() }, current.graph(), ctx),
            };
            let place = || format!("round {round} of {}", self.steps);
            let pruned = if self.steps == 1 { pruned? } else { pruned.at(place)? };
            if let Some(graph) = pruned {
                current = Model::new(graph, model.task().clone());
                changed = true;
            }
            if !last {
                current = between(current, round).at(place)?;
            }
            before = share;
        }
        Ok(changed.then(|| current.into_graph()))
    }

    /// The graph without a share `ratio` of its channels, shown to be what masking gives, then recovered; `None` when all stay. `seen` has
    /// what rounds before have left, which may be nothing to choose from, and gets what this one leaves.
    fn channels(
        &self,
        found: &Analysis,
        task: &Task,
        data: Option<&Dataset>,
        seen: &mut Seen,
        ctx: &Context,
    ) -> Result<Option<(Graph, Option<Recovery>)>> {
        if !seen.left.is_empty() && found.groups.0.is_empty() {
            seen.left.push((1.0, 1.0 - self.ratio));
            return Ok(None);
        }
        let chosen = found.groups.chosen(&self.include, &self.exclude)?;
        if chosen.is_empty() {
            let e = Error::unsupported("no channels of this model can be removed");
            let hint = "prune_groups(m) lists what can be pruned; method: \"weights\" works on any model with weights";
            return Err(match found.stays().first() {
                Some(stay) if found.groups.0.is_empty() => e.hint(format!("{}; {hint}", stay.text())),
                _ => e.hint(hint),
            });
        }
        ctx.check()?;
        let criterion = self.importance.unwrap_or(Importance::L2).criterion();
        let scoring = Scoring::new(self, criterion);
        let gathered = Gathered::new(scoring.criterion, found, Evidence::new(self, task, data), ctx)?;
        let scores = scoring.scores(&gathered, &chosen, ctx)?;
        let (all, weights) = select::axes(found, &chosen);
        let costs = self.costs(found, task)?;
        let select::Selected { atoms, went, asked } = if self.budget == Budget::Latency {
            let (selected, timed) = timed_select(self, (found, task), &chosen, &scores, (&all, &weights), costs.as_ref(), ctx)?;
            seen.timed = Some(timed);
            selected
        } else {
            select::select(self, &chosen, &scores, &all, &weights, costs.as_ref())?
        };
        seen.left.push((1.0 - went, 1.0 - asked));
        if atoms.is_empty() {
            return Ok(None);
        }
        let removal = Removal::new(found, atoms);
        let pruned = removal.pruned()?;
        if self.dry_run {
            return Ok(Some((pruned, None)));
        }
        let masked = removal.masked()?;
        verify::equal(&masked, &pruned, task, data, ctx)?;
        drop(masked);
        let how = self.recover.unwrap_or(Recover::Weights);
        let Some(data) = data.filter(|_| how != Recover::None) else { return Ok(Some((pruned, None))) };
        if self.recover.is_none() && image_size(&found.graph, task).is_err() {
            return Ok(Some((pruned, None)));
        }
        let whole = recover::Pruned { found, removal: &removal, graph: &pruned, task };
        let (graph, recovery) = recover::recover(whole, how, data, self.images, ctx)?;
        Ok(Some((graph, Some(recovery))))
    }

    /// What layers cost, where the ratio is a share of that.
    ///
    /// # Errors
    /// `Argument` where it is not known.
    pub(super) fn costs(&self, found: &Analysis, task: &Task) -> Result<Option<Costs>> {
        if self.budget == Budget::Channels || !self.ratios.is_empty() {
            return Ok(None);
        }
        match Costs::new(found, task, self.budget)? {
            (costs, true) => Ok(Some(costs)),
            _ => {
                let e = Error::argument("the multiply-accumulates of this model are not known before a run");
                Err(e.hint("state the size of its image, model(file, #{ image_size: 640 }), or use budget: \"params\""))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ramps_rise_to_the_ratio() {
        for (ramp, half) in [(Ramp::Linear, 0.4), (Ramp::Cosine, 0.4), (Ramp::Exponential, 1.0 - 0.2f64.sqrt()), (Ramp::Cubic, 0.7)] {
            assert!((ramp.share(0.8, 2, 4) - half).abs() < 1e-12, "{ramp}");
            assert_eq!(ramp.share(0.8, 4, 4), 0.8, "{ramp}");
            assert_eq!(ramp.share(0.8, 0, 4), 0.0, "{ramp}");
            assert!((1..=7).all(|r| ramp.share(0.8, r, 7) > ramp.share(0.8, r - 1, 7)), "{ramp}");
        }
    }
}
