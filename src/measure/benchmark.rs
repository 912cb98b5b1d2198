//! `benchmark`: several models, in several runtimes, side by side.

use super::environment::Environment;
use super::memory;
use super::power::Meter;
use super::runtimes::training::Training;
use super::runtimes::{self, Runtime};
use super::timing::{Latency, Subject, interleaved};
use candle_core::{Device, Tensor};
use compresso_base::context::Context;
use compresso_base::error::{Error, ErrorKind, Result};
use compresso_base::operation::{Arg, Options, Signature, in_range};
use compresso_base::report::{Plot, Series, SeriesKind, Show, Table, bytes, count, number};
use compresso_exec::{Engine, StepTime};
use compresso_learn::data::Dataset;
use compresso_learn::eval::{Evaluate, Evaluation, evaluate_with, run_images_with};
use compresso_model::size_of;
use compresso_model::{Fact, Graph, Model, Value, graph::specialize, onnx};
use rand::{RngExt, SeedableRng};
use serde::Serialize;
use std::collections::HashMap;
use std::time::{Duration, Instant};

compresso_base::options! {
    /// Options of `benchmark`.
    pub struct Benchmark {
        /// Measured runs of each model.
        pub runs: usize = 50,
        /// Runs before them that do not count.
        pub warmup: usize = 5,
        /// Images per run, where the model leaves it open.
        pub batch: usize = 1,
        /// Input size in pixels, one number or [height, width], where the model leaves it open.
        pub size: Option<serde_json::Value> = None,
        /// Threads of each runtime; the session's when left out.
        pub threads: Option<usize> = None,
        /// Runtimes: "native", "onnxruntime"; all that are found when left out.
        pub runtimes: Option<Vec<String>> = None,
        /// Time steps of training (forward, backward, update) instead of inference.
        pub training: bool = false,
        /// Measure accuracy too, when a dataset is given.
        pub accuracy: bool = true,
        /// Only the first images of the dataset count for accuracy.
        pub images: Option<usize> = None,
        /// Measure power, where a sensor reports it.
        pub power: bool = true,
        /// Time each step of this library's own planned executor too.
        pub layers: bool = false,
    }
}

impl Benchmark {
    pub const SIGNATURE: Signature = Signature {
        name: "benchmark",
        summary: "Times models side by side: latency percentiles, throughput, memory, size, power, and accuracy on a dataset",
        group: "measure",
        args: &[Arg::new("models", "model or .onnx file, or a list of them"), Arg::optional("d", "dataset")],
        returns: "report",
        fields: <Self as Options>::FIELDS,
        examples: &[
            r#"benchmark(model("classifier", #{ image_size: 32 }), #{ runs: 3, warmup: 1 }).p50_ms"#,
            r#"benchmark(model("classifier", #{ image_size: 32 }), #{ training: true, batch: 4, runs: 3, warmup: 1 }).throughput"#,
            r#"benchmark(model("classifier", #{ image_size: 32 }), #{ runs: 3, runtimes: ["native"], layers: true })"#,
            r#"let a = model("classifier", #{ image_size: 32 }); let b = model("classifier", #{ image_size: 32, width: 0.5 }); benchmark([a, b], #{ runs: 3, runtimes: ["native"] })"#,
        ],
        keywords: &["training", "latency", "speed", "time", "throughput", "fps", "memory", "power", "compare", "p95", "p99"],
    };
}

/// One model in one runtime.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    pub name: String,
    pub runtime: String,
    pub params: u64,
    pub macs: u64,
    /// Bytes of the ONNX file.
    pub size_bytes: u64,
    pub batch: usize,
    #[serde(flatten)]
    pub latency: Latency,
    /// Images per second, from the mean latency.
    pub throughput: f64,
    /// Bytes by which loading and running raised the process's resident memory.
    pub peak_memory_bytes: Option<u64>,
    /// Mean power of the whole processor while the model ran, in watts.
    pub power_w: Option<f64>,
    /// Energy per image in joules.
    pub energy_j: Option<f64>,
    /// Why power is not known.
    pub power_reason: Option<String>,
    pub map50: Option<f64>,
    pub map: Option<f64>,
    pub top1: Option<f64>,
}

