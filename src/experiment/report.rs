//! What a sweep found.

use crate::figures::{self, Point};
use crate::job::Job;
use crate::record::Status;
use compresso_base::report::{Cell, Plot, Show, Table, counted, millis};
use serde::Serialize;
use serde_json::{Map, Value};
use std::path::PathBuf;

compresso_base::choice! {
    /// Where the runs of a sweep go.
    pub enum Place {
        /// Processes of this machine.
        Local = "local",
        /// Job arrays of a Slurm cluster.
        Slurm = "slurm",
    }
}

/// What became of one point of the grid.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// The point.
    pub parameters: Map<String, Value>,
    /// How its run stands.
    pub status: Status,
    /// What it recorded.
    pub metrics: Map<String, Value>,
    /// How long it took.
    pub seconds: f64,
    /// Where it is recorded.
    pub folder: PathBuf,
    /// It was there from an earlier call.
    pub kept: bool,
    /// How often it was begun now.
    pub attempts: usize,
    /// Why it failed, and the last lines of its log.
    pub error: Option<String>,
    /// Parameters that the script does not read.
    pub warnings: Vec<String>,
}

/// What a sweep found.
#[derive(Debug, Clone, Serialize)]
pub struct SweepReport {
    /// The script.
    pub script: PathBuf,
    /// Where the runs are recorded.
    pub folder: PathBuf,
    /// Where they ran.
    pub on: Place,
    /// Runs at a time, where that was given.
    pub workers: Option<usize>,
    /// Threads of each run.
    pub threads: usize,
    /// Wall time of this call.
    pub seconds: f64,
    /// In the order of the grid.
    pub rows: Vec<Row>,
}

impl Row {
    /// What a run left.
    pub fn of(job: &Job, attempts: usize) -> Self {
        let record = job.record();
        // One that was killed as often as it may be left no end.
        let status = record.as_ref().map_or(Status::Failed, |r| if r.status == Status::Done { Status::Done } else { Status::Failed });
        let why = match (&record, status) {
            (_, Status::Done) => None,
            (Some(r), _) if r.status == Status::Failed => r.error.clone(),
            (Some(_), _) => Some(format!("killed {attempts} times")),
            (None, _) => Some(job.last_words()).filter(|words| !words.is_empty()).or_else(|| Some("it did not begin".into())),
        };
        Row {
            parameters: job.parameters.clone(),
            status,
            metrics: record.as_ref().map(|r| r.metrics.clone()).unwrap_or_default(),
            seconds: record.as_ref().map_or(0.0, |r| r.seconds),
            folder: job.folder.clone(),
            kept: attempts == 0,
            attempts,
            error: why,
            warnings: record.map(|r| r.warnings).unwrap_or_default(),
        }
    }
}

impl SweepReport {
    fn points(&self) -> Vec<Point<'_>> {
        self.rows.iter().map(|r| Point { parameters: &r.parameters, metrics: &r.metrics }).collect()
    }
    /// `sweep: 12 runs of prune.rhai, 3 from before, 1 failed, in 2 min`
    pub fn headline(&self) -> String {
        let kept = self.rows.iter().filter(|r| r.kept && r.status == Status::Done).count();
        let failed = self.rows.iter().filter(|r| r.status != Status::Done).count();
        let mut line = format!("sweep: {} of {}", counted(self.rows.len(), "run"), self.script.display());
        if kept > 0 {
            line += &format!(", {kept} from before");
        }
        if failed > 0 {
            line += &format!(", {failed} failed");
        }
        line + &format!(", in {}", millis(1e3 * self.seconds))
    }
}

impl Show for SweepReport {
    fn tables(&self) -> Vec<Table> {
        let points = self.points();
        let (parameters, metrics) = (figures::varying(&points), figures::metrics(&points));
        let mut headers: Vec<String> = parameters.iter().chain(&metrics).map(|name| format!(">{name}")).collect();
        headers.extend([">time", "status"].map(String::from));
        let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
        let mut table = Table::new("Sweep", &headers).folding().minor(["time"]);
        for r in &self.rows {
            let mut row: Vec<Cell> = parameters.iter().map(|name| figures::cell(r.parameters.get(*name))).collect();
            row.extend(metrics.iter().map(|name| figures::cell(r.metrics.get(*name))));
            row.extend([Cell::shown(millis(1e3 * r.seconds), r.seconds), Cell::from(r.status.to_string())]);
            table.row(row);
        }
        let mut tables = vec![table];
        let failed: Vec<&Row> = self.rows.iter().filter(|r| r.status != Status::Done).collect();
        if !failed.is_empty() {
            let mut table = Table::new("Failures", &["run", "why", "log"]);
            for r in failed {
                let name = figures::named(&r.parameters, &parameters);
                let log = self.folder.join(r.folder.file_name().unwrap_or_default()).join("log.txt");
                table.row([Cell::from(name), Cell::from(r.error.clone().unwrap_or_default()), Cell::from(log.display().to_string())]);
            }
            tables.push(table);
        }
        tables
    }
    fn plots(&self) -> Vec<Plot> {
        figures::plots(&self.points())
    }
    fn notes(&self) -> Vec<String> {
        let workers = self.workers.map_or(String::new(), |n| format!(", at most {n} at a time"));
        let each = counted(self.threads, "thread");
        let mut notes = vec![self.headline(), format!("{} ({}{workers}, {each} each)", self.folder.display(), self.on)];
        let again = self.rows.iter().filter(|r| r.attempts > 1).count();
        if again > 0 {
            notes.push(format!("{} killed and begun again", counted(again, "run")));
        }
        let mut warnings: Vec<&String> = self.rows.iter().flat_map(|r| &r.warnings).collect();
        warnings.dedup();
        notes.extend(warnings.into_iter().map(|w| format!("warning: {w}")));
        notes
    }
    fn data(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}
