//! What a search found.

use crate::plan::Plan;
use crate::store::{Known, Timed};
use compresso_base::report::{Cell, Plot, Series, SeriesKind, Show, Table, counted};
use compresso_measure::runtimes::RuntimeName;
use serde::Serialize;

/// A model that was tried.
#[derive(Debug, Clone, Serialize)]
pub struct Candidate {
    /// By the share of multiply-accumulates that pruning reached, not by the one that the plan asks for.
    pub name: String,
    /// How it was made.
    pub plan: Plan,
    /// What was measured of it.
    #[serde(flatten)]
    pub known: Known,
    /// What of the score it lost.
    pub lost: f64,
    /// No other is at least as good in score, speed and size, and better in one of them.
    pub front: bool,
    /// Why it was taken or not.
    pub why: String,
}

/// Scores on images that no decision was made by.
#[derive(Debug, Clone, Serialize)]
pub struct Unseen {
    /// The split that they are of.
    pub split: String,
    /// How many they are.
    pub images: usize,
    /// Score of the model as given.
    pub given: f64,
    /// Score of the model that was taken.
    pub taken: f64,
}

/// What a search found, in the order in which it was tried.
#[derive(Debug, Clone, Serialize)]
pub struct CompressReport {
    /// All that was tried.
    pub candidates: Vec<Candidate>,
    /// The one that was taken.
    pub winner: Plan,
    /// What the score is.
    pub measure: String,
    /// Images that candidates were scored on.
    pub images: usize,
    /// Name of the dataset.
    pub dataset: String,
    /// Where candidates were timed.
    pub runtime: RuntimeName,
    /// Runs of each candidate.
    pub runs: usize,
    /// Threads of each run.
    pub threads: usize,
    /// The share of score × time saved that the candidates cover; see [`crate`].
    pub hypervolume: f64,
    /// What making, judging and timing took, with what was kept from before.
    pub minutes: f64,
    /// Scores that no decision was made by, where there are images for them.
    pub unseen: Option<Unseen>,
    /// Plans that a step refused, and why.
    pub refused: Vec<String>,
    /// Why the images cannot tell the drop that is allowed; `None` where they can.
    pub coarse: Option<String>,
    /// The user stopped it.
    pub cancelled: bool,
    /// The minutes for the search were over before it was.
    pub out_of_time: bool,
    /// Minutes that it was given.
    pub budget_minutes: f64,
    /// No candidate that keeps the score is as fast and small as was asked for.
    pub target_missed: bool,
}

impl Candidate {
    /// `0.0031 ±0.0052`
    fn loss(&self) -> String {
        let sure = self.known.deviation.map_or(String::new(), |e| format!(" ±{e:.4}"));
        format!("{:.4}{sure}", self.lost)
    }
}

impl CompressReport {
    fn taken(&self) -> Option<&Candidate> {
        self.candidates.iter().find(|c| c.plan == self.winner)
    }
    /// `compress: -60 % MACs, int8: mAP50-95 0.512 → 0.505, 3.10× as fast, 6.4× as small`
    pub fn headline(&self) -> String {
        let (Some(given), Some(taken)) = (self.candidates.first(), self.taken()) else { return "compress: nothing was tried".into() };
        let speed = taken.known.time.as_ref().and_then(|t| t.speedup).map_or(String::new(), |s| format!(", {s} as fast"));
        let small = given.known.size_bytes as f64 / taken.known.size_bytes.max(1) as f64;
        let missed = if self.target_missed { "; nothing that keeps the score is as fast and small as was asked for" } else { "" };
        if taken.plan == given.plan {
            let why = match self.candidates.len() {
                1 => "nothing was tried".to_string(),
                n => format!("none of {} tried keeps its {} and is faster", counted(n - 1, "candidate"), self.measure),
            };
            return format!("compress: the model stays as it is: {why}{missed}");
        }
        format!(
            "compress: {}: {} {:.4} → {:.4}{speed}, {small:.1}× as small{missed}",
            taken.name, self.measure, given.known.score, taken.known.score
        )
    }
}