/// What `benchmark` measured.
#[derive(Debug, Clone, Serialize)]
pub struct BenchmarkReport {
    pub rows: Vec<Row>,
    pub environment: Environment,
    pub threads: usize,
    /// The runs were steps of training.
    pub training: bool,
    pub dataset: Option<String>,
    /// The least time of each step of each model, where asked for.
    pub layers: Vec<Layers>,
    /// What was left out or set otherwise, and why.
    pub warnings: Vec<String>,
}

/// The steps of one model.
#[derive(Debug, Clone, Serialize)]
pub struct Layers {
    pub name: String,
    pub steps: Vec<StepTime>,
}

/// A loaded model, ready to run.
struct Loaded<'a> {
    name: &'a str,
    model: &'a Model,
    runtime: Box<dyn Runtime + 'a>,
    batch: usize,
    peak: Option<u64>,
}

/// Times each model in each runtime, in turns.
///
/// A runtime that is not on this machine or that refuses a model is left out with a warning, unless it was asked for by
/// name or nothing is left.
///
/// # Errors
/// `Argument` for options out of range; `Unavailable` for a runtime that was asked for and is missing; whatever running
/// reports.
pub fn benchmark(models: &[(String, Model)], data: Option<&Dataset>, options: &Benchmark, ctx: &Context) -> Result<BenchmarkReport> {
    in_range("runs", options.runs as f64, 1.0..=1e6)?;
    in_range("batch", options.batch as f64, 1.0..=4096.0)?;
    let threads = options.threads.unwrap_or(ctx.threads);
    in_range("threads", threads as f64, 1.0..=1024.0)?;
    if models.is_empty() {
        return Err(Error::argument("there is no model to benchmark"));
    }
    let names: Vec<String> = match &options.runtimes {
        Some(names) if names.is_empty() => return Err(Error::argument("option 'runtimes' is empty")),
        Some(names) if options.training && names.iter().any(|n| n != "native") => {
            return Err(Error::argument("option 'training' times the runtime \"native\" only"));
        }
        Some(names) => names.clone(),
        None if options.training => vec!["native".to_string()],
        None => runtimes::found().into_iter().map(str::to_string).collect(),
    };
    let mut warnings = Vec::new();
    if options.training && data.is_some() {
        warnings.push("the dataset is not used: training steps are timed on noise".into());
    }
    if options.runtimes.is_none()
        && !options.training
        && let Err(e) = runtimes::onnxruntime::find()
    {
        warnings.push(format!("onnxruntime is left out: {}", e.message()));
    }
    if cfg!(debug_assertions) {
        warnings.push("this is a debug build: native figures are slow".into());
    }
    let mut loaded = load(models, &names, threads, options, &mut warnings, ctx)?;
    let mut subjects: Vec<Subject<'_>> = Vec::new();
    for l in &mut loaded {
        let runtime = &mut l.runtime;
        subjects.push(Box::new(move || runtime.step()));
    }
    let samples = interleaved(&mut subjects, options.warmup, options.runs, "benchmark", ctx)?;
    drop(subjects);
    let meter = if options.power { Meter::cpu() } else { Err("not asked for".into()) };
    let mut rows = Vec::new();
    for (l, samples) in loaded.iter_mut().zip(samples) {
        let power = match &meter {
            Ok(meter) => measure_power(l, meter, ctx)?,
            Err(reason) => Err(reason.clone()),
        };
        let accuracy = match data.filter(|_| options.accuracy && !options.training) {
            Some(data) => judge(l, data, options, &mut warnings, ctx)?,
            None => None,
        };
        rows.push(row(l, &samples, power, accuracy)?);
    }
    let mut versions: Vec<String> = Vec::new();
    for l in loaded.iter().filter(|l| l.runtime.name() != "native") {
        let version = format!("{} {}", l.runtime.name(), l.runtime.version());
        if !versions.contains(&version) {
            versions.push(version);
        }
    }
    let layers = if options.layers { layers(models, threads, options, &mut warnings, ctx)? } else { Vec::new() };
    let report = BenchmarkReport {
        rows,
        layers,
        environment: Environment::now(versions),
        threads,
        training: options.training,
        dataset: data.filter(|_| !options.training).map(Dataset::label),
        warnings,
    };
    ctx.note(report.line());
    Ok(report)
}

