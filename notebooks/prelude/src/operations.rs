//! The operations of scripts as functions, with the session's context.

use crate::cell::remember;
use crate::session::{ctx, keep_partial};
use candle_core::Device;
use compresso::compress::distill::Distill;
use compresso::compress::prune::{GroupReport, Prune, PruneGroups, PruneReport, Student};
use compresso::compress::quantize::{Quantize, QuantizeReport, RangesReport, ShowRanges};
use compresso::compress::recover::Recover;
use compresso::compress::sensitivity::{Sensitivity, SensitivityReport};
use compresso::deploy::{
    CoremlExport, Deploy, Deployed, EmbedNms, EmbedPreprocessing, Findings, Lint, NcnnExport, OnnxExport, OpenvinoExport, Optimize,
    OptimizeReport, TensorrtArtifacts, TensorrtExport, TfliteExport, onnx::OnnxFile,
};
use compresso::exec::{self, Forward, Outputs};
use compresso::learn::data::{DataOptions, Dataset, Grid, GridOptions, Split, SplitOptions};
use compresso::learn::eval::{self, Evaluate, Evaluation, Predict, Predictions};
use compresso::learn::train::{History, Train, Trained};
use compresso::measure::compare::{self as comparing, Compare, Comparison};
use compresso::measure::{Benchmark, BenchmarkReport, PipelineReport, Stages, StreamReport, Throughput};
use compresso::model::names::fits;
use compresso::model::{Load, Loaded, Made, ModelOptions, Resize, Summarize, Summary, Value};
use compresso::operation::Operation;
use compresso::search::{Compress, CompressReport, Guide, GuideReport};
use compresso::{Context, Model, Result};
use std::path::Path;

/// Runs an operation under the session's context and remembers its error.
fn run<T>(operation: impl FnOnce(&Context) -> Result<T>) -> Result<T> {
    let ctx = ctx();
    ctx.check().and_then(|()| operation(&ctx)).inspect_err(remember)
}

/// The defaults of any options: `Prune { ratio: 0.4, ..default() }`.
pub fn default<T: Default>() -> T {
    T::default()
}

/// Opens a model: an .onnx, .safetensors or Ultralytics .pt file, an architecture .yaml, or a name of the zoo.
///
/// `model("classifier", ModelOptions { classes: Some(3.into()), image_size: Some(32.into()), ..default() })?`
///
/// # Errors
/// Those of reading files and of building.
pub fn model(source: &str, options: ModelOptions) -> Result<Made<()>> {
    run(|ctx| Ok(options.run(source, ctx)?.into()))
}

/// The model for images of another size: `resize(&m, Resize { size: Some(256.into()) })?`.
///
/// # Errors
/// Those of running [`Resize`].
pub fn resize<R>(m: &Made<R>, options: Resize) -> Result<Made<()>> {
    run(|ctx| Ok(options.run(&m.model, ctx)?.into()))
}

/// Reads a file: a model (.onnx), tensors (.npy, .npz, .pb, .safetensors, .pt, .pth) or data (.json).
///
/// # Errors
/// `Io`; `Format`.
pub fn load(path: &str) -> Result<Loaded> {
    run(|ctx| Load {}.run(path, ctx))
}

/// Opens a dataset: a data.yaml (YOLO), COCO's .json, a folder, images by a pattern, "shapes" or "random".
///
/// # Errors
/// `Missing`; `Format`.
pub fn dataset(source: &str, options: DataOptions) -> Result<Dataset> {
    run(|ctx| options.run(source, ctx))
}

/// A split of a dataset: "train", "val" or "test".
///
/// # Errors
/// `Missing`, with the splits that there are.
pub fn split(d: &Dataset, name: &str) -> Result<Dataset> {
    run(|ctx| Split {}.run((d, name), ctx))
}

/// A dataset divided anew into splits.
///
/// # Errors
/// `Argument` for parts that do not fit.
pub fn splits(d: &Dataset, options: SplitOptions) -> Result<Dataset> {
    run(|ctx| options.run(d, ctx))
}

/// The first images of a dataset.
pub fn take(d: &Dataset, n: usize) -> Dataset {
    d.take(n)
}

/// Images of a dataset with their labels, drawn side by side.
///
/// # Errors
/// Those of reading images.
pub fn grid(d: &Dataset, options: GridOptions) -> Result<Grid> {
    run(|ctx| options.run(d, ctx))
}

fn trained(trained: Trained) -> Made<History> {
    let cancelled = trained.history.cancelled;
    let made = trained.into();
    if cancelled {
        keep_partial(&made);
    }
    made
}

