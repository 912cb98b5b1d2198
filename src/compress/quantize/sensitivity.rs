//! What rounding costs, layer by layer.

use super::budget;
use super::calibrated::{Calibrated, Left};
use super::placement::label;
use super::{OutputError, Quantize};
use crate::score::{Figure, Scorer};
use compresso_base::context::Context;
use compresso_base::error::{Error, Result};
use compresso_base::operation::in_range;
use compresso_base::report::{Cell, Plot, Series, SeriesKind, Show, Table, counted};
use compresso_learn::data::Dataset;
use compresso_model::Model;
use serde::Serialize;

/// What is measured of the layers of a model.
#[derive(Debug, Clone)]
pub struct Layers {
    /// How the model is quantized, in static mode.
    pub quantize: Quantize,
    /// Images on which outputs are compared.
    pub images: usize,
    /// Score the model with each layer alone rounded too.
    pub scored: bool,
}

/// Images that scores are of.
const SCORED: usize = 64;

/// What the rounding of one layer, weight and input, costs at the model's outputs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LayerSensitivity {
    /// Name of its node; of a node without, its first output.
    pub layer: String,
    /// Its operator.
    pub op: String,
    /// Numbers of its weight.
    pub weights: usize,
    /// When it alone is rounded: signal over noise in decibels; `None` where nothing differs.
    pub alone_sqnr_db: Option<f64>,
    /// When it alone is rounded: the least cosine of the angle between an exact and a rounded output.
    pub alone_cosine: f64,
    /// Decibels that the quantized model gains when it alone stays in float.
    pub float_gain_db: Option<f64>,
    /// What the score loses when it alone is rounded.
    pub drop: Option<f64>,
}

/// What the rounding of each layer costs, the most sensitive layer first.
#[derive(Debug, Clone, Serialize)]
pub struct QuantizeSensitivity {
    /// Of the layers that are quantized under these options.
    pub layers: Vec<LayerSensitivity>,
    /// Signal over noise at the outputs when all layers are rounded, in decibels.
    pub all_sqnr_db: Option<f64>,
    /// When all layers are rounded: the least cosine of the angle between an exact and a rounded output.
    pub all_cosine: f64,
    /// What the score is called, that of the float model, and how many images it is of.
    pub score: Option<(String, f64, usize)>,
    /// A difference of scores below this may be chance: two standard errors, or what one image is worth.
    pub chance: Option<f64>,
    /// Images that outputs were compared on.
    pub images: usize,
    /// Whether these took no part in calibration.
    pub held_out: bool,
}

impl Layers {
    /// # Errors
    /// As [`Quantize`] in static mode; `Unsupported` for scores of a model that cannot be scored.
    pub fn measure(&self, model: &Model, data: &Dataset, ctx: &Context) -> Result<QuantizeSensitivity> {
        in_range("images", self.images as f64, 1.0..)?;
        if !self.quantize.is_static() {
            return Err(Error::argument("layers are told apart under static quantization").hint("use mode: \"static\""));
        }
        let settings = self.quantize.settings(false)?;
        let float = self.quantize.float(model, ctx)?;
        let calibrated = Calibrated::new(&self.quantize, float.graph(), model.task(), Some(data), settings, ctx)?;
        let alone = budget::alone(&calibrated, self.images, ctx)?;
        let judge = calibrated.judge(self.images, ctx)?;
        let all = judge.error(&calibrated.nearest(&[])?.graph)?;
        let scorer = if self.scored { Some(scorer(&float, data, ctx)?) } else { None };
        let nodes: Vec<usize> = calibrated.plan.layers.iter().map(|l| l.node).collect();
        let mut progress = ctx.progress("leave each layer in float", nodes.len() as u64);
        let mut layers = Vec::new();
        let mut chance = scorer.as_ref().and_then(Scorer::grain);
        for (layer, alone) in calibrated.plan.layers.iter().zip(alone) {
            let without = |nodes: &[usize]| -> Vec<Left> { nodes.iter().map(|&n| (n, String::new())).collect() };
            let rest: Vec<usize> = nodes.iter().copied().filter(|&n| n != layer.node).collect();
            let gain = if rest.is_empty() {
                None
            } else {
                let error = judge.error(&calibrated.nearest(&without(&[layer.node]))?.graph)?;
                finite(error).zip(finite(all)).map(|(one, all)| one - all)
            };
            let drop = match &scorer {
                Some(scorer) => {
                    let graph = calibrated.nearest(&without(&rest))?.graph;
                    let score = scorer.score(&Model::new(graph, model.task().clone()), ctx)?;
                    chance = [chance, scorer.deviation(&score).map(|e| 2.0 * e)].into_iter().flatten().reduce(f64::max);
                    Some(scorer.first.value - score.value)
                }
                None => None,
            };
            let node = &float.graph().nodes()[layer.node];
            layers.push((
                alone.noise,
                LayerSensitivity {
                    layer: label(node),
                    op: node.op.clone(),
                    weights: float.graph().constant(&layer.weight).map_or(0, compresso_model::Constant::count),
                    alone_sqnr_db: finite(alone),
                    alone_cosine: alone.cosine,
                    float_gain_db: gain,
                    drop,
                },
            ));
            progress.step("")?;
        }
        // By what was asked for: the score lost, or the noise.
        let loss = |l: &(f64, LayerSensitivity)| [l.1.drop.unwrap_or(0.0), l.0];
        layers.sort_by(|a, b| loss(b)[0].total_cmp(&loss(a)[0]).then(loss(b)[1].total_cmp(&loss(a)[1])));
        let report = QuantizeSensitivity {
            layers: layers.into_iter().map(|(_, l)| l).collect(),
            all_sqnr_db: finite(all),
            all_cosine: all.cosine,
            score: scorer.map(|s| (s.measure.clone(), s.first.value, s.images())),
            chance,
            images: judge.len(),
            held_out: calibrated.shares.apart(),
        };
        if let Some(worst) = report.layers.first() {
            ctx.note(report.headline(worst));
        }
        Ok(report)
    }
}