/// Times the steps of each model's plan.
fn layers(
    models: &[(String, Model)],
    threads: usize,
    options: &Benchmark,
    warnings: &mut Vec<String>,
    ctx: &Context,
) -> Result<Vec<Layers>> {
    let mut all = Vec::new();
    for (name, model) in models {
        let mut engine = Engine::new(model.graph(), &[], threads)?;
        match engine.profile(&feeds(model, options, ctx.seed)?, options.runs, Some(&ctx.cancel))? {
            Some(steps) => all.push(Layers { name: name.clone(), steps }),
            None => warnings.push(format!("no steps of '{name}': {}", engine.refused().unwrap_or("it cannot be planned"))),
        }
    }
    Ok(all)
}

fn load<'a>(
    models: &'a [(String, Model)],
    names: &[String],
    threads: usize,
    options: &Benchmark,
    warnings: &mut Vec<String>,
    ctx: &'a Context,
) -> Result<Vec<Loaded<'a>>> {
    let mut loaded = Vec::new();
    let mut refused = None;
    for (name, model) in models {
        let feeds = feeds(model, options, ctx.seed)?;
        let batch = feeds.values().next().and_then(|v| v.dims().first().copied()).unwrap_or(1);
        if batch != options.batch {
            warnings.push(format!("'{name}' has a fixed batch of {batch}"));
        }
        for runtime in names {
            ctx.check()?;
            let (opened, peak) = memory::peak(|| -> Result<Box<dyn Runtime + 'a>> {
                let mut r: Box<dyn Runtime + 'a> = match options.training {
                    true => Box::new(Training::new(model, threads, ctx)?),
                    false => runtimes::open(runtime, model.graph(), threads)?,
                };
                r.feed(&feeds)?;
                r.step()?;
                Ok(r)
            });
            match opened {
                Ok(runtime) => loaded.push(Loaded { name, model, runtime, batch, peak }),
                Err(e) if matches!(e.kind(), ErrorKind::Unsupported) => {
                    warnings.push(format!("'{name}' does not run in {runtime}: {}", e.message()));
                    refused = Some(e);
                }
                Err(e) => return Err(e.at(format!("model '{name}' in {runtime}"))),
            }
        }
    }
    match (loaded.is_empty(), refused) {
        (true, Some(e)) => Err(e),
        _ => Ok(loaded),
    }
}

/// Seeded noise between 0 and 1 for each input.
fn feeds(model: &Model, options: &Benchmark, seed: u64) -> Result<HashMap<String, Value>> {
    let size = options.size.as_ref().map(|v| size_of("size", v)).transpose()?.or_else(|| model.task().image_size());
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    let mut made = HashMap::new();
    for input in model.graph().feeds() {
        let fact: Fact = specialize(&input.fact, options.batch, size);
        let dims = fact.dims().ok_or_else(|| {
            Error::argument(format!("the input '{}' is {}, with sizes left open", input.name, input.fact))
                .hint("give the image size: benchmark(m, #{ size: 640 })")
        })?;
        let total: usize = dims.iter().product();
        let storage = fact.element.storage().ok_or_else(|| Error::dtype(format!("inputs of type {} cannot be made", fact.element)))?;
        let tensor = if fact.element.is_float() {
            let values: Vec<f32> = (0..total).map(|_| rng.random::<f32>()).collect();
            Tensor::from_vec(values, dims, &Device::Cpu)?.to_dtype(storage)?
        } else {
            Tensor::zeros(dims, storage, &Device::Cpu)?
        };
        made.insert(input.name.clone(), Value::new(fact.element, tensor)?);
    }
    Ok(made)
}

