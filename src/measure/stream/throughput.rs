//! `throughput`: images per second from file to boxes, over the number of workers.

use crate::environment::Environment;
use crate::memory::resident;
use crate::statistics::{Speedup, Verdict};
use compresso_base::context::{Context, Verbosity};
use compresso_base::error::{Error, Result};
use compresso_base::operation::{Arg, ArgKind, Operation, Options, Signature, in_range};
use compresso_base::report::{Cell, Plot, Series, SeriesKind, Show, Table, counted};
use compresso_learn::data::Dataset;
use compresso_learn::eval::{Predict, Rates, predict_measured, predict_serially};
use compresso_model::Model;
use serde::Serialize;
use std::time::Instant;

compresso_base::options! {
    /// Options of `throughput`.
    pub struct Throughput {
        /// Numbers of workers to try, each of which runs the model on images of its own; when left out, powers of two up to the session's
        /// threads. The workers share these threads.
        pub workers: Vec<usize> = Vec::new(),
        /// Images of each measurement; those that are given come again and again.
        pub images: usize = 100,
        /// Measurements of each, in turns; the median counts. Fewer than 8 tell no two numbers of workers apart.
        pub rounds: usize = 8,
        /// Images that a worker runs at once, where the model leaves it open.
        pub batch: usize = 1,
        /// Milliseconds that a worker waits for a batch to fill.
        pub wait_ms: f64 = 5.0,
        /// Boxes of lower confidence are dropped.
        pub confidence: f64 = 0.25,
        /// Input size in pixels, one number or [height, width]; the model's own when left out.
        pub size: Option<serde_json::Value> = None,
    }
}

/// One way to run, and how fast it was.
#[derive(Debug, Clone, Serialize)]
pub struct Rate {
    /// `one thread`, or the number of workers.
    pub name: String,
    /// `None`: one thread that does all, image by image.
    pub workers: Option<usize>,
    /// Threads that each worker runs the model on.
    pub threads_per_worker: usize,
    /// The median of the rounds.
    pub images_per_second: f64,
    /// Of each round.
    pub rounds: Vec<f64>,
    /// Against one thread: the ratio of the medians.
    pub times: f64,
    /// The same by the rounds in which both took turns; `None` of one thread itself, and where the rounds or the images are too few.
    pub speedup: Option<Speedup>,
    /// Milliseconds of an image in each stage, in its thread; here of reading, decoding and fitting to the model's input.
    pub read_ms: f64,
    /// As [`Rate::read_ms`], of running the model.
    pub run_ms: f64,
    /// As [`Rate::read_ms`], of reading boxes from the outputs and suppressing.
    pub boxes_ms: f64,
}

/// What `throughput` measured.
#[derive(Debug, Clone, Serialize)]
pub struct StreamReport {
    /// One thread, then each number of workers.
    pub rates: Vec<Rate>,
    /// Images of each measurement.
    pub images: usize,
    /// Of these at most so many are under way, partly done, when counting begins.
    pub under_way: usize,
    /// Images that a worker runs at once, where the model leaves it open.
    pub batch: usize,
    /// Threads of the session, which the workers share.
    pub threads: usize,
    /// Resident bytes of the process after so many images of the last measurement.
    pub memory: Vec<(usize, u64)>,
    /// Machine, versions and time.
    pub environment: Environment,
}

/// Looks at the memory in a measurement.
const LOOKS: usize = 100;
/// So many times the images that are under way must come out, so that these change a rate by no more than a twentieth.
const ENOUGH: usize = 20;

impl Operation for Throughput {
    const SIGNATURE: Signature = Signature {
        name: "throughput",
        summary: "Images per second end to end (read, decode, letterbox, run, suppress), by one thread and by more and more workers",
        group: "measure",
        args: &[Arg::new("m", ArgKind::Model), Arg::new("images", ArgKind::Images)],
        returns: "report",
        fields: Self::FIELDS,
        examples: &[
            "throughput(model(\"yolov8n\", #{ classes: 3, width: 0.125, image_size: 64 }), dataset(\"shapes\", #{ images: 4, size: 64 }), \
             #{ workers: [2], images: 8, rounds: 1 })",
        ],
        keywords: &["fps", "parallel", "workers", "threads", "pipeline", "batching", "images per second", "memory", "speed"],
    };
    type Inputs<'a> = (&'a Model, &'a Dataset);
    type Output = StreamReport;

