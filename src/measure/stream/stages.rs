//! `pipeline`: a model cut into stages, each on threads of its own, against one engine and against whole models side by side.

use crate::environment::Environment;
use crate::statistics::{Speedup, Verdict};
use crate::worker::{Input, noise};
use compresso_base::context::Context;
use compresso_base::error::{Error, Result};
use compresso_base::operation::{Arg, ArgKind, Operation, Options, Signature, in_range};
use compresso_base::report::{Best, Cell, Show, Table, bytes, counted};
use compresso_exec::{Engine, Outputs};
use compresso_model::graph::{Graph, Patch, ValueInfo};
use compresso_model::{Model, Value};
use serde::Serialize;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Instant;

compresso_base::options! {
    /// Options of `pipeline`.
    pub struct Stages {
        /// Parts that the model is cut into, of about as many multiplications each; the session's threads are shared among them.
        pub stages: usize = 2,
        /// Images that go through in each round.
        pub images: usize = 50,
        /// Rounds, in which the ways take turns; the median counts. Fewer than 8 tell no two ways apart.
        pub rounds: usize = 8,
        /// Images per run, where the model leaves it open.
        pub batch: usize = 1,
    }
}

/// A way to share threads, and what it gives.
#[derive(Debug, Clone, Serialize)]
pub struct Arrangement {
    /// `one engine`, `side by side` or `stages`.
    pub name: &'static str,
    /// Images a second, the median of the rounds.
    pub images_per_second: f64,
    /// Images a second of each round.
    pub rounds: Vec<f64>,
    /// Against one engine, by the rounds in which both took turns; `None` of that itself, and where rounds or images are too few.
    pub speedup: Option<Speedup>,
    /// Milliseconds from an image's start to its result, the median.
    pub latency_ms: f64,
    /// How often the weights are in memory.
    pub copies: usize,
}

/// What a cut gives.
#[derive(Debug, Clone, Serialize)]
pub struct PipelineReport {
    /// One engine; whole models side by side; the stages.
    pub arrangements: Vec<Arrangement>,
    /// Nodes before which the model is cut.
    pub cuts: Vec<String>,
    /// Share of the multiplications of each stage.
    pub shares: Vec<f64>,
    /// Bytes that go from each stage to the next.
    pub crossing_bytes: Vec<u64>,
    /// Threads of the session, which all engines of a way share.
    pub threads: usize,
    /// Images of each round.
    pub images: usize,
    /// Machine, versions and time.
    pub environment: Environment,
}

impl Operation for Stages {
    const SIGNATURE: Signature = Signature {
        name: "pipeline",
        summary: "Cuts a model into stages, each on threads of its own, and measures its stream of images against one engine with all threads and \
                  against whole models side by side",
        group: "measure",
        args: &[Arg::new("m", ArgKind::Model)],
        returns: "report",
        fields: Self::FIELDS,
        examples: &["pipeline(model(\"classifier\", #{ image_size: 32 }), #{ images: 4, rounds: 1 })"],
        keywords: &["stages", "model parallelism", "split", "cut", "throughput", "parallel"],
    };
    type Inputs<'a> = &'a Model;
    type Output = PipelineReport;