/// Runs for a while under a power meter: mean watts and joules per image.
fn measure_power(l: &mut Loaded<'_>, meter: &Meter, ctx: &Context) -> Result<Result<(f64, f64), String>> {
    let (runs, energy) = meter.measure(|| -> Result<usize> {
        let until = Instant::now() + Duration::from_millis(500);
        let mut runs = 0;
        while Instant::now() < until {
            ctx.check()?;
            l.runtime.step()?;
            runs += 1;
        }
        Ok(runs)
    });
    let images = (runs?.max(1) * l.batch) as f64;
    Ok(energy.and_then(|e| {
        if e.joules > 0.0 { Ok((e.watts(), e.joules / images)) } else { Err(format!("{} reported no energy", meter.name())) }
    }))
}

/// Accuracy in this runtime; `None`, with a warning, when the dataset does not fit the model.
fn judge(l: &mut Loaded<'_>, data: &Dataset, options: &Benchmark, warnings: &mut Vec<String>, ctx: &Context) -> Result<Option<Evaluation>> {
    let settings = Evaluate { images: options.images, size: options.size.clone(), ..Evaluate::default() };
    let (model, runtime) = (l.model, &mut l.runtime);
    let mut run = |images: &Tensor| run_images_with(model, images, &mut |feeds| runtime.run(feeds));
    match evaluate_with(&mut run, model.task(), data, &settings, ctx) {
        Ok(found) => Ok(Some(found)),
        Err(e) if matches!(e.kind(), ErrorKind::Argument | ErrorKind::Unsupported) => {
            warnings.push(format!("no accuracy of '{}': {}", l.name, e.message()));
            Ok(None)
        }
        Err(e) => Err(e),
    }
}

fn row(l: &Loaded<'_>, samples: &[f64], power: Result<(f64, f64), String>, accuracy: Option<Evaluation>) -> Result<Row> {
    let stats = l.model.stats()?;
    let latency = Latency::of(samples).ok_or_else(|| Error::internal("no run was measured"))?;
    Ok(Row {
        name: l.name.into(),
        runtime: l.runtime.name().into(),
        params: stats.params,
        macs: stats.macs,
        size_bytes: size(l.model.graph())?,
        batch: l.batch,
        throughput: l.batch as f64 * 1e3 / latency.mean_ms,
        latency,
        peak_memory_bytes: l.peak,
        power_w: power.as_ref().ok().map(|p| p.0),
        energy_j: power.as_ref().ok().map(|p| p.1),
        power_reason: power.err(),
        map50: accuracy.as_ref().and_then(|a| a.map50),
        map: accuracy.as_ref().and_then(|a| a.map),
        top1: accuracy.as_ref().and_then(|a| a.top1),
    })
}

fn size(graph: &Graph) -> Result<u64> {
    Ok(onnx::encode(graph)?.len() as u64)
}

impl BenchmarkReport {
    fn line(&self) -> String {
        let parts: Vec<String> = self.rows.iter().map(|r| format!("{} ({}) {:.2} ms", r.name, r.runtime, r.latency.p50_ms)).collect();
        format!("benchmark, median: {}", parts.join(", "))
    }
    fn has(&self, of: impl Fn(&Row) -> bool) -> bool {
        self.rows.iter().any(of)
    }
    fn runtimes(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for r in &self.rows {
            if !names.contains(&r.runtime.as_str()) {
                names.push(&r.runtime);
            }
        }
        names
    }
}

impl Row {
    fn accuracy(&self) -> Option<f64> {
        self.map50.or(self.top1)
    }
}

