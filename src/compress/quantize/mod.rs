//! INT8 quantization after training, written as ONNX that other runtimes execute.
//!
//! *Static*: scales of activations come from calibration images; the graph gets explicit QuantizeLinear and
//! DequantizeLinear pairs. *Dynamic*: scales of activations are computed at run time; no data is needed. Weights are int8,
//! symmetric, one scale per output channel. Where things go is decided in [`placement`]; batch norms are folded first.

pub mod affine;
mod bias;
pub mod calibrate;
mod dynamic;
pub mod extremes;
mod fit;
mod float32;
pub mod observers;
pub mod placement;
mod report;
mod static_int8;
#[cfg(test)]
mod tests;
pub mod weights;

pub use report::{LayerError, QuantizeReport};

use crate::damage::Damage;
use compresso_base::context::Context;
use compresso_base::error::{Error, Result};
use compresso_base::operation::{Arg, ArgKind, Operation, Options, Signature};
use compresso_learn::data::Dataset;
use compresso_model::names::Patterns;
use compresso_model::ops::quantized_node;
use compresso_model::{Made, Model, passes};
use compresso_target::{Elementwise, Grid, Quantization, Target, onnxruntime};
use fit::Fit;
use observers::Observe;

compresso_base::choice! {
    /// When scales of activations are found.
    pub enum QuantizeMode { Static = "static", Dynamic = "dynamic" }
}

compresso_base::options! {
    /// INT8 quantization. The defaults suit onnxruntime on a CPU.
    pub struct Quantize {
        /// "static" fixes the scales of activations with calibration images; "dynamic" computes them at run time and needs no data.
        pub mode: QuantizeMode = QuantizeMode::Static,
        /// Calibration images, sampled from the dataset's training split (static mode).
        pub images: usize = 100,
        /// What makes ranges of the activations that calibration sees (static mode): an observer's name, or a map that sets a number
        /// of it too, such as #{ name: "percentile", percentile: 99.9 }.
        pub observer: Observe = Observe::default(),
        /// One scale per output channel of a weight; false: one per weight.
        pub per_channel: bool = true,
        /// Layers that stay in float: names of nodes, values or weights, parts of them such as "model.22"; `*` stands for any text,
        /// `?` for one character.
        pub exclude: Vec<String> = Vec::new(),
        /// Quantize only these layers, named as in `exclude`; empty for all.
        pub include: Vec<String> = Vec::new(),
        /// Quantize activations too; false stores only the weights in int8.
        pub activations: bool = true,
        /// Activations as int8 around zero instead of uint8 with a zero point. TensorRT always has them so.
        pub symmetric: bool = false,
        /// Additions, activations and pools between layers on int8 too, not only the layers (onnxruntime, TensorFlow Lite); the target's
        /// usual way when left out: onnxruntime's are those whose results a layer reads, and which read integers.
        pub elementwise: Option<bool> = None,
        /// Static weights in 7 of the 8 bits, so that x86 processors without VNNI, whose sums of 8-bit products overflow, run the
        /// file right (onnxruntime). Turn it off when all that will run it have VNNI or are not x86.
        pub reduce_range: bool = true,
        /// Judge the model before and after on up to 64 images of the dataset, where one is given, and say what was lost.
        #[replayed = false]
        pub score: bool = true,
        /// What the graph is for, whose rules it follows: "onnxruntime", "tensorrt", or "onnx" for the first's rules too.
        pub target: Target = Target(&onnxruntime::SPEC),
    }
}

/// Quantizes a model. `dataset` gives the calibration images of static mode.
///
/// # Errors
/// `Argument` when static mode gets no dataset; `Missing` for an exclude pattern that matches nothing; `Unsupported`
/// when nothing can be quantized; `Check` when calibration meets values that are not finite; `Cancelled`.
impl Operation for Quantize {
    const SIGNATURE: Signature = Signature {
        name: "quantize",
        summary: "Quantizes a model to INT8, as explicit quantize/dequantize ONNX that onnxruntime and TensorRT run",
        group: "compress",
        args: &[Arg::new("m", ArgKind::Model), Arg::optional("d", ArgKind::Dataset)],
        returns: "model",
        fields: Self::FIELDS,
        examples: &[
            r#"let m = model("yolov8n", #{ image_size: 64 }); quantize(m, dataset("shapes", #{ images: 8, size: 64 }), #{ images: 4 })"#,
            r#"quantize(model("classifier", #{ image_size: 32 }), #{ mode: "dynamic" })"#,
        ],
        keywords: &["int8", "ptq", "calibrate", "calibration", "quantise", "qdq", "static", "dynamic", "8 bit"],
    };
    type Inputs<'a> = (&'a Model, Option<&'a Dataset>);
    type Output = Made<QuantizeReport>;

    fn run(&self, (model, dataset): (&Model, Option<&Dataset>), ctx: &Context) -> Result<Made<QuantizeReport>> {
        self.with(model, dataset, false, ctx)
    }
}

impl Quantize {
    /// The quantized model without its report.
    ///
    /// # Errors
    /// As [`Quantize::run`].
    pub fn apply(&self, model: &Model, dataset: Option<&Dataset>, ctx: &Context) -> Result<Model> {
        Ok(self.run((model, dataset), ctx)?.model)
    }

