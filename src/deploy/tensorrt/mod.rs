//! Export to TensorRT, and the engine where its builder is found. What TensorRT takes stands in
//! [`target::tensorrt`](compresso_target::tensorrt).

mod builder;
mod rtx;
#[cfg(test)]
mod tests;

pub use builder::find_trtexec;

use super::export::{Caller, Deploy, Deployed, file_table};
use compresso_base::context::Context;
use compresso_base::error::{Error, Result};
use compresso_base::operation::{Arg, ArgKind, Argument, Operation, Options, Signature};
use compresso_base::report::{Show, Table};
use compresso_learn::data::Dataset;
use compresso_model::Model;
use compresso_target::{ExportPrecision, Target, tensorrt};
use serde::Serialize;
use std::path::{Path, PathBuf};

compresso_base::options! {
    /// Options of `tensorrt_export`.
    pub struct TensorrtExport {
        /// Precision of the layers: "fp32", "fp16" or "int8".
        pub precision: ExportPrecision = ExportPrecision::Fp16,
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
        /// Stem of the file names.
        pub name: String = "model".into(),
        /// Batch size that the engine is tuned for, where the model leaves it open.
        pub batch: usize = 1,
        /// Largest batch size of the engine; `batch` when left out.
        pub max_batch: Option<usize> = None,
        /// Memory that the builder may use, in MiB; TensorRT's own choice when left out.
        pub workspace: Option<usize> = None,
        /// Build the engine: true insists, false does not try; by default it is built where its builder is found.
        #[replayed = false]
        pub build: Option<bool> = None,
        /// Build a plan of TensorRT for RTX in place of an engine: `NAME_PRECISION.rtx.plan`. The Python package tensorrt-rtx builds it, without a
        /// GPU; only TensorRT for RTX loads it, on a GeForce or RTX card.
        #[replayed = false]
        pub rtx: bool = false,
    }
}

/// What became of the engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", content = "detail", rename_all = "lowercase")]
pub enum EngineBuild {
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
    /// Where the files are.
    pub folder: PathBuf,
    /// The numbers that they hold.
    pub precision: ExportPrecision,
    /// All files.
    pub files: Vec<PathBuf>,
    /// What became of the engine.
    pub engine: EngineBuild,
    /// What to know about them.
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
        keywords: &["trt", "nvidia", "rtx", "engine", "plan", "jetson", "fp16", "half", "int8", "trtexec", "deploy"],
    };
    type Inputs<'a> = (&'a Model, &'a Path, Option<&'a Dataset>);
    type Output = TensorrtArtifacts;

    fn run(&self, (model, folder, data): Self::Inputs<'_>, ctx: &Context) -> Result<TensorrtArtifacts> {
        let workspace = self.workspace.map(|mib| (tensorrt::WORKSPACE.to_string(), serde_json::Value::from(mib)));
        let args = [model.into(), Argument::Target(folder.to_string_lossy().into())].into_iter().chain(data.map(Into::into));
        let caller = Caller { call: self.call(args).seeded(ctx.seed), settings: workspace.into_iter().collect() };
        let Deployed { precision, files, notes, .. } = self.deploy().write(model, folder, data, caller, ctx)?;
        let mut artifacts = TensorrtArtifacts { folder: folder.into(), precision, files, engine: EngineBuild::Skipped, notes };
        artifacts.engine = self.engine(&artifacts, ctx)?;
        if let EngineBuild::Built(path) = &artifacts.engine {
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

    fn deploy(&self) -> Deploy {
        Deploy {
            target: Target(&tensorrt::SPEC),
            precision: self.precision,
            images: self.images,
            exclude: self.exclude.clone(),
            include: self.include.clone(),
            score: self.score,
            name: self.name.clone(),
            batch: self.batch,
            max_batch: self.max_batch,
            verify: false,
        }
    }

    fn engine(&self, artifacts: &TensorrtArtifacts, ctx: &Context) -> Result<EngineBuild> {
        if self.build == Some(false) {
            return Ok(EngineBuild::Skipped);
        }
        let kept = || {
            let names: Vec<String> = artifacts.files.iter().map(|f| f.display().to_string()).collect();
            let next = if self.rtx { "try again where TensorRT for RTX is installed" } else { "run build.sh where TensorRT is installed" };
            format!("the artefacts are kept ({}); {next}", names.join(", "))
        };
        let found = if self.rtx { rtx::find() } else { find_trtexec().ok_or_else(builder::missing) };
        let program = match found {
            Ok(program) => program,
            Err(missing) => {
                return match self.build {
                    Some(true) => Err(Error::unavailable(missing).hint(kept())),
                    _ => Ok(EngineBuild::Unavailable(missing)),
                };
            }
        };
        let built = if self.rtx {
            let onnx = compresso_target::file_name(&self.name, self.precision, "onnx");
            rtx::run(&program, &artifacts.folder, [&onnx, &tensorrt::plan_file(&self.name, self.precision)], ctx)?
        } else {
            builder::run(&program, &artifacts.folder, &tensorrt::engine_file(&self.name, self.precision), ctx)?
        };
        match built {
            Ok(engine) => Ok(EngineBuild::Built(engine)),
            Err(words) if self.build == Some(true) => {
                Err(Error::unavailable(format!("{} built nothing: {words}", program.display())).hint(kept()))
            }
            Err(words) => Ok(EngineBuild::Failed(words)),
        }
    }
}

impl TensorrtArtifacts {
    fn line(&self) -> String {
        let engine = match &self.engine {
            EngineBuild::Built(path) if path.to_string_lossy().ends_with(tensorrt::RTX_ENDING) => {
                format!("plan {}, for TensorRT for RTX alone", path.display())
            }
            EngineBuild::Built(path) => format!("engine {}", path.display()),
            EngineBuild::Unavailable(why) => format!("no engine: {why}"),
            EngineBuild::Failed(why) => format!("no engine: its builder failed: {why}"),
            EngineBuild::Skipped => "engine not asked for".into(),
        };
        format!("tensorrt_export: {} files in {}, {}; {engine}", self.files.len(), self.folder.display(), self.precision)
    }
}

impl Show for TensorrtArtifacts {
    fn tables(&self) -> Vec<Table> {
        vec![file_table("TensorRT artefacts", &self.files)]
    }
    fn notes(&self) -> Vec<String> {
        std::iter::once(self.line()).chain(self.notes.iter().cloned()).collect()
    }
    fn data(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}
