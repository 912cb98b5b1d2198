//! The written file, run by its own runtime and held against this library's executor.

use compresso_base::context::Context;
use compresso_base::error::{Error, Result};
use compresso_base::report::{Cell, Table, counted};
use compresso_compress::images::{Images, image_size};
use compresso_exec::{Run, run};
use compresso_learn::data::{DataKind, Dataset, ImageForm};
use compresso_learn::eval::{Evaluate, Evaluation, ImageRunner, evaluate_as, run_images_with};
use compresso_measure::compare::{Distance, compare_tensors};
use compresso_measure::runtimes::named;
use compresso_measure::worker::{Carrier, Fault, Input, Order, carry, noise};
use compresso_model::{Model, Value};
use compresso_target::TargetSpec;
use serde::Serialize;
use std::collections::HashMap;
use std::path::Path;

/// Images whose outputs are compared.
const COMPARED: usize = 4;
/// Images that scores are measured on.
const SCORED: usize = 64;

/// What a runtime makes of a file, beside what this library makes of the model in it.
#[derive(Debug, Clone, Serialize)]
pub struct Verification {
    /// Its name.
    pub runtime: String,
    /// Its version, as it says.
    pub version: String,
    /// Name of the dataset whose images were run; `None` for noise.
    pub dataset: Option<String>,
    /// For each output, the largest distances of all images.
    pub outputs: Vec<Distance>,
    /// Where the dataset has labels that fit.
    pub score: Option<Score>,
}

/// Scores of a model on labelled images.
#[derive(Debug, Clone, Serialize)]
pub struct Score {
    /// `mAP50-95` or `top-1`.
    pub measure: String,
    /// In this library's executor.
    pub ours: f64,
    /// In the runtime.
    pub theirs: f64,
    /// How many they are.
    pub images: usize,
}

impl Verification {
    /// Runs a file on images of a dataset, or on noise.
    ///
    /// # Errors
    /// `Unavailable` when no runtime for the target is on this machine, saying how to get it; `Unsupported` with its words when it refuses the
    /// file; `Check` when it gives other outputs or shapes.
    pub fn of(target: &TargetSpec, model: &Model, file: &Path, data: Option<&Dataset>, ctx: &Context) -> Result<Self> {
        let Some(runtime) = target.runtime else {
            return Err(Error::unavailable(format!("{} has no runtime that can be run here", target.title)).hint("leave out verify: true"));
        };
        let spec = named(runtime)?;
        let found = spec.require()?;
        let graph = model.graph();
        let size = image_size(graph, model.task()).ok();
        let inputs = Input::of(graph, 1, size)?;
        let order = Order {
            runtime: spec.name.into(),
            file: file.to_path_buf(),
            threads: ctx.threads,
            cores: Vec::new(),
            training: false,
            gpu: None,
            seed: ctx.seed,
            memory: None,
            names: (target.names)(graph),
            inputs: inputs.clone(),
        };
        let mut carrier = carry(spec, &order, None, ctx).map_err(Fault::error)?;
        let (fed, dataset) = feeds(model, data, &inputs, ctx)?;
        let mut outputs: Vec<Distance> = Vec::new();
        for feeds in &fed {
            ctx.check()?;
            compare(model, carrier.as_mut(), feeds, &mut outputs)?;
        }
        let score = match data {
            Some(data) => score(model, carrier.as_mut(), data, ctx)?,
            None => None,
        };
        Ok(Self { runtime: spec.name.into(), version: found.version, dataset, outputs, score })
    }

    /// The distances of the outputs.
    pub fn table(&self) -> Table {
        let on = self.dataset.as_deref().unwrap_or("noise");
        let title = format!("In {} {}, on {on}, against this library", self.runtime, self.version);
        let mut t = Table::new(title, &["output", ">max abs", ">max rel", ">cosine"]);
        for d in &self.outputs {
            let [abs, rel] = [d.max_abs, d.max_rel].map(|v| Cell::shown(format!("{v:.1e}"), v));
            t.row([Cell::from(&d.output), abs, rel, Cell::shown(format!("{:.6}", d.cosine), d.cosine)]);
        }
        t
    }

    /// One line on the scores.
    pub fn line(&self) -> Option<String> {
        let s = self.score.as_ref()?;
        Some(format!("{} {:.4} here, {:.4} in {}, on {}", s.measure, s.ours, s.theirs, self.runtime, counted(s.images, "image")))
    }
}

type Feeds = HashMap<String, Value>;

/// Images of the dataset, where the model takes images, else noise.
fn feeds(model: &Model, data: Option<&Dataset>, inputs: &[Input], ctx: &Context) -> Result<(Vec<Feeds>, Option<String>)> {
    if let Some(data) = data
        && image_size(model.graph(), model.task()).is_ok()
    {
        let mut images = Images::new(model.graph(), model.task(), data, COMPARED, 1, ctx)?;
        let mut all = Vec::new();
        while let Some(batch) = images.next() {
            all.push(images.feeds(&batch?)?);
        }
        return Ok((all, Some(data.label())));
    }
    Ok((vec![noise(inputs, ctx.seed)?], None))
}

fn compare(model: &Model, carrier: &mut (dyn Carrier + '_), feeds: &Feeds, worst: &mut Vec<Distance>) -> Result<()> {
    let ours = run(model.graph(), feeds, Run::default())?;
    let theirs = carrier.run(feeds).map_err(Fault::error)?;
    for (name, a) in &ours {
        let b = theirs.get(name).ok_or_else(|| Error::check(format!("the runtime gives no output '{name}'")))?;
        let found = compare_tensors(a, b).map_err(|e| e.at(format!("output '{name}'")))?;
        for d in found.outputs {
            let d = Distance { output: name.clone(), ..d };
            match worst.iter_mut().find(|w| w.output == d.output) {
                None => worst.push(d),
                Some(w) => {
                    *w = Distance {
                        count: w.count + d.count,
                        max_abs: w.max_abs.max(d.max_abs),
                        mean_abs: w.mean_abs.max(d.mean_abs),
                        max_rel: w.max_rel.max(d.max_rel),
                        sqnr_db: [w.sqnr_db, d.sqnr_db].into_iter().flatten().reduce(f64::min),
                        cosine: w.cosine.min(d.cosine),
                        not_finite: w.not_finite + d.not_finite,
                        ..d
                    }
                }
            }
        }
    }
    Ok(())
}

/// Scores in both; `None` for labels that do not fit the model.
fn score(model: &Model, carrier: &mut (dyn Carrier + '_), data: &Dataset, ctx: &Context) -> Result<Option<Score>> {
    if DataKind::of_task(model.task()) != Some(data.kind) {
        return Ok(None);
    }
    let data = data.for_evaluation().take(SCORED);
    let (form, options) = (ImageForm::of(model.graph(), model.task()), Evaluate { batch: 1, ..Evaluate::default() });
    let mut own = ImageRunner::new(model, ctx);
    let ours = evaluate_as(&form, &mut |images| own.run(images), model.task(), &data, &options, ctx)?;
    let mut theirs = |images: &_| run_images_with(model, images, &mut |feeds| carrier.run(feeds).map_err(Fault::error));
    let theirs = evaluate_as(&form, &mut theirs, model.task(), &data, &options, ctx)?;
    let measured = |e: &Evaluation| e.map.map(|v| ("mAP50-95", v)).or_else(|| e.top1.map(|v| ("top-1", v)));
    let both = measured(&ours).zip(measured(&theirs));
    Ok(both.map(|((measure, ours), (_, theirs))| Score { measure: measure.into(), ours, theirs, images: data.len() }))
}