    /// # Errors
    /// `Argument` for options out of range, or more stages than threads; `Unsupported` for a model that has no place to cut; what running reports.
    fn run(&self, model: &Model, ctx: &Context) -> Result<PipelineReport> {
        in_range("stages", self.stages as f64, 2.0..=64.0)?;
        in_range("images", self.images as f64, 1.0..=1e6)?;
        in_range("rounds", self.rounds as f64, 1.0..=1000.0)?;
        in_range("batch", self.batch as f64, 1.0..=4096.0)?;
        if self.stages > ctx.threads {
            let e = Error::argument(format!("{} need as many threads, and there are {}", counted(self.stages, "stage"), ctx.threads));
            return Err(e.hint("threads(n) sets them"));
        }
        let graph = model.graph();
        let feeds = noise(&Input::of(graph, self.batch, model.image_size())?, ctx.seed)?;
        let plan = cut_points(model, self.stages)?;
        let parts = parts(graph, &plan.nodes)?;
        let each = ctx.threads / self.stages;
        let mut whole = Engine::new(graph, &[], ctx.threads)?;
        let mut copies = (0..self.stages).map(|_| Engine::new(graph, &[], each)).collect::<Result<Vec<_>>>()?;
        let mut stages = parts.iter().map(|p| Engine::new(p, &[], each)).collect::<Result<Vec<_>>>()?;
        let crossing_bytes = check(&mut whole, &mut stages, &feeds, ctx)?;
        for engine in &mut copies {
            engine.run(&feeds, Some(&ctx.cancel))?;
        }
        let ways: [(&'static str, usize); 3] = [("one engine", 1), ("side by side", self.stages), ("stages", 1)];
        let mut rounds: Vec<Vec<(f64, Vec<f64>)>> = vec![Vec::new(); ways.len()];
        let mut progress = ctx.progress("pipeline", (self.rounds * ways.len()) as u64);
        for _ in 0..self.rounds {
            rounds[0].push(self.side_by_side(std::slice::from_mut(&mut whole), &feeds, ctx)?);
            progress.step("")?;
            rounds[1].push(self.side_by_side(&mut copies, &feeds, ctx)?);
            progress.step("")?;
            rounds[2].push(self.staged(&mut stages, &feeds, ctx)?);
            progress.step("")?;
        }
        drop(progress);
        let median = |mut all: Vec<f64>| {
            all.sort_by(f64::total_cmp);
            crate::timing::percentile(&all, 50.0)
        };
        let seconds: Vec<Vec<f64>> = rounds.iter().map(|all| all.iter().map(|r| r.0).collect()).collect();
        let enough = self.images >= ENOUGH * self.stages;
        let arrangement = |(((name, copies), rounds), own): (((&'static str, usize), Vec<(f64, Vec<f64>)>), &Vec<f64>)| {
            let speedup = if enough && name != ways[0].0 { Speedup::of(own, &seconds[0]) } else { None };
            let rates: Vec<f64> = own.iter().map(|seconds| (self.images * self.batch) as f64 / seconds).collect();
            let latency_ms = median(rounds.into_iter().flat_map(|r| r.1).collect());
            Arrangement { name, images_per_second: median(rates.clone()), rounds: rates, speedup, latency_ms, copies }
        };
        let report = PipelineReport {
            arrangements: ways.into_iter().zip(rounds).zip(&seconds).map(arrangement).collect(),
            cuts: plan.nodes.iter().map(|&n| graph.nodes()[n].label()).collect(),
            shares: plan.shares,
            crossing_bytes,
            threads: ctx.threads,
            images: self.images,
            environment: Environment::now(Vec::new()),
        };
        ctx.note(report.headline());
        Ok(report)
    }
}

impl Stages {
    /// Images shared among whole models: seconds for all, and milliseconds of each.
    fn side_by_side(&self, engines: &mut [Engine], feeds: &HashMap<String, Value>, ctx: &Context) -> Result<(f64, Vec<f64>)> {
        let next = AtomicUsize::new(0);
        let begin = Instant::now();
        let work = |engine: &mut Engine| -> Result<Vec<f64>> {
            let mut times = Vec::new();
            while next.fetch_add(1, Ordering::Relaxed) < self.images {
                let start = Instant::now();
                engine.run(feeds, Some(&ctx.cancel))?;
                times.push(1e3 * start.elapsed().as_secs_f64());
            }
            Ok(times)
        };
        let times = std::thread::scope(|scope| {
            let threads: Vec<_> = engines.iter_mut().map(|engine| scope.spawn(|| work(engine))).collect();
            threads.into_iter().map(|t| t.join().unwrap_or_else(|_| Err(Error::internal("a worker panicked")))).collect::<Result<Vec<_>>>()
        })?;
        Ok((begin.elapsed().as_secs_f64(), times.concat()))
    }

    /// Images through the stages, with room for one between two of them.
    fn staged(&self, engines: &mut [Engine], feeds: &HashMap<String, Value>, ctx: &Context) -> Result<(f64, Vec<f64>)> {
        let begin = Instant::now();
        let times = std::thread::scope(|scope| {
            let (first, mut input) = sync_channel::<Passing>(1);
            for engine in engines.iter_mut() {
                let (sender, receiver) = sync_channel(1);
                scope.spawn(move || stage(engine, &input, &sender, ctx));
                input = receiver;
            }
            scope.spawn(move || {
                for _ in 0..self.images {
                    if first.send(Ok((Instant::now(), feeds.clone()))).is_err() {
                        break;
                    }
                }
            });
            let ends = input.iter().map(|passed| passed.map(|(start, _)| 1e3 * start.elapsed().as_secs_f64()));
            ends.collect::<Result<Vec<_>>>()
        })?;
        Ok((begin.elapsed().as_secs_f64(), times))
    }
}

/// What goes from stage to stage: when the image began, and the values that later stages read.
type Passing = Result<(Instant, HashMap<String, Value>)>;

fn stage(engine: &mut Engine, input: &Receiver<Passing>, output: &SyncSender<Passing>, ctx: &Context) {
    for passing in input {
        let passing = passing.and_then(|(start, values)| {
            let made = engine.run(&values, Some(&ctx.cancel))?;
            Ok((start, made.into_iter().collect()))
        });
        let last = passing.is_err();
        if output.send(passing).is_err() || last {
            break;
        }
    }
}

/// That the stages give what the whole gives; the bytes that cross each cut.
fn check(whole: &mut Engine, stages: &mut [Engine], feeds: &HashMap<String, Value>, ctx: &Context) -> Result<Vec<u64>> {
    let expected = whole.run(feeds, Some(&ctx.cancel))?;
    let mut values = feeds.clone();
    let mut crossing = Vec::new();
    let last = stages.len() - 1;
    for (i, engine) in stages.iter_mut().enumerate() {
        let made: Outputs = engine.run(&values, Some(&ctx.cancel))?;
        if i < last {
            crossing.push(made.values().map(|v| (v.tensor.elem_count() * v.tensor.dtype().size_in_bytes()) as u64).sum());
        }
        values = made.into_iter().collect();
    }
    for (name, want) in &expected {
        let got = values.get(name).ok_or_else(|| Error::internal(format!("the last stage gives no '{name}'")))?;
        let (want, got) = (want.to_f64s()?, got.to_f64s()?);
        let scale = want.iter().fold(0f64, |m, v| m.max(v.abs()));
        let off = want.iter().zip(&got).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        // Fusions that a cut takes apart round otherwise.
        if want.len() != got.len() || off > 1e-3 * scale.max(1e-6) {
            return Err(Error::check(format!("output '{name}' of the stages differs by {off:e}")));
        }
    }
    Ok(crossing)
}

/// Images for each stage that tell a rate: filling and draining the stages takes as long as a stage's part of one image each.
const ENOUGH: usize = 10;

struct Plan {
    /// The first node of each stage but the first.
    nodes: Vec<usize>,
    shares: Vec<f64>,
}

/// Places for cuts: near equal shares of the multiplications, where the fewest values cross.
fn cut_points(model: &Model, stages: usize) -> Result<Plan> {
    let graph = model.graph();
    let stats = model.stats()?;
    let unknown = || Error::unsupported("the multiplications of its layers are not known, so that they cannot be shared");
    let mut sum = 0;
    // A layer for each node, in order.
    let before: Vec<u64> = stats
        .layers
        .iter()
        .map(|l| {
            sum += l.cost.macs;
            sum - l.cost.macs
        })
        .collect();
    if sum == 0 {
        return Err(unknown());
    }
    let share = |node: usize| before[node] as f64 / sum as f64;
    let mut nodes: Vec<usize> = Vec::new();
    for s in 1..stages {
        let (wanted, room) = (s as f64 / stages as f64, 0.15 / stages as f64);
        let after = nodes.last().copied().unwrap_or(0);
        let near = (after + 1..graph.nodes().len()).filter(|&n| (share(n) - wanted).abs() <= room);
        let closest = (after + 1..graph.nodes().len()).min_by(|&a, &b| (share(a) - wanted).abs().total_cmp(&(share(b) - wanted).abs()));
        let found = near.min_by_key(|&n| crossing(graph, n).len()).or(closest).ok_or_else(unknown)?;
        nodes.push(found);
    }
    let mut edges: Vec<f64> = vec![0.0];
    edges.extend(nodes.iter().map(|&n| share(n)));
    edges.push(1.0);
    Ok(Plan { nodes, shares: edges.windows(2).map(|w| w[1] - w[0]).collect() })
}

/// Values made before a node, or fed, that it or a later one reads, or that are outputs.
fn crossing(graph: &Graph, node: usize) -> Vec<String> {
    let made = |n: &compresso_model::graph::Node| n.outputs.iter().filter(|o| !o.is_empty()).cloned().collect::<Vec<_>>();
    let fed = graph.feeds().map(|v| v.name.clone());
    let early: HashSet<String> = graph.nodes()[..node].iter().flat_map(made).chain(fed).collect();
    let late = graph.nodes()[node..].iter().flat_map(|n| n.reads().map(str::to_string).collect::<Vec<_>>());
    let outputs = graph.outputs().iter().map(|o| o.name.clone());
    let mut seen = HashSet::new();
    late.chain(outputs).filter(|v| early.contains(v) && seen.insert(v.clone())).collect()
}

/// The graphs of the stages; each gives what those after it read.
fn parts(graph: &Graph, cuts: &[usize]) -> Result<Vec<Graph>> {
    let facts = graph.facts()?;
    let values = |names: Vec<String>| -> Result<Vec<ValueInfo>> {
        let value = |name: String| {
            let fact = facts.get(&name).ok_or_else(|| Error::missing(format!("nothing is known of the value '{name}'")))?;
            Ok(ValueInfo::new(name, fact.clone()))
        };
        names.into_iter().map(value).collect()
    };
    let edges: Vec<usize> = [0].into_iter().chain(cuts.iter().copied()).chain([graph.nodes().len()]).collect();
    let part = |w: &[usize]| {
        let mut patch = Patch::new(graph);
        (0..graph.nodes().len()).filter(|n| !(w[0]..w[1]).contains(n)).for_each(|n| patch.remove(n));
        if w[0] > 0 {
            patch.set_inputs(values(crossing(graph, w[0]))?);
        }
        if w[1] < graph.nodes().len() {
            patch.set_outputs(values(crossing(graph, w[1]))?);
        }
        patch.apply()
    };
    edges.windows(2).map(part).collect()
}

impl PipelineReport {
    /// The way that is told to be better than the others: the fastest of those that are faster than one engine, else that, where all others
    /// are slower. `None` where the rounds do not tell.
    fn told(&self) -> Option<&'static str> {
        let others = self.arrangements.get(1..)?;
        let is = |a: &&Arrangement, verdict| a.speedup.is_some_and(|s| s.verdict == verdict);
        let faster = others.iter().filter(|a| is(a, Verdict::Faster));
        let best = faster.max_by(|a, b| a.images_per_second.total_cmp(&b.images_per_second));
        let slower = || others.iter().all(|a| is(&a, Verdict::Slower));
        best.map(|a| a.name).or_else(|| slower().then(|| self.arrangements[0].name))
    }
    /// `pipeline: 61.2 images/s in stages, 70.1 side by side, 48.0 by one engine`
    pub fn headline(&self) -> String {
        let parts: Vec<String> = self.arrangements.iter().map(|a| format!("{} {:.1}", a.name, a.images_per_second)).collect();
        format!("pipeline, images/s: {}", parts.join(", "))
    }
}

impl Show for PipelineReport {
    fn tables(&self) -> Vec<Table> {
        let headers = ["threads shared as", ">images/s", ">least", ">most", ">× one engine", ">latency ms", ">copies of the weights"];
        let mut ways =
            Table::new("Pipeline", &headers).best(&[("images/s", Best::Greatest), ("latency ms", Best::Least)]).minor(["least", "most"]);
        for a in &self.arrangements {
            let one = |v: f64| Cell::shown(format!("{v:.1}"), v);
            let ends = |f: fn(f64, f64) -> f64| a.rounds.iter().copied().reduce(f).unwrap_or(f64::NAN);
            let latency = Cell::shown(format!("{:.2}", a.latency_ms), a.latency_ms);
            let copies = Cell::shown(a.copies.to_string(), a.copies as f64);
            let times = match a.speedup {
                Some(s) => Cell::shown(s.to_string(), s.times),
                None if std::ptr::eq(a, &raw const self.arrangements[0]) => Cell::shown("1.00×", 1.0),
                None => Cell::none(),
            };
            ways.row([Cell::from(a.name), one(a.images_per_second), one(ends(f64::min)), one(ends(f64::max)), times, latency, copies]);
        }
        let mut stages = Table::new("Stages", &["stage", "begins at", ">share of MACs", ">sends"]);
        for (i, share) in self.shares.iter().enumerate() {
            let begins = if i == 0 { "the inputs" } else { self.cuts[i - 1].as_str() };
            let sends = self.crossing_bytes.get(i).map_or_else(Cell::none, |b| Cell::bytes(*b));
            stages.row([Cell::from((i + 1).to_string()), Cell::from(begins), Cell::share(*share), sends]);
        }
        vec![ways, stages]
    }
    fn notes(&self) -> Vec<String> {
        let mut notes = self.environment.lines();
        notes.push(format!("{}, {} in each round, in turns", counted(self.threads, "thread"), counted(self.images, "image")));
        let crossing: u64 = self.crossing_bytes.iter().sum();
        let Some(best) = self.told() else {
            let why = if self.images < ENOUGH * self.shares.len() {
                format!(
                    "no way is told to be better from {} a round: {} and more are",
                    counted(self.images, "image"),
                    ENOUGH * self.shares.len()
                )
            } else if self.arrangements.iter().skip(1).all(|a| a.speedup.is_none()) {
                "no way is told to be better from fewer than 8 rounds".into()
            } else {
                "these rounds cannot tell the ways apart".into()
            };
            notes.push(format!("{why}; {} cross the cuts for each run", bytes(crossing)));
            return notes;
        };
        let why = match best {
            "stages" => "stages win here: each keeps its part of the weights near its core, and waits little for the others",
            "side by side" => {
                "whole models side by side win: nothing waits for another stage. Stages are for weights that do not fit several times"
            }
            _ => "one engine wins: its threads share each layer, and an image is done soonest",
        };
        notes.push(format!("{why}; {} cross the cuts for each run", bytes(crossing)));
        notes
    }
    fn data(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use compresso_model::zoo::{ZooOptions, build};

    fn model(name: &str) -> Model {
        let options = ZooOptions { width: Some(0.125), image_size: Some([64, 64]), ..ZooOptions::default() };
        build(name, &options).unwrap()
    }

    fn ctx(threads: usize) -> Context {
        let mut ctx = Context::new();
        ctx.threads = threads;
        ctx
    }

    #[test]
    fn a_model_is_cut_where_shares_are_alike_and_gives_the_same() {
        // Skips of a detector cross a cut; the check of the outputs is part of the call.
        for (stages, most) in [(2, 0.62), (3, 0.5)] {
            let given = Stages { stages, images: 3, rounds: 1, ..Stages::default() };
            let report = given.run(&model("yolov8n"), &ctx(stages)).unwrap();
            assert_eq!((report.shares.len(), report.crossing_bytes.len()), (stages, stages - 1));
            assert!((report.shares.iter().sum::<f64>() - 1.0).abs() < 1e-9 && report.shares.iter().all(|s| *s < most), "{report:?}");
            assert!(report.arrangements.iter().all(|a| a.images_per_second > 0.0 && a.latency_ms > 0.0));
            assert_eq!(report.arrangements.iter().map(|a| a.copies).collect::<Vec<_>>(), [1, stages, 1]);
        }
        assert!(Stages::default().run(&model("yolov8n"), &ctx(1)).unwrap_err().to_string().contains("need as many threads"));
    }
}
