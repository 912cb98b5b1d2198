//! What `benchmark` measured.

use super::layers::Layers;
use super::options::Scenario;
use super::server::Server;
use super::trade_off::{self, Spot};
use crate::environment::Environment;
use crate::statistics::{Speedup, Verdict, runs_for};
use crate::timing::Latency;
use crate::worker::Opened;
use compresso_base::report::{Best, Cell, Plot, Series, SeriesKind, Show, Table, counted};
use serde::Serialize;

/// One model in one runtime.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// The model, as the report calls it.
    pub name: String,
    /// As [`RuntimeSpec::name`](crate::runtimes::RuntimeSpec::name).
    pub runtime: String,
    /// Elements of all parameters.
    pub params: u64,
    /// Multiply-accumulates of one image of the size that is timed; `None` where they are known only at run time.
    pub macs: Option<u64>,
    /// Bytes of the ONNX file.
    pub size_bytes: u64,
    /// Images per run.
    pub batch: usize,
    /// Of a query; offline, where all images are there from the start, of a run.
    #[serde(flatten)]
    pub latency: Latency,
    /// How many times as fast as the first row, with which it took turns; `None` for that row itself, and below eight runs.
    pub speedup: Option<Speedup>,
    /// Milliseconds of each run, in the order of the rounds.
    pub samples_ms: Vec<f64>,
    /// Images per second, from the mean latency.
    pub throughput: f64,
    /// Milliseconds in which the runtime loaded the model, and of its first run, which counts in no other figure.
    #[serde(flatten)]
    pub opened: Opened,
    /// Of the scenario `server`.
    pub server: Option<Server>,
    /// Bytes that loading and running the model added to a process of its own at its highest: above what the process had
    /// with the runtime loaded, and no model.
    pub peak_memory_bytes: Option<u64>,
    /// Of these, what stays resident when all runs are over.
    pub steady_memory_bytes: Option<u64>,
    /// Bytes of all of that process at its highest, with the runtime and this library.
    pub process_memory_bytes: Option<u64>,
    /// Mean power of the whole processor, or of the GPU that the model runs on, in watts.
    pub power_w: Option<f64>,
    /// Energy per image in joules.
    pub energy_j: Option<f64>,
    /// Why power is not known.
    pub power_reason: Option<String>,
    /// Mean average precision at IoU 0.5, from 0 to 1; `None` without a dataset of boxes.
    pub map50: Option<f64>,
    /// The same over IoU 0.5 to 0.95.
    pub map: Option<f64>,
    /// Share of images whose best class is right; `None` without a dataset of classes.
    pub top1: Option<f64>,
}

/// What `benchmark` measured.
#[derive(Debug, Clone, Serialize)]
pub struct BenchmarkReport {
    /// Each model in each runtime; speed-ups are against the first.
    pub rows: Vec<Row>,
    /// Machine, versions and time.
    pub environment: Environment,
    /// Threads of each runtime.
    pub threads: usize,
    /// Cores that the processes were kept on; `None` where the system put them.
    pub cores: Option<Vec<usize>>,
    /// The runs were steps of training.
    pub training: bool,
    /// How queries came.
    pub scenario: Scenario,
    /// Each model and runtime had a process of its own.
    pub isolated: bool,
    /// The dataset that was given for accuracy; `None` for training too.
    pub dataset: Option<String>,
    /// The least time of each step of each model, where asked for.
    pub layers: Vec<Layers>,
    /// What was left out or set otherwise, and why.
    pub warnings: Vec<String>,
}

/// What is said of models on integers, `quantized` by their names, that take longer than one on floats with as many multiplications
/// in the same runtime.
pub(super) fn slower_integers(rows: &[Row], quantized: impl Fn(&str) -> bool) -> Vec<String> {
    let mut said = Vec::new();
    for row in rows.iter().filter(|r| r.macs.is_some() && quantized(&r.name)) {
        let alike = |r: &&Row| r.macs == row.macs && (r.batch, &r.runtime) == (row.batch, &row.runtime) && !quantized(&r.name);
        if let Some(float) = rows.iter().filter(alike).find(|r| r.latency.p50_ms < row.latency.p50_ms) {
            said.push(format!(
                "on this CPU '{}' takes longer on integers than '{}' on floats in {}: {:.2} and {:.2} ms",
                row.name, float.name, row.runtime, row.latency.p50_ms, float.latency.p50_ms
            ));
        }
    }
    said
}

