//! The course of a search.
//!
//! The model as given is judged and timed first, then the same in INT8. The largest cut that keeps the score is found by halving: a cut that
//! keeps it, in INT8 where INT8 alone kept it, is followed by a deeper one, another by a shallower one. Judging comes before timing, and what
//! has lost far too much is not timed. Where that is allowed, the same is done with some layers in float, with cuts that are shared by
//! sensitivity, on smaller images, and the shallowest cuts that failed are trained and judged anew.

use crate::front::{Point, front, hypervolume};
use crate::options::{By, Compress, Technique};
use crate::plan::{Means, Plan};
use crate::report::{Candidate, CompressReport, Unseen};
use crate::store::{Known, Store, Timed};
use compresso_base::context::{Context, Progress};
use compresso_base::error::{Error, ErrorKind, Result};
use compresso_base::operation::Operation;
use compresso_compress::prune::{Measure, PruneSensitivity, Removals};
use compresso_compress::score::{Score, Scorer};
use compresso_learn::data::Dataset;
use compresso_learn::eval::Evaluate;
use compresso_measure::Benchmark;
use compresso_measure::statistics::{Interval, Verdict};
use compresso_measure::timing::Latency;
use compresso_model::{Made, Model, Task, onnx};
use std::time::Instant;

/// Cuts are sought among these, in percent of the multiply-accumulates.
const DEEPEST: u8 = 90;
/// The search ends when the cut is known so well.
const CLOSE: u8 = 5;
/// A candidate that loses more than so many times what it may is not timed.
const HOPELESS: f64 = 5.0;

/// The deepest cut of those that hold, between one that does and one that does not.
struct Halving {
    holds: u8,
    fails: u8,
}

impl Default for Halving {
    fn default() -> Self {
        Self { holds: 0, fails: DEEPEST + CLOSE }
    }
}

impl Halving {
    /// The cut to try; `None` when both are close.
    fn next(&self) -> Option<u8> {
        let middle = u8::midpoint(self.holds, self.fails);
        // Half is what people ask for.
        (self.fails - self.holds > CLOSE).then_some(if self.holds == 0 && self.fails > DEEPEST { 50 } else { middle })
    }
    fn tell(&mut self, cut: u8, holds: bool) {
        *(if holds { &mut self.holds } else { &mut self.fails }) = cut;
    }
}

/// What of a model keeps its score as integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Precision {
    Float,
    /// All but some layers.
    Mixed,
    Int8,
}

/// Parts of the sides that images become, one after the other.
const SIDES: [f64; 4] = [0.8, 0.65, 0.5, 0.4];
/// What most detectors need sides to be a multiple of.
const STEP: usize = 32;

/// Smaller sizes of a model's images, the largest first.
fn sizes(model: &Model) -> Vec<[usize; 2]> {
    let Some(own) = model.image_size() else { return Vec::new() };
    let step = if matches!(model.task(), Task::Classify(_)) { STEP / 4 } else { STEP };
    let side = |part: f64, side: usize| ((part * side as f64 / step as f64).round() as usize).max(1) * step;
    let mut all: Vec<[usize; 2]> = SIDES.iter().map(|part| own.map(|s| side(*part, s))).filter(|s| s != &own).collect();
    all.retain(|s| s[0] <= own[0] && s[1] <= own[1]);
    all.dedup();
    all
}

/// Shares of a group that are tried, and images that outputs are compared on.
const SHARES: [f64; 4] = [0.25, 0.5, 0.75, 0.9];
const COMPARED: usize = 8;

fn sensitivity(model: &Model, data: &Dataset, ctx: &Context) -> Result<PruneSensitivity> {
    let removals = Removals {
        ratios: SHARES.to_vec(),
        measure: Measure::Error,
        importance: None,
        images: COMPARED,
        tolerance: 1.0,
        exclude: Vec::new(),
        include: Vec::new(),
    };
    removals.measure(model, data, ctx)
}

/// A search.
pub struct Course<'a> {
    options: &'a Compress,
    data: &'a Dataset,
    ctx: &'a Context,
    /// Steps of candidates tell their progress, not what they found.
    quiet: Context,
    judge: Scorer,
    store: Store,
    seen: Vec<(Plan, Model, Known)>,
    /// Of the model as given, for images of a size; where a cut has gone by it.
    sensitivity: Option<(Option<[usize; 2]>, PruneSensitivity)>,
    refused: Vec<String>,
    /// Why the images cannot tell the drop that is allowed.
    coarse: Option<String>,
}

