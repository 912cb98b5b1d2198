//! Which options of `prune` fit together.

use super::costs::Budget;
use super::criteria::{Need, Score};
use super::{Granularity, Prune, Recover};
use compresso_base::error::{Error, Result};
use compresso_base::operation::idle;
use compresso_learn::data::Dataset;
use compresso_model::Model;

impl Prune {
    /// # Errors
    /// `Argument` for options that ask for what cannot be.
    pub(super) fn possible(&self, data: Option<&Dataset>) -> Result<()> {
        let weights = self.method == Granularity::Weights;
        let recovers = self.recover.is_some_and(|r| r != Recover::None);
        let ratios = !self.ratios.is_empty();
        let (budget, name) = (self.budget != Budget::Channels, self.importance.map_or("", |i| i.criterion().name));
        let ranks = format!("importance \"{name}\" ranks channels, not single weights");
        let refused = [
            (
                weights && recovers,
                "option 'recover' solves layers that lost channels, and method: \"weights\" removes none",
                "train the model instead",
            ),
            (
                weights && budget,
                "option 'budget' is about channels, and method: \"weights\" removes none",
                "ratio is the share of the weights",
            ),
            (
                weights && ratios,
                "option 'ratios' is about groups of channels, and method: \"weights\" removes none",
                "use ratio with include",
            ),
            (weights && !matches!(name, "" | "l1" | "l2"), ranks.as_str(), "method: \"weights\" goes by magnitude: leave importance out"),
            (recovers && data.is_none(), "option 'recover' solves layers on images, and no dataset was given", "pass one: prune(m, d)"),
            (ratios && budget, "options 'ratios' and 'budget' both say how much goes", "leave one out"),
            (
                self.budget == Budget::Latency && self.steps > 1,
                "budget: \"latency\" is reached in one round",
                "leave 'steps' out, or prune several times",
            ),
            (ratios && self.steps > 1, "option 'ratios' is reached in one round", "leave 'steps' out"),
        ];
        match refused.into_iter().find(|(is_so, ..)| *is_so) {
            Some((_, what, hint)) => Err(Error::argument(what).hint(hint)),
            None => Ok(()),
        }
    }

    /// What is said of options that change nothing as the others are.
    pub(super) fn idle(&self, model: &Model, data: Option<&Dataset>) -> Vec<String> {
        let said = |names: &[&str], why: &str| idle("prune", self, names, why);
        if self.method == Granularity::Weights {
            let names = ["reduction", "normalization", "readers", "classes", "images", "align", "min_channels", "runtime"];
            return said(&names, "with method: \"weights\"").into_iter().collect();
        }
        let criterion = self.ranks_by(model, data).criterion();
        let by = format!("with importance: \"{}\"", criterion.name);
        let combined: &[&str] = match criterion.score {
            Score::Slice(_) => &[],
            Score::Group(_) => &["reduction"],
            Score::Model(_) => &["reduction", "normalization", "readers"],
        };
        let labels = criterion.needs.iter().any(|n| matches!(n, Need::Gradients | Need::Curvature));
        [
            said(combined, &by),
            said(if labels { &[] } else { &["classes"] }, &format!("{by}, which reads no labels")),
            said(if data.is_none() { &["images"] } else { &[] }, "without a dataset"),
            said(if self.budget == Budget::Latency { &[] } else { &["runtime"] }, "without budget: \"latency\""),
            said(if self.steps == 1 { &["schedule"] } else { &[] }, "in a single round (steps)"),
            said(if self.ratios.is_empty() { &[] } else { &["ratio", "scope"] }, "beside 'ratios'"),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}
