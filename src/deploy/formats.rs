//! The operations that export to one format each: [`Deploy`] for its target.

use super::export::{Caller, Deploy, Deployed};
use compresso_base::context::Context;
use compresso_base::error::Result;
use compresso_base::operation::{Arg, ArgKind, Argument, Operation, Options, Signature};
use compresso_learn::data::Dataset;
use compresso_model::Model;
use compresso_target::{ExportPrecision, Target, ncnn, openvino, tflite};
use std::path::Path;

/// An operation with the options that all formats have, and those of its own, which are settings of the target's writer.
macro_rules! export {
    (
        $(#[$about:meta])*
        $name:ident: $function:literal for $target:path, into $place:literal; $summary:literal;
        precisions $precisions:literal;
        $examples:expr; $keywords:expr
        $(; own { $( $(#[doc = $doc:literal])+ $own:ident: $kind:ty = $default:expr, )+ })?
    ) => {
        compresso_base::options! {
            $(#[$about])*
            pub struct $name {
                #[doc = $precisions]
                /// A quantized model is written as it is, by "int8".
                pub precision: Option<ExportPrecision> = None,
                /// Calibration images (int8), sampled from the dataset's training split.
                pub images: usize = 100,
                /// Layers that stay in float (int8): names of nodes, values or weights, parts of them such as "model.22"; `*` stands for any
                /// text, `?` for one character.
                pub exclude: Vec<String> = Vec::new(),
                /// Quantize only these layers (int8), named as in `exclude`; empty for all.
                pub include: Vec<String> = Vec::new(),
                /// Judge the model before and after quantization on up to 64 images of the dataset (int8), and say what was lost.
                #[replayed = false]
                pub score: bool = true,
                /// Batch size, where the model leaves it open and the format needs one.
                pub batch: usize = 1,
                /// Run what was written in its own runtime, on images of the dataset or on noise, and compare with this library's outputs, and
                /// the scores where there are labels.
                #[replayed = false]
                pub verify: bool = false,
                $($( $(#[doc = $doc])+ pub $own: $kind = $default, )+)?
            }
        }

        /// # Errors
        /// `Unsupported`, naming the first node, when the format cannot hold the model; `Argument` for another ending, sizes left open, and
        /// int8 without a dataset; `Unavailable` when `verify` finds no runtime; `Io`.
        impl Operation for $name {
            const SIGNATURE: Signature = Signature {
                name: $function,
                summary: $summary,
                group: "deploy",
                args: &[Arg::new("m", ArgKind::Model), Arg::new($place, ArgKind::Text), Arg::optional("d", ArgKind::Dataset)],
                returns: "report",
                fields: Self::FIELDS,
                examples: $examples,
                keywords: $keywords,
            };
            type Inputs<'a> = (&'a Model, &'a Path, Option<&'a Dataset>);
            type Output = Deployed;

            fn run(&self, (model, to, data): Self::Inputs<'_>, ctx: &Context) -> Result<Deployed> {
                let args = [model.into(), Argument::Target(to.to_string_lossy().into())].into_iter().chain(data.map(Into::into));
                let own: &[(&str, serde_json::Value)] = &[$($((stringify!($own), serde_json::json!(self.$own)),)+)?];
                let settings = own.iter().map(|(name, value)| (name.to_string(), value.clone())).collect();
                let caller = Caller { call: self.call(args).seeded(ctx.seed), settings };
                let made = self.deploy(model).write(model, to, data, caller, ctx)?;
                ctx.note(made.line($function));
                Ok(made)
            }
        }

        impl $name {
            /// As `run`, to any kind of path.
            ///
            /// # Errors
            /// As there.
            pub fn apply(&self, model: &Model, to: impl AsRef<Path>, data: Option<&Dataset>, ctx: &Context) -> Result<Deployed> {
                self.run((model, to.as_ref(), data), ctx)
            }

            fn deploy(&self, model: &Model) -> Deploy {
                Deploy {
                    target: Target(&$target),
                    precision: self.precision.unwrap_or_else(|| ExportPrecision::of(model.graph())),
                    images: self.images,
                    exclude: self.exclude.clone(),
                    include: self.include.clone(),
                    score: self.score,
                    batch: self.batch,
                    verify: self.verify,
                    ..Deploy::default()
                }
            }
        }
    };
}

export! {
    /// Options of `openvino_export`.
    OpenvinoExport: "openvino_export" for openvino::SPEC, into "path";
    "Writes a model as OpenVINO's IR: path.xml and its weights, path.bin";
    precisions r#" Precision of the layers: "fp32", "fp16" or "int8"."#;
    &[
        r#"openvino_export(model("classifier", #{ image_size: 32 }), "classifier.xml").bytes"#,
        r#"openvino_export(model("classifier", #{ image_size: 32 }), "int8.xml", dataset("random", #{ images: 8 }), #{ precision: "int8" }).layers"#,
    ];
    &["intel", "ir", "xml", "bin", "export", "deploy", "int8", "fp16", "nncf"]
}

export! {
    /// Options of `tflite_export`.
    TfliteExport: "tflite_export" for tflite::SPEC, into "path";
    "Writes a model as a file of TensorFlow Lite (LiteRT); images are [batch, height, width, channels] there";
    precisions r#" Precision of the layers: "fp32", "fp16", "int8", "dynamic" (int8 weights; activations are rounded while the model runs), or "int16" (int8 weights and int16 activations)."#;
    &[
        r#"tflite_export(model("classifier", #{ image_size: 32 }), "classifier.tflite").bytes"#,
        r#"tflite_export(model("classifier", #{ image_size: 32 }), "dynamic.tflite", #{ precision: "dynamic" }).layers"#,
        r#"tflite_export(model("classifier", #{ image_size: 32 }), "int8.tflite", dataset("random", #{ images: 8 }), #{ precision: "int8", inputs: "int8", outputs: "int8" }).notes"#,
    ];
    &["tensorflow", "lite", "litert", "android", "edge", "coral", "microcontroller", "export", "deploy", "int8", "uint8", "fp16"];
    own {
        /// What the file is fed with, where it is quantized: "float32", or in steps of the first layer "int8", "uint8", "int16".
        inputs: tflite::EndType = tflite::EndType::Float32,
        /// What the file gives, where its last layer is quantized: "float32", "int8", "uint8", "int16".
        outputs: tflite::EndType = tflite::EndType::Float32,
    }
}

export! {
    /// Options of `ncnn_export`.
    NcnnExport: "ncnn_export" for ncnn::SPEC, into "folder";
    "Writes a model for ncnn into a folder: model.ncnn.param, model.ncnn.bin and metadata.yaml";
    precisions r#" Precision of the layers: "fp32", "fp16" or "int8"."#;
    &[r#"ncnn_export(model("classifier", #{ image_size: 32 }), "classifier_ncnn_model", #{ precision: "fp16" }).files"#];
    &["arm", "mobile", "phone", "raspberry", "pnnx", "param", "export", "deploy", "fp16"]
}