impl CompressReport {
    /// The score over a cost, with the candidates that none beats in these two; `None` where the cost of none is known.
    fn trade_off(&self, title: &str, axis: &str, cost: &dyn Fn(&Known) -> Option<f64>) -> Option<Plot> {
        let points = |taken: bool| -> Vec<(f64, f64, String)> {
            let of = self.candidates.iter().filter(|c| (c.plan == self.winner) == taken);
            of.filter_map(|c| Some((cost(&c.known)?, c.known.score, c.name.clone()))).collect()
        };
        let series = |name: &str, points: Vec<(f64, f64, String)>| {
            let labels = points.iter().map(|p| p.2.clone()).collect();
            Series { name: name.into(), kind: SeriesKind::Points, points: points.iter().map(|p| (p.0, p.1)).collect(), labels }
        };
        let mut all: Vec<Series> = [series("candidates", points(false)), series("taken", points(true))].into();
        all.insert(0, Series::pareto_front(all.iter().flat_map(|s| s.points.clone()).collect::<Vec<_>>()));
        all.retain(|s| !s.points.is_empty());
        (!all.is_empty()).then(|| Plot { series: all, ..Plot::default() }.titled(title, axis, &self.measure))
    }
}

impl Show for CompressReport {
    fn tables(&self) -> Vec<Table> {
        let measure = format!(">{}", self.measure);
        let headers = ["candidate", &measure, ">lost", ">p50 ms", ">speed-up", ">MACs", ">params", ">size", "front", "taken, or why not"];
        // What tells one candidate from another, and why it was not taken, stays.
        let mut table = Table::new("Candidates", &headers).minor(["params", "MACs", "front", "p50 ms", "size"]);
        for c in &self.candidates {
            let k = &c.known;
            let time = |f: &dyn Fn(&Timed) -> Option<Cell>| k.time.as_ref().and_then(f).unwrap_or_else(Cell::none);
            table.row([
                Cell::from(&c.name),
                Cell::shown(format!("{:.4}", k.score), k.score),
                Cell::shown(c.loss(), c.lost),
                time(&|t| Some(Cell::shown(format!("{:.2}", t.p50_ms), t.p50_ms))),
                time(&|t| t.speedup.map(|s| Cell::shown(s.to_string(), s.times))),
                k.macs.map_or_else(Cell::unknown, Cell::count),
                Cell::count(k.params),
                Cell::bytes(k.size_bytes),
                Cell::from(if c.front { "yes" } else { "" }),
                Cell::from(&c.why),
            ]);
        }
        vec![table]
    }

    fn plots(&self) -> Vec<Plot> {
        let runtime = format!("median latency in {} (ms)", self.runtime);
        let costs: [(&str, &str, &dyn Fn(&Known) -> Option<f64>); 3] = [
            ("What was tried", &runtime, &|k| Some(k.time.as_ref()?.p50_ms)),
            ("Size and score", "file (MB)", &|k| Some(k.size_bytes as f64 / 1e6)),
            ("Energy and score", "energy of an image (J)", &|k| k.time.as_ref()?.energy_j),
        ];
        costs.into_iter().filter_map(|(title, axis, cost)| self.trade_off(title, axis, cost)).collect()
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = vec![
            self.headline(),
            format!(
                "{} on {} of {}; {} of each candidate in {}, {}, in turns with the model as given",
                self.measure,
                counted(self.images, "image"),
                self.dataset,
                counted(self.runs, "run"),
                self.runtime,
                counted(self.threads, "thread")
            ),
            format!("{:.1} minutes; the candidates cover {:.3} of score × time saved", self.minutes, self.hypervolume),
        ];
        if let Some(u) = &self.unseen {
            notes.push(format!(
                "on {} of {}, by which nothing was decided: {} {:.4} → {:.4}",
                counted(u.images, "image"),
                u.split,
                self.measure,
                u.given,
                u.taken
            ));
        }
        notes.extend(self.coarse.iter().map(|why| format!("warning: {why}")));
        if self.out_of_time {
            notes.push(format!("the search ended by its {} minutes (budget_minutes): more would try more", self.budget_minutes));
        }
        if self.cancelled {
            notes.push("stopped by the user before the search was over".into());
        }
        notes.extend(self.refused.iter().map(|r| format!("refused: {r}")));
        notes
    }

    fn data(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}
