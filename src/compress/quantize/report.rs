//! What quantization did to each layer.

use super::Settings;
use super::affine::Range;
use super::budget::Guilty;
use super::calibrate::{Images, Ranges, Shares};
use super::calibrated::{Calibrated, JUDGED, Rounded};
use super::clipped::Clipped;
use super::extremes::{MinMax, by_position};
use super::fit;
use super::placement::label;
use super::weights::{Weight, sqnr};
use crate::damage::Damage;
use crate::probe::Probe;
use compresso_base::context::Context;
use compresso_base::error::Result;
use compresso_base::report::{Plot, Series, SeriesKind, Show, Table, counted};
use compresso_learn::data::Dataset;
use compresso_learn::eval::{OutputPart, output_parts};
use compresso_model::{Graph, Model, Task};
use indexmap::IndexMap;
use serde::Serialize;
use std::collections::{HashMap, HashSet};

/// The error that quantization brought into one layer.
#[derive(Debug, Clone, Serialize)]
pub struct LayerError {
    /// Name of its node; of a node without, its first output.
    pub layer: String,
    /// Its operator.
    pub op: String,
    /// Signal over rounding noise of the weight, in decibels.
    pub weight_sqnr_db: Option<f64>,
    /// Signal over noise of the layer's output, in decibels, errors of the layers before it included. Measured on the images that judge;
    /// absent without data.
    pub output_sqnr_db: Option<f64>,
    /// What calibration saw of the layer's input; absent without calibration.
    pub range: Option<Range>,
    /// Whose range the input has, where it was chosen among observers.
    pub observer: Option<&'static str>,
    /// Largest magnitude of a channel of the input over that of the middle one: how badly one scale serves all.
    pub spread: Option<f32>,
}

/// What was quantized, with which error.
#[derive(Debug, Clone, Serialize)]
pub struct QuantizeReport {
    /// The layers that were quantized.
    pub layers: Vec<LayerError>,
    /// Layers and values that stay in float, each with the reason.
    pub float: Vec<(String, String)>,
    /// Signal over noise of each model output in decibels; of boxes and scores apart where an output joins them.
    pub outputs: Vec<(String, f64)>,
    /// Calibration images.
    pub images: usize,
    /// Images on which outputs were compared.
    pub judged: usize,
    /// Whether these took no part in calibration.
    pub held_out: bool,
    /// Values whose scale leaves out much of what calibration saw, the worst first.
    pub clipped: Vec<Clipped>,
    /// Layers that stay in float to keep the score within the option `max_drop`, the worst first.
    pub guilty: Vec<Guilty>,
    /// The scores of float and quantized model, where they were judged on a dataset.
    pub score: Option<Damage>,
}

/// Signal and noise of a value.
#[derive(Debug, Default, Clone, Copy)]
struct Noise {
    signal: f64,
    noise: f64,
}

impl Noise {
    fn add(&mut self, exact: &[f32], rounded: &[f32]) {
        for (&x, &y) in exact.iter().zip(rounded) {
            self.signal += f64::from(x).powi(2);
            self.noise += (f64::from(x) - f64::from(y)).powi(2);
        }
    }
    /// In decibels; `None` where that is no number.
    fn sqnr(self) -> Option<f64> {
        Some(10.0 * (self.signal / self.noise).log10()).filter(|v| v.is_finite())
    }
}

