//! TensorRT: an ONNX graph whose types say the precision, what builds an engine from it, and the engine where a builder
//! is found.
//!
//! TensorRT 10 and newer are strongly typed: fp16 and int8 are in the graph (float16 constants and values; explicit
//! QuantizeLinear/DequantizeLinear). For TensorRT up to 10 there is also a calibration cache beside the float32 graph.

mod builder;
mod cache;
mod lint;
#[cfg(test)]
mod tests;

pub use builder::find_trtexec;
pub use cache::calibration_cache;

use super::half::to_float16;
use super::{Finding, Severity, Target};
use compresso_base::context::Context;
use compresso_base::error::{Error, Result};
use compresso_base::operation::{Arg, ArgKind, Argument, Operation, Options, Signature, in_range};
use compresso_base::report::{Show, Table};
use compresso_compress::quantize::{self, Quantize, calibrate};
use compresso_learn::data::Dataset;
use compresso_model::ops::quantized_node;
use compresso_model::weights::atomic_write;
use compresso_model::{Model, passes};
use serde::Serialize;
use std::path::{Path, PathBuf};

compresso_base::choice! {
    /// Precision of the layers.
    pub enum Precision { Fp32 = "fp32", Fp16 = "fp16", Int8 = "int8" }
}

compresso_base::options! {
    /// Options of `tensorrt_export`.
    pub struct TensorrtExport {
        /// Precision of the layers: "fp32", "fp16" or "int8".
        pub precision: Precision = Precision::Fp16,
        /// Calibration images (int8), sampled from the dataset's training split.
        pub images: usize = 100,
        /// Layers that stay in float (int8): node, output or weight names; `*` stands for any text.
        pub exclude: Vec<String> = Vec::new(),
        /// Stem of the file names.
        pub name: String = "model".into(),
        /// Batch size that the engine is tuned for, where the model leaves it open.
        pub batch: usize = 1,
        /// Largest batch size of the engine; `batch` when left out.
        pub max_batch: Option<usize> = None,
        /// Memory that the builder may use, in MiB; TensorRT's own choice when left out.
        pub workspace: Option<usize> = None,
        /// Build the engine: true insists, false does not try; by default it is built where trtexec is found.
        pub build: Option<bool> = None,
    }
}

/// What became of the engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", content = "detail", rename_all = "lowercase")]
pub enum Engine {
    /// Built: its file.
    Built(PathBuf),
    /// No builder on this machine: what is missing.
    Unavailable(String),
    /// The builder failed: its last words.
    Failed(String),
    /// Not asked for.
    Skipped,
}

/// What `tensorrt_export` wrote.
#[derive(Debug, Clone, Serialize)]
pub struct TensorrtArtifacts {
    pub folder: PathBuf,
    pub precision: Precision,
    pub files: Vec<PathBuf>,
    pub engine: Engine,
    pub notes: Vec<String>,
}