    fn run(&self, (model, data): (&Model, &Dataset), ctx: &Context) -> Result<StreamReport> {
        in_range("images", self.images as f64, 1.0..=1e8)?;
        in_range("rounds", self.rounds as f64, 1.0..=1000.0)?;
        if data.is_empty() {
            return Err(Error::argument("there are no images"));
        }
        let data = data.repeated(self.images);
        let mut counts: Vec<Option<usize>> = vec![None];
        if self.workers.is_empty() {
            counts.extend(std::iter::successors(Some(1), |n| Some(n * 2)).take_while(|n| *n <= ctx.threads).map(Some));
        } else {
            self.workers.iter().try_for_each(|n| in_range("workers", *n as f64, 1.0..=256.0))?;
            counts.extend(self.workers.iter().copied().map(Some));
        }
        let mut found: Vec<Vec<Rates>> = vec![Vec::new(); counts.len()];
        let mut memory = Vec::new();
        let mut progress = ctx.progress("throughput", (counts.len() * self.rounds) as u64);
        let mut quiet = ctx.clone();
        quiet.verbosity = Verbosity::Silent;
        for _ in 0..self.rounds {
            for (workers, rates) in counts.iter().zip(&mut found) {
                memory.clear();
                let rate = self.measure(model, &data, *workers, &mut memory, &quiet)?;
                ctx.check()?;
                progress.step(format!("{:.1} images/s", rate.images_per_second))?;
                rates.push(rate);
            }
        }
        drop(progress);
        let serial = median(&found[0], |r| r.images_per_second);
        let under_way = counts.iter().flatten().map(|n| under_way(*n, self.batch)).max().unwrap_or(0);
        // Images that were half done before counting began come out as if they had taken no time.
        let enough = self.images >= ENOUGH * under_way.max(1);
        let ms = |rounds: &[Rates]| rounds.iter().map(|r| 1e3 / r.images_per_second).collect::<Vec<_>>();
        let rate = |(workers, rounds): (&Option<usize>, &Vec<Rates>)| {
            let at = |of: fn(&Rates) -> f64| median(rounds, of);
            Rate {
                name: workers.map_or_else(|| "one thread".into(), |n| counted(n, "worker")),
                workers: *workers,
                threads_per_worker: rounds[0].threads_per_worker,
                images_per_second: at(|r| r.images_per_second),
                rounds: rounds.iter().map(|r| r.images_per_second).collect(),
                times: at(|r| r.images_per_second) / serial,
                speedup: workers.filter(|_| enough).and_then(|_| Speedup::of(&ms(rounds), &ms(&found[0]))),
                read_ms: at(|r| r.read_ms),
                run_ms: at(|r| r.run_ms),
                boxes_ms: at(|r| r.boxes_ms),
            }
        };
        let rates = counts.iter().zip(&found).map(rate).collect();
        let environment = Environment::now(Vec::new());
        let report = StreamReport { rates, images: self.images, under_way, batch: self.batch, threads: ctx.threads, memory, environment };
        ctx.note(report.headline());
        Ok(report)
    }
}

/// Images that workers have, and that are read ahead for them.
fn under_way(workers: usize, batch: usize) -> usize {
    2 * workers * batch
}

impl Throughput {
    fn measure(
        &self,
        model: &Model,
        data: &Dataset,
        workers: Option<usize>,
        memory: &mut Vec<(usize, u64)>,
        ctx: &Context,
    ) -> Result<Rates> {
        let options = Predict {
            workers: workers.unwrap_or(1),
            batch: self.batch,
            wait_ms: self.wait_ms,
            confidence: self.confidence,
            size: self.size.clone(),
            ..Predict::default()
        };
        let (mut seen, every) = (0, self.images.div_ceil(LOOKS));
        // Until the first images are through, workers plan and the stages fill.
        let skipped = (self.images / 10).max(under_way(options.workers, self.batch)).min(self.images / 2);
        let mut begin = Instant::now();
        let mut visit = |_, _: &_| {
            seen += 1;
            if seen == skipped {
                begin = Instant::now();
            }
            if seen % every == 0 {
                memory.extend(resident().map(|r| (seen, r.now)));
            }
            Ok(())
        };
        let (rates, _) = match workers {
            None => predict_serially(model, data, &options, ctx, &mut visit)?,
            Some(_) => predict_measured(model, data, &options, ctx, &mut visit)?,
        };
        let counted = rates.count.saturating_sub(skipped);
        Ok(Rates { images_per_second: counted as f64 / begin.elapsed().as_secs_f64(), ..rates })
    }
}

fn median(rounds: &[Rates], of: fn(&Rates) -> f64) -> f64 {
    let mut all: Vec<f64> = rounds.iter().map(of).collect();
    all.sort_by(f64::total_cmp);
    crate::timing::percentile(&all, 50.0)
}