impl BenchmarkReport {
    pub(super) fn line(&self) -> String {
        let parts: Vec<String> = self.rows.iter().map(|r| format!("{} ({}) {:.2} ms", r.name, r.runtime, r.latency.p50_ms)).collect();
        format!("benchmark, median: {}", parts.join(", "))
    }
    /// What these runs do not tell.
    fn doubts(&self) -> Vec<String> {
        let mut doubts = Vec::new();
        let runs = self.rows.iter().map(|r| r.latency.runs).min().unwrap_or(0);
        let few: Vec<String> = [("p95", 0.95), ("p99", 0.99)]
            .into_iter()
            .filter(|(_, share)| runs < runs_for(*share))
            .map(|(name, share)| format!("{name} takes {} runs", runs_for(share)))
            .collect();
        if !few.is_empty() {
            doubts.push(format!("{} are few to tell the tail: {}", counted(runs, "run"), few.join(", ")));
        }
        if self.rows.len() > 1 && self.rows[1..].iter().all(|r| r.speedup.is_none()) {
            doubts.push("no speed-up is told from fewer than 8 runs".into());
        }
        let several = self.runtimes().len() > 1;
        let name = |r: &Row| if several { format!("{} ({})", r.name, r.runtime) } else { r.name.clone() };
        let alike: Vec<String> =
            self.rows.iter().filter(|r| r.speedup.is_some_and(|s| s.verdict == Verdict::CannotTell)).map(name).collect();
        if let (Some(first), false) = (self.rows.first(), alike.is_empty()) {
            doubts.push(format!("≈ 1×: these runs cannot tell {} from {} in speed", alike.join(", "), name(first)));
        }
        for r in &self.rows {
            let Latency { p50_ms, p50_interval_ms: Some(i), .. } = r.latency else { continue };
            let wide = (i.high - p50_ms).max(p50_ms - i.low) / p50_ms;
            if wide > 0.1 {
                doubts.push(format!(
                    "the median of '{}' in {} is known to ±{:.0} %: the machine was busy, or more runs are needed",
                    r.name,
                    r.runtime,
                    100.0 * wide
                ));
            }
        }
        doubts
    }
    pub(super) fn has(&self, of: impl Fn(&Row) -> bool) -> bool {
        self.rows.iter().any(of)
    }
    pub(super) fn runtimes(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for r in &self.rows {
            if !names.contains(&r.runtime.as_str()) {
                names.push(&r.runtime);
            }
        }
        names
    }
}

impl BenchmarkReport {
    /// The greatest rates that keep the bound.
    fn server_table(&self) -> Option<Table> {
        let (percentile, bound) = self.rows.iter().find_map(|r| r.server.as_ref().map(|s| (s.percentile, s.bound_ms)))?;
        let tail = format!(">p{:.4} ms", 100.0 * percentile).replace(".0000", "");
        let mut table = Table::new(
            format!("Server: {} of the queries within {bound} ms", compresso_base::report::percent(percentile)),
            &["model", "runtime", ">queries/s", ">of capacity", ">p50 ms", &tail],
        )
        .folding()
        .best(&[("queries/s", Best::Greatest)]);
        for r in &self.rows {
            let Some(s) = &r.server else { continue };
            let ms = |v: fn(&super::server::Trial) -> f64| s.best().map_or_else(Cell::none, |t| Cell::shown(format!("{:.2}", v(t)), v(t)));
            let rate = Cell::shown(format!("{:.1}", s.rate), s.rate);
            table.row([
                Cell::from(&r.name),
                Cell::from(&r.runtime),
                rate,
                Cell::share(s.rate / s.capacity),
                ms(|t| t.p50_ms),
                ms(|t| t.tail_ms),
            ]);
        }
        Some(table)
    }

