//! `compresso run`: a script with its parameters and, where that is asked for, the folder that its run leaves.

use super::Output;
use super::script::{Failure, Limits, Session};
use super::write_reached;
use crate::context::{Context, device_name};
use crate::error::{Error, Result};
use crate::experiment::{Conditions, Journal, Recorder, Status, new_folder, parse_setting};
use crate::files;
use crate::report::{Graphics, Media, Show, Style};
use serde_json::{Map, Value};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A run of a script by the command line.
#[derive(Debug)]
pub struct ScriptRun {
    /// The script's file.
    pub file: PathBuf,
    /// What the script sees as `args`.
    pub args: Vec<String>,
    /// Values of the script's parameters.
    pub given: Map<String, Value>,
    /// The run is recorded: in this folder, or in a new one under `runs`.
    pub record: Option<Option<PathBuf>>,
    /// The folder gets an event file of TensorBoard too.
    pub tensorboard: bool,
    /// An earlier record in that folder is replaced.
    pub replace: bool,
    /// What the script may take.
    pub limits: Limits,
}

/// The parameters that `--set NAME=VALUE` and a file of them give; the former count.
///
/// # Errors
/// `Argument` for other texts; `Io` and `Format` of the file, which holds a map in JSON.
pub fn given(set: &[String], file: Option<&Path>) -> Result<Map<String, Value>> {
    let mut all = match file {
        Some(path) => serde_json::from_str(&files::read_text(path)?)
            .map_err(|e| Error::format("expected parameters as a map in JSON").because(e).file(path))?,
        None => Map::new(),
    };
    for text in set {
        let (name, value) = parse_setting(text)?;
        all.insert(name, value);
    }
    Ok(all)
}

impl ScriptRun {
    /// Runs it. A parameter `seed` is the session's seed too.
    ///
    /// # Errors
    /// What the script raises; those of writing the record.
    pub fn run(self, mut context: Context, console: Arc<dyn Output>) -> Result<(), Failure> {
        let source = std::fs::File::open(&self.file).map_err(|e| Failure::new(Error::io(&self.file, e)))?;
        let text = files::script_text(source, &self.file)?;
        if let Some(seed) = self.given.get("seed") {
            let bad = || Error::argument(format!("parameter 'seed' must be a whole number from 0, got {seed}"));
            context.seed = seed.as_u64().ok_or_else(bad)?;
        }
        let ctx = context.clone();
        let recorder = match &self.record {
            None => None,
            Some(folder) => {
                let conditions = Conditions {
                    script: self.file.clone(),
                    args: self.args.clone(),
                    seed: ctx.seed,
                    threads: ctx.threads,
                    device: device_name(&ctx.device),
                };
                let folder = folder.clone().map_or_else(|| new_folder(Path::new("runs"), &self.file), Ok)?;
                Some(Arc::new(Recorder::begin(folder, &text, conditions, self.given.clone(), self.replace)?))
            }
        };
        let output: Arc<dyn Output> = match &recorder {
            Some(recorder) => Arc::new(Recorded { inner: console, recorder: recorder.clone() }),
            None => console,
        };
        let mut session = Session::new(context, output.clone());
        session.set_limits(self.limits);
        session.shared().journal(|j| *j = Journal::new(self.given));
        let ran = session.run_text(&self.file, &text, self.args);
        // One that failed may have had no time to read them.
        let unread = if ran.is_ok() { session.shared().journal(|j| j.unread()) } else { Vec::new() };
        unread.iter().for_each(|line| ctx.note(format!("warning: {line}")));
        if let Some(recorder) = &recorder {
            let (status, error) = match &ran {
                Err(f) if f.is_cancelled() => (Status::Cancelled, None),
                Err(f) => (Status::Failed, Some(line(f))),
                // The last call may have ended early and well.
                Ok(_) if ctx.check().is_err() => (Status::Cancelled, None),
                Ok(_) => (Status::Done, None),
            };
            session.shared().journal(|j| recorder.finish(status, error, unread, j))?;
            if self.tensorboard {
                session.shared().journal(|j| j.events(recorder.folder()))?;
            }
            ctx.note(format!("recorded in {}", recorder.folder().display()));
        }
        // The last call may have ended early and well.
        if !ctx.cancel.is_cancelled() {
            return ran.map(drop);
        }
        if let Some(reached) = session.partial() {
            let stem = self.file.file_stem().map_or_else(|| "script".into(), |s| s.to_string_lossy());
            write_reached(&mut session, &reached, &format!("{stem}-partial.onnx"), &ctx.cancel, output.as_ref())?;
        }
        Err(Error::cancelled().into())
    }
}

/// An error in a line: `x.rhai:3: there is no file 'a.onnx'`.
fn line(failure: &Failure) -> String {
    let mut text = failure.at.as_ref().map_or(String::new(), |at| format!("line {}: ", at.line));
    for place in failure.error.places() {
        let _ = write!(text, "{place}: ");
    }
    text + failure.error.message()
}

/// Passes on what a script shows, and keeps it in the folder of the run.
struct Recorded {
    inner: Arc<dyn Output>,
    recorder: Arc<Recorder>,
}

impl Output for Recorded {
    fn style(&self) -> Style {
        self.inner.style()
    }
    fn graphics(&self) -> Graphics {
        self.inner.graphics()
    }
    fn print(&self, text: &str) {
        self.recorder.print(text);
        self.inner.print(text);
    }
    fn eprint(&self, text: &str) {
        self.inner.eprint(text);
    }
    fn show(&self, report: &dyn Show) -> Result<()> {
        self.recorder.show(report);
        self.inner.show(report)
    }
    fn is_notebook(&self) -> bool {
        self.inner.is_notebook()
    }
    fn display(&self, media: Media) {
        self.inner.display(media);
    }
    fn input(&self, prompt: &str) -> Result<String> {
        self.inner.input(prompt)
    }
    fn clear(&self, wait: bool) {
        self.inner.clear(wait);
    }
}
