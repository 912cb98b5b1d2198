//! Writing a model for a target: passes, number types, then the target's writer.

use super::half::to_float16;
use super::verify::Verification;
use compresso_base::context::Context;
use compresso_base::error::{At, Error, Result};
use compresso_base::files::{Stage, make_parent};
use compresso_base::operation::{Arg, ArgKind, Argument, Call, Operation, Options, Recipe, Signature, in_range};
use compresso_base::report::{Cell, Show, Table};
use compresso_compress::images::image_size;
use compresso_compress::quantize::{Quantize, QuantizeMode, calibrate};
use compresso_learn::data::Dataset;
use compresso_model::graph::stored;
use compresso_model::ops::{ParamKind, quantized_node};
use compresso_model::{Element, Graph, Model};
use compresso_target::{self as target, Artefact, Calibration, Destination, ExportPrecision, Float16, Target, TargetSpec, accepted};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

compresso_base::options! {
    /// Options of `deploy`.
    pub struct Deploy {
        /// What the files are for: "onnx", "onnxruntime", "tensorrt", "openvino", "tflite", "ncnn", "coreml".
        pub target: Target = Target(&target::onnx::SPEC),
        /// Precision of the layers: "fp32", "fp16", "int8"; where the target has them "dynamic", int8 weights beside activations that are
        /// rounded while the model runs, which needs no images, and "int16", int8 weights and int16 activations. A quantized model is written
        /// as it is, by "int8".
        pub precision: ExportPrecision = ExportPrecision::Fp32,
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
        /// Stem of the file names, where the target writes several.
        pub name: String = "model".into(),
        /// Batch size that is tuned for, where the model leaves it open.
        pub batch: usize = 1,
        /// Largest batch size; `batch` when left out.
        pub max_batch: Option<usize> = None,
        /// Run the file in its own runtime, on images of the dataset or on noise, and compare with this library's outputs, and the
        /// scores where there are labels.
        #[replayed = false]
        pub verify: bool = false,
    }
}

/// What `deploy` wrote.
#[derive(Debug, Clone, Serialize)]
pub struct Deployed {
    /// What the files are for.
    pub target: Target,
    /// The numbers that they hold.
    pub precision: ExportPrecision,
    /// The model's file first.
    pub files: Vec<PathBuf>,
    /// Of each file.
    pub bytes: Vec<u64>,
    /// Layers with weights, by the precision of these in the file.
    pub layers: BTreeMap<String, usize>,
    /// From the model to the files, without what verifying them takes.
    pub seconds: f64,
    /// What the files' own runtime makes of them, where that was asked for.
    pub verified: Option<Verification>,
    /// What the target runs badly, and what had to be changed.
    pub notes: Vec<String>,
}

/// Endings of what runtimes load, which no folder has.
const FILES: [&str; 9] = ["onnx", "engine", "plan", "trt", "param", "bin", "xml", "tflite", "mlmodel"];

/// What stands in every package, and by which one that may be replaced is known.
const MANIFEST: &str = "Manifest.json";

/// The operation that exports.
pub(super) struct Caller {
    /// For the recipe of what is written.
    pub call: Call<Recipe>,
    /// Settings that only the target's writer knows.
    pub settings: serde_json::Map<String, serde_json::Value>,
}

/// Writes a model to a file or a folder, as the target has it. Folders are made.
///
/// # Errors
/// `Argument` for a file of another ending, a batch out of range, or int8 without a dataset; `Unsupported`, naming the first
/// node, when the target would refuse the model; `Io`.
impl Operation for Deploy {
    const SIGNATURE: Signature = Signature {
        name: "deploy",
        summary: "Writes a model for a target: its passes run, in the precision asked for, in the files that it takes",
        group: "deploy",
        args: &[Arg::new("m", ArgKind::Model), Arg::new("path", ArgKind::Text), Arg::optional("d", ArgKind::Dataset)],
        returns: "report",
        fields: Self::FIELDS,
        examples: &[
            r#"deploy(model("classifier", #{ image_size: 32 }), "half.onnx", #{ precision: "fp16" }).files"#,
            r#"deploy(model("classifier", #{ image_size: 32 }), "for_trt", dataset("random", #{ images: 8 }), #{ target: "tensorrt", precision: "int8" })"#,
        ],
        keywords: &["export", "save", "target", "runtime", "onnx", "tensorrt", "fp16", "int8"],
    };

