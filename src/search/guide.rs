//! `guide`: measures a model as it is and two cheap changes of it, and says what to do next, why, and the call.

use compresso_base::context::Context;
use compresso_base::error::{ErrorKind, Result};
use compresso_base::operation::{Arg, ArgKind, Operation, Options, Signature, in_range};
use compresso_base::report::{Cell, Show, Table, bytes, count, counted, percent};
use compresso_compress::prune::Prune;
use compresso_compress::quantize::Quantize;
use compresso_compress::score::{Figure, Scorer};
use compresso_learn::data::Dataset;
use compresso_learn::eval::{Predict, predict_serially};
use compresso_measure::runtimes::RuntimeName;
use compresso_measure::statistics::{Speedup, Verdict};
use compresso_measure::{Benchmark, BenchmarkReport};
use compresso_model::ops::quantized_node;
use compresso_model::{Model, Task};
use serde::Serialize;

compresso_base::options! {
    /// Options of `guide`.
    pub struct Guide {
        /// Runtime in which the model is timed: "native", "onnxruntime", "openvino" …
        pub runtime: RuntimeName = "native".into(),
        /// Measured runs of each variant, in turns.
        pub runs: usize = 20,
        /// Images that variants are made and judged with.
        pub images: usize = 32,
        /// Share of the channels that the pruned variant loses.
        pub ratio: f64 = 0.3,
    }
}

/// What to do, why, and the call that does it.
#[derive(Debug, Clone, Serialize)]
pub struct Advice {
    /// The step in a word or two.
    pub step: &'static str,
    /// What was measured that speaks for it.
    pub why: String,
    /// The call in the language of scripts.
    pub call: String,
}

/// A variant that was tried.
#[derive(Debug, Clone, Serialize)]
pub struct Tried {
    /// What was done to the model.
    pub name: &'static str,
    /// Bytes of its ONNX file.
    pub size_bytes: u64,
    /// Multiply-accumulates of an image, where the size is known.
    pub macs: Option<u64>,
    /// Median of its runs in milliseconds.
    pub p50_ms: f64,
    /// Against the model as given.
    pub speedup: Option<Speedup>,
    /// `None` where the images do not tell it.
    pub score: Option<f64>,
}

/// What `guide` measured, and what follows from it.
#[derive(Debug, Clone, Serialize)]
pub struct GuideReport {
    /// The model as given first.
    pub tried: Vec<Tried>,
    /// What the score is, or why there is none.
    pub measure: Result<String, String>,
    /// Milliseconds of an image: reading it, the model, reading boxes from the outputs; by one thread. `None` where they cannot be read.
    pub stages_ms: Option<[f64; 3]>,
    /// What is worth doing, the most useful first.
    pub advice: Vec<Advice>,
    /// Where variants were timed.
    pub runtime: RuntimeName,
    /// Runs of each.
    pub runs: usize,
    /// Threads of each run.
    pub threads: usize,
    /// Images that scores are of.
    pub images: usize,
    /// Variants that the model refuses, and why.
    pub refused: Vec<String>,
}

impl Operation for Guide {
    const SIGNATURE: Signature = Signature {
        name: "guide",
        summary: "Measures a model, its INT8 and a pruned variant on a dataset, and says what to do next, why, and the call",
        group: "compress",
        args: &[Arg::new("m", ArgKind::Model), Arg::new("d", ArgKind::Dataset)],
        returns: "report",
        fields: Self::FIELDS,
        examples: &[
            r#"guide(model("yolov8n", #{ classes: 3, width: 0.125, image_size: 64 }), dataset("shapes", #{ images: 8, size: 64 }), #{ runs: 8, images: 4 })"#,
        ],
        keywords: &["advice", "advisor", "what next", "recommend", "how", "start", "best practice", "optimize"],
    };
    type Inputs<'a> = (&'a Model, &'a Dataset);
    type Output = GuideReport;

