//! How much each group of channels matters: what a model loses when a share of it goes, and nothing else.

use super::costs::{Budget, Costs};
use super::gather::{Evidence, Gathered, in_the_models_classes};
use super::judge::{Judge, feeds};
use super::score::Scoring;
use super::{Analysis, Group, Importance, Prune, Ranking, Removal, head_values};
use crate::score::{Figure, Scorer};
use compresso_base::context::Context;
use compresso_base::error::{Error, Result};
use compresso_base::operation::in_range;
use compresso_base::report::{Cell, HeatMap, Plot, Scale, Series, Show, Table, counted};
use compresso_learn::data::Dataset;
use compresso_model::{Graph, Model};
use serde::Serialize;
use std::collections::BTreeMap;

compresso_base::choice! {
    /// In what a loss is measured.
    pub enum Measure {
        /// Squared difference of the outputs, as a share of their variance. Needs no labels.
        Error = "error",
        /// Loss of the model's score on the dataset, or of its agreement with the unchanged model.
        Score = "score",
    }
}

/// Removals that are tried; the fields are options of [`sensitivity`](crate::sensitivity::Sensitivity).
#[derive(Debug, Clone)]
pub struct Removals {
    /// Shares of a group's channels that are removed, each from 0 to below 1.
    pub ratios: Vec<f64>,
    /// In what losses are measured.
    pub measure: Measure,
    /// By what the channels of a group are ranked; `None`: [`Importance::RECONSTRUCTION`].
    pub importance: Option<Importance>,
    /// Images on which outputs are compared and which the importance looks at.
    pub images: usize,
    /// What the removal from one group may cost.
    pub tolerance: f64,
    /// Layers to leave out: patterns of names of layers, groups or weights.
    pub exclude: Vec<String>,
    /// Only these layers; empty for all.
    pub include: Vec<String>,
}

/// What removal costs one group.
#[derive(Debug, Clone, Serialize)]
pub struct GroupSensitivity {
    /// The group's name, by which `ratios` of `prune` know it.
    pub name: String,
    /// Layers whose output channels these are.
    pub layers: Vec<String>,
    /// How many channels it has.
    pub channels: usize,
    /// Share of the model's multiply-accumulates (of its weights where these are not known) that goes with half of the channels.
    pub saving: f64,
    /// What it costs at each share of [`PruneSensitivity::tried`].
    pub losses: Vec<f64>,
    /// Largest share that costs no more than the tolerance.
    pub ratio: f64,
}

/// What removal costs each group of a model.
#[derive(Debug, Clone, Serialize)]
pub struct PruneSensitivity {
    /// In what losses are measured.
    pub measure: Measure,
    /// What the removal from one group may cost.
    pub tolerance: f64,
    /// The shares that were removed.
    pub tried: Vec<f64>,
    /// In the order of the model.
    pub groups: Vec<GroupSensitivity>,
    /// For `prune`: by the name of each group, the share that it may lose.
    pub ratios: serde_json::Map<String, serde_json::Value>,
    /// Images that outputs were compared or scores taken on.
    pub images: usize,
    /// What the score is called, and that of the unchanged model; `None` where outputs were compared.
    pub score: Option<(String, f64)>,
    /// A difference of scores below this may be chance: two standard errors, or what one image is worth.
    pub chance: Option<f64>,
}

impl Removals {
    /// What each costs.
    ///
    /// # Errors
    /// `Argument` for options out of range; `Unsupported` for models in which nothing can be pruned or that cannot be fed with images; `Cancelled`.
    pub fn measure(&self, model: &Model, data: &Dataset, ctx: &Context) -> Result<PruneSensitivity> {
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
        let none =
            |why: String| Error::unsupported(format!("the model has no score on this dataset: {why}")).hint("use measure: \"error\"");
        let scorer = match self.measure {
            Measure::Error => None,
            Measure::Score => Some(Scorer::of(model, data, SCORED, Figure::Map, ctx)?.map_err(none)?),
        };
        let mut chance = scorer.as_ref().and_then(Scorer::grain);
        let mut loss = |graph: Graph| -> Result<f64> {
            let Some(scorer) = &scorer else { return judge.error(&graph, ctx) };
            let score = scorer.score(&Model::new(graph, model.task().clone()), ctx)?;
            chance = [chance, scorer.deviation(&score).map(|e| 2.0 * e)].into_iter().flatten().reduce(f64::max);
            Ok(scorer.first.value - score.value)
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
                losses.push(loss(Removal::new(&found, gone).masked()?)?);
                progress.step(&group.name)?;
            }
            groups.push(self.group(group, losses, &tried, &costs));
        }
        let ratios = groups.iter().map(|g| (g.name.clone(), g.ratio.into())).collect();
        let images = scorer.as_ref().map_or(images.len(), Scorer::images);
        let score = scorer.map(|s| (s.measure, s.first.value));
        let report = PruneSensitivity { measure: self.measure, tolerance: self.tolerance, tried, groups, ratios, images, score, chance };
        if let Some(chance) = chance.filter(|c| *c > self.tolerance) {
            ctx.note(format!(
                "sensitivity: warning: on {} a loss below {chance:.4} may be chance, and the tolerance is {}: the ratios are no surer than that",
                counted(images, "image"),
                self.tolerance
            ));
        }
        Ok(report)
    }

    fn group(&self, group: &Group, losses: Vec<f64>, tried: &[f64], costs: &Costs) -> GroupSensitivity {
        let saving = costs.saving_of(group, group.channels / 2);
        let ratio = tolerated(tried, &losses, self.tolerance);
        GroupSensitivity { name: group.name.clone(), layers: group.layers.clone(), channels: group.channels, saving, losses, ratio }
    }
}

