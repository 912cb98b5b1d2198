//! The folder of a run: `run.json`, the script, what it printed, and the reports and plots that it showed.

use crate::journal::{Journal, Saved};
use compresso_base::error::{Error, Result};
use compresso_base::files;
use compresso_base::operation::Digest;
use compresso_base::report::{self, Show};
use compresso_measure::environment::{Environment, utc_now};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// How a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It goes on, or its process was killed.
    Running,
    /// It came to its end.
    Done,
    /// An error ended it.
    Failed,
    /// The user stopped it.
    Cancelled,
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        })
    }
}

/// What a run runs under.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Conditions {
    /// The script.
    pub script: PathBuf,
    /// What the script sees as `args`.
    pub args: Vec<String>,
    /// Seed of everything random.
    pub seed: u64,
    /// Threads of operations.
    pub threads: usize,
    /// Device of operations.
    pub device: String,
}

/// The content of `run.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// Of this form: 1.
    pub version: u32,
    /// How it stands.
    pub status: Status,
    /// Why it failed.
    pub error: Option<String>,
    /// What it ran under.
    #[serde(flatten)]
    pub conditions: Conditions,
    /// Hash of the script.
    pub script_sha256: Digest,
    /// Parameters that it was given or had by default.
    pub parameters: Map<String, Value>,
    /// What it recorded.
    pub metrics: Map<String, Value>,
    /// UTC, as 2026-01-31T12:00:00Z.
    pub started: String,
    /// How long it took.
    pub seconds: f64,
    /// Files in the folder, by what was shown.
    pub reports: Vec<PathBuf>,
    /// Files that the script saved, where it saved them.
    pub saved: Vec<Saved>,
    /// Parameters that were given and that the script did not read.
    pub warnings: Vec<String>,
    /// Machine and versions.
    pub environment: Value,
}

/// The file that makes a folder one of a run.
const RECORD: &str = "run.json";

impl RunRecord {
    /// The record in a folder.
    ///
    /// # Errors
    /// `Io`; `Format` for what is no record.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(RECORD);
        let text = files::read_text(&path)?;
        serde_json::from_str(&text).map_err(|e| Error::format("is no record of a run").because(e).file(&path))
    }
    fn write(&self, folder: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).map_err(|e| Error::internal("a record does not serialize").because(e))?;
        files::write_file(folder.join(RECORD), text.as_bytes())
    }
}

/// Writes the folder of a run while it goes on.
pub struct Recorder {
    folder: PathBuf,
    begin: Instant,
    state: Mutex<State>,
}

struct State {
    record: RunRecord,
    output: File,
    /// What could not be written first.
    failure: Option<Error>,
}

impl Recorder {
    /// Begins a record in a folder, which is made. An earlier record there is replaced when `replace` says so.
    ///
    /// # Errors
    /// `Argument` where a run is recorded already; `Io`.
    pub fn begin(folder: PathBuf, text: &str, conditions: Conditions, given: Map<String, Value>, replace: bool) -> Result<Self> {
        let io = |e| Error::io(&folder, e);
        if folder.join(RECORD).exists() {
            if !replace {
                let e = Error::argument("a run is recorded here already").file(&folder);
                return Err(e.hint("name another folder, or say --replace"));
            }
            for part in PARTS.map(|p| folder.join(p)).iter().filter(|p| p.is_dir()) {
                std::fs::remove_dir_all(part).map_err(|e| Error::io(part, e))?;
            }
        }
        std::fs::create_dir_all(&folder).map_err(io)?;
        files::write_file(folder.join("script.rhai"), text.as_bytes())?;
        let record = RunRecord {
            version: 1,
            status: Status::Running,
            error: None,
            conditions,
            script_sha256: Digest::of(text),
            parameters: given,
            metrics: Map::new(),
            started: utc_now(),
            seconds: 0.0,
            reports: Vec::new(),
            saved: Vec::new(),
            warnings: Vec::new(),
            environment: serde_json::to_value(Environment::now(Vec::new())).unwrap_or_default(),
        };
        record.write(&folder)?;
        let output = File::create(folder.join("output.txt")).map_err(io)?;
        Ok(Self { folder, begin: Instant::now(), state: Mutex::new(State { record, output, failure: None }) })
    }

    /// Where it is recorded.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a line that the script printed.
    pub fn print(&self, text: &str) {
        let mut state = self.lock();
        if let Err(e) = writeln!(state.output, "{text}") {
            state.failure.get_or_insert(Error::io(self.folder.join("output.txt"), e));
        }
    }

    /// Keeps a report that the script showed: as a page and as data, its plots as pictures too.
    pub fn show(&self, shown: &dyn Show) {
        let mut state = self.lock();
        let number = state.record.reports.len() + 1;
        let title = shown.tables().first().map(|t| t.title.clone()).or_else(|| shown.plots().first().map(|p| p.title.clone()));
        let name = format!("{number:02}-{}", slug(&title.unwrap_or_default()));
        match self.keep(shown, &name) {
            Ok(page) => state.record.reports.push(page),
            Err(e) => drop(state.failure.get_or_insert(e)),
        }
    }

