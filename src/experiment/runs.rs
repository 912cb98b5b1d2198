//! Folders of runs, listed and compared.

use crate::figures::{self, Point};
use crate::record::{RunRecord, Status};
use compresso_base::context::Context;
use compresso_base::error::{Error, Result};
use compresso_base::operation::{Arg, ArgKind, Operation, Options, Signature};
use compresso_base::report::{Cell, Plot, Show, Table, counted, millis};
use serde::Serialize;
use std::path::{Path, PathBuf};

compresso_base::options! {
    /// Options of `runs`.
    pub struct Runs {
        /// Only runs of scripts whose file has this in its name.
        pub script: Option<String> = None,
        /// Only the last so many.
        pub last: Option<usize> = None,
        /// The metric or parameter by which they stand; with - before its name, the greatest first. Left out: the time at which they began.
        pub sort: Option<String> = None,
    }
}

/// Runs and what they recorded.
#[derive(Debug, Clone, Serialize)]
pub struct RunsReport {
    /// The runs, in the order asked for.
    pub runs: Vec<Listed>,
    /// Folders whose record cannot be read.
    pub unreadable: Vec<String>,
}

/// A run in its folder.
#[derive(Debug, Clone, Serialize)]
pub struct Listed {
    /// Name of its folder.
    pub name: String,
    /// Where it is recorded.
    pub folder: PathBuf,
    /// What it recorded.
    #[serde(flatten)]
    pub record: RunRecord,
}

impl Operation for Runs {
    const SIGNATURE: Signature = Signature {
        name: "runs",
        summary: "The recorded runs in a folder (`runs` when left out), with the parameters in which they differ and their metrics",
        group: "experiments",
        args: &[Arg::optional("folder", ArgKind::Text)],
        returns: "report",
        fields: Self::FIELDS,
        examples: &[],
        keywords: &["experiments", "history", "metrics", "compare", "tracking", "log", "tensorboard", "mlflow"],
    };
    type Inputs<'a> = Option<&'a String>;
    type Output = RunsReport;

    fn run(&self, folder: Option<&String>, ctx: &Context) -> Result<RunsReport> {
        let folder = folder.map_or(Path::new("runs"), Path::new);
        if !folder.is_dir() {
            return Err(Error::missing("there are no recorded runs").file(folder).hint("compresso run --record SCRIPT records one"));
        }
        let mut report = RunsReport { runs: Vec::new(), unreadable: Vec::new() };
        self.collect(folder, 0, &mut report, ctx)?;
        report.runs.sort_by(|a, b| (&a.record.started, &a.name).cmp(&(&b.record.started, &b.name)));
        if let Some(n) = self.last {
            report.runs.drain(..report.runs.len().saturating_sub(n));
        }
        if let Some(by) = &self.sort {
            sort(&mut report.runs, by)?;
        }
        Ok(report)
    }
}

impl Runs {
    /// Runs in a folder and in the folders of sweeps inside it.
    fn collect(&self, folder: &Path, depth: usize, report: &mut RunsReport, ctx: &Context) -> Result<()> {
        for entry in std::fs::read_dir(folder).map_err(|e| Error::io(folder, e))? {
            ctx.check()?;
            let path = entry.map_err(|e| Error::io(folder, e))?.path();
            if path.join("run.json").is_file() {
                match RunRecord::read(&path) {
                    Ok(record) => {
                        let file = record.conditions.script.display().to_string();
                        if self.script.as_ref().is_none_or(|s| file.contains(s.as_str())) {
                            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                            report.runs.push(Listed { name, folder: path, record });
                        }
                    }
                    Err(e) => report.unreadable.push(e.to_string()),
                }
            } else if depth == 0 && path.is_dir() {
                self.collect(&path, 1, report, ctx)?;
            }
        }
        Ok(())
    }
}

fn sort(runs: &mut [Listed], by: &str) -> Result<()> {
    let (name, down) = by.strip_prefix('-').map_or((by, false), |name| (name, true));
    let value = |r: &Listed| r.record.metrics.get(name).or_else(|| r.record.parameters.get(name)).and_then(serde_json::Value::as_f64);
    if !runs.is_empty() && runs.iter().all(|r| value(r).is_none()) {
        let points: Vec<Point<'_>> = runs.iter().map(Listed::point).collect();
        let e = Error::argument(format!("option 'sort': no run has a number '{name}'"));
        return Err(e.hint(format!("their metrics are {}", figures::metrics(&points).join(", "))));
    }
    // Those without it stand last, either way.
    let worst = if down { f64::NEG_INFINITY } else { f64::INFINITY };
    let key = |r: &Listed| value(r).unwrap_or(worst);
    runs.sort_by(|a, b| if down { key(b).total_cmp(&key(a)) } else { key(a).total_cmp(&key(b)) });
    Ok(())
}

impl Listed {
    fn point(&self) -> Point<'_> {
        Point { parameters: &self.record.parameters, metrics: &self.record.metrics }
    }
}

impl RunsReport {
    fn points(&self) -> Vec<Point<'_>> {
        self.runs.iter().map(Listed::point).collect()
    }
}

impl Show for RunsReport {
    fn tables(&self) -> Vec<Table> {
        let points = self.points();
        let (parameters, metrics) = (figures::varying(&points), figures::metrics(&points));
        let mut headers = vec!["run".to_string(), "script".into()];
        headers.extend(parameters.iter().chain(&metrics).map(|name| format!(">{name}")));
        headers.extend([">time".to_string(), "status".into()]);
        let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
        let mut table = Table::new("Runs", &headers).folding().minor(["script", "time"]);
        for run in &self.runs {
            let record = &run.record;
            let mut row = vec![Cell::from(&run.name), Cell::from(record.conditions.script.display().to_string())];
            row.extend(parameters.iter().map(|name| figures::cell(record.parameters.get(*name))));
            row.extend(metrics.iter().map(|name| figures::cell(record.metrics.get(*name))));
            row.extend([Cell::shown(millis(1e3 * record.seconds), record.seconds), Cell::from(record.status.to_string())]);
            table.row(row);
        }
        vec![table]
    }
    fn plots(&self) -> Vec<Plot> {
        figures::plots(&self.points())
    }
    fn notes(&self) -> Vec<String> {
        let mut notes = vec![counted(self.runs.len(), "run")];
        let failed = self.runs.iter().filter(|r| r.record.status == Status::Failed);
        notes.extend(failed.map(|r| format!("{} failed: {}", r.name, r.record.error.as_deref().unwrap_or("it does not say why"))));
        notes.extend(self.unreadable.iter().map(|e| format!("warning: {e}")));
        notes
    }
    fn data(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}