impl PruneSensitivity {
    /// For `prune`: by the name of each group, the share at which it loses `tolerance`. Shares have four digits, and names are in order, as in the maps of
    /// scripts, so that a recipe says the same bytes wherever it was made.
    pub fn ratios_at(&self, tolerance: f64) -> serde_json::Map<String, serde_json::Value> {
        let share = |losses: &[f64]| serde_json::Value::from((tolerated(&self.tried, losses, tolerance) * 1e4).round() / 1e4);
        let sorted: BTreeMap<String, serde_json::Value> = self.groups.iter().map(|g| (g.name.clone(), share(&g.losses))).collect();
        sorted.into_iter().collect()
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

impl Show for PruneSensitivity {
    fn tables(&self) -> Vec<Table> {
        let at: Vec<String> = self.tried.iter().map(|r| format!(">at {r}")).collect();
        let columns = ["group", ">channels", ">saving of half"].into_iter().chain(at.iter().map(String::as_str)).chain([">ratio"]);
        let what = match self.measure {
            Measure::Error => "Output error without a share of one group's channels",
            Measure::Score => "Loss of score without a share of one group's channels",
        };
        // The share that a group may lose is what all of it leads to.
        let minor = ["channels", "saving of half"].into_iter().chain(at.iter().map(|c| c.trim_start_matches('>')));
        let mut table = Table::new(what, &columns.collect::<Vec<_>>()).minor(minor);
        for g in &self.groups {
            let losses = g.losses.iter().map(|&l| Cell::number(l));
            let first = [Cell::from(g.name.as_str()), Cell::count(g.channels as u64), Cell::share(g.saving)];
            table.row(first.into_iter().chain(losses).chain([Cell::share(g.ratio)]));
        }
        vec![table]
    }
    fn plots(&self) -> Vec<Plot> {
        let label = match self.measure {
            Measure::Error => "output error",
            Measure::Score => "loss of score",
        };
        let rows: Vec<String> = self.groups.iter().map(|g| g.name.clone()).collect();
        let columns: Vec<String> = self.tried.iter().map(ToString::to_string).collect();
        let most = self.groups.iter().flat_map(|g| &g.losses).copied().filter(|l| l.is_finite()).fold(f64::MIN_POSITIVE, f64::max);
        let shades = self.groups.iter().map(|g| g.losses.iter().map(|l| l.max(0.0) / most).collect()).collect();
        let texts = self.groups.iter().map(|g| g.losses.iter().map(|l| format!("{l:.3}")).collect()).collect();
        // Small losses are what ratios are chosen by.
        let scale = Scale { name: label.into(), most, bend: 0.5 };
        let heat = Some(HeatMap { rows, columns, shades, texts, scale });
        let curve = |g: &GroupSensitivity| Series {
            name: g.name.clone(),
            points: std::iter::once((0.0, 0.0)).chain(self.tried.iter().copied().zip(g.losses.iter().copied())).collect(),
            ..Series::default()
        };
        let mut worst: Vec<&GroupSensitivity> = self.groups.iter().collect();
        worst.sort_by(|a, b| a.ratio.total_cmp(&b.ratio));
        let curves = Plot { series: worst.into_iter().take(MOST_CURVES).map(curve).collect(), ..Plot::default() };
        vec![
            Plot { heat, ..Plot::default() }.titled("Sensitivity to pruning", "share of channels removed", ""),
            curves.titled("The most sensitive groups", "share of channels removed", label),
        ]
    }
    fn notes(&self) -> Vec<String> {
        let images = counted(self.images, "image");
        vec![match (&self.score, self.chance) {
            (Some((name, score)), Some(chance)) => {
                format!("{name} {score:.4} unchanged, on {images}; a loss below {chance:.4} may be chance")
            }
            (Some((name, score)), None) => format!("{name} {score:.4} unchanged, on {images}"),
            (None, _) => format!("outputs compared on {images}"),
        }]
    }
    fn data(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}

/// Images that scores are of.
const SCORED: usize = 64;
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