impl<'a> Course<'a> {
    /// # Errors
    /// `Unsupported` for models that cannot be scored on the dataset; those of the cache's folder.
    pub fn new(options: &'a Compress, model: &Model, data: &'a Dataset, ctx: &'a Context) -> Result<Self> {
        let store = Store::new(options, model, data, ctx)?;
        let judge = Scorer::of(model, data, options.judged, options.by.figure(), ctx)?.map_err(|why| {
            let e = Error::unsupported(format!("compress needs a model that can be scored on this dataset, and {why}"));
            e.hint("train it first: m = train(m, d)")
        })?;
        let mut course = Self {
            options,
            data,
            ctx,
            quiet: ctx.without_notes(),
            judge,
            store,
            seen: Vec::new(),
            sensitivity: None,
            refused: Vec::new(),
            coarse: None,
        };
        course.begin(model)?;
        Ok(course)
    }

    /// The model as given.
    fn begin(&mut self, model: &Model) -> Result<()> {
        let start = Instant::now();
        if let Some((_, known)) = self.store.read(Plan::default()) {
            self.seen.push((Plan::default(), model.clone(), known));
            return Ok(());
        }
        let known = self.known(model, &self.judge.first, start)?;
        self.keep(Plan::default(), model.clone(), known)
    }

    fn keep(&mut self, plan: Plan, model: Model, known: Known) -> Result<()> {
        self.store.write(plan, &model, &known)?;
        self.seen.push((plan, model, known));
        Ok(())
    }

    fn at(&self, plan: Plan) -> Option<&(Plan, Model, Known)> {
        self.seen.iter().find(|(p, ..)| *p == plan)
    }
    fn allows(&self, technique: Technique) -> bool {
        self.options.techniques.contains(&technique)
    }
    fn lost(&self, known: &Known) -> f64 {
        self.seen.first().map_or(0.0, |(.., given)| given.score - known.score)
    }
    fn holds(&self, plan: Plan) -> bool {
        // Scores of thousandths are not told apart by the last bit of a sum.
        self.at(plan).is_some_and(|(.., k)| self.lost(k) <= self.options.max_drop + 1e-9)
    }
    fn has_time(&self) -> bool {
        self.seen.iter().map(|(.., k)| k.seconds).sum::<f64>() < 60.0 * self.options.budget_minutes
    }
    fn missed(&self, known: &Known) -> Option<String> {
        self.options.missed(known)
    }
    /// What a candidate is called.
    fn name(&self, plan: Plan, known: &Known) -> String {
        plan.name(self.at(plan.whole()).and_then(|(.., k)| k.macs), known.macs)
    }

    /// Makes, judges and times what a plan and those before it say, unless that is known. False where a step refuses the model.
    fn try_plan(&mut self, plan: Plan) -> Result<bool> {
        if self.at(plan).is_some() {
            return Ok(true);
        }
        let Some(before) = plan.before() else { return Ok(true) };
        if !self.try_plan(before)? {
            return Ok(false);
        }
        self.ctx.check()?;
        if let Some((model, known)) = self.store.read(plan) {
            self.tell(plan, &known, "kept from before");
            self.seen.push((plan, model, known));
            return Ok(true);
        }
        let start = Instant::now();
        let model = match self.make(plan, before) {
            Ok(model) => model,
            Err(e) if matches!(e.kind(), ErrorKind::Unsupported | ErrorKind::Check) => {
                self.refused.push(format!("{plan}: {}", e.message()));
                return Ok(false);
            }
            Err(e) => return Err(e.at(format!("candidate '{plan}'"))),
        };
        self.ctx.check()?;
        let score = self.judge.score(&model, &self.quiet)?;
        self.coarse = self.coarse.take().or_else(|| self.judge.too_coarse(self.options.max_drop, &score));
        let known = self.known(&model, &score, start)?;
        self.tell(plan, &known, "");
        self.keep(plan, model, known)?;
        Ok(true)
    }

    fn make(&mut self, plan: Plan, before: Plan) -> Result<Model> {
        let missing = || Error::internal("a plan without its model");
        let [source, given] = [before, plan.whole()].map(|p| self.at(p).map(|(_, m, _)| m.clone()));
        let (source, given) =
            (source.ok_or_else(missing)?, given.or_else(|| self.at(before).map(|(_, m, _)| m.clone())).ok_or_else(missing)?);
        let by_sensitivity = plan.by_sensitivity && plan.before() == Some(plan.whole());
        if by_sensitivity && self.sensitivity.as_ref().is_none_or(|(size, _)| *size != plan.size) {
            let found = sensitivity(&given, self.data, &self.quiet)?;
            self.sensitivity = Some((plan.size, found));
        }
        let sensitivity = self.sensitivity.as_ref().filter(|_| by_sensitivity).map(|(_, s)| s);
        let means = Means { data: self.data, options: self.options, given: &given, sensitivity };
        plan.step(&source, &means, &self.quiet)
    }