/// Trains a model on a dataset's training split; `val` judges each epoch (`None`: the data's own split). An interrupt ends
/// it early and well; [`partial`](crate::session::partial) gives what was reached.
///
/// # Errors
/// Those of running [`Train`].
pub fn train<'a, R>(m: &Made<R>, data: &Dataset, val: impl Into<Option<&'a Dataset>>, options: Train) -> Result<Made<History>> {
    let val = val.into();
    run(|ctx| Ok(trained(options.run((&m.model, data, val), ctx)?)))
}

/// Trains a student to imitate a teacher.
///
/// # Errors
/// Those of running [`Distill`].
pub fn distill<'a, R, T>(
    student: &Made<R>,
    teacher: &Made<T>,
    data: &Dataset,
    val: impl Into<Option<&'a Dataset>>,
    options: Distill,
) -> Result<Made<History>> {
    let val = val.into();
    run(|ctx| Ok(trained(options.run((&student.model, &teacher.model, data, val), ctx)?)))
}

/// Brings a pruned or quantized model back without labels: it learns to give what the model that it was made from gives.
///
/// # Errors
/// Those of running [`Recover`].
pub fn recover<R, T>(m: &Made<R>, teacher: &Made<T>, data: &Dataset, options: Recover) -> Result<Made<History>> {
    run(|ctx| Ok(trained(options.run((&m.model, &teacher.model, data), ctx)?)))
}

/// A narrower and shallower model of the same zoo architecture, started from the model's best channels.
///
/// # Errors
/// Those of running [`Student`].
pub fn student<'a, R>(m: &Made<R>, data: impl Into<Option<&'a Dataset>>, options: Student) -> Result<Made<()>> {
    let data = data.into();
    run(|ctx| Ok(options.run((&m.model, data), ctx)?.into()))
}

/// Searches for the cut and the precision with which a model is fastest and keeps its score. The report has all candidates. An interrupt
/// gives the best so far.
///
/// # Errors
/// Those of running [`Compress`].
pub fn compress<R>(m: &Made<R>, data: &Dataset, options: Compress) -> Result<Made<CompressReport>> {
    run(|ctx| options.run((&m.model, data), ctx))
}

/// Takes channels out of a model; data is for criteria that look at it. The report says what went from each layer.
///
/// `let small = prune(&m, None, Prune { ratio: 0.4, ..default() })?;`
///
/// # Errors
/// Those of running [`Prune`].
pub fn prune<'a, R>(m: &Made<R>, data: impl Into<Option<&'a Dataset>>, options: Prune) -> Result<Made<PruneReport>> {
    let data = data.into();
    run(|ctx| options.run((&m.model, data), ctx))
}

/// The groups of channels of a model that can only be pruned together.
///
/// # Errors
/// `Unsupported` for operators that the registry does not know.
pub fn prune_groups(m: &Model) -> Result<GroupReport> {
    run(|ctx| PruneGroups {}.run(m, ctx))
}

/// What a model loses when channels of one group after the other are removed, or one layer after the other is quantized.
///
/// # Errors
/// Those of running [`Sensitivity`].
pub fn sensitivity(m: &Model, data: &Dataset, options: Sensitivity) -> Result<SensitivityReport> {
    run(|ctx| options.run((m, data), ctx))
}

/// Rounds a model's numbers to 8 bits; data is for the ranges of static quantization. The report has each layer's error.
///
/// # Errors
/// Those of running [`Quantize`].
pub fn quantize<'a, R>(m: &Made<R>, data: impl Into<Option<&'a Dataset>>, options: Quantize) -> Result<Made<QuantizeReport>> {
    let data = data.into();
    run(|ctx| options.run((&m.model, data), ctx))
}

/// Ranges of a model's activations on calibration images, by every observer, with histograms and outlying channels.
///
/// # Errors
/// Those of running [`ShowRanges`].
pub fn ranges(m: &Model, data: &Dataset, options: ShowRanges) -> Result<RangesReport> {
    run(|ctx| options.run((m, data), ctx))
}

/// Images that a model looks at.
pub trait Images {
    /// # Errors
    /// `Missing` for files that are not there; `Cancelled`.
    fn images(self, ctx: &Context) -> Result<Dataset>;
}

impl Images for &Dataset {
    fn images(self, _: &Context) -> Result<Dataset> {
        Ok(self.for_evaluation())
    }
}

/// A file, a folder or a pattern.
impl Images for &str {
    fn images(self, ctx: &Context) -> Result<Dataset> {
        eval::image_files_dataset(&[self], ctx)
    }
}

impl<const N: usize> Images for [&str; N] {
    fn images(self, ctx: &Context) -> Result<Dataset> {
        eval::image_files_dataset(&self, ctx)
    }
}

/// What a model sees in images: a dataset, or files by their paths.
///
/// # Errors
/// Those of running [`Predict`].
pub fn predict(m: &Model, images: impl Images, options: Predict) -> Result<Predictions> {
    run(|ctx| options.run((m, &images.images(ctx)?), ctx))
}

