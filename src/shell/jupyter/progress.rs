//! Progress of long work as one output of the cell that changes.

use super::Outputs;
use crate::report::{Media, millis, number};
use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Work that ends sooner is not shown.
const WORTH_SHOWING: Duration = Duration::from_millis(400);
/// Work that took less than this leaves no line.
const WORTH_A_LINE: Duration = Duration::from_secs(2);
/// Time between two changes of the output.
const PAUSE: Duration = Duration::from_millis(250);
/// Finished works that stay visible.
const KEPT_LINES: usize = 12;

/// The progress of one cell.
pub struct Progress {
    outputs: Arc<dyn Outputs>,
    id: String,
    shown: bool,
    last: Option<Instant>,
    running: Vec<Work>,
    finished: Vec<String>,
    /// The line of the last work that was too short to leave one: better than an empty output.
    short: Option<String>,
}

struct Work {
    id: u64,
    label: String,
    total: u64,
    done: u64,
    message: String,
    start: Instant,
}

impl Progress {
    pub fn new(outputs: Arc<dyn Outputs>) -> Self {
        let id = uuid::Uuid::new_v4().to_string();
        Self { outputs, id, shown: false, last: None, running: Vec::new(), finished: Vec::new(), short: None }
    }
    pub fn start(&mut self, id: u64, label: &str, total: u64) {
        self.running.push(Work { id, label: label.into(), total, done: 0, message: String::new(), start: Instant::now() });
    }
    pub fn update(&mut self, id: u64, done: u64, message: &str) {
        if let Some(work) = self.running.iter_mut().find(|w| w.id == id) {
            work.done = done;
            if work.message != message {
                message.clone_into(&mut work.message);
            }
        }
        let due = self.last.is_none_or(|at| at.elapsed() >= PAUSE);
        if due && self.running.iter().any(|w| w.start.elapsed() >= WORTH_SHOWING) {
            self.publish();
        }
    }
    pub fn finish(&mut self, id: u64) {
        let Some(at) = self.running.iter().position(|w| w.id == id) else { return };
        let work = self.running.remove(at);
        let took = millis(work.start.elapsed().as_secs_f64() * 1000.0);
        let steps =
            if work.total > 0 && work.done < work.total { format!("{} of {}", work.done, work.total) } else { work.done.to_string() };
        let message = if work.message.is_empty() { String::new() } else { format!(", {}", work.message) };
        let line = format!("{}: {steps} steps in {took}{message}", work.label);
        if work.start.elapsed() < WORTH_A_LINE {
            self.short = Some(line);
            return;
        }
        self.finished.push(line);
        if self.finished.len() > KEPT_LINES {
            self.finished.remove(0);
        }
    }
    /// The last state, when the cell has ended.
    pub fn end(&mut self) {
        self.running.clear();
        if self.shown {
            if self.finished.is_empty() {
                self.finished.extend(self.short.take());
            }
            self.publish();
        }
    }

    fn publish(&mut self) {
        self.last = Some(Instant::now());
        let media = self.media();
        if self.shown {
            self.outputs.update(&self.id, media);
        } else {
            self.shown = true;
            self.outputs.display_as(&self.id, media);
        }
    }

    fn media(&self) -> Media {
        let mut text = self.finished.join("\n");
        let mut html = String::from("<div class=\"compresso-progress\" style=\"font-size:90%;opacity:.85\">");
        for line in &self.finished {
            let _ = write!(html, "<div>{}</div>", crate::report::escape(line));
        }
        for work in &self.running {
            let state = work.state();
            let _ = write!(text, "{}{}: {state}", if text.is_empty() { "" } else { "\n" }, work.label);
            let bar = if work.total > 0 {
                format!(
                    "<progress value=\"{}\" max=\"{}\" style=\"vertical-align:middle\"></progress>",
                    work.done.min(work.total),
                    work.total
                )
            } else {
                String::new()
            };
            let (label, state) = (crate::report::escape(&work.label), crate::report::escape(&state));
            let _ = write!(html, "<div>{label} {bar} <span style=\"font-variant-numeric:tabular-nums\">{state}</span></div>");
        }
        Media::text(text).with("text/html", html + "</div>")
    }
}

impl Work {
    /// `12/60  3.1/s  4 s < 15 s  loss 1.23`
    fn state(&self) -> String {
        let elapsed = self.start.elapsed().as_secs_f64();
        let rate = self.done as f64 / elapsed.max(1e-9);
        let mut out = if self.total > 0 { format!("{}/{}", self.done, self.total) } else { self.done.to_string() };
        if self.done > 0 {
            let _ = write!(out, "  {}/s  {}", number(rate), millis(elapsed * 1000.0));
            if self.total > self.done {
                let _ = write!(out, " < {}", millis((self.total - self.done) as f64 / rate * 1000.0));
            }
        }
        if !self.message.is_empty() {
            let _ = write!(out, "  {}", self.message);
        }
        out
    }
}