    type Inputs<'a> = (&'a Model, &'a Path, Option<&'a Dataset>);
    type Output = Deployed;

    fn run(&self, (model, to, data): Self::Inputs<'_>, ctx: &Context) -> Result<Deployed> {
        let args = [model.into(), Argument::Target(to.to_string_lossy().into())].into_iter().chain(data.map(Into::into));
        let caller = Caller { call: self.call(args).seeded(ctx.seed), settings: serde_json::Map::new() };
        let made = self.write(model, to, data, caller, ctx)?;
        ctx.note(made.line("deploy"));
        Ok(made)
    }
}

impl Deploy {
    pub(super) fn write(&self, model: &Model, to: &Path, data: Option<&Dataset>, caller: Caller, ctx: &Context) -> Result<Deployed> {
        let begin = Instant::now();
        let batch = [self.batch, self.max_batch.unwrap_or(self.batch)];
        in_range("batch", batch[0] as f64, 1.0..=65536.0)?;
        in_range("max_batch", batch[1] as f64, self.batch as f64..=65536.0)?;
        if self.name.is_empty() || self.name.contains(['/', '\\', '\'', '"', '\n']) {
            return Err(Error::argument(format!("option 'name' must be a plain file name, got '{}'", self.name)));
        }
        if let Some(ending) = self.target.destination.ending()
            && to.extension().is_none_or(|e| !e.eq_ignore_ascii_case(ending))
        {
            return Err(Error::argument(format!("the file name must end in .{ending}")).file(to));
        }
        if matches!(self.target.destination, Destination::Folder)
            && let Some(ending) = to.extension().and_then(|e| e.to_str()).filter(|e| FILES.contains(&e.to_ascii_lowercase().as_str()))
        {
            let e = format!("{}'s files go into a folder, and a name that ends in .{ending} is that of a file", self.target.title);
            return Err(Error::argument(e).file(to).hint(format!("name a folder: {}(m, \"folder\")", caller.call.operation)));
        }
        let quantized = quantized_node(model.graph()).is_some();
        if matches!(self.precision, ExportPrecision::Int8 | ExportPrecision::Int16) && !quantized && data.is_none() {
            let (precision, operation) = (self.precision, &caller.call.operation);
            let e = Error::argument(format!("{precision} needs images to calibrate on"));
            return Err(e.hint(format!("pass a dataset: {operation}(m, path, d, #{{ precision: \"{precision}\" }})")));
        }
        if quantized && self.precision != ExportPrecision::Int8 {
            let e = Error::argument(format!("option 'precision' is \"{}\" but the model is quantized", self.precision));
            return Err(e.hint("export the float model it was made from, or use precision: \"int8\""));
        }
        let fixed;
        let model = if self.target.open_sizes {
            model
        } else {
            fixed = model.with_fixed_sizes(self.batch, model.image_size())?;
            &fixed
        };
        let mut notes = accepted(&self.target, model.graph())?;
        let step = |precision: ExportPrecision| {
            let file = match self.target.destination {
                Destination::File(_) | Destination::Package(_) => to.to_path_buf(),
                Destination::Folder => to.join(target::file_name(&self.name, precision, "onnx")),
            };
            caller.call.clone().writing(file.to_string_lossy())
        };
        let simple = || self.target.pipeline.run(model.graph()).map(|out| out.graph);
        let mut calibrated = None;
        let made = match self.precision {
            _ if quantized => model.clone(),
            ExportPrecision::Fp32 => model.derive(simple()?, step(self.precision)),
            ExportPrecision::Fp16 if self.target.float16 == Float16::Stored => model.derive(simple()?, step(self.precision)),
            ExportPrecision::Fp16 => {
                let (graph, changes) = to_float16(&simple()?)?;
                notes.extend(changes);
                model.derive(graph, step(self.precision))
            }
            ExportPrecision::Dynamic => self.rounding_as_it_runs()?.apply(model, data, ctx)?,
            ExportPrecision::Int16 => self.quantize().apply_wide(model, data, ctx)?,
            ExportPrecision::Int8 => {
                let data = data.ok_or_else(|| Error::internal("int8 has images to calibrate on"))?;
                let made = self.quantize().apply(model, Some(data), ctx)?;
                if self.target.calibration {
                    let float = simple()?;
                    let ranges = calibrate::calibrate(&float, model.task(), data, |_| true, self.images, ctx)?;
                    let broken: Vec<&str> = ranges.broken().collect();
                    if !broken.is_empty() {
                        let names = broken.join("', '");
                        notes.push(format!("infinite or not a number on a calibration image, so the calibration cache lacks '{names}'"));
                    }
                    let ranges = ranges.iter().map(|(name, r)| (name.to_string(), [r.min, r.max])).collect::<Vec<_>>();
                    calibrated = Some((model.derive(float, step(ExportPrecision::Fp32)), ranges));
                }
                made
            }
        };
        accepted(&self.target, made.graph())?;
        let artefact = Artefact {
            model: &made,
            precision: self.precision,
            name: &self.name,
            batch,
            image_size: image_size(made.graph(), made.task()).ok(),
            calibration: calibrated.as_ref().map(|(model, ranges)| Calibration { model, ranges }),
            notes: &notes,
            settings: &caller.settings,
        };
        let files = match self.target.destination {
            Destination::File(_) => {
                make_parent(to)?;
                (self.target.write)(&artefact, to)?
            }
            Destination::Folder | Destination::Package(_) => {
                let stage = if self.target.destination == Destination::Folder { Stage::new(to)? } else { Stage::replacing(to, MANIFEST)? };
                let made = (self.target.write)(&artefact, stage.path()).in_file(to)?;
                ctx.check()?;
                let files = made.iter().map(|f| stage.target(f)).collect();
                stage.commit()?;
                files
            }
        };
        let told = (self.target.told)(&artefact)?;
        notes.extend(told);
        let seconds = begin.elapsed().as_secs_f64();
        let size = |f: &PathBuf| std::fs::metadata(f).map(|m| m.len()).map_err(|e| Error::io(f, e));
        let bytes = files.iter().map(size).collect::<Result<_>>()?;
        let verified = match (self.verify, files.first()) {
            (true, Some(file)) => Some(Verification::of(&self.target, &made, file, data, ctx)?),
            _ => None,
        };
        let layers = layers(made.graph(), &self.target, self.precision)?;
        Ok(Deployed { target: self.target, precision: self.precision, files, bytes, layers, seconds, verified, notes })
    }

