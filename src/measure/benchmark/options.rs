//! Options of `benchmark`.

use super::{BenchmarkReport, benchmark};
use crate::runtimes::RuntimeName;
use crate::worker::check_cores;
use compresso_base::context::Context;
use compresso_base::error::{Error, Result};
use compresso_base::operation::{Arg, ArgKind, Operation, Options, Signature, in_range};
use compresso_learn::data::Dataset;
use compresso_learn::eval::Evaluate;
use compresso_model::Model;
use compresso_model::classes::ClassMatch;

compresso_base::choice! {
    /// How queries come, as in MLPerf's LoadGen (Reddi et al., MLPerf Inference Benchmark, 2020).
    pub enum Scenario {
        /// One batch, the next when it is answered.
        SingleStream = "single_stream",
        /// A query of several images, the next when it is answered.
        MultiStream = "multi_stream",
        /// All images are there from the start.
        Offline = "offline",
        /// Queries arrive by chance.
        Server = "server",
    }
}

compresso_base::options! {
    /// Options of `benchmark`.
    pub struct Benchmark {
        /// Measured runs of each model; 0: as many as take two seconds each, 50 at least and 500 at most. Few runs tell large differences only.
        pub runs: usize = 0,
        /// Runs before them that do not count.
        pub warmup: usize = 5,
        /// Measure for about so many seconds, shared by all models, instead of `runs`; of the scenario "server", seconds of each rate.
        pub seconds: Option<f64> = None,
        /// How queries come, as in MLPerf's LoadGen: "single_stream", one batch after the other; "multi_stream", queries of `samples` images;
        /// "offline", all at once, for throughput; "server", arriving by chance (a Poisson process), for the greatest rate at which `percentile`
        /// of them are answered within `latency_ms`.
        pub scenario: Scenario = Scenario::SingleStream,
        /// Images of a query of the scenario "multi_stream".
        pub samples: usize = 8,
        /// Milliseconds in which the queries of the scenario "server" must be answered, waiting included.
        pub latency_ms: Option<f64> = None,
        /// The share of them that must.
        pub percentile: f64 = 0.99,
        /// Images per run, where the model leaves it open.
        pub batch: usize = 1,
        /// Input size in pixels, one number or [height, width], where the model leaves it open.
        pub size: Option<serde_json::Value> = None,
        /// Threads of each runtime; the session's when left out.
        pub threads: Option<usize> = None,
        /// Numbers of the cores that the processes are kept on (Linux), so that no other core, faster or slower, has a part: as many as `threads`.
        pub cores: Option<Vec<usize>> = None,
        /// Runtimes to measure in: "native", "cuda", "onnxruntime", "openvino", "tflite", "ncnn"; "native" and "onnxruntime", where they are on this machine, when left out.
        pub runtimes: Option<Vec<RuntimeName>> = None,
        /// Time steps of training (forward, backward, update) instead of inference.
        pub training: bool = false,
        /// Measure accuracy too, when a dataset is given.
        pub accuracy: bool = true,
        /// Which classes model and dataset must have in common for that: all of them, by name, in any order ("same"), or at least one
        /// ("shared"), as with `evaluate`.
        pub classes: ClassMatch = ClassMatch::Same,
        /// Only the first images of the dataset count for accuracy.
        pub images: Option<usize> = None,
        /// Measure power, where a sensor reports it.
        pub power: bool = true,
        /// Time each step of the plan too, in a runtime that tells it: this library's own.
        pub layers: bool = false,
        /// Measure each model and runtime in a process of its own, which memory needs; all in this one otherwise.
        pub isolate: bool = true,
    }
}

/// Runs of each model, and seconds, where the options do not say.
const LEAST: usize = 50;
const MOST: usize = 500;
const USUAL: f64 = 2.0;
/// Turns that models take offline, each of them long.
const OFFLINE_TURNS: usize = 10;