/// Runs both graphs on the images that judge and compares layer by layer.
pub(super) fn compare(
    float: &Graph,
    Rounded { float: weights, graph: quantized, plan, .. }: &Rounded,
    settings: &Settings,
    task: &Task,
    dataset: Option<(&Dataset, Shares)>,
    calibrated: Option<&Calibrated<'_>>,
    ctx: &Context,
) -> Result<QuantizeReport> {
    let ranges: Option<&Ranges> = calibrated.map(|c| &c.ranges);
    let images = ranges.map_or(0, |r| r.images);
    let mut report = QuantizeReport {
        layers: Vec::new(),
        float: plan.skipped.clone(),
        outputs: Vec::new(),
        images,
        judged: 0,
        held_out: dataset.is_some_and(|(_, shares)| shares.apart()),
        clipped: Vec::new(),
        guilty: Vec::new(),
        score: None,
    };
    let outputs: Vec<&str> = float.outputs().iter().map(|o| o.name.as_str()).collect();
    let layers = plan.layers.iter().map(|l| float.nodes()[l.node].outputs[0].as_str());
    let names: HashSet<String> = layers.chain(outputs.iter().copied()).map(str::to_string).collect();
    let mut errors: HashMap<String, Noise> = HashMap::new();
    let mut apart: IndexMap<(String, &'static str), Noise> = IndexMap::new();
    if let Some((data, shares)) = dataset {
        let (mut before, mut after) = (Probe::new(float, names.clone(), ctx)?, Probe::new(quantized, names, ctx)?);
        for batch in Images::after(shares.from, float, task, data, shares.judges.min(JUDGED), ctx)? {
            let (count, feeds) = batch?;
            report.judged += count;
            let mut exact: HashMap<String, (Vec<usize>, Vec<f32>)> = HashMap::new();
            before.run(&feeds, &mut |seen| {
                exact.insert(seen.name.to_string(), (seen.dims.to_vec(), by_position(seen.values, seen.dims, seen.strides)));
                Ok(())
            })?;
            after.run(&feeds, &mut |seen| {
                let Some((_, values)) = exact.remove(seen.name).filter(|e| e.0 == seen.dims) else { return Ok(()) };
                let rounded = by_position(seen.values, seen.dims, seen.strides);
                errors.entry(seen.name.to_string()).or_default().add(&values, &rounded);
                for part in output_parts(task, seen.name, seen.dims) {
                    let of = |v: &[f32]| part_of(v, seen.dims, &part);
                    apart.entry((seen.name.to_string(), part.name)).or_default().add(&of(&values), &of(&rounded));
                }
                Ok(())
            })?;
        }
    }
    for layer in &plan.layers {
        let node = &float.nodes()[layer.node];
        let weight = match (fit::constant(float, layer)?, layer.scales.as_slice()) {
            // Dynamic mode chooses scales while it writes.
            (constant, []) => {
                let per_channel = settings.per_channel && layer.channel_scales;
                let rounded = Weight::quantize(constant, layer.axis, per_channel, settings.weights)?;
                sqnr(&constant.to_f32s()?, &rounded.dequantize())
            }
            (constant, scales) => {
                let values = fit::values_of(float, layer)?;
                let chosen = fit::values_of(weights, layer)?;
                let rounded = Weight::rounded(&chosen, constant.dims(), layer.axis, settings.weights, scales.to_vec());
                sqnr(&values, &rounded.dequantize())
            }
        };
        let seen = ranges.and_then(|r| r.get(node.input(0)?));
        report.layers.push(LayerError {
            layer: label(node),
            op: node.op.clone(),
            weight_sqnr_db: Some(weight).filter(|v| v.is_finite()),
            output_sqnr_db: errors.get(node.outputs[0].as_str()).and_then(|n| n.sqnr()),
            range: seen.map(MinMax::range).filter(|r| !r.is_empty()),
            observer: calibrated.and_then(|c| Some(c.chosen.get(node.input(0)?)?.1)),
            spread: seen.map(MinMax::spread),
        });
    }
    for output in outputs {
        let parts: Vec<_> = apart.iter().filter(|((of, _), _)| of == output).collect();
        match errors.get(output).filter(|_| parts.is_empty()) {
            Some(whole) => report.outputs.extend(whole.sqnr().map(|db| (output.to_string(), db))),
            None => report.outputs.extend(parts.into_iter().filter_map(|((of, part), n)| Some((format!("{of} {part}"), n.sqnr()?)))),
        }
    }
    Ok(report)
}

/// The values of a part of an output, of values that stand channel by channel of each position (of the second axis; the
/// other axes in their order).
fn part_of(values: &[f32], dims: &[usize], part: &OutputPart) -> Vec<f32> {
    let inner = dims.get(1).copied().unwrap_or(1).max(1);
    let behind: usize = dims.iter().skip(part.axis + 1).product::<usize>().max(1);
    let channel = |i: usize| if part.axis == 1 { i % inner } else { i / inner / behind % dims[part.axis].max(1) };
    values.iter().enumerate().filter(|(i, _)| part.holds(channel(*i))).map(|(_, v)| *v).collect()
}

impl QuantizeReport {
    /// A number of each layer over the layer's place.
    #[expect(clippy::cast_precision_loss, reason = "layer numbers are small")]
    fn line(&self, name: &str, value: impl Fn(&LayerError) -> Option<f64>) -> Series {
        let points = self.layers.iter().enumerate().filter_map(|(i, l)| Some((i as f64, value(l)?))).collect();
        Series { name: name.into(), kind: SeriesKind::Line, points, labels: Vec::new() }
    }
    /// `on 8 held-out images`
    fn on(&self) -> String {
        match (self.held_out, self.judged) {
            (true, n) => format!("on {}", counted(n, "held-out image")),
            (false, n) => format!("on {} of the calibration, too few to hold some out", counted(n, "image")),
        }
    }
    /// What is told of scales that clip much.
    pub(super) fn warnings(&self) -> Vec<String> {
        let Some(worst) = self.clipped.first() else { return Vec::new() };
        let more = if self.clipped.len() > 1 { format!(" and {} more (in the report)", self.clipped.len() - 1) } else { String::new() };
        let what = format!("quantize: warning: the observer clips much of what calibration saw: {}{more}", worst.text());
        vec![format!("{what}; observer: \"minmax\" clips nothing, \"auto\" what costs the outputs least")]
    }
    /// One line for the user.
    pub(super) fn headline(&self, before: &Model, after: &Model, weight_bits: usize) -> Result<String> {
        let outputs: Vec<String> = self.outputs.iter().map(|(name, db)| format!("{name} {db:.1} dB")).collect();
        let error = if outputs.is_empty() { String::new() } else { format!(", signal over noise {}: {}", self.on(), outputs.join(", ")) };
        let images = if self.images > 0 { format!(", {}", counted(self.images, "image")) } else { String::new() };
        let kept = if self.float.is_empty() { String::new() } else { format!(", {} left in float", self.float.len()) };
        let (from, to) = (megabytes(before)?, megabytes(after)?);
        let short = if weight_bits < 8 { format!(" with weights of {weight_bits} bits") } else { String::new() };
        Ok(format!("quantize: {} layers to INT8{short}{kept}{images}; weights {from:.2} → {to:.2} MB{error}", self.layers.len()))
    }
}

/// Megabytes of a model's constants, wherever they are stored.
#[expect(clippy::cast_precision_loss, reason = "sizes are shown with three digits")]
fn megabytes(model: &Model) -> Result<f64> {
    Ok(model.stats()?.weight_bytes as f64 / 1e6)
}

impl Show for QuantizeReport {
    fn tables(&self) -> Vec<Table> {
        let db = |v: Option<f64>| v.map_or_else(|| "–".to_string(), |v| format!("{v:.1}"));
        let calibrated = self.layers.iter().any(|l| l.range.is_some());
        let mut headers = vec!["layer", "op", ">weight SQNR (dB)", ">output SQNR (dB)"];
        if calibrated {
            headers.extend([">input from", ">to", ">spread"]);
        }
        let chosen = self.layers.iter().any(|l| l.observer.is_some());
        if chosen {
            headers.push("observer");
        }
        let minor = ["op", "weight SQNR (dB)", "input from", "to", "spread"];
        let mut table = Table::new("Quantized layers", &headers).minor(minor);
        for l in &self.layers {
            let mut row = vec![l.layer.clone(), l.op.clone(), db(l.weight_sqnr_db), db(l.output_sqnr_db)];
            if calibrated {
                let short = |v: Option<f32>| v.map_or_else(|| "–".to_string(), |v| format!("{v:.2}"));
                row.extend([l.range.map(|r| r.min), l.range.map(|r| r.max), l.spread].map(short));
            }
            if chosen {
                row.push(l.observer.unwrap_or("–").to_string());
            }
            table.row(row);
        }
        let mut tables = vec![table];
        if !self.guilty.is_empty() {
            tables.push(Guilty::table(&self.guilty));
        }
        if !self.float.is_empty() {
            let mut kept = Table::new("Left in float", &["layer or value", "because"]);
            for (name, reason) in &self.float {
                kept.row([name, reason]);
            }
            tables.push(kept);
        }
        tables
    }
    fn plots(&self) -> Vec<Plot> {
        let errors = self.line("output", |l| l.output_sqnr_db);
        let ranges = [self.line("largest", |l| Some(f64::from(l.range?.max))), self.line("smallest", |l| Some(f64::from(l.range?.min)))];
        let plot = |title: &str, y_label: &str, series: Vec<Series>| Plot {
            title: title.into(),
            x_label: "layer".into(),
            y_label: y_label.into(),
            series,
            ..Plot::default()
        };
        let all = [
            plot("Signal over quantization noise", "dB", vec![errors]),
            plot("Ranges of the layers' inputs", "value seen in calibration", ranges.into()),
        ];
        all.into_iter().filter(|p| p.series.iter().any(|s| !s.points.is_empty())).collect()
    }
    fn notes(&self) -> Vec<String> {
        let mut notes = vec![counted(self.images, "calibration image")];
        notes.extend(self.outputs.iter().map(|(name, db)| format!("output '{name}': {db:.1} dB {}", self.on())));
        notes.extend(self.clipped.iter().map(|c| format!("clipped: {}", c.text())));
        notes
    }
    fn data(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}