impl Show for BenchmarkReport {
    fn tables(&self) -> Vec<Table> {
        let mut headers = vec![
            "model",
            "runtime",
            ">params",
            ">MACs",
            ">size",
            ">mean ms",
            ">std",
            ">p50 ms",
            ">p95 ms",
            ">p99 ms",
            ">images/s",
            ">peak memory",
        ];
        let (power, map, top1) = (self.has(|r| r.power_w.is_some()), self.has(|r| r.map50.is_some()), self.has(|r| r.top1.is_some()));
        if power {
            headers.extend([">watts", ">J/image"]);
        }
        if map {
            headers.extend([">mAP50", ">mAP50-95"]);
        }
        if top1 {
            headers.push(">top-1");
        }
        let or_dash = |v: Option<String>| v.unwrap_or_else(|| "–".into());
        let ms = |v: f64| format!("{v:.2}");
        let mut table = Table::new("Benchmark", &headers);
        for r in &self.rows {
            let l = &r.latency;
            let mut cells = vec![r.name.clone(), r.runtime.clone(), count(r.params), count(r.macs), bytes(r.size_bytes)];
            cells.extend([l.mean_ms, l.std_ms, l.p50_ms, l.p95_ms, l.p99_ms].map(ms));
            cells.extend([number(r.throughput), or_dash(r.peak_memory_bytes.map(bytes))]);
            if power {
                cells.extend([or_dash(r.power_w.map(number)), or_dash(r.energy_j.map(number))]);
            }
            let share = |v: Option<f64>| or_dash(v.map(|v| format!("{v:.4}")));
            if map {
                cells.extend([share(r.map50), share(r.map)]);
            }
            if top1 {
                cells.push(share(r.top1));
            }
            table.row(cells);
        }
        let mut tables = vec![table];
        for l in &self.layers {
            let title = format!("Steps of {}", l.name);
            let mut table = Table::new(title, &["step", "kernel", ">ms", ">share", ">MACs", ">GOP/s", ">bytes"]);
            let total: f64 = l.steps.iter().map(|s| s.seconds).sum();
            for s in &l.steps {
                let speed = if s.macs == 0 { "–".into() } else { number(2e-9 * s.macs as f64 / s.seconds) };
                let share = format!("{:.1} %", 100.0 * s.seconds / total);
                let macs = if s.macs == 0 { "–".into() } else { count(s.macs as u64) };
                let time = format!("{:.3}", 1e3 * s.seconds);
                table.row(vec![s.node.clone(), s.kernel.clone(), time, share, macs, speed, bytes(s.bytes as u64)]);
            }
            tables.push(table);
        }
        tables
    }

    fn plots(&self) -> Vec<Plot> {
        let several = self.runtimes().len() > 1;
        let label = |r: &Row| if several { format!("{} ({})", r.name, r.runtime) } else { r.name.clone() };
        if self.has(|r| r.accuracy().is_some()) {
            let series = self.runtimes().into_iter().map(|runtime| {
                let rows: Vec<&Row> = self.rows.iter().filter(|r| r.runtime == runtime && r.accuracy().is_some()).collect();
                Series {
                    name: runtime.into(),
                    kind: SeriesKind::Points,
                    points: rows.iter().map(|r| (r.latency.p50_ms, r.accuracy().unwrap_or_default())).collect(),
                    labels: rows.iter().map(|r| label(r)).collect(),
                }
            });
            return vec![Plot {
                title: "Latency and accuracy".into(),
                x_label: "median latency (ms)".into(),
                y_label: if self.has(|r| r.map50.is_some()) { "mAP50" } else { "top-1" }.into(),
                series: series.collect(),
                ..Plot::default()
            }];
        }
        let series = Series {
            name: "p50".into(),
            kind: SeriesKind::Bars,
            points: self.rows.iter().enumerate().map(|(i, r)| (i as f64, r.latency.p50_ms)).collect(),
            labels: self.rows.iter().map(label).collect(),
        };
        vec![Plot {
            title: "Latency".into(),
            x_label: "model".into(),
            y_label: "median latency (ms)".into(),
            series: vec![series],
            ..Plot::default()
        }]
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = self.environment.lines();
        if let Some(r) = self.rows.first() {
            notes.push(format!(
                "{} threads, batch {}, {} {} each, models taking turns; memory is what loading and running added to the process",
                self.threads,
                r.batch,
                r.latency.runs,
                if self.training { "training steps (forward, backward, update)" } else { "runs" }
            ));
            notes.extend(r.power_reason.as_ref().map(|reason| format!("no power: {reason}")));
        }
        notes.extend(self.dataset.as_ref().map(|d| format!("accuracy on {d}")));
        notes.extend(self.warnings.iter().cloned());
        notes
    }

