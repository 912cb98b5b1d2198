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
mod clipped;
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
mod settings;
mod static_int8;
#[cfg(test)]
mod tests;
pub mod weights;

pub use budget::Guilty;
pub use clipped::Clipped;
pub use judge::{Judge, OutputError};
pub use ranges::{RangesReport, ShowRanges, ValueRange};
pub use report::{LayerError, QuantizeReport};
pub use sensitivity::{LayerSensitivity, Layers, QuantizeSensitivity};

use crate::damage::Damage;
use crate::recover::Recover;
use calibrate::Shares;
use calibrated::Calibrated;
use compresso_base::context::Context;
use compresso_base::error::{Error, Result};
use compresso_base::operation::{Arg, ArgKind, Operation, Options, Signature, idle};
use compresso_base::report::counted;
use compresso_learn::data::Dataset;
use compresso_model::names::Patterns;
use compresso_model::ops::quantized_node;
use compresso_model::{Element, Graph, Made, Model, passes};
use compresso_target::{Quantization, Target, onnxruntime};
use observers::Observe;
use reconstruct::Choices;
use settings::{FOUR_BITS, Settings};

compresso_base::choice! {
    /// When scales of activations are found.
    pub enum QuantizeMode {
        /// Once, on calibration images.
        Static = "static",
        /// At run time, for each input anew.
        Dynamic = "dynamic",
    }
}

compresso_base::choice! {
    /// How weights become integers.
    pub enum Rounding {
        /// Each becomes the nearest.
        Nearest = "nearest",
        /// Each becomes the one, near it, by which the layer's output on calibration images moves least (Nagel et al. 2020).
        Adaround = "adaround",
    }
}

compresso_base::options! {
    /// INT8 quantization. The defaults suit onnxruntime on a CPU.
    pub struct Quantize {
        /// "static" fixes the scales of activations with calibration images; "dynamic" computes them at run time and needs no data.
        pub mode: QuantizeMode = QuantizeMode::Static,
        /// Calibration images, sampled from the dataset's training split (static mode). Up to 8 others judge; where there are none, a fifth
        /// is held out for that.
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
        /// The runtime whose rules the graph follows: which operators it runs on integers, which integers, where rounding goes. "onnx" means
        /// onnxruntime's; one that runs no integers from such a graph is refused.
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
        ctx.note_each(self.idle(dataset));
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
            let images = dataset.map(|d| self.shares(graph, d)).transpose()?.map_or(0, |s| s.calibrated);
            let source = (model.task(), dataset, images);
            let weights = calibrated::weights_alone(graph, &mut plan, &settings, self.choices(), source, ctx)?;
            let quantized = dynamic::insert(&weights, &plan.layers, &settings)?;
            (calibrated::Rounded { float: weights, graph: quantized, plan, clipped: Vec::new() }, None)
        };
        let shares = match (&calibrated, dataset) {
            (Some(c), _) => Some(c.shares),
            (None, Some(data)) => Some(self.shares(graph, data)?),
            (None, None) => None,
        };
        let mut report = report::compare(graph, &rounded, &settings, model.task(), dataset.zip(shares), calibrated.as_ref(), ctx)?;
        report.guilty = guilty;
        report.clipped.clone_from(&rounded.clipped);
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
        ctx.note_each(report.warnings());
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
    /// Which images choose weights and biases where nothing is calibrated, and which judge.
    fn shares(&self, graph: &Graph, data: &Dataset) -> Result<Shares> {
        let chosen = self.choices().any();
        let shares = Shares::of(graph, data, self.images)?;
        Ok(if chosen { shares } else { Shares { calibrated: 0, from: 0, judges: shares.from + shares.judges } })
    }
    /// What is said of options that change nothing as the others are.
    fn idle(&self, dataset: Option<&Dataset>) -> Option<String> {
        if self.is_static() {
            return None;
        }
        let mut names = vec!["observer", "symmetric", "elementwise"];
        if dataset.is_none() || !self.choices().any() {
            names.push("images");
        }
        let mode = if self.mode == QuantizeMode::Dynamic { "with mode: \"dynamic\"" } else { "with activations: false" };
        idle("quantize", self, &names, &format!("{mode}, which calibrates no activations"))
    }
    fn choices(&self) -> Choices {
        Choices { rounding: self.rounding == Rounding::Adaround, bias: self.bias_correction }
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
        ctx.note(match pairs {
            0 => "quantize: equalize moves nothing: no two convolutions follow each other with a Relu, a pool or nothing between them alone, \
                  across which scales can be moved (SiLU, additions and concatenations do not let them through)"
                .to_string(),
            _ => format!("quantize: scales were moved between {} of layers", counted(pairs, "pair")),
        });
        Ok(Model::new(graph, model.task().clone()))
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