    fn keep(&self, shown: &dyn Show, name: &str) -> Result<PathBuf> {
        let page = Path::new("reports").join(format!("{name}.html"));
        for part in PARTS.map(|p| self.folder.join(p)) {
            std::fs::create_dir_all(&part).map_err(|e| Error::io(&part, e))?;
        }
        report::save(shown, self.folder.join(&page))?;
        report::save(shown, self.folder.join(&page).with_extension("json"))?;
        if !shown.plots().is_empty() {
            report::save(shown, self.folder.join("plots").join(format!("{name}.svg")))?;
        }
        Ok(page)
    }

    /// Ends the record.
    ///
    /// # Errors
    /// `Io`, also of what could not be written before.
    pub fn finish(&self, status: Status, error: Option<String>, warnings: Vec<String>, journal: &Journal) -> Result<()> {
        let mut state = self.lock();
        let record = &mut state.record;
        (record.status, record.error) = (status, error);
        record.parameters = journal.parameters();
        record.metrics = journal.metrics().clone();
        record.saved = journal.saved();
        record.warnings = warnings;
        record.seconds = self.begin.elapsed().as_secs_f64();
        record.write(&self.folder)?;
        state.failure.take().map_or(Ok(()), Err)
    }
}

const PARTS: [&str; 2] = ["reports", "plots"];

/// A text as part of a file's name: `latency-and-accuracy`.
fn slug(text: &str) -> String {
    let words: Vec<String> = text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|w| !w.is_empty()).map(str::to_lowercase).collect();
    let name: String = words.join("-").chars().take(40).collect();
    if name.is_empty() { "report".into() } else { name }
}

/// A folder under `root` that no run has, named by the time and the script: `20260131-120000-prune`.
///
/// # Errors
/// `Io`.
pub fn new_folder(root: &Path, script: &Path) -> Result<PathBuf> {
    std::fs::create_dir_all(root).map_err(|e| Error::io(root, e))?;
    let time: String = utc_now().chars().filter(char::is_ascii_alphanumeric).map(|c| if c == 'T' { '-' } else { c }).collect();
    let stem = slug(&script.file_stem().unwrap_or_default().to_string_lossy());
    for n in 1.. {
        let again = if n == 1 { String::new() } else { format!("-{n}") };
        let folder = root.join(format!("{}-{stem}{again}", time.trim_end_matches('Z')));
        match std::fs::create_dir(&folder) {
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(Error::io(&folder, e)),
            Ok(()) => return Ok(folder),
        }
    }
    Err(Error::internal("there are no more numbers for folders"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use compresso_base::report::{Plot, Table};
    use serde_json::json;

    #[test]
    fn a_folder_holds_what_a_run_showed() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (new_folder(dir.path(), Path::new("x/My Script.rhai")).unwrap(), new_folder(dir.path(), Path::new("My Script.rhai")));
        let b = b.unwrap();
        assert!(a != b && a.display().to_string().ends_with("-my-script"), "{a:?} {b:?}");
        let conditions = Conditions { seed: 3, threads: 2, ..Conditions::default() };
        let begin = |replace| Recorder::begin(a.clone(), "print(1)", conditions.clone(), Map::new(), replace);
        let recorder = begin(false).unwrap();
        assert_eq!(RunRecord::read(&a).unwrap().status, Status::Running);
        recorder.print("hello");
        recorder.show(&Table::new("Some Table", &["a"]));
        recorder.show(&Plot::default().titled("A plot", "", ""));
        let mut journal = Journal::default();
        journal.param("ratio", &json!(0.5)).unwrap();
        journal.record("map50", &json!(0.75)).unwrap();
        let model = dir.path().join("m.onnx");
        std::fs::write(&model, "abc").unwrap();
        journal.save(&model);
        journal.save(&dir.path().join("gone.onnx"));
        recorder.finish(Status::Done, None, Vec::new(), &journal).unwrap();
        let record = RunRecord::read(&a).unwrap();
        assert_eq!((json!(record.parameters), json!(record.metrics)), (json!({ "ratio": 0.5 }), json!({ "map50": 0.75 })));
        assert_eq!(record.reports, [Path::new("reports/01-some-table.html"), Path::new("reports/02-a-plot.html")]);
        assert!(record.reports.iter().all(|r| a.join(r).is_file()) && a.join("plots/02-a-plot.svg").is_file());
        assert_eq!(record.saved, [Saved { path: model, sha256: Digest::of("abc"), bytes: 3 }]);
        assert_eq!(std::fs::read_to_string(a.join("output.txt")).unwrap(), "hello\n");
        // A record is replaced when that is asked for alone.
        assert!(begin(false).is_err_and(|e| e.to_string().contains("recorded here already")));
        begin(true).unwrap();
        assert!(!a.join("reports").exists() && RunRecord::read(&a).unwrap().metrics.is_empty());
    }
}
