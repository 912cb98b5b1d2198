//! The course of a search: candidates are made, judged and timed. Judging comes before timing, and what has lost far too much is not timed.

use crate::options::{Compress, Technique};
use crate::plan::{Means, Plan};
use crate::report::CompressReport;
use crate::store::{Known, Store, Timed};
use compresso_base::context::Context;
use compresso_base::error::{Error, ErrorKind, Result};
use compresso_base::operation::Operation;
use compresso_compress::prune::{Measure, PruneSensitivity, Removals};
use compresso_compress::score::{Score, Scorer};
use compresso_learn::data::Dataset;
use compresso_measure::Benchmark;
use compresso_measure::statistics::Interval;
use compresso_measure::timing::Latency;
use compresso_model::{Made, Model};
use std::time::Instant;

/// A candidate that loses more than so many times what it may is not timed.
const HOPELESS: f64 = 5.0;

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
    pub(crate) options: &'a Compress,
    pub(crate) data: &'a Dataset,
    pub(crate) ctx: &'a Context,
    /// Steps of candidates tell their progress, not what they found.
    pub(crate) quiet: Context,
    pub(crate) judge: Scorer,
    store: Store,
    pub(crate) seen: Vec<(Plan, Model, Known)>,
    /// Of the model as given, for images of a size; where a cut has gone by it.
    sensitivity: Option<(Option<[usize; 2]>, PruneSensitivity)>,
    pub(crate) refused: Vec<String>,
    /// Why the images cannot tell the drop that is allowed.
    pub(crate) coarse: Option<String>,
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

    pub(crate) fn at(&self, plan: Plan) -> Option<&(Plan, Model, Known)> {
        self.seen.iter().find(|(p, ..)| *p == plan)
    }
    pub(crate) fn allows(&self, technique: Technique) -> bool {
        self.options.techniques.contains(&technique)
    }
    pub(crate) fn lost(&self, known: &Known) -> f64 {
        self.seen.first().map_or(0.0, |(.., given)| given.score - known.score)
    }
    pub(crate) fn holds(&self, plan: Plan) -> bool {
        // Scores of thousandths are not told apart by the last bit of a sum.
        self.at(plan).is_some_and(|(.., k)| self.lost(k) <= self.options.max_drop + 1e-9)
    }
    pub(crate) fn has_time(&self) -> bool {
        self.seen.iter().map(|(.., k)| k.seconds).sum::<f64>() < 60.0 * self.options.budget_minutes
    }
    pub(crate) fn missed(&self, known: &Known) -> Option<String> {
        self.options.missed(known)
    }
    /// It meets the targets, where there are some: more would only cost score.
    pub(crate) fn is_enough(&self, plan: Option<Plan>) -> bool {
        self.options.has_target() && plan.and_then(|p| self.at(p)).is_some_and(|(.., k)| self.missed(k).is_none())
    }
    /// What a candidate is called.
    pub(crate) fn name(&self, plan: Plan, known: &Known) -> String {
        plan.name(self.at(plan.whole()).and_then(|(.., k)| k.macs), known.macs)
    }

    /// Makes, judges and times what a plan and those before it say, unless that is known. False where a step refuses the model.
    pub(crate) fn try_plan(&mut self, plan: Plan) -> Result<bool> {
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
        let labelled = self.judge.by_labels();
        let means = Means { data: self.data, labelled, options: self.options, given: &given, sensitivity };
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
        let size_bytes = model.encoded()?.len() as u64;
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
}