    fn tell(&self, plan: Plan, known: &Known, beside: &str) {
        let speed = known.time.as_ref().and_then(|t| t.speedup).map_or(String::new(), |s| format!(", {s} as fast"));
        let beside = if beside.is_empty() { String::new() } else { format!(" ({beside})") };
        self.ctx.note(format!(
            "compress: {}: {} {:.4} → {:.4}{speed}, {:.2} MB{beside}",
            self.name(plan, known),
            self.judge.measure,
            known.score + self.lost(known),
            known.score,
            known.size_bytes as f64 / 1e6
        ));
    }

    fn known(&self, model: &Model, score: &Score, start: Instant) -> Result<Known> {
        let stats = model.stats()?;
        let size_bytes = onnx::encode(model.graph())?.len() as u64;
        let lost = self.judge.first.value - score.value;
        let hopeless = lost > HOPELESS * self.options.max_drop.max(0.01);
        let time = if hopeless { None } else { Some(self.time(model)?) };
        let deviation = if self.seen.is_empty() { None } else { self.judge.deviation(score) };
        let known = Known {
            score: score.value,
            deviation,
            params: stats.params,
            macs: stats.macs,
            size_bytes,
            time,
            seconds: start.elapsed().as_secs_f64(),
        };
        Ok(known.rounded())
    }

    /// Takes turns with the model as given.
    fn time(&self, model: &Model) -> Result<Timed> {
        let mut models = vec![("candidate".to_string(), model.clone())];
        models.splice(0..0, self.seen.first().map(|(_, given, _)| ("given".to_string(), given.clone())));
        let benchmark = Benchmark {
            runs: self.options.runs,
            runtimes: Some(vec![self.options.runtime.clone()]),
            accuracy: false,
            power: self.options.energy_j.is_some(),
            ..Benchmark::default()
        };
        let report = benchmark.run((&models, None), &self.quiet)?;
        let row = report.rows.iter().find(|r| r.name == "candidate").ok_or_else(|| {
            let e = Error::unsupported(format!("it does not run in {}", self.options.runtime));
            report.warnings.iter().fold(e, |e, w| e.hint(w.clone()))
        })?;
        // What is told of a candidate goes by the rounds in which both took turns, whatever the machine did at other times.
        let given = self.seen.first().and_then(|(.., k)| k.time.as_ref()).map(|t| t.p50_ms);
        Ok(match (given, row.speedup) {
            (Some(ms), Some(s)) => {
                let interval = Interval { low: ms / s.high, high: ms / s.low };
                Timed { p50_ms: ms / s.times, interval_ms: Some(interval), speedup: row.speedup, energy_j: row.energy_j }
            }
            _ => {
                let Latency { p50_ms, p50_interval_ms: interval_ms, .. } = row.latency;
                Timed { p50_ms, interval_ms, speedup: row.speedup, energy_j: row.energy_j }
            }
        })
    }

    /// Tries what there is time for, and takes the best.
    ///
    /// # Errors
    /// What judging, timing and the steps report, but for steps that refuse a model. When the user cancels, the best so far is given, if any
    /// candidate was made.
    pub fn run(mut self) -> Result<Made<CompressReport>> {
        let cancelled = match self.search() {
            Ok(()) => false,
            Err(e) if e.is_cancelled() && self.seen.len() > 1 => true,
            Err(e) => return Err(e),
        };
        self.choose(cancelled)
    }

    fn search(&mut self) -> Result<()> {
        let mut progress = self.ctx.progress("compress", 0);
        self.at_size(None, &mut progress)?;
        if !self.allows(Technique::Resize) {
            return Ok(());
        }
        for size in sizes(&self.seen[0].1) {
            let plan = Plan { size: Some(size), ..Plan::default() };
            // Where smaller images alone lose too much, still smaller ones do too.
            if !self.has_time() || !self.try_plan(plan)? || !self.holds(plan) {
                break;
            }
            self.at_size(Some(size), &mut progress)?;
        }
        Ok(())
    }