    fn latency_plot(&self, label: impl Fn(&Row) -> String) -> Plot {
        let series = Series {
            name: "p50".into(),
            kind: SeriesKind::Bars,
            points: self.rows.iter().enumerate().map(|(i, r)| (i as f64, r.latency.p50_ms)).collect(),
            labels: self.rows.iter().map(label).collect(),
        };
        Plot {
            title: "Latency".into(),
            x_label: "model".into(),
            y_label: "median latency (ms)".into(),
            series: vec![series],
            ..Plot::default()
        }
    }

    /// The tail of the latency over the rate of arrivals, as far as it was measured to its end.
    fn server_plot(&self, label: impl Fn(&Row) -> String) -> Plot {
        let of = |r: &Row| {
            let trials = r.server.iter().flat_map(|s| &s.trials).filter(|t| t.held);
            let mut points: Vec<(f64, f64)> = trials.map(|t| (t.rate, t.tail_ms)).collect();
            points.sort_by(|a, b| a.0.total_cmp(&b.0));
            Series { name: label(r), kind: SeriesKind::Line, points, labels: Vec::new() }
        };
        let series = self.rows.iter().map(of).filter(|s| !s.points.is_empty()).collect();
        Plot { series, ..Plot::default() }.titled("Latency under load", "queries per second", "tail latency (ms)")
    }
}

impl Row {
    pub(super) fn accuracy(&self) -> Option<f64> {
        self.map50.or(self.top1)
    }
}

impl Show for BenchmarkReport {
    fn tables(&self) -> Vec<Table> {
        let mut headers = vec![
            "model",
            "runtime",
            ">params",
            ">MACs",
            ">size",
            ">mean ms",
            ">std",
            ">p50 ms",
            ">p95 ms",
            ">p99 ms",
            ">images/s",
            ">load ms",
            ">first ms",
            ">peak memory",
            ">steady memory",
        ];
        let (power, map, top1) = (self.has(|r| r.power_w.is_some()), self.has(|r| r.map50.is_some()), self.has(|r| r.top1.is_some()));
        if power {
            headers.extend([">watts", ">J/image"]);
        }
        if map {
            headers.extend([">mAP50", ">mAP50-95"]);
        }
        if top1 {
            headers.push(">top-1");
        }
        // How the others compare with the first row.
        let base = self.rows.first().filter(|_| self.rows.len() > 1);
        if base.is_some() {
            headers.push(">speed-up");
            headers.extend((map || top1).then_some(if map { ">Δ mAP50" } else { ">Δ top-1" }));
        }
        let or_dash = |v: Option<Cell>| v.unwrap_or_else(Cell::none);
        let ms = |v: f64| format!("{v:.2}");
        let mut table = Table::new("Benchmark", &headers)
            .folding()
            .minor([
                "std",
                "p99 ms",
                "mean ms",
                "p95 ms",
                "images/s",
                "MACs",
                "params",
                "load ms",
                "first ms",
                "peak memory",
                "steady memory",
            ])
            .best(&[
                ("size", Best::Least),
                ("p50 ms", Best::Least),
                ("images/s", Best::Greatest),
                ("peak memory", Best::Least),
                ("J/image", Best::Least),
                ("mAP50", Best::Greatest),
                ("mAP50-95", Best::Greatest),
                ("top-1", Best::Greatest),
            ]);
        for r in &self.rows {
            let l = &r.latency;
            let macs = r.macs.map_or_else(Cell::unknown, Cell::count);
            let mut cells = vec![Cell::from(&r.name), Cell::from(&r.runtime), Cell::count(r.params), macs, Cell::bytes(r.size_bytes)];
            cells.extend([l.mean_ms, l.std_ms, l.p50_ms].map(|v| Cell::shown(ms(v), v)));
            cells.extend([l.p95_ms, l.p99_ms].map(|v| Cell::shown(ms(v), v)));
            cells.push(Cell::number(r.throughput));
            cells.extend([r.opened.load_ms, r.opened.first_ms].map(|v| Cell::shown(ms(v), v)));
            cells.extend([r.peak_memory_bytes, r.steady_memory_bytes].map(|b| or_dash(b.map(Cell::bytes))));
            if power {
                cells.extend([or_dash(r.power_w.map(Cell::number)), or_dash(r.energy_j.map(Cell::number))]);
            }
            let share = |v: Option<f64>| or_dash(v.map(|v| Cell::shown(format!("{v:.4}"), v)));
            if map {
                cells.extend([share(r.map50), share(r.map)]);
            }
            if top1 {
                cells.push(share(r.top1));
            }
            if let Some(first) = base {
                let own = std::ptr::eq(r, first).then(|| Cell::shown("1.00×", 1.0));
                cells.push(or_dash(own.or_else(|| r.speedup.map(|s| Cell::shown(s.to_string(), s.times)))));
                let change = r.accuracy().zip(first.accuracy()).map(|(now, before)| now - before);
                if map || top1 {
                    cells.push(or_dash(change.map(|d| Cell::shown(format!("{d:+.4}"), d))));
                }
            }
            table.row(cells);
        }
        let mut tables: Vec<Table> = self.server_table().into_iter().chain([table]).collect();
        tables.extend(self.layers.iter().map(Layers::table));
        tables
    }