/// How right a model is on a dataset.
///
/// # Errors
/// Those of running [`Evaluate`].
pub fn evaluate(m: &Model, d: &Dataset, options: Evaluate) -> Result<Evaluation> {
    run(|ctx| options.run((m, d), ctx))
}

/// What a model is made of: inputs, outputs, layers with parameters and multiply-accumulates.
///
/// # Errors
/// What shape inference reports.
pub fn summary(m: &Model) -> Result<Summary> {
    run(|_| m.summary())
}

/// All layers of a model with operator, output, parameters and multiply-accumulates.
///
/// # Errors
/// What shape inference reports.
pub fn layers(m: &Model) -> Result<Summary> {
    run(|ctx| Summarize { layers: true, ..default() }.run(m, ctx))
}

/// Inputs of a model: its only one, or all by name.
pub trait Feeds {
    /// # Errors
    /// `Unsupported` for a tensor of another type than models have.
    fn feeds(self) -> Result<exec::Feeds>;
}

impl Feeds for &Value {
    fn feeds(self) -> Result<exec::Feeds> {
        Ok(exec::Feeds::Only(self.clone()))
    }
}

impl Feeds for &candle_core::Tensor {
    fn feeds(self) -> Result<exec::Feeds> {
        Ok(exec::Feeds::Only(Value::plain(self.clone())?))
    }
}

impl<const N: usize> Feeds for [(&str, &Value); N] {
    fn feeds(self) -> Result<exec::Feeds> {
        Ok(exec::Feeds::Named(self.into_iter().map(|(name, v)| (name.to_string(), v.clone())).collect()))
    }
}

/// Runs a model and gives its outputs by name, or the inner values asked for.
///
/// # Errors
/// Those of running [`Forward`].
pub fn forward(m: &Model, x: impl Feeds, wanted: &[&str]) -> Result<Outputs> {
    let wanted: Vec<String> = wanted.iter().map(|w| (*w).to_string()).collect();
    run(|ctx| Forward::default().run((m, &x.feeds()?, Some(&wanted)), ctx))
}

/// The stored tensors of a model whose names a pattern fits: a whole name, a layer, a block, or one with `*` and `?`.
///
/// # Errors
/// Those of reading them.
pub fn weights(m: &Model, pattern: &str) -> Result<Outputs> {
    let fitting = m.graph().constants().iter().filter(|(name, _)| fits(pattern, name));
    fitting.map(|(name, w)| Ok((name.clone(), Value::of_constant(w, &Device::Cpu)?))).collect()
}

/// One model, or several with their names.
pub trait Models {
    fn models(self) -> Vec<(String, Model)>;
}

impl Models for &Model {
    fn models(self) -> Vec<(String, Model)> {
        vec![("model".into(), self.clone())]
    }
}

impl<R> Models for &Made<R> {
    fn models(self) -> Vec<(String, Model)> {
        vec![("model".into(), self.model.clone())]
    }
}

impl Models for Vec<(String, Model)> {
    fn models(self) -> Vec<(String, Model)> {
        self
    }
}

/// Models with their names: `models! { base: m, small: small }`.
#[macro_export]
macro_rules! models {
    ($($name:ident : $model:expr),+ $(,)?) => {
        ::std::vec![$((::std::string::String::from(::std::stringify!($name)), $crate::operations::model_of(&$model))),+]
    };
}

/// The model that something made stands for.
pub fn model_of(m: &Model) -> Model {
    m.clone()
}

impl<const N: usize> Models for [(&str, &Model); N] {
    fn models(self) -> Vec<(String, Model)> {
        self.into_iter().map(|(name, m)| (name.to_string(), m.clone())).collect()
    }
}

/// How fast models are, how much memory they take, beside each other:
/// `benchmark(models! { base: m, small: small }, None, default())?`.
///
/// # Errors
/// Those of running [`Benchmark`].
pub fn benchmark<'a>(m: impl Models, data: impl Into<Option<&'a Dataset>>, options: Benchmark) -> Result<BenchmarkReport> {
    let data = data.into();
    run(|ctx| options.run((&m.models(), data), ctx))
}

/// What a few measurements say of what to do next.
///
/// # Errors
/// Those of running [`Guide`].
pub fn guide(m: &Model, d: &Dataset, options: Guide) -> Result<GuideReport> {
    run(|ctx| options.run((m, d), ctx))
}

/// Images per second from file to boxes, by one thread and by workers.
///
/// # Errors
/// Those of running [`Throughput`].
pub fn throughput(m: &Model, images: &Dataset, options: Throughput) -> Result<StreamReport> {
    run(|ctx| options.run((m, images), ctx))
}