impl Rate {
    /// `1.83×`; `–` where the rounds do not tell.
    fn against(&self) -> Cell {
        match self.speedup {
            Some(s) => Cell::shown(s.to_string(), s.times),
            None if self.workers.is_none() => Cell::shown("1.00×", 1.0),
            None => Cell::none(),
        }
    }
}

impl StreamReport {
    /// What these images and rounds do not tell.
    fn doubts(&self) -> Vec<String> {
        let mut doubts = Vec::new();
        if self.images < ENOUGH * self.under_way.max(1) {
            doubts.push(format!(
                "no speed-up is told from {}: up to {} are under way when counting begins; {} and more make that a twentieth",
                counted(self.images, "image"),
                self.under_way,
                ENOUGH * self.under_way
            ));
        } else if self.rates.iter().any(|r| r.workers.is_some() && r.speedup.is_none()) {
            doubts.push("no speed-up is told from fewer than 8 rounds".into());
        }
        let alike = self.rates.iter().filter(|r| r.speedup.is_some_and(|s| s.verdict == Verdict::CannotTell)).map(|r| r.name.as_str());
        let alike: Vec<&str> = alike.collect();
        if !alike.is_empty() {
            doubts.push(format!("≈ 1×: these rounds cannot tell {} from one thread", alike.join(", ")));
        }
        doubts
    }
    fn best(&self) -> Option<&Rate> {
        self.rates.iter().max_by(|a, b| a.images_per_second.total_cmp(&b.images_per_second))
    }
    /// `throughput: 61.2 images/s by 2 workers, 1.83× one thread`
    pub fn headline(&self) -> String {
        let Some(best) = self.best() else { return "throughput: nothing was measured".into() };
        let against = best.speedup.map_or_else(String::new, |s| format!(", {s} one thread"));
        format!("throughput: {:.1} images/s by {}{against}", best.images_per_second, best.name)
    }
    /// Bytes that were added for each image after the first quarter of them, by the least squares of the looks; `None` where the system does
    /// not tell memory, or the images were too few.
    pub fn growth(&self) -> Option<f64> {
        let late: Vec<(f64, f64)> =
            self.memory.iter().filter(|m| m.0 * 4 >= self.images).map(|&(n, bytes)| (n as f64, bytes as f64)).collect();
        if late.len() < 8 {
            return None;
        }
        let n = late.len() as f64;
        let (x, y) = (late.iter().map(|p| p.0).sum::<f64>() / n, late.iter().map(|p| p.1).sum::<f64>() / n);
        let slope = late.iter().map(|p| (p.0 - x) * (p.1 - y)).sum::<f64>() / late.iter().map(|p| (p.0 - x).powi(2)).sum::<f64>();
        Some(slope)
    }
}