/// Writes the artefacts into a folder, which is made when it is not there.
///
/// # Errors
/// `Unsupported`, listing the nodes, when TensorRT would refuse the graph; `Argument` when int8 gets no dataset;
/// `Unavailable` when `build: true` finds no builder, with the artefacts kept and listed.
impl Operation for TensorrtExport {
    const SIGNATURE: Signature = Signature {
        name: "tensorrt_export",
        summary: "Writes what TensorRT needs (typed ONNX, calibration cache, build script) and builds the engine where trtexec is found",
        group: "deploy",
        args: &[Arg::new("m", ArgKind::Model), Arg::new("folder", ArgKind::Text), Arg::optional("d", ArgKind::Dataset)],
        returns: "report",
        fields: Self::FIELDS,
        examples: &[
            r#"tensorrt_export(model("classifier", #{ image_size: 32 }), "trt", #{ precision: "fp16", build: false }).files"#,
            r#"tensorrt_export(model("classifier", #{ image_size: 32 }), "trt8", dataset("random", #{ images: 8 }), #{ precision: "int8", build: false })"#,
        ],
        keywords: &["trt", "nvidia", "engine", "plan", "jetson", "fp16", "half", "int8", "trtexec", "deploy"],
    };
    type Inputs<'a> = (&'a Model, &'a Path, Option<&'a Dataset>);
    type Output = TensorrtArtifacts;

    fn run(&self, (model, folder, data): Self::Inputs<'_>, ctx: &Context) -> Result<TensorrtArtifacts> {
        in_range("batch", self.batch as f64, 1.0..=65536.0)?;
        let max_batch = self.max_batch.unwrap_or(self.batch);
        in_range("max_batch", max_batch as f64, self.batch as f64..=65536.0)?;
        if self.name.is_empty() || self.name.contains(['/', '\\', '\'', '"', '\n']) {
            return Err(Error::argument(format!("option 'name' must be a plain file name, got '{}'", self.name)));
        }
        let quantized = quantized_node(model.graph()).is_some();
        if self.precision == Precision::Int8 && !quantized && data.is_none() {
            let e = Error::argument("int8 needs images to calibrate on");
            return Err(e.hint("pass a dataset: tensorrt_export(m, folder, d, #{ precision: \"int8\" })"));
        }
        let findings = self.lint(model)?;
        let refused: Vec<&Finding> = findings.iter().filter(|f| f.severity == Severity::Error).collect();
        if let Some(first) = refused.first() {
            let e = Error::unsupported(format!("TensorRT refuses {} of the model's nodes: {}", refused.len(), first.message));
            return Err(e.at(first.place.clone()).hint("lint(m, \"tensorrt\") lists them all"));
        }
        let mut notes: Vec<String> = findings.iter().map(|f| join(&f.place, &f.message)).collect();
        std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
        let mut files = Vec::new();
        let onnx = self.file_name(self.precision);
        let made = self.typed(model, data, folder, &mut files, &mut notes, ctx)?;
        made.save(folder.join(&onnx))?;
        files.insert(0, folder.join(&onnx));
        let build = builder::Build::of(self, made.graph(), model.task(), &onnx, max_batch)?;
        let script = folder.join("build.sh");
        write(&script, &build.script())?;
        builder::make_executable(&script)?;
        files.push(script);
        let manifest = folder.join("manifest.json");
        files.push(manifest.clone());
        write(&manifest, &self.manifest(&made, &files, &build, &notes)?)?;
        let mut artifacts = TensorrtArtifacts { folder: folder.into(), precision: self.precision, files, engine: Engine::Skipped, notes };
        artifacts.engine = self.engine(&artifacts, &build, ctx)?;
        if let Engine::Built(path) = &artifacts.engine {
            artifacts.files.push(path.clone());
        }
        ctx.note(artifacts.line());
        Ok(artifacts)
    }
}

impl TensorrtExport {
    /// As [`TensorrtExport::run`], into any kind of path.
    ///
    /// # Errors
    /// As there.
    pub fn apply(&self, model: &Model, folder: impl AsRef<Path>, data: Option<&Dataset>, ctx: &Context) -> Result<TensorrtArtifacts> {
        self.run((model, folder.as_ref(), data), ctx)
    }

    fn file_name(&self, precision: Precision) -> String {
        format!("{}_{precision}.onnx", self.name)
    }

    /// The model in the wanted precision; for int8 also writes the float32 graph with a calibration cache.
    fn typed(
        &self,
        model: &Model,
        data: Option<&Dataset>,
        folder: &Path,
        files: &mut Vec<PathBuf>,
        notes: &mut Vec<String>,
        ctx: &Context,
    ) -> Result<Model> {
        let step = |precision| {
            let file = folder.join(self.file_name(precision));
            let args = [model.into(), Argument::Target(folder.to_string_lossy().into())].into_iter().chain(data.map(Into::into));
            self.call(args).seeded(ctx.seed).writing(file.to_string_lossy())
        };
        let quantized = quantized_node(model.graph()).is_some();
        if quantized {
            if self.precision != Precision::Int8 {
                let e = Error::argument(format!("option 'precision' is \"{}\" but the model is quantized", self.precision));
                return Err(e.hint("export the float model it was made from, or use precision: \"int8\""));
            }
            return Ok(model.clone());
        }
        match self.precision {
            Precision::Fp32 => Ok(model.derive(passes::pipelines::TENSORRT.run(model.graph())?.graph, step(self.precision))),
            Precision::Fp16 => {
                let (graph, changes) = to_float16(model.graph())?;
                notes.extend(changes);
                Ok(model.derive(graph, step(self.precision)))
            }
            Precision::Int8 => {
                let data = data.ok_or_else(|| Error::internal("int8 has images to calibrate on"))?;
                let options = Quantize {
                    target: quantize::Target::Tensorrt,
                    images: self.images,
                    exclude: self.exclude.clone(),
                    ..Quantize::default()
                };
                let int8 = options.apply(model, Some(data), ctx)?;
                let graph = passes::pipelines::TENSORRT.run(model.graph())?.graph;
                let ranges = calibrate::calibrate(&graph, model.task(), data, |_| true, self.images, ctx)?;
                let float = folder.join(self.file_name(Precision::Fp32));
                model.derive(graph, step(Precision::Fp32)).save(&float)?;
                let cache = folder.join("calibration.cache");
                write(&cache, &calibration_cache(&ranges))?;
                files.extend([float, cache]);
                Ok(int8)
            }
        }
    }

