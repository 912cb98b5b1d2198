//! What a search has made and measured, in a folder.
//!
//! A candidate is two files named by the hash of all that it follows from (the model, the dataset's recipe, the steps with their options,
//! seed and version): `HASH.onnx`, and `HASH.json` with what was measured, which is written last. Either is there whole or not at all.

use crate::options::Compress;
use crate::plan::Plan;
use compresso_base::context::Context;
use compresso_base::error::{Error, Result};
use compresso_base::files;
use compresso_base::operation::{Digest, changed};
use compresso_learn::data::Dataset;
use compresso_measure::statistics::{Interval, Speedup, Verdict};
use compresso_model::{LoadOptions, Model};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What was measured of a candidate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Known {
    /// What it is judged by.
    pub score: f64,
    /// The standard error of what of the score was lost, where the images tell it.
    pub deviation: Option<f64>,
    /// Parameters.
    pub params: u64,
    /// `None` where the model leaves the image's size open.
    pub macs: Option<u64>,
    /// Bytes of its ONNX file.
    pub size_bytes: u64,
    /// `None` where the score was too low for it to matter.
    pub time: Option<Timed>,
    /// Making, judging and timing it.
    pub seconds: f64,
}

impl Known {
    /// With as many digits as a file keeps to the last bit, so that a search that goes on decides as one that was never stopped.
    #[must_use]
    pub fn rounded(self) -> Self {
        let round = |v: f64| format!("{v:.11e}").parse().unwrap_or(v);
        let interval = |i: Interval| Interval { low: round(i.low), high: round(i.high) };
        let speedup = |s: Speedup| Speedup { times: round(s.times), low: round(s.low), high: round(s.high), ..s };
        let time = |t: Timed| Timed {
            p50_ms: round(t.p50_ms),
            interval_ms: t.interval_ms.map(interval),
            speedup: t.speedup.map(speedup),
            energy_j: t.energy_j.map(round),
        };
        Self {
            score: round(self.score),
            deviation: self.deviation.map(round),
            time: self.time.map(time),
            seconds: round(self.seconds),
            ..self
        }
    }
}

/// How long a run takes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Timed {
    /// The median of the model as given, and where it lies with 95 % confidence; of others that median over their speed-up, with 99 %.
    pub p50_ms: f64,
    /// Where that median lies, where there are runs enough to say.
    pub interval_ms: Option<Interval>,
    /// Against the model as given, which took turns with it; `None` for that itself.
    pub speedup: Option<Speedup>,
    /// Joules of an image, where that was asked for.
    #[serde(default)]
    pub energy_j: Option<f64>,
}

impl Timed {
    /// How many times as fast as the model as given; 1 where the rounds do not tell.
    pub fn times(&self) -> f64 {
        self.speedup.filter(|s| s.verdict != Verdict::CannotTell).map_or(1.0, |s| s.times)
    }
}

/// The folder; or nothing, where nothing is kept.
pub struct Store {
    folder: Option<PathBuf>,
    /// What all candidates of a search follow from.
    basis: String,
}

impl Store {
    /// # Errors
    /// `Io`, naming the folder; what encoding the model reports.
    pub fn new(options: &Compress, model: &Model, data: &Dataset, ctx: &Context) -> Result<Self> {
        let folder = options.cache.as_ref().map(PathBuf::from);
        if let Some(folder) = &folder {
            std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
        }
        let mut said = changed(options);
        // These choose among candidates and change none.
        for name in ["max_drop", "latency_ms", "size_mb", "energy_j", "budget_minutes", "techniques", "epochs", "cache"] {
            said.shift_remove(name);
        }
        let basis = serde_json::json!({
            "version": env!("CARGO_PKG_VERSION"),
            "model": Digest::of(model.encoded()?),
            "task": model.task(),
            "data": data.recipe(),
            "label": data.label(),
            "options": said,
            // Without that nothing is known of it.
            "energy": options.energy_j.is_some(),
            "seed": ctx.seed,
            "threads": ctx.threads,
        });
        Ok(Self { folder, basis: basis.to_string() })
    }

    fn path(&self, plan: Plan, ending: &str) -> Option<PathBuf> {
        let steps = serde_json::to_string(&plan).unwrap_or_default();
        let name = Digest::of(format!("{}\n{steps}", self.basis)).to_string();
        self.folder.as_ref().map(|f| f.join(format!("{name}.{ending}")))
    }

    /// What is kept of a plan. Files that cannot be read count as not there.
    pub fn read(&self, plan: Plan) -> Option<(Model, Known)> {
        let text = files::read_text(self.path(plan, "json")?).ok()?;
        let known = serde_json::from_str(&text).ok()?;
        let model = Model::load(self.path(plan, "onnx")?, &LoadOptions::default()).ok()?;
        Some((model, known))
    }

    /// # Errors
    /// `Io`, naming the file.
    pub fn write(&self, plan: Plan, model: &Model, known: &Known) -> Result<()> {
        let (Some(path), Some(beside)) = (self.path(plan, "onnx"), self.path(plan, "json")) else { return Ok(()) };
        model.save(path)?;
        let text = serde_json::to_string_pretty(known).map_err(|e| Error::internal("a measurement does not serialize").because(e))?;
        files::write_file(beside, text.as_bytes())
    }
}
