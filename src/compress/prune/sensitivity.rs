//! How much each group of channels matters: what a model loses when a share of it goes, and nothing else.

use super::costs::{Budget, Costs};
use super::gather::{Evidence, Gathered, in_the_models_classes};
use super::judge::{Judge, feeds};
use super::score::Scoring;
use super::{Analysis, Group, Importance, Prune, Ranking, Removal, head_values};
use crate::damage::Damage;
use compresso_base::context::Context;
use compresso_base::error::{Error, Result};
use compresso_base::operation::{Arg, ArgKind, Operation, Options, Signature, in_range};
use compresso_base::report::{Cell, HeatMap, Plot, Series, Show, Table};
use compresso_learn::data::Dataset;
use compresso_model::{Graph, Model};
use serde::Serialize;

compresso_base::choice! {
    /// What a model is sensitive to.
    pub enum Subject {
        /// The removal of channels.
        Prune = "prune",
    }
}

compresso_base::choice! {
    /// In what a loss is measured.
    pub enum Measure {
        /// Squared difference of the outputs, as a share of their variance. Needs no labels.
        Error = "error",
        /// Loss of the model's score on the dataset, or of its agreement with the unchanged model.
        Score = "score",
    }
}

compresso_base::options! {
    /// Options of `sensitivity`.
    pub struct Sensitivity {
        /// To what: "prune", the removal of channels.
        pub of: Subject = Subject::Prune,
        /// Shares of the channels of a group that are removed, each below 1.
        pub ratios: Vec<f64> = vec![0.1, 0.25, 0.5, 0.75],
        /// "error": squared difference of the outputs from the unpruned model's, as a share of their variance; "score": loss of mAP50 or
        /// accuracy on up to 64 images of the dataset.
        pub measure: Measure = Measure::Error,
        /// By what the channels of a group are ranked, as in `prune`; left out: "reconstruction".
        pub importance: Option<Importance> = None,
        /// Images on which outputs are compared; the importance looks at as many.
        pub images: usize = 16,
        /// What the removal from one group may cost: the report's `ratios` are the shares at which each group loses that much.
        pub tolerance: f64 = 0.01,
        /// Groups to leave out: names of layers or weights, as in `prune`.
        pub exclude: Vec<String> = Vec::new(),
        /// Only groups with one of these layers; empty for all.
        pub include: Vec<String> = Vec::new(),
    }
}

/// What removal costs one group.
#[derive(Debug, Clone, Serialize)]
pub struct GroupSensitivity {
    /// Layers whose output channels these are.
    pub layers: Vec<String>,
    pub channels: usize,
    /// Share of the model's multiply-accumulates (of its weights where these are not known) that goes with half of the channels.
    pub saving: f64,
    /// At each ratio.
    pub losses: Vec<f64>,
    /// Largest share that costs no more than the tolerance.
    pub ratio: f64,
}

/// What removal costs each group of a model.
#[derive(Debug, Clone, Serialize)]
pub struct SensitivityReport {
    pub measure: Measure,
    pub tolerance: f64,
    /// The shares that were removed.
    pub tried: Vec<f64>,
    /// In the order of the model.
    pub groups: Vec<GroupSensitivity>,
    /// For `prune`: by the first layer of each group, the share that it may lose.
    pub ratios: serde_json::Map<String, serde_json::Value>,
}

/// # Errors
/// `Argument` for options out of range; `Unsupported` for models in which nothing can be pruned or that cannot be fed with images; `Cancelled`.
impl Operation for Sensitivity {
    const SIGNATURE: Signature = Signature {
        name: "sensitivity",
        summary: "What a model loses when channels of one group after the other are removed",
        group: "compress",
        args: &[Arg::new("m", ArgKind::Model), Arg::new("d", ArgKind::Dataset)],
        returns: "report",
        fields: Self::FIELDS,
        examples: &[
            r#"let m = model("classifier", #{ classes: 3, image_size: 32 }); let d = dataset("shapes", #{ images: 8, size: 32, classes: 3, task: "classify" }); sensitivity(m, d, #{ images: 4, ratios: [0.25, 0.5] })"#,
        ],
        keywords: &["prune", "layers", "ratios", "curves", "heat map", "analysis"],
    };
    type Inputs<'a> = (&'a Model, &'a Dataset);
    type Output = SensitivityReport;