/// A model cut into stages, against one engine and whole models side by side.
///
/// # Errors
/// Those of running [`Stages`].
pub fn pipeline(m: &Model, options: Stages) -> Result<PipelineReport> {
    run(|ctx| options.run(m, ctx))
}

/// How far the outputs of two models are apart on images of a dataset (seeded noise without one).
///
/// # Errors
/// `Shape` when the outputs differ in number or shape.
pub fn compare<'a>(a: &Model, b: &Model, data: impl Into<Option<&'a Dataset>>, options: Compare) -> Result<Comparison> {
    let data = data.into();
    run(|ctx| options.run((a, b, data), ctx))
}

/// How far two tensors are apart.
///
/// # Errors
/// `Shape` when the shapes differ.
pub fn compare_tensors(a: &Value, b: &Value) -> Result<Comparison> {
    run(|_| comparing::compare_tensors(a, b))
}

/// Writes an ONNX file for other runtimes.
///
/// # Errors
/// `Io`; `Unsupported`.
pub fn onnx_export(m: &Model, path: &str, options: OnnxExport) -> Result<OnnxFile> {
    run(|ctx| options.run((m, Path::new(path)), ctx))
}

/// Writes a model for a target, in the precision asked for.
///
/// # Errors
/// `Argument`; `Io`; `Unsupported`.
pub fn deploy<'a>(m: &Model, path: &str, data: impl Into<Option<&'a Dataset>>, options: Deploy) -> Result<Deployed> {
    let data = data.into();
    run(|ctx| options.run((m, Path::new(path), data), ctx))
}

/// Writes a folder from which TensorRT builds an engine.
///
/// # Errors
/// `Io`; `Unsupported`.
pub fn tensorrt_export<'a>(
    m: &Model,
    folder: &str,
    data: impl Into<Option<&'a Dataset>>,
    options: TensorrtExport,
) -> Result<TensorrtArtifacts> {
    let data = data.into();
    run(|ctx| options.run((m, Path::new(folder), data), ctx))
}

/// Writes OpenVINO's IR: a `.xml` file, and a `.bin` file beside it.
///
/// # Errors
/// `Argument`; `Io`; `Unsupported`.
pub fn openvino_export<'a>(m: &Model, path: &str, data: impl Into<Option<&'a Dataset>>, options: OpenvinoExport) -> Result<Deployed> {
    let data = data.into();
    run(|ctx| options.run((m, Path::new(path), data), ctx))
}

/// Writes a file of TensorFlow Lite.
///
/// # Errors
/// `Argument`; `Io`; `Unsupported`.
pub fn tflite_export<'a>(m: &Model, path: &str, data: impl Into<Option<&'a Dataset>>, options: TfliteExport) -> Result<Deployed> {
    let data = data.into();
    run(|ctx| options.run((m, Path::new(path), data), ctx))
}

/// Writes a folder with the files of ncnn.
///
/// # Errors
/// `Argument`; `Io`; `Unsupported`.
pub fn ncnn_export<'a>(m: &Model, folder: &str, data: impl Into<Option<&'a Dataset>>, options: NcnnExport) -> Result<Deployed> {
    let data = data.into();
    run(|ctx| options.run((m, Path::new(folder), data), ctx))
}

/// Writes a package for Core ML.
///
/// # Errors
/// `Argument`; `Io`; `Unsupported`.
pub fn coreml_export<'a>(m: &Model, path: &str, data: impl Into<Option<&'a Dataset>>, options: CoremlExport) -> Result<Deployed> {
    let data = data.into();
    run(|ctx| options.run((m, Path::new(path), data), ctx))
}

/// Rewrites the graph with the same outputs.
///
/// # Errors
/// `Argument` for another pass; `Check` when an output differs.
pub fn optimize(m: &Model, options: Optimize) -> Result<Made<OptimizeReport>> {
    run(|ctx| options.run(m, ctx))
}

/// Puts non-maximum suppression into a detector's graph.
///
/// # Errors
/// `Unsupported` for a model that is no detector; `Argument` where nothing is to be suppressed.
pub fn embed_nms(m: &Model, options: EmbedNms) -> Result<Model> {
    run(|ctx| options.run(m, ctx))
}

/// Puts the scaling of pixels into the graph, which then takes bytes.
///
/// # Errors
/// `Unsupported` for a model without an image input; `Argument` where it takes bytes already.
pub fn embed_preprocessing(m: &Model, options: EmbedPreprocessing) -> Result<Model> {
    run(|ctx| options.run(m, ctx))
}

/// What a target, by its name, would refuse or run badly.
///
/// # Errors
/// `Argument` for another target.
pub fn lint(m: &Model, target: &str) -> Result<Findings> {
    run(|ctx| Lint {}.run((m, target), ctx))
}