    /// With int16 activations beside int8 weights, for the writer of a target that has such kernels. The graph keeps its operator set,
    /// though ONNX has these integers from set 21 on only: it is not meant for ONNX files.
    ///
    /// # Errors
    /// As [`Quantize::run`]; `Unsupported` for a target without such kernels.
    pub fn apply_wide(&self, model: &Model, dataset: Option<&Dataset>, ctx: &Context) -> Result<Model> {
        Ok(self.with(model, dataset, true, ctx)?.model)
    }

    fn with(&self, model: &Model, dataset: Option<&Dataset>, wide: bool, ctx: &Context) -> Result<Made<QuantizeReport>> {
        if let Some(node) = quantized_node(model.graph()) {
            let e = Error::argument("the model is quantized already").at(node.label());
            return Err(e.hint("quantize the float model it was made from"));
        }
        let rules = self
            .target
            .quantization
            .ok_or_else(|| Error::unsupported(format!("{} runs no integers, so a model is not quantized for it", self.target.title)))?;
        let is_static = self.mode == QuantizeMode::Static && self.activations;
        let activations = match (wide, rules.wide) {
            (true, Some(grid)) => grid,
            (true, None) => {
                let e = Error::unsupported(format!("{} has no kernels for int16 activations", self.target.title));
                return Err(e.hint("use precision: \"int8\" or \"fp16\""));
            }
            (false, _) if self.symmetric => Grid::INT8,
            (false, _) => rules.activations,
        };
        let settings = Settings {
            per_channel: self.per_channel,
            integers: self.activations,
            activations,
            weights: if is_static && self.reduce_range && rules.reduced_weights { rules.weights.reduced() } else { rules.weights },
            rules,
        };
        if self.mode == QuantizeMode::Dynamic && !rules.dynamic {
            let e = Error::unsupported(format!("{} does not run dynamically quantized graphs", self.target.title));
            return Err(e.hint("use mode: \"static\""));
        }
        let wide = float32::to_float32(model.graph())?;
        if wide.is_some() {
            ctx.note("quantize: the float16 values of the model, inputs and outputs too, are converted to float32 first");
        }
        let graph = passes::pipelines::QUANTIZE.run(wide.as_ref().unwrap_or_else(|| model.graph()))?.graph;
        ctx.check()?;
        let patterns = Patterns { include: &self.include, exclude: &self.exclude };
        let (quantized, plan, ranges) = if is_static {
            let dataset = dataset.ok_or_else(|| {
                Error::argument("static quantization needs images to calibrate on")
                    .hint("pass a dataset, as in quantize(m, d), or use mode: \"dynamic\"")
            })?;
            let elementwise = rules.elementwise.chosen(self.elementwise);
            let rules = match self.elementwise {
                Some(false) => Quantization { elementwise: Elementwise::Never, ..rules },
                _ => rules,
            };
            let mut plan = placement::plan(&graph, patterns, &self.target, &rules, elementwise)?;
            nothing_left(&plan)?;
            let wanted = |n: &str| plan.values.contains_key(n);
            let ranges = calibrate::observe(&graph, model.task(), dataset, wanted, std::slice::from_ref(&self.observer), self.images, ctx)?;
            // What stands around a layer that turns out to have no scale is placed anew.
            let values = loop {
                if let Some(limit) = rules.spread_limit {
                    let uneven = static_int8::drop_uneven(&graph, &mut plan, &ranges, limit);
                    plan.skip(uneven, "its channels differ too much for one scale");
                }
                match fit::fit(&graph, &mut plan, &ranges, &self.observer, &settings)? {
                    Fit::Scales(values) => break values,
                    Fit::Left(left) => plan = plan.without(&graph, left, &rules, elementwise)?,
                }
                nothing_left(&plan)?;
            };
            (static_int8::insert(&graph, &plan, &values, &settings)?, plan, Some(ranges))
        } else {
            // Weights that stand beside floats.
            let rules =
                Quantization { layers: if self.activations || rules.hybrid.is_empty() { rules.layers } else { rules.hybrid }, ..rules };
            let plan = placement::plan(&graph, patterns, &self.target, &rules, false)?;
            nothing_left(&plan)?;
            (dynamic::insert(&graph, &plan.layers, &settings)?, plan, None)
        };
        let mut report = report::compare(&graph, &quantized, &plan, &settings, model.task(), dataset, ranges.as_ref(), ctx)?;
        let args = std::iter::once(model.into()).chain(dataset.map(Into::into));
        let made = model.derive(quantized, self.call(args).seeded(ctx.seed));
        ctx.note(report.headline(model, &made)?);
        if let Some(data) = dataset.filter(|_| self.score) {
            let advice = "try another observer or more images, leave layers out by exclude, or train it on";
            report.score = Damage::told("quantize", advice, [model, &made], data, ctx)?;
        }
        Ok(Made::new(made, report))
    }
}

/// What the rewriting needs to know of the options.
#[derive(Debug, Clone, Copy)]
struct Settings {
    per_channel: bool,
    /// Products on integers; false: only weights are stored as such (dynamic mode).
    integers: bool,
    activations: Grid,
    weights: Grid,
    rules: Quantization,
}

fn nothing_left(plan: &placement::Plan) -> Result<()> {
    if !plan.layers.is_empty() {
        return Ok(());
    }
    let e = Error::unsupported("no layer of the model can be quantized");
    Err(match plan.skipped.first() {
        Some((name, reason)) => e.hint(format!("'{name}' is left out because {reason}")),
        None => e.hint("only convolutions and matrix products with constant weights are quantized"),
    })
}
