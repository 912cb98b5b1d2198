//! `quantization_sensitivity`: what rounding costs, layer by layer.

use super::budget;
use super::calibrated::{Calibrated, Left};
use super::placement::label;
use super::{OutputError, Quantize};
use crate::damage::Scorer;
use compresso_base::context::Context;
use compresso_base::error::{Error, Result};
use compresso_base::operation::{Arg, ArgKind, Operation, Options, Signature, in_range};
use compresso_base::report::{Cell, Plot, Series, SeriesKind, Show, Table};
use compresso_learn::data::Dataset;
use compresso_model::Model;
use serde::Serialize;

compresso_base::options! {
    /// Options of `quantization_sensitivity`.
    pub struct QuantizationSensitivity {
        /// Calibration images on which the outputs are compared.
        pub judged: usize = 16,
        /// Score the model with each layer alone rounded too, on up to this many images of the dataset; 0 leaves that out.
        pub scored: usize = 0,
        ..quantize: Quantize = Quantize::default(),
    }
}

/// What the rounding of one layer, weight and input, costs at the model's outputs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LayerSensitivity {
    pub layer: String,
    pub op: String,
    /// Numbers of its weight.
    pub weights: usize,
    /// When it alone is rounded: signal over noise in decibels, `None` where nothing differs, and the cosine of the angle between the outputs.
    pub alone_sqnr_db: Option<f64>,
    pub alone_cosine: f64,
    /// Decibels that the quantized model gains when it alone stays in float.
    pub float_gain_db: Option<f64>,
    /// What the score loses when it alone is rounded.
    pub drop: Option<f64>,
}

/// What `quantization_sensitivity` found, the most sensitive layer first.
#[derive(Debug, Clone, Serialize)]
pub struct QuantizationSensitivityReport {
    pub layers: Vec<LayerSensitivity>,
    /// Signal over noise at the outputs when all layers are rounded, in decibels.
    pub all_sqnr_db: Option<f64>,
    pub all_cosine: f64,
    /// What the score is called, and that of the float model.
    pub score: Option<(String, f64)>,
    /// Calibration images that outputs were compared on.
    pub images: usize,
}

/// # Errors
/// As [`Quantize`] in static mode; `Unsupported` for scores of a model that cannot be scored.
impl Operation for QuantizationSensitivity {
    const SIGNATURE: Signature = Signature {
        name: "quantization_sensitivity",
        summary: "What INT8 costs layer by layer: the error at the outputs when a layer alone is rounded, and when it alone stays in float",
        group: "compress",
        args: &[Arg::new("m", ArgKind::Model), Arg::new("d", ArgKind::Dataset)],
        returns: "report",
        fields: Self::FIELDS,
        examples: &[
            r#"let m = model("classifier", #{ classes: 3, image_size: 32 }); quantization_sensitivity(m, dataset("random", #{ images: 4 }), #{ images: 4, judged: 2 })"#,
        ],
        keywords: &["int8", "sensitive", "layers", "exclude", "mixed precision", "sqnr", "guilty"],
    };
    type Inputs<'a> = (&'a Model, &'a Dataset);
    type Output = QuantizationSensitivityReport;

    fn run(&self, (model, data): Self::Inputs<'_>, ctx: &Context) -> Result<QuantizationSensitivityReport> {
        in_range("judged", self.judged as f64, 1.0..)?;
        if !self.quantize.is_static() {
            return Err(Error::argument("layers are told apart under static quantization").hint("use mode: \"static\""));
        }
        let settings = self.quantize.settings(false)?;
        let float = self.quantize.float(model, ctx)?;
        let calibrated = Calibrated::new(&self.quantize, float.graph(), model.task(), Some(data), settings, ctx)?;
        let alone = budget::alone(&calibrated, self.judged, ctx)?;
        let judge = calibrated.judge(self.judged, ctx)?;
        let all = judge.error(&calibrated.nearest(&[])?.graph)?;
        let scorer = match self.scored {
            0 => None,
            images => Some(
                Scorer::of(&float, data, images, ctx)?
                    .ok_or_else(|| Error::unsupported("the model cannot be scored on this dataset").hint("leave 'scored' out"))?,
            ),
        };
        let nodes: Vec<usize> = calibrated.plan.layers.iter().map(|l| l.node).collect();
        let mut progress = ctx.progress("leave each layer in float", nodes.len() as u64);
        let mut layers = Vec::new();
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
                    Some(scorer.first - scorer.score(&Model::new(graph, model.task().clone()), ctx)?)
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
        layers.sort_by(|a, b| b.0.total_cmp(&a.0));
        let report = QuantizationSensitivityReport {
            layers: layers.into_iter().map(|(_, l)| l).collect(),
            all_sqnr_db: finite(all),
            all_cosine: all.cosine,
            score: scorer.map(|s| (s.measure, s.first)),
            images: self.judged.min(self.quantize.images),
        };
        if let Some(worst) = report.layers.first() {
            let db = worst.alone_sqnr_db.map_or_else(|| "no loss".to_string(), |db| format!("{db:.1} dB alone"));
            ctx.note(format!("quantization_sensitivity: {} layers; the most sensitive is {}, {db}", report.layers.len(), worst.layer));
        }
        Ok(report)
    }
}

fn finite(error: OutputError) -> Option<f64> {
    Some(error.sqnr_db()).filter(|db| db.is_finite())
}

impl Show for QuantizationSensitivityReport {
    fn tables(&self) -> Vec<Table> {
        let mut headers = vec!["layer", "op", ">weights", ">SQNR alone (dB)", ">cosine alone", ">gain in float (dB)"];
        if self.score.is_some() {
            headers.push(">score lost alone");
        }
        let mut table = Table::new("Sensitivity to quantization", &headers);
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
        let points = shown.iter().enumerate().filter_map(|(i, l)| Some((i as f64, -l.alone_sqnr_db?))).collect();
        let labels = shown.iter().map(|l| l.layer.clone()).collect();
        let series = Series { name: "rounded alone".into(), kind: SeriesKind::Bars, points, labels };
        let plot = Plot { series: vec![series], ..Plot::default() };
        vec![plot.titled("Noise at the outputs by the layer that is rounded", "layer, the most sensitive first", "noise over signal (dB)")]
    }
    fn notes(&self) -> Vec<String> {
        let all = self.all_sqnr_db.map_or_else(|| "nothing differs".to_string(), |db| format!("{db:.1} dB"));
        let mut notes = vec![format!("all layers rounded: {all}, cosine {:.6}; {} calibration images", self.all_cosine, self.images)];
        notes.extend(self.score.as_ref().map(|(name, score)| format!("{name} in float: {score:.4}")));
        notes
    }
    fn data(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}
