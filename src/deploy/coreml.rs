//! Export to Core ML. What Core ML takes stands in [`target::coreml`](compresso_target::coreml).

use super::export::{Caller, Deploy, Deployed};
use compresso_base::context::Context;
use compresso_base::error::{Error, Result};
use compresso_base::operation::{Arg, ArgKind, Argument, Operation, Options, Signature};
use compresso_learn::data::Dataset;
use compresso_model::Model;
use compresso_model::ops::quantized_node;
use compresso_target::coreml::{self, Weights};
use compresso_target::{ExportPrecision, Target};
use serde_json::json;
use std::path::Path;

compresso_base::options! {
    /// Options of `coreml_export`.
    pub struct CoremlExport {
        /// "fp32", "fp16" (what the Neural Engine computes in), or "int8": weights in int8, the rest in float16; with a dataset, what layers
        /// read is rounded too, which iOS 17 has. A quantized model is written as it is, by "int8".
        pub precision: Option<ExportPrecision> = None,
        /// Store each large weight as indices of so many bits into a palette of its own: 1, 2, 4, 6 or 8. It is computed with in fp32 or fp16, as
        /// `precision` says.
        pub palettize: Option<usize> = None,
        /// The input is an image of bytes, of which the program makes the numbers that the model was trained on: 0 to 1, or as the task says.
        pub image: bool = false,
        /// Calibration images (int8 with a dataset), sampled from the dataset's training split.
        pub images: usize = 100,
        /// Layers that stay in float (int8 with a dataset): names of nodes, values or weights, parts of them such as "model.22"; `*` stands
        /// for any text, `?` for one character.
        pub exclude: Vec<String> = Vec::new(),
        /// Quantize only these layers (int8 with a dataset), named as in `exclude`; empty for all.
        pub include: Vec<String> = Vec::new(),
        /// Judge the model before and after quantization on up to 64 images of the dataset (int8), and say what was lost.
        #[replayed = false]
        pub score: bool = true,
        /// Batch size, where the model leaves it open.
        pub batch: usize = 1,
    }
}

/// # Errors
/// `Unsupported`, naming the first node, when the format cannot hold the model; `Argument` for another ending, sizes left open, options that
/// do not go together, and a folder in the package's place that is none; `Io`.
impl Operation for CoremlExport {
    const SIGNATURE: Signature = Signature {
        name: "coreml_export",
        summary: "Writes a model as a .mlpackage for Core ML: an ML program, its weights in float, int8 or palettes",
        group: "deploy",
        args: &[Arg::new("m", ArgKind::Model), Arg::new("path", ArgKind::Text), Arg::optional("d", ArgKind::Dataset)],
        returns: "report",
        fields: Self::FIELDS,
        examples: &[
            r#"coreml_export(model("classifier", #{ image_size: 32 }), "classifier.mlpackage").bytes"#,
            r#"coreml_export(model("classifier", #{ image_size: 32 }), "small.mlpackage", #{ precision: "fp16", palettize: 4, image: true }).layers"#,
            r#"coreml_export(model("classifier", #{ image_size: 32 }), "int8.mlpackage", #{ precision: "int8" }).layers"#,
        ],
        keywords: &["apple", "ios", "macos", "iphone", "mlpackage", "mlmodel", "palette", "export", "deploy", "int8", "fp16"],
    };
    type Inputs<'a> = (&'a Model, &'a Path, Option<&'a Dataset>);
    type Output = Deployed;

    fn run(&self, (model, to, data): Self::Inputs<'_>, ctx: &Context) -> Result<Deployed> {
        let weights = self.weights(model, data)?;
        let args = [model.into(), Argument::Target(to.to_string_lossy().into())].into_iter().chain(data.map(Into::into));
        let mut settings = weights.settings();
        if self.image {
            settings.insert(coreml::IMAGE.into(), json!(true));
        }
        let caller = Caller { call: self.call(args).seeded(ctx.seed), settings };
        let mut made = self.deploy(model, weights).write(model, to, data, caller, ctx)?;
        let stored = match weights {
            Weights::Kept => None,
            Weights::Int8 => {
                made.precision = ExportPrecision::Int8;
                Some("int8".to_string())
            }
            Weights::Palette(bits) => Some(format!("palettes of {} numbers", 1u32 << bits)),
        };
        if let Some(form) = stored {
            let count = coreml::rounded(&coreml::SPEC.pipeline.run(model.graph())?.graph)?;
            let mut left = count;
            // Where the conversion to float16 leaves some layers in float32, those are counted last.
            for n in made.layers.values_mut() {
                let taken = left.min(*n);
                *n -= taken;
                left -= taken;
            }
            made.layers.retain(|_, n| *n > 0);
            made.layers.insert(form, count - left);
        }
        ctx.note(made.line("coreml_export"));
        Ok(made)
    }
}

impl CoremlExport {
    /// As `run`, to any kind of path.
    ///
    /// # Errors
    /// As there.
    pub fn apply(&self, model: &Model, to: impl AsRef<Path>, data: Option<&Dataset>, ctx: &Context) -> Result<Deployed> {
        self.run((model, to.as_ref(), data), ctx)
    }

    /// How weights are stored that the model has in float.
    fn weights(&self, model: &Model, data: Option<&Dataset>) -> Result<Weights> {
        let quantized = quantized_node(model.graph()).is_some();
        let int8 = self.precision == Some(ExportPrecision::Int8);
        if let Some(bits) = self.palettize {
            if quantized || int8 {
                let what = if quantized { "the model is quantized" } else { "precision is \"int8\"" };
                return Err(Error::argument(format!("option 'palettize' is {bits} but {what}: a weight is stored in one way")));
            }
            let known = coreml::BITS.into_iter().find(|&b| b as usize == bits);
            let wrong = || Error::argument(format!("option 'palettize' must be 1, 2, 4, 6 or 8 bits, got {bits}"));
            return known.map(Weights::Palette).ok_or_else(wrong);
        }
        if !int8 || quantized || data.is_some() {
            return Ok(Weights::Kept);
        }
        if !self.exclude.is_empty() || !self.include.is_empty() {
            let e = Error::argument("options 'exclude' and 'include' choose layers whose input is rounded, for which a dataset is needed");
            return Err(e.hint("pass a dataset: coreml_export(m, path, d, #{ precision: \"int8\" })"));
        }
        Ok(Weights::Int8)
    }

    fn deploy(&self, model: &Model, weights: Weights) -> Deploy {
        Deploy {
            target: Target(&coreml::SPEC),
            precision: match weights {
                Weights::Int8 => ExportPrecision::Fp16,
                _ => self.precision.unwrap_or_else(|| ExportPrecision::of(model.graph())),
            },
            images: self.images,
            exclude: self.exclude.clone(),
            include: self.include.clone(),
            score: self.score,
            batch: self.batch,
            ..Deploy::default()
        }
    }
}
