//! Options of `benchmark`.

use super::{BenchmarkReport, benchmark};
use crate::runtimes::RuntimeName;
use compresso_base::context::Context;
use compresso_base::error::Result;
use compresso_base::operation::{Arg, ArgKind, Operation, Options, Signature};
use compresso_learn::data::Dataset;
use compresso_learn::eval::Evaluate;
use compresso_model::Model;
use compresso_model::classes::ClassMatch;

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

impl Benchmark {
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
            r#"let a = model("classifier", #{ image_size: 32 }); let b = model("classifier", #{ image_size: 32, width: 0.5 }); benchmark([a, b], #{ runs: 3, runtimes: ["native"] })"#,
        ],
        keywords: &["training", "latency", "speed", "time", "throughput", "fps", "memory", "power", "compare", "p95", "p99"],
    };
    type Inputs<'a> = (&'a [(String, Model)], Option<&'a Dataset>);
    type Output = BenchmarkReport;

    fn run(&self, (models, data): Self::Inputs<'_>, ctx: &Context) -> Result<BenchmarkReport> {
        benchmark(models, data, self, ctx)
    }
}