    fn plots(&self) -> Vec<Plot> {
        let several = self.runtimes().len() > 1;
        let label = |r: &Row| if several { format!("{} ({})", r.name, r.runtime) } else { r.name.clone() };
        if self.has(|r| r.server.is_some()) {
            return vec![self.server_plot(label)];
        }
        let spot = |r: &Row| {
            Some(Spot {
                name: r.name.clone(),
                runtime: r.runtime.clone(),
                accuracy: r.accuracy()?,
                costs: [
                    Some(r.latency.p50_ms),
                    Some(r.size_bytes as f64 / 1e6),
                    r.macs.map(|n| n as f64 / 1e6),
                    r.peak_memory_bytes.map(|n| n as f64 / 1e6),
                    r.energy_j,
                ],
            })
        };
        let spots: Vec<Spot> = self.rows.iter().filter_map(spot).collect();
        let accuracy = if self.has(|r| r.map50.is_some()) { "mAP50" } else { "top-1" };
        let mut plots: Vec<Plot> = trade_off::plot(&spots, &self.runtimes(), accuracy).into_iter().collect();
        if plots.is_empty() {
            plots.push(self.latency_plot(label));
        }
        plots.extend(self.layers.iter().flat_map(Layers::plots));
        plots
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = self.environment.lines();
        if let Some(r) = self.rows.first() {
            notes.push(format!(
                "{}{}, batch {}, {} {} each, models taking turns{}",
                counted(self.threads, "thread"),
                self.cores.as_ref().map_or_else(String::new, |c| format!(
                    " on cores {}",
                    c.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
                )),
                r.batch,
                r.latency.runs,
                match self.scenario {
                    _ if self.training => "training steps (forward, backward, update)",
                    Scenario::SingleStream | Scenario::Server => "runs",
                    Scenario::MultiStream => "queries (multi-stream)",
                    Scenario::Offline => "long turns (offline)",
                },
                if self.isolated { ", each in its own process; memory is what loading and running added to it" } else { "" }
            ));
            notes.extend(r.power_reason.as_ref().map(|reason| format!("no power: {reason}")));
        }
        notes.extend(self.dataset.as_ref().map(|d| format!("accuracy on {d}")));
        notes.extend(self.rows.iter().find_map(|r| r.server.as_ref()).map(|s| {
            let queries = s.trials.iter().filter(|t| t.held).map(|t| t.queries).min().unwrap_or(0);
            let few =
                if queries < runs_for(s.percentile) { format!("; {} tell this percentile", runs_for(s.percentile)) } else { String::new() };
            format!(
                "server: Poisson arrivals, {} at each rate, one after the other, waiting counts{few}",
                if queries == 1 { "1 query".to_string() } else { format!("{queries} queries") }
            )
        }));
        notes.extend(self.doubts());
        notes.extend(self.warnings.iter().cloned());
        notes
    }

    /// The report, and beside it the fields of its first row: `benchmark(m).p50_ms`.
    fn data(&self) -> serde_json::Value {
        let mut all = serde_json::to_value(self).unwrap_or_default();
        if let (Some(map), Some(Ok(serde_json::Value::Object(first)))) = (all.as_object_mut(), self.rows.first().map(serde_json::to_value))
        {
            for (k, v) in first {
                map.entry(k).or_insert(v);
            }
        }
        all
    }
}
