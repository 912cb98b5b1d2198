//! The jobs of a sweep as job arrays of a Slurm cluster, which sees the folder of the sweep under the same path.
//!
//! What was submitted is kept in the folder, so that a sweep that was stopped finds its jobs again in the queue. A job is over when the queue
//! has it no more; its record says how it ended. While the controller does not answer, jobs go on, and the sweep waits.

use crate::job::{Job, Settings};
use compresso_base::context::Context;
use compresso_base::error::{Error, Result};
use compresso_base::files;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How often the queue is asked.
const LOOK: Duration = Duration::from_secs(1);
/// How long a record may take to be seen after its job has left the queue, on a file system of a network.
const SETTLE: Duration = Duration::from_secs(2);
/// How long a command of Slurm may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// Jobs of an array at most, as Slurm's `MaxArraySize` is where nobody changed it.
const ARRAY: usize = 1000;

/// A submitted array: its number, and the key of each job, whose index counts from 1.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Submitted {
    id: String,
    keys: Vec<String>,
}

/// What was submitted from a folder.
struct Queue<'a> {
    folder: &'a Path,
    submitted: Vec<Submitted>,
    /// The controller does not answer.
    away: bool,
}

/// Runs the jobs as arrays, of each at most `workers` at a time where that is given. Jobs that are in the queue from before are waited for.
///
/// # Errors
/// `Unavailable` where there is no Slurm, or it refuses; `Cancelled`, after the jobs are cancelled; what `ended` reports.
pub fn run(
    jobs: &[&Job],
    workers: Option<usize>,
    settings: &Settings,
    options: &[String],
    ctx: &Context,
    ended: &mut dyn FnMut(&Job, Option<i32>) -> Result<()>,
) -> Result<()> {
    let mut queue = Queue::read(&settings.folder)?;
    let there = queue.ask(ctx)?.ok_or_else(|| Error::unavailable("Slurm's controller does not answer"))?;
    let new: Vec<&Job> = jobs.iter().filter(|j| !there.contains(&j.key)).copied().collect();
    for part in new.chunks(ARRAY) {
        queue.submit(part, workers, settings, options, ctx)?;
    }
    let mut open: Vec<&Job> = jobs.to_vec();
    let mut gone: Option<Instant> = None;
    loop {
        if ctx.check().is_err() {
            queue.cancel();
            return Err(Error::cancelled());
        }
        if let Some(there) = queue.ask(ctx)? {
            let (left, over): (Vec<&Job>, Vec<&Job>) = open.iter().copied().partition(|j| there.contains(&j.key));
            let unsettled = over.iter().any(|j| !j.is_over());
            let since = *gone.get_or_insert_with(Instant::now);
            if !unsettled || since.elapsed() > SETTLE {
                over.into_iter().try_for_each(|job| ended(job, None))?;
                (open, gone) = (left, None);
            }
        }
        if open.is_empty() {
            return Ok(());
        }
        pause(LOOK, ctx);
    }
}

/// Sleeps, but not through a cancellation.
fn pause(time: Duration, ctx: &Context) {
    let until = Instant::now() + time;
    while Instant::now() < until && ctx.check().is_ok() {
        std::thread::sleep(Duration::from_millis(20));
    }
}

impl<'a> Queue<'a> {
    fn file(folder: &Path) -> PathBuf {
        folder.join("slurm.json")
    }
    fn read(folder: &'a Path) -> Result<Self> {
        let path = Self::file(folder);
        let submitted = if path.exists() {
            serde_json::from_str(&files::read_text(&path)?)
                .map_err(|e| Error::format("is no list of Slurm's jobs").because(e).file(&path))?
        } else {
            Vec::new()
        };
        Ok(Self { folder, submitted, away: false })
    }

    /// Keys of the jobs that wait or run; `None` while the controller does not answer.
    fn ask(&mut self, ctx: &Context) -> Result<Option<HashSet<String>>> {
        let answer = tool("squeue", &["--noheader", "--array", "--me", "--format=%F %K"], "", ctx)?;
        let lines = match answer {
            Ok(lines) => lines,
            Err(why) => {
                if !std::mem::replace(&mut self.away, true) {
                    ctx.note(format!("sweep: Slurm's controller does not answer ({why}); its jobs go on"));
                }
                return Ok(None);
            }
        };
        if std::mem::take(&mut self.away) {
            ctx.note("sweep: Slurm's controller answers again");
        }
        let key = |line: &str| {
            let (id, index) = line.trim().split_once(' ')?;
            let array = self.submitted.iter().find(|s| s.id == id)?;
            array.keys.get(index.trim().parse::<usize>().ok()?.checked_sub(1)?).cloned()
        };
        Ok(Some(lines.lines().filter_map(key).collect()))
    }

