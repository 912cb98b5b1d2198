//! `sweep`: a script for each point of a grid of its parameters.

use crate::job::{Job, PARAMETERS, Settings};
use crate::record::Status;
use crate::report::{Place, Row, SweepReport};
use crate::{figures, grid, pool, slurm};
use compresso_base::context::{Context, device_name};
use compresso_base::error::{Error, Result};
use compresso_base::files;
use compresso_base::operation::{Arg, ArgKind, Digest, Operation, Options, Signature, in_range};
use compresso_base::report::counted;
use compresso_measure::worker::{Fault, program};
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

compresso_base::options! {
    /// Options of `sweep`.
    pub struct Sweep {
        /// "local": processes of this machine; "slurm": job arrays of a cluster whose nodes see the same files, submitted with sbatch.
        pub on: Place = Place::Local,
        /// Runs at a time; when left out, as many as the session's threads allow, and on a cluster as many as it takes.
        pub workers: Option<usize> = None,
        /// Threads of each run.
        pub threads: usize = 1,
        /// Points drawn from the grid without repetition, instead of all; parameters may then be ranges: #{ from: 1e-4, to: 1e-1, log: true }.
        pub samples: Option<usize> = None,
        /// Folder of the runs; `sweeps/SCRIPT` when left out.
        pub folder: Option<PathBuf> = None,
        /// How often a run that was killed is begun again. One that failed is not, until the sweep is called again.
        pub retries: usize = 2,
        /// Further options of sbatch, such as ["--partition=gpu", "--time=1:00:00"].
        pub sbatch: Vec<String> = Vec::new(),
    }
}

impl Operation for Sweep {
    const SIGNATURE: Signature = Signature {
        name: "sweep",
        summary: "Runs a script for each point of a grid of its parameters, here or on a Slurm cluster, and gathers what the runs recorded. Points \
                  that have run are not run again",
        group: "experiments",
        args: &[Arg::new("script", ArgKind::Text), Arg::new("grid", ArgKind::Map)],
        returns: "report",
        fields: Self::FIELDS,
        examples: &[],
        keywords: &["grid", "search", "hyperparameters", "slurm", "cluster", "array", "parallel", "jobs", "random search", "tune"],
    };
    type Inputs<'a> = (&'a Path, &'a Map<String, Value>);
    type Output = SweepReport;

    /// # Errors
    /// `Argument` for options out of range, grids without points and parameters that the script does not name; `Unavailable` without a
    /// program to run, or Slurm; `Io`; `Cancelled`, when all runs have ended. A run that fails is a row of the report.
    fn run(&self, (script, grid): Self::Inputs<'_>, ctx: &Context) -> Result<SweepReport> {
        let begin = Instant::now();
        in_range("threads", self.threads as f64, 1.0..=1024.0)?;
        in_range("retries", self.retries as f64, 0.0..=100.0)?;
        self.workers.map_or(Ok(()), |n| in_range("workers", n as f64, 1.0..=4096.0))?;
        let text = files::script_text(files::open(script)?, script)?;
        named(&text, grid)?;
        let points = grid::points(grid, self.samples, ctx.seed)?;
        let stem = script.file_stem().unwrap_or_default();
        let folder = self.folder.clone().unwrap_or_else(|| Path::new("sweeps").join(stem));
        std::fs::create_dir_all(&folder).map_err(|e| Error::io(&folder, e))?;
        let absolute = |path: &Path| path.canonicalize().map_err(|e| Error::io(path, e));
        let settings = Settings {
            program: own_program(ctx)?,
            script: absolute(script)?,
            folder: absolute(&folder)?,
            threads: self.threads,
            seed: ctx.seed,
            device: device_name(&ctx.device),
        };
        let _lock = lock(&folder)?;
        let digest = Digest::of(&text);
        let jobs: Vec<Job> = points.into_iter().map(|p| Job::new(&settings.folder, digest, p)).collect();
        let workers = match self.on {
            Place::Local => Some(self.workers.unwrap_or(ctx.threads / self.threads).max(1)),
            Place::Slurm => self.workers,
        };
        let attempts = self.run_all(&jobs, workers, &settings, ctx)?;
        let rows = jobs.iter().map(|j| Row::of(j, attempts.get(&j.key).copied().unwrap_or(0))).collect();
        let seconds = begin.elapsed().as_secs_f64();
        let report = SweepReport { script: script.into(), folder, on: self.on, workers, threads: self.threads, seconds, rows };
        ctx.note(report.headline());
        Ok(report)
    }
}

