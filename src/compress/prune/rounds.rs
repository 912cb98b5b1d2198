//! A pruning in several rounds: each ranks anew what the rounds before left.

use super::gather::{Evidence, Gathered, in_the_models_classes};
use super::score::Scoring;
use super::{Analysis, Granularity, Need, Prune, Removal, head_values, select, verify, weights};
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
        self.rounds_seen(model, data, ctx, between, &mut None)
    }

    /// As [`Prune::rounds`]; `first` gets what the first round found in the model, where channels are removed.
    pub(super) fn rounds_seen(
        &self,
        model: &Model,
        data: Option<&Dataset>,
        ctx: &Context,
        between: &mut dyn FnMut(Model, usize) -> Result<Model>,
        first: &mut Option<Analysis>,
    ) -> Result<Option<Graph>> {
        if self.method == Granularity::Weights && self.importance.criterion().needs.iter().any(|n| *n != Need::Weights) {
            let e = Error::argument(format!("importance \"{}\" ranks channels, not single weights", self.importance));
            return Err(e.hint("method: \"weights\" goes by magnitude: leave importance out"));
        }
        let matched = data.map(|d| in_the_models_classes(self.importance.criterion(), model.task(), d, self.classes, ctx)).transpose()?;
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
                    let options = Self { ratio: (share - before) / (1.0 - before), align, ..self.clone() };
                    let found = Analysis::new(current.graph(), &head_values(model.task()))?;
                    let pruned = options.channels(&found, model.task(), data, changed, ctx);
                    first.get_or_insert(found);
                    pruned
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

    /// The graph without a share `ratio` of its channels, shown to be what masking gives; `None` when all stay. `again`
    /// allows that rounds before have left none to choose from.
    fn channels(&self, found: &Analysis, task: &Task, data: Option<&Dataset>, again: bool, ctx: &Context) -> Result<Option<Graph>> {
        if again && found.groups.0.is_empty() {
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
        let scoring = Scoring::new(self);
        let gathered = Gathered::new(scoring.criterion, found, Evidence::new(self, task, data), ctx)?;
        let scores = scoring.scores(&gathered, &chosen, ctx)?;
        let (all, weights) = select::axes(found, &chosen);
        let atoms = select::select(self, &chosen, &scores, &all, &weights)?;
        if atoms.is_empty() {
            return Ok(None);
        }
        let removal = Removal::new(found, atoms);
        let pruned = removal.pruned()?;
        let masked = removal.masked()?;
        verify::equal(&masked, &pruned, task, data, ctx)?;
        Ok(Some(pruned))
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
