//! One run of a sweep: its folder, and how its process is started.

use crate::record::{RunRecord, Status};
use compresso_base::operation::Digest;
use serde_json::{Map, Value};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// One run of a sweep.
#[derive(Debug, Clone)]
pub struct Job {
    /// The hash of script and parameters, by which its folder is named.
    pub key: String,
    /// What the script is given.
    pub parameters: Map<String, Value>,
    /// Where it is recorded.
    pub folder: PathBuf,
    script: Digest,
}

impl Job {
    /// A run of a script, in a folder below that of the sweep.
    pub fn new(folder: &Path, script: Digest, parameters: Map<String, Value>) -> Self {
        // In the order of the alphabet, so that grids that name them in another order have the same runs.
        let sorted: std::collections::BTreeMap<&String, &Value> = parameters.iter().collect();
        let key: String = Digest::of(format!("{script}\n{}", serde_json::json!(sorted))).to_string().chars().take(16).collect();
        Self { folder: folder.join(&key), key, parameters, script }
    }
    /// Where its output goes.
    pub fn log(&self) -> PathBuf {
        self.folder.join("log.txt")
    }
    /// Its record, of this very script.
    pub fn record(&self) -> Option<RunRecord> {
        RunRecord::read(&self.folder).ok().filter(|r| r.script_sha256 == self.script)
    }
    /// Whether its record says how it ended.
    pub fn is_over(&self) -> bool {
        self.record().is_some_and(|r| r.status != Status::Running)
    }
    /// The last lines that it said.
    pub fn last_words(&self) -> String {
        let text = std::fs::read(self.log()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text[text.len().saturating_sub(4096)..]).into_owned();
        let lines: Vec<&str> = text.lines().map(str::trim_end).filter(|l| !l.is_empty()).collect();
        lines[lines.len().saturating_sub(3)..].join("\n")
    }
}

/// How runs are started.
pub struct Settings {
    /// The program that runs scripts.
    pub program: PathBuf,
    /// The script.
    pub script: PathBuf,
    /// The folder of the sweep.
    pub folder: PathBuf,
    /// Threads of each run.
    pub threads: usize,
    /// Seed of each run.
    pub seed: u64,
    /// Device of each run.
    pub device: String,
}

impl Settings {
    /// What follows `compresso run`, of all jobs the same.
    pub fn shared_arguments(&self) -> Vec<OsString> {
        let mut all: Vec<OsString> = ["--replace", "--threads"].map(OsString::from).into();
        all.extend(
            [self.threads.to_string(), "--seed".into(), self.seed.to_string(), "--device".into(), self.device.clone()].map(OsString::from),
        );
        all.push(self.script.clone().into());
        all
    }
    /// All of it.
    pub fn arguments(&self, job: &Job) -> Vec<OsString> {
        let own: [OsString; 5] =
            ["run".into(), "--folder".into(), job.folder.clone().into(), "--parameters".into(), job.folder.join(PARAMETERS).into()];
        own.into_iter().chain(self.shared_arguments()).collect()
    }
}

/// File in the folder of a run with what it is given.
pub const PARAMETERS: &str = "parameters.json";

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_run_is_known_by_script_and_parameters() {
        let key =
            |script: &str, parameters: Value| Job::new(Path::new("x"), Digest::of(script), parameters.as_object().cloned().unwrap()).key;
        let one = key("a", json!({ "ratio": 0.1, "seed": 0 }));
        assert_eq!(one, key("a", json!({ "seed": 0, "ratio": 0.1 })));
        assert_ne!(one, key("b", json!({ "ratio": 0.1, "seed": 0 })));
        assert_ne!(one, key("a", json!({ "ratio": 0.1, "seed": 1 })));
    }
}
