//! `ranges`: what calibration sees of a model's activations, and what each observer would make of it.

use super::affine::Range;
use super::calibrate;
use super::observers::{Histogram, Observe};
use super::placement;
use super::{Quantize, float32};
use compresso_base::context::Context;
use compresso_base::error::Result;
use compresso_base::operation::{Arg, ArgKind, Operation, Options, Signature, in_range};
use compresso_base::report::{Cell, Plot, Series, SeriesKind, Show, Table, counted};
use compresso_learn::data::Dataset;
use compresso_model::names::Patterns;
use compresso_model::{Model, passes};
use compresso_target::{Target, onnxruntime};
use serde::Serialize;

compresso_base::options! {
    /// Options of `ranges`.
    pub struct ShowRanges {
        /// Calibration images, sampled from the dataset's training split as `quantize` samples them.
        pub images: usize = 32,
        /// All activations in float32; false: those that `quantize` would round for the target.
        pub all: bool = false,
        /// A channel is an outlier when its largest magnitude is more than this many times that of the middle channel.
        pub outlier: f64 = 10.0,
        /// Histograms to draw, of the values whose channels differ most in size.
        pub plots: usize = 6,
        /// The runtime whose rules say which activations are rounded, and onto which integers the observers map, as in `quantize`.
        pub target: Target = Target(&onnxruntime::SPEC),
    }
}

/// What was seen of one activation.
#[derive(Debug, Clone, Serialize)]
pub struct ValueRange {
    /// Its name in the graph.
    pub value: String,
    /// The operator that makes it; `input` for an input of the model.
    pub made_by: String,
    /// The smallest and the largest number on any image.
    pub seen: Range,
    /// What each observer would map onto the target's integers, by its name.
    pub observers: Vec<(&'static str, Range)>,
    /// Largest magnitude of a channel over that of the middle one.
    pub spread: f32,
    /// Channels of far larger magnitude than the middle one, with how many times, the largest first.
    pub outliers: Vec<(usize, f32)>,
    /// Share of zeros.
    pub zeros: f64,
    /// Share of the values by 64 equal parts of the range seen.
    pub histogram: Vec<f64>,
}

/// What `ranges` found, in the order in which values are made.
#[derive(Debug, Clone, Serialize)]
pub struct RangesReport {
    /// The activations, but for those in `broken`.
    pub values: Vec<ValueRange>,
    /// Values that are infinite or not a number on some image.
    pub broken: Vec<String>,
    /// Calibration images.
    pub images: usize,
    #[serde(skip)]
    plots: usize,
}

/// Parts of a histogram that is shown.
const PARTS: usize = 64;

/// # Errors
/// `Argument` for a dataset without images; those of running the model.
impl Operation for ShowRanges {
    const SIGNATURE: Signature = Signature {
        name: "ranges",
        summary: "What calibration sees of a model's activations: for each the range that the observers minmax, mse, entropy and percentile \
                  (99.99) make of it, the share of zeros, the spread (largest channel over the middle one), outlying channels, histograms",
        group: "compress",
        args: &[Arg::new("m", ArgKind::Model), Arg::new("d", ArgKind::Dataset)],
        returns: "report",
        fields: Self::FIELDS,
        examples: &[
            r#"ranges(model("classifier", #{ classes: 3, image_size: 32 }), dataset("random", #{ images: 4 }), #{ images: 4 }).values.len()"#,
            r#"let r = ranges(model("classifier", #{ classes: 3, image_size: 32 }), dataset("random", #{ images: 4 }), #{ images: 4, target: "tensorrt" }); r.values[0].observers"#,
        ],
        keywords: &["calibration", "histogram", "observer", "outliers", "activations", "int8", "minmax"],
    };
    type Inputs<'a> = (&'a Model, &'a Dataset);
    type Output = RangesReport;