fn scorer(float: &Model, data: &Dataset, ctx: &Context) -> Result<Scorer> {
    Scorer::of(float, data, SCORED, Figure::Map, ctx)?
        .map_err(|why| Error::unsupported(format!("the model has no score on this dataset: {why}")).hint("use measure: \"error\""))
}

fn finite(error: OutputError) -> Option<f64> {
    Some(error.sqnr_db()).filter(|db| db.is_finite())
}

impl QuantizeSensitivity {
    /// `sensitivity: 64 layers; the most sensitive to quantization is model.22, which loses 0.0130 of mAP50-95 alone`
    fn headline(&self, worst: &LayerSensitivity) -> String {
        let layers = counted(self.layers.len(), "layer");
        let cost = match (&self.score, worst.drop) {
            (Some((measure, ..)), Some(drop)) if drop > 0.0 => {
                let chance = if self.chance.is_some_and(|c| drop < c) { ", which may be chance" } else { "" };
                format!("which loses {drop:.4} of {measure} alone{chance}")
            }
            (Some((measure, ..)), Some(_)) => return format!("sensitivity: {layers}; none loses {measure} when it is quantized alone"),
            _ => worst.alone_sqnr_db.map_or_else(|| "no loss".to_string(), |db| format!("{db:.1} dB alone")),
        };
        format!("sensitivity: {layers}; the most sensitive to quantization is {}, {cost}", worst.layer)
    }
}

impl Show for QuantizeSensitivity {
    fn tables(&self) -> Vec<Table> {
        let mut headers = vec!["layer", "op", ">weights", ">SQNR alone (dB)", ">cosine alone", ">gain in float (dB)"];
        if self.score.is_some() {
            headers.push(">score lost alone");
        }
        let minor = ["weights", "op", "cosine alone", "gain in float (dB)"];
        let mut table = Table::new("Sensitivity to quantization", &headers).minor(minor);
        let db = |v: Option<f64>| v.map_or_else(Cell::none, |v| Cell::shown(format!("{v:.1}"), v));
        for l in &self.layers {
            let cosine = Cell::shown(format!("{:.6}", l.alone_cosine), l.alone_cosine);
            let mut row = vec![
                Cell::from(&l.layer),
                Cell::from(&l.op),
                Cell::count(l.weights as u64),
                db(l.alone_sqnr_db),
                cosine,
                db(l.float_gain_db),
            ];
            row.extend(l.drop.map(|d| Cell::shown(format!("{d:.4}"), d)));
            table.row(row);
        }
        vec![table]
    }
    #[expect(clippy::cast_precision_loss, reason = "layer numbers are small")]
    fn plots(&self) -> Vec<Plot> {
        let shown: Vec<&LayerSensitivity> = self.layers.iter().filter(|l| l.alone_sqnr_db.is_some()).collect();
        if shown.is_empty() {
            return Vec::new();
        }
        if let Some((measure, ..)) = &self.score {
            let points = self.layers.iter().enumerate().filter_map(|(i, l)| Some((i as f64, l.drop?))).collect();
            let labels = self.layers.iter().map(|l| l.layer.clone()).collect();
            let series = Series { name: "rounded alone".into(), kind: SeriesKind::Bars, points, labels };
            let plot = Plot { series: vec![series], ..Plot::default() };
            return vec![plot.titled(
                "Score lost by the layer that is rounded",
                "layer, the most sensitive first",
                format!("{measure} lost"),
            )];
        }
        // Noise over signal: the worst layer has the longest bar.
        let noise = |db: f64| 10f64.powf(-db / 10.0);
        let points = shown.iter().enumerate().filter_map(|(i, l)| Some((i as f64, noise(l.alone_sqnr_db?)))).collect();
        let labels = shown.iter().map(|l| l.layer.clone()).collect();
        let series = Series { name: "rounded alone".into(), kind: SeriesKind::Bars, points, labels };
        let plot = Plot { series: vec![series], log_y: true, ..Plot::default() };
        vec![plot.titled("Noise at the outputs by the layer that is rounded", "layer, the most sensitive first", "noise over signal")]
    }
    fn notes(&self) -> Vec<String> {
        let all = self.all_sqnr_db.map_or_else(|| "nothing differs".to_string(), |db| format!("{db:.1} dB"));
        let held_out = if self.held_out { "held-out" } else { "calibration" };
        let images = counted(self.images, &format!("{held_out} image"));
        let mut notes = vec![format!("all layers rounded: {all}, cosine {:.6}; {images}", self.all_cosine)];
        notes.extend(self.score.as_ref().map(|(name, score, images)| {
            let chance = self.chance.map_or(String::new(), |c| format!("; a loss below {c:.4} may be chance"));
            format!("{name} in float: {score:.4} on {}{chance}", counted(*images, "image"))
        }));
        notes
    }
    fn data(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}