    /// How the target rounds what layers read while a model runs.
    fn rounding_as_it_runs(&self) -> Result<Quantize> {
        let dynamic = self.target.quantization.is_some_and(|q| q.dynamic);
        if !dynamic && self.target.quantization.is_none_or(|q| q.hybrid.is_empty()) {
            let e = Error::unsupported(format!("{} does not round activations while a model runs", self.target.title));
            return Err(e.hint("use precision: \"int8\", which needs a dataset, or \"fp16\""));
        }
        let mode = if dynamic { QuantizeMode::Dynamic } else { QuantizeMode::Static };
        Ok(Quantize { mode, activations: dynamic, ..self.quantize() })
    }

    fn quantize(&self) -> Quantize {
        Quantize {
            target: self.target,
            images: self.images,
            exclude: self.exclude.clone(),
            include: self.include.clone(),
            score: self.score,
            ..Quantize::default()
        }
    }
}

/// Weights of layers, by how the file stores them.
fn layers(graph: &Graph, target: &TargetSpec, precision: ExportPrecision) -> Result<BTreeMap<String, usize>> {
    let halved = precision == ExportPrecision::Fp16 && target.float16 == Float16::Stored;
    let mut found = BTreeMap::new();
    for weight in stored(graph)?.iter().filter(|s| s.kind == Some(ParamKind::Weight)) {
        let element = match weight.constant.element() {
            Element::F32 if halved => Element::F16,
            other => other,
        };
        *found.entry(element.to_string()).or_insert(0) += 1;
    }
    Ok(found)
}

/// The files with their sizes.
pub(super) fn file_table(title: &str, files: &[PathBuf]) -> Table {
    let mut t = Table::new(title, &["file", ">size"]);
    for f in files {
        let size = std::fs::metadata(f).map_or_else(|_| Cell::unknown(), |m| Cell::bytes(m.len()));
        t.row([Cell::from(f.display().to_string()), size]);
    }
    t
}

impl Deployed {
    /// What was done, for the operation of this name.
    pub(super) fn line(&self, operation: &str) -> String {
        let files: Vec<String> = self.files.iter().map(|f| f.display().to_string()).collect();
        let layers: Vec<String> = self.layers.iter().map(|(element, n)| format!("{n} in {element}")).collect();
        let layers = if layers.is_empty() { String::new() } else { format!(", layers: {}", layers.join(", ")) };
        let (precision, title) = (self.precision, self.target.title);
        format!("{operation}: {precision} for {title}: {}{layers}; {:.2} s", files.join(", "), self.seconds)
    }
}

impl Show for Deployed {
    fn tables(&self) -> Vec<Table> {
        let files = file_table(&format!("Files for {}", self.target.title), &self.files);
        std::iter::once(files).chain(self.verified.iter().map(Verification::table)).collect()
    }
    fn notes(&self) -> Vec<String> {
        let score = self.verified.iter().filter_map(Verification::line);
        score.chain(self.notes.iter().cloned()).collect()
    }
    fn data(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}