    fn run(&self, (model, data): (&Model, &Dataset), ctx: &Context) -> Result<SensitivityReport> {
        in_range("images", self.images as f64, 1.0..)?;
        in_range("tolerance", self.tolerance, 0.0..)?;
        if self.ratios.is_empty() {
            return Err(Error::argument("option 'ratios' must name at least one share"));
        }
        self.ratios.iter().try_for_each(|&r| in_range("ratios", r, 0.0..1.0))?;
        let mut tried = self.ratios.clone();
        tried.sort_by(f64::total_cmp);
        tried.dedup();
        let importance = self.importance.unwrap_or(Importance::RECONSTRUCTION);
        let found = Analysis::new(model.graph(), &head_values(model.task()))?;
        let chosen = found.groups.chosen(&self.include, &self.exclude)?;
        if chosen.is_empty() {
            return Err(Error::unsupported("no channels of this model can be removed").hint("prune_groups(m) lists what can be pruned"));
        }
        let options = Prune {
            ratio: tried.last().copied().unwrap_or(0.0),
            scope: Ranking::Layer,
            min_channels: 1,
            importance: Some(importance),
            images: self.images,
            ..Prune::default()
        };
        let criterion = importance.criterion();
        let matched = in_the_models_classes(criterion, model.task(), data, options.classes, ctx)?;
        let gathered = Gathered::new(criterion, &found, Evidence::new(&options, model.task(), Some(&matched)), ctx)?;
        let scores = Scoring::new(&options, criterion).scores(&gathered, &chosen, ctx)?;
        let costs = Costs::new(&found, model.task(), Budget::Macs)?.0;
        let images = feeds(&found.graph, model.task(), data, self.images, ctx)?;
        let judge = Judge::new(&found.graph, &images, ctx)?;
        let loss = |graph: &Graph| -> Result<f64> {
            match self.measure {
                Measure::Error => judge.error(graph, ctx),
                Measure::Score => {
                    let after = Model::new(graph.clone(), model.task().clone());
                    let damage = Damage::of(model, &after, data, ctx)?;
                    let none = || Error::unsupported("this model has no score on this dataset").hint("use measure: \"error\"");
                    damage.map(|d| d.before - d.after).ok_or_else(none)
                }
            }
        };
        let mut progress = ctx.progress("removing channels of one group after the other", (chosen.len() * tried.len()) as u64);
        let mut groups = Vec::new();
        for (g, group) in chosen.iter().enumerate() {
            let mut order: Vec<usize> = (0..group.channels).collect();
            order.sort_by(|&a, &b| scores[g][a].total_cmp(&scores[g][b]));
            let mut losses = Vec::new();
            for ratio in &tried {
                let gone = (ratio * group.channels as f64).round() as usize;
                let gone = order[..gone.min(group.channels)].iter().map(|&i| group.atoms[i]);
                losses.push(loss(&Removal::new(&found, gone).masked()?)?);
                progress.step(&group.layers[0])?;
            }
            groups.push(self.group(group, losses, &tried, &costs));
        }
        let ratios = groups.iter().map(|g| (g.layers[0].clone(), g.ratio.into())).collect();
        Ok(SensitivityReport { measure: self.measure, tolerance: self.tolerance, tried, groups, ratios })
    }
}