    /// What keeps its score of images of this size: integers, the deepest cut, the same shared otherwise, and training.
    fn at_size(&mut self, size: Option<[usize; 2]>, progress: &mut Progress) -> Result<()> {
        let whole = Plan { size, ..Plan::default() };
        let precision = self.precision(whole)?;
        progress.step("")?;
        let mut deeper = DEEPEST + CLOSE;
        if self.allows(Technique::Prune) {
            let mut halving = Halving::default();
            while let Some(cut) = halving.next().filter(|_| self.has_time()) {
                let last = self.finish(whole.pruned(cut), precision)?;
                let enough = self.options.has_target() && last.and_then(|p| self.at(p)).is_some_and(|(.., k)| self.missed(k).is_none());
                halving.tell(cut, last.is_some_and(|p| self.holds(p)) && !enough);
                progress.step("")?;
            }
            deeper = halving.fails;
        }
        if self.allows(Technique::Sensitivity) {
            while deeper <= DEEPEST && self.has_time() {
                let last = self.finish(Plan { by_sensitivity: true, ..whole.pruned(deeper) }, precision)?;
                progress.step("")?;
                if !last.is_some_and(|p| self.holds(p)) {
                    break;
                }
                deeper += CLOSE;
            }
        }
        for (technique, distilled) in [(Technique::Train, false), (Technique::Distill, true)] {
            if self.allows(technique) {
                self.train(whole, distilled, precision, progress)?;
            }
        }
        Ok(())
    }

    /// Trains the shallowest cuts that failed, until one still does.
    fn train(&mut self, whole: Plan, distilled: bool, precision: Precision, progress: &mut Progress) -> Result<()> {
        let is_cut = |p: &Plan| p.whole() == whole && p.cut > 0 && p.epochs == 0 && !p.int8 && !p.by_sensitivity;
        let cuts: Vec<Plan> = self.seen.iter().map(|(p, ..)| *p).filter(is_cut).collect();
        let kept = |cut: &Plan| self.seen.iter().any(|(p, ..)| p.whole() == whole && p.cut == cut.cut && p.epochs == 0 && self.holds(*p));
        let mut failed: Vec<Plan> = cuts.into_iter().filter(|p| !kept(p)).collect();
        failed.sort_unstable();
        for cut in failed {
            if !self.has_time() {
                break;
            }
            let last = self.finish(Plan { epochs: self.options.epochs, distilled, ..cut }, precision)?;
            progress.step("")?;
            if !last.is_some_and(|p| self.holds(p)) {
                break;
            }
        }
        Ok(())
    }

    /// What of the model keeps its score as integers.
    fn precision(&mut self, whole: Plan) -> Result<Precision> {
        let int8 = whole.quantized();
        if self.allows(Technique::Quantize) && self.has_time() && self.try_plan(int8)? && self.holds(int8) {
            return Ok(Precision::Int8);
        }
        let mixed = self.mixed(whole)?;
        Ok(if mixed.is_some_and(|p| self.holds(p)) { Precision::Mixed } else { Precision::Float })
    }

    /// The plan with as many layers in INT8 as leave it what of the drop it has not lost yet, tried; `None` where nothing of that is left.
    fn mixed(&mut self, plan: Plan) -> Result<Option<Plan>> {
        if !self.allows(Technique::MixedPrecision) || !self.has_time() {
            return Ok(None);
        }
        let left = self.at(plan).map_or(0.0, |(.., k)| self.options.max_drop - self.lost(k));
        let left = (1e4 * left).floor();
        if left < 1.0 {
            return Ok(None);
        }
        let plan = Plan { mixed: Some(left as u32), ..plan.quantized() };
        Ok(self.try_plan(plan)?.then_some(plan))
    }

    /// Makes a plan in the precision that the whole model bears; where INT8 of all layers loses too much, in part. The plan that was tried
    /// last; `None` where a step refuses the model.
    fn finish(&mut self, float: Plan, precision: Precision) -> Result<Option<Plan>> {
        if precision == Precision::Int8 {
            let int8 = float.quantized();
            if !self.try_plan(int8)? {
                return Ok(None);
            }
            return Ok(if self.holds(int8) { Some(int8) } else { self.mixed(float)?.or(Some(int8)) });
        }
        if !self.try_plan(float)? {
            return Ok(None);
        }
        Ok(if precision == Precision::Mixed { self.mixed(float)?.or(Some(float)) } else { Some(float) })
    }

