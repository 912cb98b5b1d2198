//! Options of `compress`.

use crate::course::Course;
use crate::report::CompressReport;
use compresso_base::context::Context;
use compresso_base::error::{Error, Result};
use compresso_base::operation::{Arg, ArgKind, Operation, Options, Signature, in_range};
use compresso_compress::score::Figure;
use compresso_learn::data::Dataset;
use compresso_measure::runtimes::RuntimeName;
use compresso_model::ops::quantized_node;
use compresso_model::{Made, Model};

compresso_base::choice! {
    /// What may be done to a model.
    pub enum Technique {
        /// Channels go, and the weights of the layers behind them are solved anew on images.
        Prune = "prune",
        /// INT8, its scales calibrated on images.
        Quantize = "quantize",
        /// Training of pruned models that lost too much, on the dataset's labels.
        Train = "train",
    }
}

compresso_base::choice! {
    /// What a detector is scored by.
    pub enum By {
        /// mAP50-95, which sees boxes that became less exact.
        Map = "map",
        Map50 = "map50",
    }
}

compresso_base::options! {
    /// Options of `compress`.
    pub struct Compress {
        /// What the score may fall by, which lies between 0 and 1.
        pub max_drop: f64 = 0.01,
        /// What detectors are scored by: mAP50-95 ("map") or mAP50 ("map50"). Classifiers are scored by top-1; where the dataset has no labels
        /// that fit, either is the agreement with the model.
        pub by: By = By::Map,
        /// Milliseconds that a run may take; the candidate that keeps most of the score and is as fast as this is taken. Left out: the fastest
        /// that keeps the score.
        pub latency_ms: Option<f64> = None,
        /// Megabytes (10^6 bytes) that the ONNX file may have.
        pub size_mb: Option<f64> = None,
        /// Runtime in which candidates are timed: "native", "onnxruntime", "openvino" …
        pub runtime: RuntimeName = "native".into(),
        /// Minutes for the search; what is begun is ended. What an earlier search left in `cache` took its minutes of them.
        pub budget_minutes: f64 = 20.0,
        /// What may be done: "prune", "quantize", "train" (pruned models that lost too much are trained on the dataset).
        pub techniques: Vec<Technique> = vec![Technique::Prune, Technique::Quantize],
        /// Epochs of that training.
        pub epochs: usize = 10,
        /// Training images that pruning and quantization look at.
        pub images: usize = 100,
        /// Images of the split for evaluation on which candidates are scored: the first so many.
        pub judged: usize = 500,
        /// Measured runs of each candidate, in turns with as many of the model it comes from.
        pub runs: usize = 50,
        /// Folder in which candidates and what was measured of them are kept; a search that was stopped goes on from there. Left out:
        /// nothing is kept.
        #[replayed = false]
        pub cache: Option<String> = None,
    }
}

impl By {
    pub(crate) fn figure(self) -> Figure {
        match self {
            Self::Map => Figure::Map,
            Self::Map50 => Figure::Map50,
        }
    }
}

impl Operation for Compress {
    const SIGNATURE: Signature = Signature {
        name: "compress",
        summary: "Searches for the smallest and fastest model that keeps its score: prunes and quantizes, judges and times each candidate",
        group: "compress",
        args: &[Arg::new("m", ArgKind::Model), Arg::new("d", ArgKind::Dataset)],
        returns: "model",
        fields: Self::FIELDS,
        examples: &[
            r#"let d = dataset("shapes", #{ images: 24, size: 32, classes: 2, task: "classify" }); let m = train(model("classifier", #{ classes: d.classes, image_size: 32 }), d, #{ epochs: 3, batch: 8 }); compress(m, d, #{ max_drop: 0.2, runs: 8, budget_minutes: 0.2 })"#,
        ],
        keywords: &["search", "auto", "automl", "pareto", "trade-off", "best", "smaller", "faster", "budget", "latency"],
    };
    type Inputs<'a> = (&'a Model, &'a Dataset);
    type Output = Made<CompressReport>;

    fn run(&self, (model, data): (&Model, &Dataset), ctx: &Context) -> Result<Made<CompressReport>> {
        in_range("max_drop", self.max_drop, 0.0..1.0)?;
        in_range("budget_minutes", self.budget_minutes, 0.0..)?;
        in_range("images", self.images as f64, 1.0..)?;
        in_range("judged", self.judged as f64, 1.0..)?;
        // Fewer rounds tell nothing of two models.
        in_range("runs", self.runs as f64, 8.0..=1e6)?;
        for (name, target) in [("latency_ms", self.latency_ms), ("size_mb", self.size_mb)] {
            target.map_or(Ok(()), |t| in_range(name, t, f64::MIN_POSITIVE..))?;
        }
        if self.techniques.is_empty() {
            return Err(Error::argument("option 'techniques' is empty").hint(r#"the default is ["prune", "quantize"]"#));
        }
        if let Some(node) = quantized_node(model.graph()) {
            let e = Error::unsupported(format!("the model is quantized already ({})", node.label()));
            return Err(e.hint("give the float model that it was made from"));
        }
        self.runtime.spec()?.require()?;
        Course::new(self, model, data, ctx)?.run()
    }
}