    fn run(&self, (model, data): (&Model, &Dataset), ctx: &Context) -> Result<GuideReport> {
        in_range("runs", self.runs as f64, 8.0..=1e6)?;
        in_range("images", self.images as f64, 1.0..)?;
        in_range("ratio", self.ratio, 0.01..=0.9)?;
        self.runtime.spec()?.require()?;
        let quiet = ctx.without_notes();
        let mut refused = Vec::new();
        let mut variants = vec![("as given", model.clone())];
        let mut keep = |name: &'static str, made: Result<Model>| {
            match made {
                Ok(m) => variants.push((name, m)),
                Err(e) if matches!(e.kind(), ErrorKind::Unsupported | ErrorKind::Argument) => {
                    refused.push(format!("{name}: {}", e.message()));
                }
                Err(e) => return Err(e),
            }
            Ok(())
        };
        let is_float = quantized_node(model.graph()).is_none();
        if is_float {
            let int8 = Quantize { images: self.images, score: false, ..Quantize::default() };
            keep("int8", int8.run((model, Some(data)), &quiet).map(|m| m.model))?;
            let pruned = Prune { ratio: self.ratio, score: false, ..Prune::default() };
            keep("pruned", pruned.run((model, Some(&data.take(self.images))), &quiet).map(|m| m.model))?;
        }
        let measure = Scorer::of(model, data, self.images, Figure::Map50, &quiet)?;
        let report = self.time(&variants, &quiet)?;
        let mut tried = Vec::new();
        for (name, m) in &variants {
            let Some(row) = report.rows.iter().find(|r| r.name == *name) else {
                refused.push(format!("{name} does not run in {}", self.runtime));
                continue;
            };
            let score = match &measure {
                Ok(s) if *name == "as given" => Some(s.first.value),
                Ok(s) => Some(s.score(m, &quiet)?.value),
                Err(_) => None,
            };
            let size_bytes = m.encoded()?.len() as u64;
            tried.push(Tried { name, size_bytes, macs: row.macs, p50_ms: row.latency.p50_ms, speedup: row.speedup, score });
        }
        let found = GuideReport {
            stages_ms: stages(model, &data.for_evaluation().take(self.images), ctx, &quiet)?,
            advice: Vec::new(),
            measure: measure.as_ref().map(|s| s.measure.clone()).map_err(Clone::clone),
            tried,
            runtime: self.runtime.clone(),
            runs: self.runs,
            threads: ctx.threads,
            images: self.images,
            refused,
        };
        let advice = found.advise(is_float, model, self);
        Ok(GuideReport { advice, ..found })
    }
}