impl Sensitivity {
    fn group(&self, group: &Group, losses: Vec<f64>, tried: &[f64], costs: &Costs) -> GroupSensitivity {
        let saving = costs.saving_of(group, group.channels / 2);
        let ratio = tolerated(tried, &losses, self.tolerance);
        GroupSensitivity { layers: group.layers.clone(), channels: group.channels, saving, losses, ratio }
    }
}

/// Where the loss, taken as linear between what was tried, first reaches the tolerance; the largest share tried where it does not.
fn tolerated(tried: &[f64], losses: &[f64], tolerance: f64) -> f64 {
    let mut before = (0.0, 0.0);
    for (&ratio, &loss) in tried.iter().zip(losses) {
        if loss > tolerance {
            return before.0 + (ratio - before.0) * (tolerance - before.1) / (loss - before.1);
        }
        before = (ratio, f64::max(loss, before.1));
    }
    before.0
}

impl Show for SensitivityReport {
    fn tables(&self) -> Vec<Table> {
        let at: Vec<String> = self.tried.iter().map(|r| format!(">at {r}")).collect();
        let columns = ["layers", ">channels", ">saving of half"].into_iter().chain(at.iter().map(String::as_str)).chain([">ratio"]);
        let what = match self.measure {
            Measure::Error => "Output error without a share of one group's channels",
            Measure::Score => "Loss of score without a share of one group's channels",
        };
        let mut table = Table::new(what, &columns.collect::<Vec<_>>());
        for g in &self.groups {
            let losses = g.losses.iter().map(|&l| Cell::number(l));
            let first = [Cell::from(g.layers[0].as_str()), Cell::count(g.channels as u64), Cell::share(g.saving)];
            table.row(first.into_iter().chain(losses).chain([Cell::share(g.ratio)]));
        }
        vec![table]
    }
    fn plots(&self) -> Vec<Plot> {
        let rows: Vec<String> = self.groups.iter().map(|g| g.layers[0].clone()).collect();
        let columns: Vec<String> = self.tried.iter().map(ToString::to_string).collect();
        let most = self.groups.iter().flat_map(|g| &g.losses).copied().filter(|l| l.is_finite()).fold(f64::MIN_POSITIVE, f64::max);
        // Small losses are what ratios are chosen by.
        let shades = self.groups.iter().map(|g| g.losses.iter().map(|l| (l.max(0.0) / most).sqrt()).collect()).collect();
        let texts = self.groups.iter().map(|g| g.losses.iter().map(|l| format!("{l:.3}")).collect()).collect();
        let heat = Some(HeatMap { rows, columns, shades, texts, scale: format!("{most:.3}") });
        let curve = |g: &GroupSensitivity| Series {
            name: g.layers[0].clone(),
            points: std::iter::once((0.0, 0.0)).chain(self.tried.iter().copied().zip(g.losses.iter().copied())).collect(),
            ..Series::default()
        };
        let mut worst: Vec<&GroupSensitivity> = self.groups.iter().collect();
        worst.sort_by(|a, b| a.ratio.total_cmp(&b.ratio));
        let curves = Plot { series: worst.into_iter().take(MOST_CURVES).map(curve).collect(), ..Plot::default() };
        let label = match self.measure {
            Measure::Error => "output error",
            Measure::Score => "loss of score",
        };
        vec![
            Plot { heat, ..Plot::default() }.titled("Sensitivity to pruning", "share of channels removed", ""),
            curves.titled("The most sensitive groups", "share of channels removed", label),
        ]
    }
    fn data(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}

/// Curves that can be told apart.
const MOST_CURVES: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tolerated_share_lies_where_the_loss_crosses() {
        let tried = [0.25, 0.5, 0.75];
        assert_eq!(tolerated(&tried, &[0.0, 0.1, 0.3], 0.2), 0.625);
        assert_eq!(tolerated(&tried, &[0.2, 0.3, 0.4], 0.1), 0.125);
        assert_eq!(tolerated(&tried, &[0.0, 0.0, 0.1], 0.1), 0.75);
    }
}