    fn engine(&self, artifacts: &TensorrtArtifacts, build: &builder::Build, ctx: &Context) -> Result<Engine> {
        if self.build == Some(false) {
            return Ok(Engine::Skipped);
        }
        let kept = || {
            let names: Vec<String> = artifacts.files.iter().map(|f| f.display().to_string()).collect();
            format!("the artefacts are kept ({}); run build.sh where TensorRT is installed", names.join(", "))
        };
        let Some(trtexec) = find_trtexec() else {
            let missing = builder::missing();
            return match self.build {
                Some(true) => Err(Error::unavailable(missing).hint(kept())),
                _ => Ok(Engine::Unavailable(missing)),
            };
        };
        match builder::run(&trtexec, &artifacts.folder, build, ctx)? {
            Ok(engine) => Ok(Engine::Built(engine)),
            Err(words) if self.build == Some(true) => {
                Err(Error::unavailable(format!("{} built no engine: {words}", trtexec.display())).hint(kept()))
            }
            Err(words) => Ok(Engine::Failed(words)),
        }
    }

    fn manifest(&self, model: &Model, files: &[PathBuf], build: &builder::Build, notes: &[String]) -> Result<String> {
        let names: Vec<String> = files.iter().filter_map(|f| Some(f.file_name()?.to_string_lossy().into_owned())).collect();
        let values = |infos: &mut dyn Iterator<Item = &compresso_model::ValueInfo>| -> Vec<String> {
            infos.map(|i| format!("{}: {}", i.name, i.fact)).collect()
        };
        let manifest = serde_json::json!({
            "made_by": format!("compresso {}", env!("CARGO_PKG_VERSION")),
            "precision": self.precision,
            "files": names,
            "inputs": values(&mut model.graph().feeds()),
            "outputs": values(&mut model.graph().outputs().iter()),
            "trtexec": build.arguments(),
            "engine": build.engine,
            "calibration_cache": (self.precision == Precision::Int8).then_some(
                "for TensorRT 8 to 10 without explicit quantization: trtexec --onnx=<fp32 graph> --int8 --calib=calibration.cache"
            ),
            "recipe": model.recipe(),
            "notes": notes,
        });
        serde_json::to_string_pretty(&manifest).map_err(|e| Error::internal("the manifest cannot be written").because(e))
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    atomic_write(path, |w| w.write_all(text.as_bytes()).map_err(|e| Error::io(path, e)))
}

fn join(place: &str, message: &str) -> String {
    if place.is_empty() { message.to_string() } else { format!("{place}: {message}") }
}

impl Target for TensorrtExport {
    const NAME: &'static str = "tensorrt";
    type Artifacts = TensorrtArtifacts;

    fn lint(&self, model: &Model) -> Result<Vec<Finding>> {
        lint::lint(model.graph())
    }
    fn export(&self, model: &Model, to: &Path, data: Option<&Dataset>, ctx: &Context) -> Result<TensorrtArtifacts> {
        self.run((model, to, data), ctx)
    }
}

impl TensorrtArtifacts {
    fn line(&self) -> String {
        let engine = match &self.engine {
            Engine::Built(path) => format!("engine {}", path.display()),
            Engine::Unavailable(why) => format!("no engine: {why}"),
            Engine::Failed(why) => format!("no engine: trtexec failed: {why}"),
            Engine::Skipped => "engine not asked for".into(),
        };
        format!("tensorrt_export: {} files in {}, {}; {engine}", self.files.len(), self.folder.display(), self.precision)
    }
}

impl Show for TensorrtArtifacts {
    fn tables(&self) -> Vec<Table> {
        let mut t = Table::new("TensorRT artefacts", &["file", ">size"]);
        for f in &self.files {
            let size = std::fs::metadata(f).map_or_else(|_| "–".into(), |m| compresso_base::report::bytes(m.len()));
            t.row([f.display().to_string(), size]);
        }
        vec![t]
    }
    fn notes(&self) -> Vec<String> {
        std::iter::once(self.line()).chain(self.notes.iter().cloned()).collect()
    }
    fn data(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}