impl Guide {
    fn time(&self, variants: &[(&'static str, Model)], ctx: &Context) -> Result<BenchmarkReport> {
        let models: Vec<(String, Model)> = variants.iter().map(|(name, m)| ((*name).to_string(), m.clone())).collect();
        let runtimes = Some(vec![self.runtime.clone()]);
        Benchmark { runs: self.runs, runtimes, accuracy: false, power: false, ..Benchmark::default() }.run((&models, None), ctx)
    }
}

/// What an image takes from file to boxes, by one thread.
fn stages(model: &Model, images: &Dataset, ctx: &Context, quiet: &Context) -> Result<Option<[f64; 3]>> {
    if matches!(model.task(), Task::Unknown) || images.is_empty() {
        return Ok(None);
    }
    ctx.check()?;
    match predict_serially(model, images, &Predict::default(), quiet, &mut |_, _| Ok(())) {
        Ok((t, _)) => Ok(Some([t.read_ms, t.run_ms, t.boxes_ms])),
        Err(e) if e.is_cancelled() => Err(e),
        Err(_) => Ok(None),
    }
}

/// A variant that loses more is no reason to go on that way without training.
const MUCH: f64 = 0.05;

impl GuideReport {
    fn of(&self, name: &str) -> Option<&Tried> {
        self.tried.iter().find(|t| t.name == name)
    }

    /// What a variant brings: `2.31× as fast, 3.9× as small, mAP50 0.812 → 0.805`.
    fn gain(&self, given: &Tried, t: &Tried) -> String {
        let speed = t.speedup.map_or_else(|| format!("{:.2} → {:.2} ms", given.p50_ms, t.p50_ms), |s| format!("{s} as fast"));
        let small = given.size_bytes as f64 / t.size_bytes.max(1) as f64;
        let score = match (&self.measure, given.score, t.score) {
            (Ok(measure), Some(a), Some(b)) => format!(", {measure} {a:.3} → {b:.3}"),
            _ => String::new(),
        };
        format!("{speed}, {small:.1}× as small{score}")
    }

    /// By what was measured alone.
    fn advise(&self, is_float: bool, model: &Model, options: &Guide) -> Vec<Advice> {
        let mut all = Vec::new();
        let mut say = |step, why: String, call: &str| all.push(Advice { step, why, call: call.into() });
        let Some(given) = self.tried.first() else { return all };
        if let Err(why) = &self.measure {
            let what = "nothing tells how good it is, so nothing tells what a change costs";
            say("train it, or load it with its classes", format!("{what}: {why}"), "let m = train(m, d, #{ epochs: 60 });");
        }
        if let Some([read, run, boxes]) = self.stages_ms
            && read > run
        {
            let why = format!(
                "one thread reads an image in {read:.1} ms and runs it in {run:.1}: a faster model changes little (boxes {boxes:.1} ms)"
            );
            say("read faster first", why, "throughput(m, d);");
        }
        let keeps = |t: &Tried| given.score.zip(t.score).is_none_or(|(a, b)| a - b <= MUCH);
        let faster = |t: &Tried| t.speedup.is_some_and(|s| s.verdict == Verdict::Faster);
        if let Some(int8) = self.of("int8") {
            let why = self.gain(given, int8);
            match (keeps(int8), faster(int8)) {
                (true, true) => say("quantize to INT8", why, "let q = quantize(m, d);"),
                (true, false) => say(
                    "INT8 for size alone",
                    format!("{why}: these runs do not show it faster in {}", self.runtime),
                    "let q = quantize(m, d);",
                ),
                (false, _) => say("find the layers that INT8 harms", why, "show(sensitivity(m, d, #{ of: \"quantize\" }));"),
            }
        }
        if let Some(pruned) = self.of("pruned") {
            let why = format!("{} fewer channels: {}", percent(options.ratio), self.gain(given, pruned));
            match (keeps(pruned), faster(pruned)) {
                (true, true) => say("search for the cut that keeps the score", why, "let s = compress(m, d, #{ max_drop: 0.01 });"),
                (true, false) => {
                    say("prune for size", format!("{why}: these runs do not show it faster"), "let p = prune(m, d, #{ ratio: 0.3 });")
                }
                (false, _) => {
                    let call = format!("let p = train(prune(m, d, #{{ ratio: {} }}), d, #{{ epochs: 10 }});", options.ratio);
                    say("train after pruning", why, &call);
                }
            }
        }
        if !is_float {
            say("write it for its target", "it is quantized already".into(), "show(lint(m, \"onnxruntime\"));");
        }
        let size = model.image_size();
        if let (Some([h, w]), Some(_)) = (size, given.score)
            && h.min(w) >= 128
        {
            let call = format!("let s = resize(m, #{{ size: [{}, {}] }}); evaluate(s, d);", h * 3 / 4 / 32 * 32, w * 3 / 4 / 32 * 32);
            say("try a smaller image", format!("three quarters of {h} × {w} pixels a side are about half the work"), &call);
        }
        all
    }

    /// The first advice in a line.
    pub fn headline(&self) -> String {
        match self.advice.first() {
            Some(a) => format!("guide: {}: {}", a.step, a.why),
            None => "guide: nothing that was tried is worth it".into(),
        }
    }
}

impl Show for GuideReport {
    fn tables(&self) -> Vec<Table> {
        let measure = format!(">{}", self.measure.as_deref().unwrap_or("score"));
        let mut tried = Table::new("Measured", &["variant", ">p50 ms", ">speed-up", ">size", ">MACs", &measure]);
        for t in &self.tried {
            tried.row([
                Cell::from(t.name),
                Cell::shown(format!("{:.2}", t.p50_ms), t.p50_ms),
                t.speedup.map_or_else(Cell::none, |s| Cell::shown(s.to_string(), s.times)),
                Cell::shown(bytes(t.size_bytes), t.size_bytes as f64),
                t.macs.map_or_else(Cell::unknown, |n| Cell::shown(count(n), n as f64)),
                t.score.map_or_else(Cell::none, |s| Cell::shown(format!("{s:.3}"), s)),
            ]);
        }
        let mut next = Table::new("What next", &["step", "why", "call"]);
        for a in &self.advice {
            next.row([a.step, a.why.as_str(), a.call.as_str()]);
        }
        vec![tried, next]
    }
    fn notes(&self) -> Vec<String> {
        let mut notes = vec![format!(
            "{} of each in turns in {}, {}; made and judged with up to {}: few, so that scores are rough",
            counted(self.runs, "run"),
            self.runtime,
            counted(self.threads, "thread"),
            counted(self.images, "image")
        )];
        notes.extend(self.stages_ms.map(|[read, run, boxes]| {
            format!("one thread, from file to boxes: read {read:.1} ms, model {run:.1} ms, boxes {boxes:.1} ms")
        }));
        notes.extend(self.measure.as_ref().err().map(|why| format!("no score: {why}")));
        notes.extend(self.refused.iter().map(|r| format!("refused: {r}")));
        notes
    }
    fn data(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tried(name: &'static str, p50_ms: f64, score: Option<f64>) -> Tried {
        let speedup = (name != "as given").then(|| Speedup::of(&[p50_ms; 8], &[10.0; 8])).flatten();
        Tried { name, size_bytes: 1000, macs: Some(1000), p50_ms, speedup, score }
    }

    fn advice(variants: Vec<Tried>, stages_ms: Option<[f64; 3]>) -> Vec<String> {
        let report = GuideReport {
            tried: variants,
            measure: Ok("mAP50".into()),
            stages_ms,
            advice: Vec::new(),
            runtime: "native".into(),
            runs: 8,
            threads: 1,
            images: 4,
            refused: Vec::new(),
        };
        let options = compresso_model::zoo::ZooOptions { image_size: Some([64, 64]), width: Some(0.125), ..Default::default() };
        let model = compresso_model::zoo::build("yolov8n", &options).unwrap();
        report.advise(true, &model, &Guide::default()).into_iter().map(|a| a.call).collect()
    }

    #[test]
    fn advice_follows_from_what_was_measured() {
        let given = || tried("as given", 10.0, Some(0.8));
        // INT8 that is fast and keeps its score; a cut that loses too much.
        let calls = advice(vec![given(), tried("int8", 5.0, Some(0.79)), tried("pruned", 6.0, Some(0.5))], None);
        assert_eq!(calls, ["let q = quantize(m, d);", "let p = train(prune(m, d, #{ ratio: 0.3 }), d, #{ epochs: 10 });"]);
        // INT8 that harms; a cut that keeps the score; reading that takes longest comes first.
        let calls = advice(vec![given(), tried("int8", 5.0, Some(0.2)), tried("pruned", 6.0, Some(0.78))], Some([30.0, 10.0, 1.0]));
        assert_eq!(calls[0], "throughput(m, d);");
        assert!(calls[1].contains("sensitivity") && calls[2].contains("compress"), "{calls:?}");
    }
}