impl Show for StreamReport {
    fn tables(&self) -> Vec<Table> {
        let headers = ["", ">threads each", ">images/s", ">least", ">most", ">× one thread", ">read ms", ">run ms", ">boxes ms"];
        let mut table = Table::new("Throughput", &headers)
            .minor(["least", "most", "boxes ms"])
            .best(&[("images/s", compresso_base::report::Best::Greatest)]);
        for r in &self.rates {
            let one = |v: f64| Cell::shown(format!("{v:.1}"), v);
            let two = |v: f64| Cell::shown(format!("{v:.2}"), v);
            let ends = |f: fn(f64, f64) -> f64| r.rounds.iter().copied().reduce(f).unwrap_or(f64::NAN);
            let threads = Cell::shown(r.threads_per_worker.to_string(), r.threads_per_worker as f64);
            table.row([
                Cell::from(&r.name),
                threads,
                one(r.images_per_second),
                one(ends(f64::min)),
                one(ends(f64::max)),
                r.against(),
                two(r.read_ms),
                two(r.run_ms),
                two(r.boxes_ms),
            ]);
        }
        vec![table]
    }
    fn plots(&self) -> Vec<Plot> {
        let points = self.rates.iter().filter_map(|r| Some((r.workers? as f64, r.images_per_second))).collect();
        let rate = Series { name: "workers".into(), kind: SeriesKind::Line, points, labels: Vec::new() };
        let plot = |series| Plot { series: vec![series], ..Plot::default() };
        let mut plots = vec![plot(rate).titled("Throughput", "workers", "images per second")];
        if self.memory.len() >= 8 {
            let points = self.memory.iter().map(|&(n, bytes)| (n as f64, bytes as f64 / 1e6)).collect();
            let memory = Series { name: "resident".into(), kind: SeriesKind::Line, points, labels: Vec::new() };
            plots.push(plot(memory).titled("Memory", "images", "resident memory (MB)"));
        }
        plots
    }
    fn notes(&self) -> Vec<String> {
        let mut notes = self.environment.lines();
        notes.push(self.headline());
        notes.push(format!(
            "{} each, batch {}, {} in all; one thread reads, runs and suppresses image by image",
            counted(self.images, "image"),
            self.batch,
            counted(self.threads, "thread")
        ));
        notes.extend(self.doubts());
        let reads_longest = |r: &&Rate| r.workers.is_some() && r.read_ms > r.run_ms;
        if self.rates.iter().any(|r| reads_longest(&r)) {
            notes.push("reading takes longer than the model: smaller files, or more threads, are worth more than a faster model".into());
        }
        notes.extend(self.growth().map(|bytes| {
            let (first, last) = (self.memory[0].1 as f64 / 1e6, self.memory[self.memory.len() - 1].1 as f64 / 1e6);
            format!("memory: {first:.1} MB at first, {last:.1} MB in the end, {:+.2} MB for a thousand images", bytes / 1e3)
        }));
        notes
    }
    fn data(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use compresso_learn::data::{DataOptions, dataset};
    use compresso_model::zoo::{ZooOptions, build};

    #[test]
    fn each_number_of_workers_is_measured_against_one_thread() {
        let ctx = Context::new();
        let data = dataset("shapes", &DataOptions { images: Some(4), size: Some(32.into()), ..DataOptions::default() }, &ctx).unwrap();
        let options = ZooOptions { width: Some(0.0625), image_size: Some([32, 32]), ..ZooOptions::default() };
        let model = build("yolov8n", &options).unwrap();
        let given = Throughput { workers: vec![1, 2], images: 30, rounds: 2, batch: 2, ..Throughput::default() };
        let report = given.run((&model, &data), &ctx).unwrap();
        assert_eq!(report.rates.iter().map(|r| r.workers).collect::<Vec<_>>(), [None, Some(1), Some(2)]);
        assert!((report.rates[0].times - 1.0).abs() < 1e-9 && report.rates.iter().all(|r| r.rounds.len() == 2));
        assert!(report.rates.iter().all(|r| r.read_ms > 0.0 && r.run_ms > 0.0 && r.images_per_second > 0.0), "{report:?}");
        assert_eq!(report.memory.len(), if cfg!(target_os = "linux") { 30 } else { 0 });
        assert_eq!((report.tables()[0].rows.len(), report.plots()[0].series[0].points.len()), (3, 2));
        // Thirty images, of which eight may be under way, tell no speed-up, nor do two rounds.
        assert!(report.rates.iter().all(|r| r.speedup.is_none()) && !report.headline().contains('×'), "{}", report.headline());
        assert!(report.notes().iter().any(|n| n.contains("up to 8 are under way")), "{:?}", report.notes());
        assert!(Throughput { workers: vec![0], ..given }.run((&model, &data), &ctx).is_err());
    }

    #[test]
    fn rounds_in_turns_tell_a_speed_up_or_that_they_cannot() {
        let rate = |name: &str, workers: Option<usize>, ips: [f64; 8]| Rate {
            name: name.into(),
            workers,
            threads_per_worker: 1,
            images_per_second: ips[0],
            rounds: ips.to_vec(),
            times: ips[0] / 10.0,
            speedup: workers.and_then(|_| Speedup::of(&ips.map(|r| 1e3 / r), &[100.0; 8])),
            read_ms: 1.0,
            run_ms: 1.0,
            boxes_ms: 1.0,
        };
        let noisy = [10.1, 9.0, 11.0, 9.5, 10.4, 10.0, 9.2, 10.9];
        let rates = vec![rate("one thread", None, [10.0; 8]), rate("1 worker", Some(1), noisy), rate("2 workers", Some(2), [19.0; 8])];
        let environment = Environment::now(Vec::new());
        let report = StreamReport { rates, images: 100, under_way: 4, batch: 1, threads: 2, memory: Vec::new(), environment };
        assert_eq!(report.doubts(), ["≈ 1×: these rounds cannot tell 1 worker from one thread"]);
        assert!(report.headline().ends_with("by 2 workers, 1.90× one thread"), "{}", report.headline());
    }

    #[test]
    fn growth_is_the_slope_of_memory() {
        let of = |bytes: fn(usize) -> u64| StreamReport {
            rates: Vec::new(),
            images: 100,
            under_way: 4,
            batch: 1,
            threads: 1,
            memory: (1..=100).map(|n| (n, bytes(n))).collect(),
            environment: Environment::now(Vec::new()),
        };
        assert!((of(|n| 1000 + 7 * n as u64).growth().unwrap() - 7.0).abs() < 1e-9);
        // What comes up in the first quarter is no growth.
        assert!(of(|n| 10 * n.min(20) as u64).growth().unwrap().abs() < 1e-9);
    }
}