    fn run(&self, (model, data): Self::Inputs<'_>, ctx: &Context) -> Result<RangesReport> {
        in_range("images", self.images as f64, 1.0..)?;
        in_range("outlier", self.outlier, 1.0..)?;
        let wide = float32::to_float32(model.graph())?;
        let graph = passes::pipelines::QUANTIZE.run(wide.as_ref().unwrap_or_else(|| model.graph()))?.graph;
        let options = Quantize { target: self.target, ..Quantize::default() };
        let rules = options.settings(false)?.rules;
        let rounded = if self.all {
            None
        } else {
            let patterns = Patterns { include: &[], exclude: &[] };
            Some(placement::plan(&graph, patterns, &self.target, &rules, rules.elementwise.chosen(None))?.values)
        };
        let wanted = |n: &str| rounded.as_ref().is_none_or(|v| v.contains_key(n));
        let auto = Observe::named("auto")?;
        // Infinite values end calibration with observers: they are looked for first.
        let extremes = calibrate::calibrate(&graph, model.task(), data, wanted, self.images, ctx)?;
        let broken: Vec<String> = extremes.broken().map(String::from).collect();
        let finite = |n: &str| wanted(n) && !broken.iter().any(|b| b == n);
        let ranges = calibrate::observe(&graph, model.task(), data, finite, std::slice::from_ref(&auto), self.images, ctx)?;
        let makers = graph.producers();
        let mut values = Vec::new();
        for (name, seen) in ranges.iter().filter(|(_, seen)| !seen.is_empty()) {
            let (Some(extremes), Some(histogram)) = (ranges.get(name), ranges.histogram(name)) else { continue };
            let mut observers: Vec<(&'static str, Range)> = Vec::new();
            for (observer, range) in ranges.candidates(&auto, &[name], rules.activations)? {
                // The first percentage stands for its observer.
                if observers.iter().all(|(n, _)| *n != observer) {
                    observers.push((observer, range));
                }
            }
            values.push(ValueRange {
                value: name.to_string(),
                made_by: makers.get(name).map_or("input", |&i| graph.nodes()[i].op.as_str()).to_string(),
                seen,
                observers,
                spread: extremes.spread(),
                outliers: outliers(extremes.channels(), self.outlier as f32),
                zeros: histogram.zeros() as f64 / histogram.total().max(1) as f64,
                histogram: histogram.shares(PARTS),
            });
        }
        let report = RangesReport { values, broken, images: ranges.images, plots: self.plots };
        let outlying = report.values.iter().filter(|v| !v.outliers.is_empty()).count();
        let (values, images) = (counted(report.values.len(), "value"), counted(report.images, "image"));
        ctx.note(format!("ranges: {values} on {images}, {outlying} with outlying channels"));
        Ok(report)
    }
}

/// Channels whose magnitude is more than `times` that of the middle one.
fn outliers(channels: &[Range], times: f32) -> Vec<(usize, f32)> {
    let mut sizes: Vec<f32> = channels.iter().map(|r| r.magnitude()).filter(|&m| m > 0.0).collect();
    sizes.sort_by(f32::total_cmp);
    let Some(&middle) = sizes.get(sizes.len() / 2) else { return Vec::new() };
    let mut found: Vec<(usize, f32)> =
        channels.iter().map(|r| r.magnitude() / middle).enumerate().filter(|(_, ratio)| *ratio > times).collect();
    found.sort_by(|a, b| b.1.total_cmp(&a.1));
    found
}

impl Histogram {
    /// Share of the values in each of so many equal parts of the range seen; zeros are in the part that zero lies in.
    pub fn shares(&self, parts: usize) -> Vec<f64> {
        let range = self.range();
        let total = self.total().max(1) as f64;
        let width = (f64::from(range.max) - f64::from(range.min)) / parts as f64;
        if range.is_empty() || width <= 0.0 {
            return vec![1.0; usize::from(!range.is_empty())];
        }
        let moments = self.moments();
        let below = |i: usize| if i == 0 { 0.0 } else { moments.below(f64::from(range.min) + i as f64 * width)[0] };
        let mut shares: Vec<f64> =
            (0..parts).map(|i| (if i + 1 == parts { moments.all()[0] } else { below(i + 1) } - below(i)) / total).collect();
        if range.min <= 0.0 && range.max >= 0.0 {
            let place = ((-f64::from(range.min) / width) as usize).min(parts - 1);
            shares[place] += self.zeros() as f64 / total;
        }
        shares
    }
}

impl Show for RangesReport {
    fn tables(&self) -> Vec<Table> {
        let names: Vec<&str> = self.values.first().map_or(Vec::new(), |v| v.observers.iter().map(|o| o.0).collect());
        let headers: Vec<String> = names.iter().map(|n| format!(">{n}")).collect();
        let mut all = vec!["value", "made by"];
        all.extend(headers.iter().map(String::as_str));
        all.extend([">zeros", ">spread", "outlying channels"]);
        // The channels that spoil a range stay longest.
        let minor = ["zeros", "made by"].into_iter().chain(names.iter().skip(1).rev().copied());
        let mut table = Table::new("Ranges of activations", &all).minor(minor);
        for v in &self.values {
            let mut row = vec![Cell::from(&v.value), Cell::from(&v.made_by)];
            row.extend(v.observers.iter().map(|(_, r)| Cell::from(format!("{:.2} … {:.2}", r.min, r.max))));
            let shown: Vec<String> = v.outliers.iter().take(3).map(|(c, times)| format!("{c} ({times:.0}×)")).collect();
            let more = if v.outliers.len() > 3 { format!(" and {} more", v.outliers.len() - 3) } else { String::new() };
            row.extend([
                Cell::share(v.zeros),
                Cell::shown(format!("{:.1}", v.spread), f64::from(v.spread)),
                Cell::from(format!("{}{more}", shown.join(", "))),
            ]);
            table.row(row);
        }
        vec![table]
    }
    fn plots(&self) -> Vec<Plot> {
        let mut widest: Vec<&ValueRange> = self.values.iter().filter(|v| v.histogram.len() > 1).collect();
        widest.sort_by(|a, b| b.spread.total_cmp(&a.spread));
        let plot = |v: &&ValueRange| {
            let (low, width) = (f64::from(v.seen.min), f64::from(v.seen.max - v.seen.min) / v.histogram.len() as f64);
            let points = v.histogram.iter().enumerate().map(|(i, share)| (low + (i as f64 + 0.5) * width, *share)).collect();
            let series = vec![Series { name: "share".into(), kind: SeriesKind::Line, points, labels: Vec::new() }];
            Plot { series, ..Plot::default() }.titled(v.value.clone(), "value", "share of the values")
        };
        widest.iter().take(self.plots).map(plot).collect()
    }
    fn notes(&self) -> Vec<String> {
        let mut notes = vec![counted(self.images, "calibration image")];
        notes.extend(self.broken.iter().map(|b| format!("'{b}' is infinite or not a number on some image")));
        notes
    }
    fn data(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_those_of_the_values() {
        let values: Vec<f32> = (0..1000i16).map(|i| f32::from(i) / 250.0 - 1.0).chain(std::iter::repeat_n(0.0, 1000)).collect();
        let mut histogram = Histogram::default();
        histogram.add(&values, Range::of(&values));
        let shares = histogram.shares(4);
        // Quarters of -1 to 3; the zeros are counted in the second, which begins with zero.
        let expected = [0.125, 0.625, 0.125, 0.125];
        assert!(shares.iter().zip(expected).all(|(a, b)| (a - b).abs() < 2e-3), "{shares:?}");
        assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        let mut same = Histogram::default();
        same.add(&[2.0, 2.0], Range { min: 2.0, max: 2.0 });
        assert_eq!(same.shares(8), [1.0]);
        assert!(Histogram::default().shares(8).is_empty());
    }

    #[test]
    fn outlying_channels_are_named_by_how_far_they_are_out() {
        let of = |m: f32| Range { min: -m, max: m / 2.0 };
        assert_eq!(outliers(&[of(1.0), of(40.0), of(1.0), of(2.0), of(90.0)], 10.0), [(4, 45.0), (1, 20.0)]);
        assert!(outliers(&[of(0.0), of(0.0)], 10.0).is_empty());
    }
}
