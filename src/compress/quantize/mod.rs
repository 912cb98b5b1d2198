//! INT8 quantization after training, written as ONNX that other runtimes execute.
//!
//! *Static*: scales of activations come from calibration images; the graph gets explicit QuantizeLinear and
//! DequantizeLinear pairs. *Dynamic*: scales of activations are computed at run time; no data is needed. Weights are int8,
//! symmetric, one scale per output channel. Where things go is decided in [`placement`]; batch norms are folded first.

#[cfg(test)]
mod accuracy_tests;
mod adaround;
pub mod affine;
mod auto;
mod bias;
mod budget;
pub mod calibrate;
mod calibrated;
mod dynamic;
mod equalize;
pub mod extremes;
mod fit;
mod float32;
mod judge;
mod layer;
pub mod observers;
pub mod placement;
mod ranges;
mod reconstruct;
mod report;
mod sensitivity;
mod static_int8;
#[cfg(test)]
mod tests;
pub mod weights;

pub use budget::Guilty;
pub use judge::{Judge, OutputError};
pub use ranges::{RangesReport, ShowRanges, ValueRange};
pub use report::{LayerError, QuantizeReport};
pub use sensitivity::{LayerSensitivity, QuantizationSensitivity, QuantizationSensitivityReport};

use crate::damage::Damage;
use crate::recover::Recover;
use calibrated::Calibrated;
use compresso_base::context::Context;
use compresso_base::error::{Error, Result};
use compresso_base::operation::{Arg, ArgKind, Operation, Options, Signature, in_range};
use compresso_learn::data::Dataset;
use compresso_model::names::Patterns;
use compresso_model::ops::quantized_node;
use compresso_model::passes::Pipeline;
use compresso_model::{Element, Made, Model, passes};
use compresso_target::{Grid, Quantization, Target, onnxruntime};
use observers::Observe;
use reconstruct::Choices;

compresso_base::choice! {
    /// When scales of activations are found.
    pub enum QuantizeMode { Static = "static", Dynamic = "dynamic" }
}

compresso_base::choice! {
    /// How weights become integers.
    pub enum Rounding { Nearest = "nearest", Adaround = "adaround" }
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
        /// Bits of the weights, 2 to 8. Below 8 they lie in bytes all the same, under scales that clip what is rare; up to 4 bits and without
        /// `activations` in int4, which ONNX has from operator set 21 on.
        pub weight_bits: usize = 8,
        /// "adaround" chooses for each weight the integer above or below, or one further, so that the layer's output on calibration images
        /// moves least (Nagel et al. 2020); "nearest" takes the nearest. The former is worth its time below 8 bits.
        pub rounding: Rounding = Rounding::Nearest,
        /// Change biases so that each output channel keeps its mean on calibration images.
        pub bias_correction: bool = false,
        /// First move scales between layers with a Relu or nothing between them, so that the channels of a weight are alike; what the
        /// float model computes stays the same (Nagel et al. 2019).
        pub equalize: bool = false,
        /// Leave as few layers in float as keep the loss of mAP50-95, or top-1, within this, as judged on up to 128 images of the dataset:
        /// 0.005 is half a point (static mode).
        pub max_drop: Option<f64> = None,
        /// Passes over the training images in which the quantized model then learns, without labels, to give what the float model gives (as
        /// `recover` does, with its defaults). 0: none.
        pub fine_tune: usize = 0,
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
        let settings = self.settings(wide)?;
        let float = self.float(model, ctx)?;
        let graph = float.graph();
        ctx.check()?;
        let mut guilty = Vec::new();
        let (rounded, calibrated) = if self.is_static() {
            let calibrated = Calibrated::new(self, graph, model.task(), dataset, settings, ctx)?;
            let left = match (self.max_drop, dataset) {
                (Some(most), Some(data)) => budget::left(&calibrated, &float, data, most, &mut guilty, ctx)?,
                _ => Vec::new(),
            };
            (calibrated.rounded(&left, ctx)?, Some(calibrated))
        } else {
            let rules = settings.rules;
            // Weights that stand beside floats.
            let rules =
                Quantization { layers: if self.activations || rules.hybrid.is_empty() { rules.layers } else { rules.hybrid }, ..rules };
            let patterns = Patterns { include: &self.include, exclude: &self.exclude };
            let mut plan = placement::plan(graph, patterns, &self.target, &rules, false)?;
            nothing_left(&plan)?;
            let source = (model.task(), dataset, self.images);
            let weights = calibrated::weights_alone(graph, &mut plan, &settings, self.choices(), source, ctx)?;
            let quantized = dynamic::insert(&weights, &plan.layers, &settings)?;
            (calibrated::Rounded { float: weights, graph: quantized, plan }, None)
        };
        let mut report = report::compare(graph, &rounded, &settings, model.task(), dataset, calibrated.as_ref(), ctx)?;
        report.guilty = guilty;
        let mut quantized = rounded.graph;
        if self.fine_tune > 0 {
            let Some(data) = dataset else {
                return Err(Error::argument("option 'fine_tune' needs images, and no dataset was given").hint("labels are not read"));
            };
            let student = Model::new(quantized, model.task().clone());
            quantized = Recover { epochs: self.fine_tune, ..Recover::default() }.graph(&student, &float, data, ctx)?;
        }
        let args = std::iter::once(model.into()).chain(dataset.map(Into::into));
        let made = model.derive(quantized, self.call(args).seeded(ctx.seed));
        ctx.note(report.headline(model, &made, self.weight_bits)?);
        if let Some(data) = dataset.filter(|_| self.score) {
            let advice = "try another observer or more images, leave layers out by exclude, or train it on";
            report.score = Damage::told("quantize", advice, [model, &made], data, ctx)?;
        }
        Ok(Made::new(made, report))
    }
}