impl Sweep {
    /// Runs what has not run, and again what was killed; gives how often each was begun.
    fn run_all(&self, jobs: &[Job], workers: Option<usize>, settings: &Settings, ctx: &Context) -> Result<HashMap<String, usize>> {
        let is_done = |job: &Job| job.record().is_some_and(|r| r.status == Status::Done);
        let mut open: Vec<&Job> = jobs.iter().filter(|j| !is_done(j)).collect();
        for job in &open {
            std::fs::create_dir_all(&job.folder).map_err(|e| Error::io(&job.folder, e))?;
            let text = serde_json::to_string_pretty(&job.parameters).map_err(|e| Error::internal("parameters").because(e))?;
            files::cache_write(job.folder.join(PARAMETERS), |w| w.write_all(text.as_bytes()).map_err(|e| Error::io(&job.folder, e)))?;
        }
        let mut attempts: HashMap<String, usize> = HashMap::new();
        let mut progress = ctx.progress("sweep", open.len() as u64);
        for _ in 0..=self.retries {
            if open.is_empty() {
                break;
            }
            let mut killed: Vec<String> = Vec::new();
            let mut ended = |job: &Job, code: Option<i32>| {
                *attempts.entry(job.key.clone()).or_default() += 1;
                let status = job.record().map(|r| r.status);
                let again = match status {
                    Some(Status::Done | Status::Failed) => false,
                    // Ended by a signal, from outside; or without a record, by an exit that another try would not change.
                    Some(Status::Cancelled) => true,
                    Some(Status::Running) | None => code.is_none_or(|c| c > 128),
                };
                if again {
                    killed.push(job.key.clone());
                    return ctx.check();
                }
                progress.step(figures::named(&job.parameters, &job.parameters.keys().map(String::as_str).collect::<Vec<_>>()))
            };
            // What an earlier call left of them says nothing about this one.
            for job in &open {
                forget(job)?;
            }
            let ran = match self.on {
                Place::Local => pool::run(&open, workers.unwrap_or(1), settings, ctx, &mut ended),
                Place::Slurm => slurm::run(&open, workers, settings, &self.sbatch, ctx, &mut ended),
            };
            ran.inspect_err(|e| {
                if e.is_cancelled() {
                    let done = jobs.iter().filter(|j| is_done(j)).count();
                    ctx.note(format!("sweep: {done} of {} are done; the same call goes on from there", counted(jobs.len(), "run")));
                }
            })?;
            open.retain(|j| killed.contains(&j.key));
        }
        Ok(attempts)
    }
}

/// Takes away an unfinished record; one of Slurm that still runs writes its own at its end.
fn forget(job: &Job) -> Result<()> {
    let path = job.folder.join("run.json");
    match job.record().map(|r| r.status) {
        Some(Status::Running) => Ok(()),
        _ => match std::fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(&path, e)),
            _ => Ok(()),
        },
    }
}

/// That the script names each parameter: a misspelt one would make all runs alike.
fn named(text: &str, grid: &Map<String, Value>) -> Result<()> {
    let is_named =
        |name: &str| name == "seed" || text.contains("import") || ['"', '`', '\''].iter().any(|q| text.contains(&format!("{q}{name}{q}")));
    match grid.keys().find(|name| !is_named(name)) {
        Some(name) => {
            let e = Error::argument(format!("the script has no parameter '{name}'"));
            Err(e.hint(format!("param(\"{name}\", default) in the script reads it")))
        }
        None => Ok(()),
    }
}

/// The program that runs scripts.
fn own_program(ctx: &Context) -> Result<PathBuf> {
    match program::find(&ctx.cancel) {
        // Processes of other machines need its name.
        Ok(found) => Ok(found.canonicalize().ok().filter(|p| p.is_file()).unwrap_or(found)),
        Err(Fault::Ended(why)) => Err(Error::unavailable(format!("no program compresso is found to run scripts ({why})"))),
        Err(fault) => Err(fault.error()),
    }
}

/// How often, and how long apart, a lock is tried that another holds: a process that is being started holds those of its parent until it runs.
const TRIES: u32 = 20;
const BETWEEN: Duration = Duration::from_millis(25);

/// Keeps other sweeps out of the folder.
fn lock(folder: &Path) -> Result<File> {
    let path = folder.join("sweep.lock");
    let file = File::create(&path).map_err(|e| Error::io(&path, e))?;
    for _ in 0..TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => std::thread::sleep(BETWEEN),
            Err(TryLockError::Error(e)) => return Err(Error::io(&path, e)),
        }
    }
    let e = Error::unavailable("another sweep is at work in this folder").file(folder);
    Err(e.hint("give this one another with the option 'folder'"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use compresso_base::error::ErrorKind;
    use serde_json::json;

    #[test]
    fn parameters_that_the_script_does_not_name_are_refused() {
        let grid = json!({ "ratio": [1], "seed": [1] }).as_object().cloned().unwrap();
        assert!(named("param(\"ratio\", 0.1)", &grid).is_ok());
        let e = named("param(\"ratios\", 0.1)", &grid).unwrap_err();
        assert_eq!((e.kind(), e.message()), (ErrorKind::Argument, "the script has no parameter 'ratio'"));
    }

    #[test]
    fn two_sweeps_do_not_share_a_folder_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let first = lock(dir.path()).unwrap();
        assert_eq!(lock(dir.path()).unwrap_err().kind(), ErrorKind::Unavailable);
        drop(first);
        assert!(lock(dir.path()).is_ok());
    }
}