    /// The report, and beside it the fields of its first row: `benchmark(m).p50_ms`.
    fn data(&self) -> serde_json::Value {
        let mut all = serde_json::to_value(self).unwrap_or_default();
        if let (Some(map), Some(Ok(serde_json::Value::Object(first)))) = (all.as_object_mut(), self.rows.first().map(serde_json::to_value))
        {
            for (k, v) in first {
                map.entry(k).or_insert(v);
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use compresso_model::{Constant, Element, GraphBuilder, Task};

    fn model(width: usize) -> Model {
        let mut b = GraphBuilder::new("net", 17);
        let x = b.input("x", Fact::known(Element::F32, &[1, 3, 8, 8]));
        let w = b.constant("w", Constant::floats(&[width, 3, 1, 1], &vec![0.5; width * 3]).unwrap());
        let y = b.op("Conv", &[&x, &w]);
        b.output(&y);
        Model::new(b.finish().unwrap(), Task::Unknown)
    }

    #[test]
    fn rows_carry_cost_and_latency_and_scripts_read_the_first() {
        let models = [("small".to_string(), model(4)), ("large".to_string(), model(8))];
        let options = Benchmark { runs: 5, warmup: 1, runtimes: Some(vec!["native".into()]), ..Benchmark::default() };
        let report = benchmark(&models, None, &options, &Context::new()).unwrap();
        assert_eq!(report.rows.len(), 2);
        assert_eq!((report.rows[0].params, report.rows[0].macs), (12, 4 * 3 * 64));
        assert!(report.rows.iter().all(|r| r.latency.p50_ms > 0.0 && r.latency.p50_ms <= r.latency.p99_ms && r.latency.runs == 5));
        let data = report.data();
        assert_eq!(data["p50_ms"], data["rows"][0]["p50_ms"]);
        assert_eq!(data["rows"][1]["name"], "large");
        // Power is a figure or null with a reason.
        assert!(data["power_w"].is_number() != data["power_reason"].is_string());
        assert_eq!(report.tables()[0].rows.len(), 2);
        assert_eq!(report.plots()[0].series[0].labels, ["small", "large"]);
    }

    #[test]
    fn steps_of_the_plan_are_timed() {
        let options = Benchmark { layers: true, runs: 3, power: false, runtimes: Some(vec!["native".into()]), ..Benchmark::default() };
        let report = benchmark(&[("net".into(), model(4))], None, &options, &Context::new()).unwrap();
        let steps = &report.layers[0].steps;
        assert!(steps[0].kernel.starts_with("conv 1x1 3→4") && steps[0].macs == 4 * 3 * 64 && steps[0].seconds > 0.0, "{steps:?}");
        assert_eq!(steps[0].bytes, 4 * (3 * 64 + 4 * 64 + 12));
        assert!(report.tables()[1].title.contains("Steps of net"));
    }

    #[test]
    fn training_steps_are_timed_on_the_model_alone() {
        let models = [("net".to_string(), model(4))];
        let options = Benchmark { training: true, runs: 3, warmup: 1, power: false, threads: Some(1), ..Benchmark::default() };
        let report = benchmark(&models, None, &options, &Context::new()).unwrap();
        let row = &report.rows[0];
        assert_eq!((report.rows.len(), row.runtime.as_str(), row.latency.runs), (1, "native", 3));
        assert!((row.throughput - 1e3 / row.latency.mean_ms).abs() < 1e-6 * row.throughput);
        assert!(report.notes().iter().any(|n| n.contains("training steps")), "{:?}", report.notes());
        let e = benchmark(&models, None, &Benchmark { runtimes: Some(vec!["onnxruntime".into()]), ..options }, &Context::new());
        assert!(e.unwrap_err().to_string().contains("option 'training'"));
    }

    #[test]
    fn bad_requests_name_the_option() {
        let models = [("m".to_string(), model(4))];
        let run = |options: Benchmark| benchmark(&models, None, &options, &Context::new()).unwrap_err().to_string();
        assert!(run(Benchmark { runs: 0, ..Benchmark::default() }).contains("option 'runs'"));
        let e = run(Benchmark { runtimes: Some(vec!["onnxruntim".into()]), ..Benchmark::default() });
        assert!(e.contains("did you mean 'onnxruntime'?"), "{e}");
        assert!(benchmark(&[], None, &Benchmark::default(), &Context::new()).is_err());
    }
}
