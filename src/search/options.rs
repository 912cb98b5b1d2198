//! Options of `compress`.

use compresso_compress::score::Figure;
use compresso_measure::runtimes::RuntimeName;

compresso_base::choice! {
    /// What may be done to a model.
    pub enum Technique {
        /// Channels go, and the weights of the layers behind them are solved anew on images.
        Prune = "prune",
        /// INT8, its scales calibrated on images.
        Quantize = "quantize",
        /// Cuts shared among the layers by what each bears, as `sensitivity` measures it, where cuts by one ranking lose too much.
        Sensitivity = "sensitivity",
        /// INT8 with the layers left in float that lose most, where INT8 of all loses too much.
        MixedPrecision = "mixed_precision",
        /// Smaller images.
        Resize = "resize",
        /// Training of pruned models that lost too much, on the dataset's labels.
        Train = "train",
        /// The same with the model as given for a teacher, and with that alone where no labels fit.
        Distill = "distill",
    }
}

compresso_base::choice! {
    /// What a detector is scored by.
    pub enum By {
        /// mAP50-95, which sees boxes that became less exact.
        Map = "map",
        /// mAP50.
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
        /// Joules that an image may take, by a sensor of what runs it (RAPL, NVML); without one that reports, it is refused.
        pub energy_j: Option<f64> = None,
        /// Runtime in which candidates are timed: "native", "onnxruntime", "openvino" …
        pub runtime: RuntimeName = "native".into(),
        /// Minutes for the search; what is begun is ended. What an earlier search left in `cache` took its minutes of them.
        pub budget_minutes: f64 = 20.0,
        /// What may be done: "prune", "quantize"; "sensitivity" (cuts shared among the layers by what each bears), "mixed_precision" (INT8 but
        /// for the layers that lose most), "resize" (smaller images); "distill" (pruned models that lost too much are trained on the
        /// dataset with the model as given for a teacher) and "train" (on its labels alone).
        pub techniques: Vec<Technique> = vec![Technique::Prune, Technique::Quantize, Technique::Distill],
        /// Epochs of such training.
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