    fn submit(&mut self, jobs: &[&Job], workers: Option<usize>, settings: &Settings, options: &[String], ctx: &Context) -> Result<()> {
        let keys: Vec<String> = jobs.iter().map(|j| j.key.clone()).collect();
        let list = self.folder.join(format!("array-{}.txt", self.submitted.len() + 1));
        files::write_file(&list, (keys.join("\n") + "\n").as_bytes())?;
        let mut arguments = vec!["--parsable".to_string()];
        let most = workers.map_or(String::new(), |n| format!("%{n}"));
        arguments.push(format!("--array=1-{}{most}", jobs.len()));
        arguments.push(format!("--cpus-per-task={}", settings.threads));
        arguments.push(format!("--job-name={}", settings.script.file_stem().unwrap_or_default().to_string_lossy()));
        arguments.push(format!("--output={}", self.folder.join("slurm-%A_%a.txt").display()));
        arguments.extend(options.iter().cloned());
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let script = script(&list, settings);
        // The controller may be away between one array and the next.
        let id = loop {
            match tool("sbatch", &arguments, &script, ctx)? {
                Ok(id) => break id,
                Err(why) if !self.submitted.is_empty() && is_away(&why) => pause(LOOK, ctx),
                Err(why) => return Err(Error::unavailable(format!("Slurm takes no jobs: {why}"))),
            }
        };
        // `ID;CLUSTER` where there are several.
        let id = id.trim().split(';').next().unwrap_or_default().to_string();
        self.submitted.push(Submitted { id, keys });
        let text = serde_json::to_string_pretty(&self.submitted).map_err(|e| Error::internal("jobs do not serialize").because(e))?;
        files::write_file(Self::file(self.folder), text.as_bytes())
    }

    fn cancel(&self) {
        let ids = self.submitted.iter().map(|s| s.id.as_str());
        let _ = Command::new("scancel").args(ids).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}

fn is_away(why: &str) -> bool {
    why.contains("Unable to contact") || why.contains("timed out") || why.contains("Connection refused")
}

/// What an element of the array runs: the job whose key stands in its line of the list.
fn script(list: &Path, settings: &Settings) -> String {
    let folder = quoted(&settings.folder.display().to_string());
    // The job's own words come in place of its folder, which only the shell knows.
    let words: Vec<String> = settings.shared_arguments().iter().map(|w| quoted(&w.to_string_lossy())).collect();
    format!(
        "#!/bin/sh\nkey=$(sed -n \"${{SLURM_ARRAY_TASK_ID}}p\" {})\njob={folder}/$key\nexec >\"$job/log.txt\" 2>&1 </dev/null\n\
         exec {} run --folder \"$job\" --parameters \"$job/parameters.json\" {}\n",
        quoted(&list.display().to_string()),
        quoted(&settings.program.display().to_string()),
        words.join(" ")
    )
}

/// A word for a shell.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// Runs a command of Slurm: what it prints, or the last line that it says when it fails.
///
/// # Errors
/// `Unavailable` where there is no such command; `Cancelled`.
fn tool(name: &str, arguments: &[&str], input: &str, ctx: &Context) -> Result<Result<String, String>> {
    let mut command = Command::new(name);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|e| {
        let hint = "sweep needs Slurm's commands (Debian: slurm-client) for on: \"slurm\"; on: \"local\" needs none";
        Error::unavailable(format!("there is no '{name}' on this machine")).because(e).hint(hint)
    })?;
    let read = |stream: Option<Box<dyn Read + Send>>| {
        std::thread::spawn(move || {
            let mut text = String::new();
            let _ = stream.map(|mut s| s.read_to_string(&mut text));
            text
        })
    };
    let out = read(child.stdout.take().map(|s| Box::new(s) as _));
    let errors = read(child.stderr.take().map(|s| Box::new(s) as _));
    if let Some(mut stdin) = child.stdin.take() {
        // A command that ended early says why.
        let _ = stdin.write_all(input.as_bytes());
    }
    let begin = Instant::now();
    let status = loop {
        match child.try_wait().map_err(|e| Error::internal("a process cannot be waited for").because(e))? {
            Some(status) => break Some(status),
            None if ctx.check().is_err() || begin.elapsed() > PATIENCE => {
                let _ = child.kill();
                let _ = child.wait();
                ctx.check()?;
                break None;
            }
            None => std::thread::sleep(Duration::from_millis(10)),
        }
    };
    let text = |thread: std::thread::JoinHandle<String>| thread.join().unwrap_or_default();
    match status {
        Some(status) if status.success() => Ok(Ok(text(out))),
        Some(_) => Ok(Err(text(errors).lines().rfind(|l| !l.trim().is_empty()).unwrap_or("it does not say why").trim().to_string())),
        None => Ok(Err(format!("{name} timed out"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_for_shells() {
        let echo = |word: &str| {
            let o = Command::new("sh").args(["-c", &format!("printf %s {}", quoted(word))]).output().unwrap();
            String::from_utf8(o.stdout).unwrap()
        };
        for word in ["a b", "it's", "$HOME `x` \"y\" \\", ""] {
            assert_eq!(echo(word), word);
        }
    }

    #[test]
    fn a_command_that_is_not_there_or_fails_is_told_from_one_that_works() {
        let ctx = Context::new();
        assert_eq!(tool("cat", &[], "abc", &ctx).unwrap(), Ok("abc".into()));
        assert!(tool("ls", &["/no/such/folder"], "", &ctx).unwrap().is_err_and(|why| why.contains("/no/such/folder")));
        assert!(tool("no-such-command", &[], "", &ctx).unwrap_err().to_string().contains("no 'no-such-command'"));
        ctx.cancel.cancel();
        assert!(tool("sleep", &["10"], "", &ctx).unwrap_err().is_cancelled());
    }
}