    fn choose(self, cancelled: bool) -> Result<Made<CompressReport>> {
        let speed = |k: &Known| k.time.as_ref().map_or(0.0, Timed::times);
        let given = &self.seen[0].2;
        let points: Vec<Point> = self
            .seen
            .iter()
            .map(|(.., k)| Point { score: k.score, speed: speed(k), small: given.size_bytes as f64 / k.size_bytes.max(1) as f64 })
            .collect();
        let front = front(&points);
        let able: Vec<usize> = (0..self.seen.len()).filter(|&i| self.holds(self.seen[i].0)).collect();
        let meeting: Vec<usize> = able.iter().copied().filter(|&i| self.missed(&self.seen[i].2).is_none()).collect();
        let reached = !meeting.is_empty();
        let best = |of: &[usize], by: &dyn Fn(usize) -> [f64; 2]| -> usize {
            let better = |&a: &usize, &b: &usize| by(a)[0].total_cmp(&by(b)[0]).then(by(a)[1].total_cmp(&by(b)[1])).then(b.cmp(&a));
            of.iter().copied().max_by(better).unwrap_or(0)
        };
        let has_target = self.options.has_target();
        let winner = if has_target && reached {
            best(&meeting, &|i| [points[i].score, points[i].speed])
        } else {
            best(&able, &|i| [points[i].speed, points[i].small])
        };
        let name = |i: usize| self.name(self.seen[i].0, &self.seen[i].2);
        let candidates = self.seen.iter().enumerate().map(|(i, (plan, _, k))| {
            let beaten = (0..points.len()).find(|&j| points[j].beats(points[i]));
            let (lost, missed) = (self.lost(k), self.missed(k));
            let why = match () {
                () if i == winner && !reached => format!("taken, though {}", missed.unwrap_or_default()),
                () if i == winner => "taken".to_string(),
                () if !self.holds(*plan) => format!("loses {lost:.4}, more than {}", self.options.max_drop),
                () if missed.is_some() => missed.unwrap_or_default(),
                () if k.time.as_ref().is_some_and(|t| t.speedup.is_some_and(|s| s.verdict == Verdict::Slower)) => {
                    "slower than as given".into()
                }
                () => match beaten {
                    Some(j) => format!("{} is as good or better in all", name(j)),
                    None if has_target && reached => format!("a lower score than {}", name(winner)),
                    None => format!("slower than {}", name(winner)),
                },
            };
            Candidate { name: name(i), plan: *plan, known: k.clone(), lost, front: front[i], why }
        });
        let candidates: Vec<Candidate> = candidates.collect();
        let (plan, model, _) = &self.seen[winner];
        let held: Vec<Point> = (0..points.len()).filter(|&i| points[i].speed > 0.0).map(|i| points[i]).collect();
        let seconds: f64 = self.seen.iter().map(|(.., k)| k.seconds).sum();
        let mut report = CompressReport {
            winner: *plan,
            measure: self.judge.measure.clone(),
            images: self.judge.images(),
            dataset: self.data.for_evaluation().label(),
            runtime: self.options.runtime.clone(),
            runs: self.options.runs,
            threads: self.ctx.threads,
            hypervolume: hypervolume(&held, self.judge.first.value),
            minutes: seconds / 60.0,
            unseen: None,
            refused: self.refused.clone(),
            coarse: self.coarse.clone(),
            cancelled,
            out_of_time: !self.has_time(),
            budget_minutes: self.options.budget_minutes,
            target_missed: has_target && !reached,
            candidates,
        };
        if !cancelled && winner > 0 {
            report.unseen = self.unseen(model)?;
        }
        self.ctx.note(report.headline());
        Ok(Made::new(model.clone(), report))
    }

    /// The scores of the model as given and of the one taken on a split that the search has not seen.
    fn unseen(&self, taken: &Model) -> Result<Option<Unseen>> {
        let judged = self.data.for_evaluation();
        let Ok(test) = self.data.split("test") else { return Ok(None) };
        if test.label() == judged.label() || self.judge.measure.contains("unchanged") {
            return Ok(None);
        }
        let score = |model: &Model| -> Result<f64> {
            let found = Evaluate::default().run((model, &test), &self.quiet)?;
            Ok(if self.options.by == By::Map50 { found.map50.or(found.top1).unwrap_or(0.0) } else { found.fitness() })
        };
        let [given, taken] = [score(&self.seen[0].1)?, score(taken)?];
        Ok(Some(Unseen { split: test.label(), images: test.len(), given, taken }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halving_finds_the_deepest_cut_that_holds_in_few_steps() {
        for deepest in 0..=95 {
            let (mut halving, mut asked) = (Halving::default(), Vec::new());
            while let Some(cut) = halving.next() {
                asked.push(cut);
                halving.tell(cut, cut <= deepest);
            }
            assert!(halving.holds <= deepest && (halving.fails > deepest || halving.fails > DEEPEST), "{deepest}: {asked:?}");
            assert!(halving.fails - halving.holds <= CLOSE && asked.len() <= 6 && asked[0] == 50, "{deepest}: {asked:?}");
        }
    }
}