impl Benchmark {
    /// # Errors
    /// `Argument` for options out of range, and those that another scenario has.
    pub(super) fn check(&self) -> Result<()> {
        in_range("runs", self.runs as f64, 0.0..=1e6)?;
        in_range("batch", self.batch as f64, 1.0..=4096.0)?;
        in_range("samples", self.samples as f64, 1.0..=4096.0)?;
        in_range("percentile", self.percentile, 0.5..=0.999)?;
        self.seconds.map_or(Ok(()), |s| in_range("seconds", s, 0.01..=86_400.0))?;
        self.latency_ms.map_or(Ok(()), |ms| in_range("latency_ms", ms, f64::MIN_POSITIVE..))?;
        if let Some(cores) = &self.cores {
            check_cores(cores)?;
            if !self.isolate {
                return Err(Error::argument("option 'cores' is for processes of their own, and isolate is false"));
            }
        }
        if self.training && self.scenario != Scenario::SingleStream {
            return Err(Error::argument(format!("training has no scenario '{}'", self.scenario)));
        }
        match (self.scenario, self.latency_ms) {
            (Scenario::Server, None) => {
                let e = Error::argument("scenario 'server' needs the option 'latency_ms'");
                Err(e.hint("the milliseconds in which queries must be answered, such as latency_ms: 100"))
            }
            (Scenario::Server, Some(_)) | (_, None) => Ok(()),
            (_, Some(_)) => Err(Error::argument("option 'latency_ms' is for the scenario 'server'")),
        }
    }
    /// Steps of a query on `batch` images each, and whether its figure is the mean of them, not their sum.
    pub(super) fn query(&self, batch: usize) -> (usize, bool) {
        match self.scenario {
            Scenario::SingleStream | Scenario::Server => (1, false),
            Scenario::MultiStream => (self.samples.div_ceil(batch.max(1)), false),
            Scenario::Offline => (self.fixed_runs().div_ceil(OFFLINE_TURNS), true),
        }
    }
    /// Runs where their number is not for the time that they take to say.
    pub(super) fn fixed_runs(&self) -> usize {
        if self.runs == 0 { LEAST } else { self.runs }
    }
    /// Queries of each of some models whose runs in turn, one of each, take so many milliseconds together.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a bounded count")]
    pub(super) fn queries_in(&self, round_ms: f64, models: usize) -> usize {
        match self.seconds {
            Some(seconds) => (1e3 * seconds / round_ms).clamp(2.0, 1e6) as usize,
            None => (1e3 * USUAL * models as f64 / round_ms).clamp(LEAST as f64, MOST as f64) as usize,
        }
    }
    /// Queries that are measured, where their number is fixed.
    pub(super) fn queries(&self) -> usize {
        if self.scenario == Scenario::Offline { OFFLINE_TURNS.min(self.fixed_runs()) } else { self.fixed_runs() }
    }
    /// How accuracy is measured.
    pub(super) fn judging(&self) -> Evaluate {
        Evaluate { images: self.images, size: self.size.clone(), classes: self.classes, ..Evaluate::default() }
    }
}

impl Operation for Benchmark {
    const SIGNATURE: Signature = Signature {
        name: "benchmark",
        summary: "Times models side by side: latency percentiles, throughput, memory, size, power, and accuracy on a dataset",
        group: "measure",
        args: &[Arg::new("models", ArgKind::Models), Arg::optional("d", ArgKind::Dataset)],
        returns: "report",
        fields: Self::FIELDS,
        examples: &[
            r#"benchmark(model("classifier", #{ image_size: 32 }), #{ runs: 3, warmup: 1 }).p50_ms"#,
            r#"benchmark(model("classifier", #{ image_size: 32 }), #{ training: true, batch: 4, runs: 3, warmup: 1 }).throughput"#,
            r#"benchmark(model("classifier", #{ image_size: 32 }), #{ runs: 3, runtimes: ["native"], layers: true })"#,
            r#"benchmark(model("classifier", #{ image_size: 32 }), #{ scenario: "server", latency_ms: 50, percentile: 0.9, seconds: 0.2, runs: 8 })"#,
            r#"let a = model("classifier", #{ image_size: 32 }); let b = model("classifier", #{ image_size: 32, width: 0.5 }); benchmark([a, b], #{ runs: 3, runtimes: ["native"] })"#,
        ],
        keywords: &[
            "training",
            "latency",
            "speed",
            "time",
            "throughput",
            "fps",
            "memory",
            "power",
            "compare",
            "p95",
            "p99",
            "mlperf",
            "loadgen",
            "scenario",
            "server",
            "offline",
            "poisson",
        ],
    };
    type Inputs<'a> = (&'a [(String, Model)], Option<&'a Dataset>);
    type Output = BenchmarkReport;

    fn run(&self, (models, data): Self::Inputs<'_>, ctx: &Context) -> Result<BenchmarkReport> {
        benchmark(models, data, self, ctx)
    }
}