impl Quantize {
    /// Whether activations get scales of their own.
    fn is_static(&self) -> bool {
        self.mode == QuantizeMode::Static && self.activations
    }
    fn choices(&self) -> Choices {
        Choices { rounding: self.rounding == Rounding::Adaround, bias: self.bias_correction }
    }

    /// What the rewriting needs to know of the options. `wide`: with int16 activations.
    fn settings(&self, wide: bool) -> Result<Settings> {
        in_range("weight_bits", self.weight_bits as f64, 2.0..=8.0)?;
        if let Some(most) = self.max_drop {
            in_range("max_drop", most, 0.0..=1.0)?;
            if !self.is_static() {
                return Err(Error::argument("option 'max_drop' chooses layers of static quantization").hint("use mode: \"static\""));
            }
        }
        let title = self.target.title;
        let rules = self
            .target
            .quantization
            .ok_or_else(|| Error::unsupported(format!("{title} runs no integers, so a model is not quantized for it")))?;
        let activations = match (wide, rules.wide) {
            (true, Some(grid)) => grid,
            (true, None) => {
                let e = Error::unsupported(format!("{title} has no kernels for int16 activations"));
                return Err(e.hint("use precision: \"int8\" or \"fp16\""));
            }
            (false, _) if self.symmetric => Grid::INT8,
            (false, _) => rules.activations,
        };
        if self.mode == QuantizeMode::Dynamic && !rules.dynamic {
            return Err(Error::unsupported(format!("{title} does not run dynamically quantized graphs")).hint("use mode: \"static\""));
        }
        let weights = match self.weight_bits {
            8 if self.is_static() && self.reduce_range && rules.reduced_weights => rules.weights.reduced(),
            8 => rules.weights,
            bits => rules.weights.around_zero(bits),
        };
        Ok(Settings { per_channel: self.per_channel, integers: self.activations, activations, weights, rules })
    }

    /// The model as it is quantized: in float32, batch norms folded, scales moved between layers where that is asked for.
    fn float(&self, model: &Model, ctx: &Context) -> Result<Model> {
        if let Some(node) = quantized_node(model.graph()) {
            let e = Error::argument("the model is quantized already").at(node.label());
            return Err(e.hint("quantize the float model it was made from"));
        }
        let wide = float32::to_float32(model.graph())?;
        if wide.is_some() {
            ctx.note("quantize: the float16 values of the model, inputs and outputs too, are converted to float32 first");
        }
        let graph = passes::pipelines::QUANTIZE.run(wide.as_ref().unwrap_or_else(|| model.graph()))?.graph;
        let graph = if self.settings(false).is_ok_and(|s| s.stored() == Element::I4) { FOUR_BITS.run(&graph)?.graph } else { graph };
        if !self.equalize {
            return Ok(Model::new(graph, model.task().clone()));
        }
        let (graph, pairs) = equalize::equalize(&graph)?;
        ctx.note(format!("quantize: scales were moved between {pairs} pairs of layers"));
        Ok(Model::new(graph, model.task().clone()))
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

/// For weights that are stored in 4 bits.
const FOUR_BITS: Pipeline =
    Pipeline { name: "four_bits", summary: "Operators that know integers of 4 bits", lists: &[&[&passes::RaiseOpset::FOUR_BITS]] };

impl Settings {
    /// The type of weights that stand alone in a file.
    fn stored(&self) -> Element {
        if !self.integers && self.weights.high <= 7 { Element::I4 } else { Element::I8 }
    }
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
