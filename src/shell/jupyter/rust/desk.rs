//! Where the lines that a notebook's process prints go: outputs of the running cell, and word of how it ended.

use super::super::Outputs;
use super::super::event::Event;
use super::super::progress::Progress;
use crate::report::Media;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How a cell ended, as its process told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// By `?`: the error and, where it is the library's, its kind.
    Error { message: String, kind: Option<String> },
    /// By a panic: its message, file and line of the code that the compiler saw.
    Panic { message: String, file: String, line: usize },
}

/// One cell's outputs.
struct DeskPlace {
    outputs: Arc<dyn Outputs>,
    progress: Progress,
    /// Outputs of the last expression's value.
    value: Vec<Media>,
    /// Text for standard error that may belong to an error or a panic.
    held: Option<Held>,
    /// A question that has not been asked yet.
    question: Option<String>,
    end: Option<End>,
}

enum Held {
    Text { text: String, kind: Option<String> },
    Panic { message: String, file: String, line: usize },
}

/// Reads the process's lines on threads of its own, in order per stream.
pub struct Desk {
    place: Mutex<Option<DeskPlace>>,
}

/// The lines of a stream.
pub type Lines = crossbeam_channel::Receiver<String>;

impl Desk {
    /// A desk that serves two streams.
    pub fn new(stdout: Lines, stderr: Lines) -> (Arc<Self>, Drain) {
        let desk = Arc::new(Self { place: Mutex::new(None) });
        let gate = Arc::new(Mutex::new(()));
        for (lines, handle) in [(stdout.clone(), Self::line as fn(&Self, &str)), (stderr.clone(), Self::complaint as fn(&Self, &str))] {
            let (desk, gate) = (desk.clone(), gate.clone());
            std::thread::spawn(move || {
                loop {
                    let mut ready = crossbeam_channel::Select::new();
                    ready.recv(&lines);
                    ready.ready();
                    // Lines are taken under the gate alone, so that who holds it knows that none is on its way.
                    let _gate = lock(&gate);
                    match lines.try_recv() {
                        Ok(line) => handle(&desk, &line),
                        Err(crossbeam_channel::TryRecvError::Empty) => {}
                        Err(crossbeam_channel::TryRecvError::Disconnected) => return,
                    }
                }
            });
        }
        (desk.clone(), Drain { desk, gate, stdout, stderr })
    }

    fn place(&self) -> MutexGuard<'_, Option<DeskPlace>> {
        lock(&self.place)
    }

    /// The lines that come now belong to a cell with these outputs, or to code that nobody sees.
    pub fn begin(&self, outputs: Option<Arc<dyn Outputs>>) {
        let outputs = outputs.unwrap_or_else(|| Arc::new(Nobody));
        let progress = Progress::new(outputs.clone());
        *self.place() = Some(DeskPlace { outputs, progress, value: Vec::new(), held: None, question: None, end: None });
    }

    fn line(&self, line: &str) {
        if let Some(place) = &mut *self.place() {
            let (text, event) = Event::split(line);
            match event {
                None => place.print(&format!("{text}\n")),
                Some(event) => {
                    if !text.is_empty() {
                        place.print(text);
                    }
                    place.take(event);
                }
            }
        }
    }

    fn complaint(&self, line: &str) {
        if let Some(place) = &mut *self.place() {
            place.outputs.stderr(&format!("{line}\n"));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl DeskPlace {
    fn print(&mut self, text: &str) {
        self.release();
        self.outputs.stdout(text);
    }

    /// What was held is plain text after all.
    fn release(&mut self) {
        match self.held.take() {
            Some(Held::Text { text, .. }) => self.outputs.stderr(&format!("{text}\n")),
            Some(Held::Panic { message, .. }) => self.outputs.stderr(&format!("a thread panicked: {message}\n")),
            None => {}
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Failed => {
                let (message, kind) = match self.held.take() {
                    Some(Held::Text { text, kind }) => (text, kind),
                    _ => ("an error ended the cell".to_string(), None),
                };
                self.end = Some(End::Error { message, kind });
                return;
            }
            Event::Panicked => {
                let (message, file, line) = match self.held.take() {
                    Some(Held::Panic { message, file, line }) => (message, file, line),
                    _ => ("a panic ended the cell".to_string(), String::new(), 0),
                };
                self.end = Some(End::Panic { message, file, line });
                return;
            }
            _ => self.release(),
        }
        match event {
            Event::Out { text } => self.outputs.stdout(&text),
            Event::Err { text } => self.outputs.stderr(&text),
            Event::Held { text, kind } => self.held = Some(Held::Text { text, kind }),
            Event::Panic { message, file, line } => self.held = Some(Held::Panic { message, file, line: line as usize }),
            Event::Display { media } => self.outputs.display(Media(media)),
            Event::Value { media } => self.value = media.into_iter().map(Media).collect(),
            Event::Ask { prompt } => self.question = Some(prompt),
            Event::Clear { wait } => self.outputs.clear(wait),
            Event::Start { id, label, total } => self.progress.start(id, &label, total),
            Event::Step { id, done, message } => self.progress.update(id, done, &message),
            Event::Finish { id } => self.progress.finish(id),
            Event::Failed | Event::Panicked | Event::Answer { .. } | Event::Refused { .. } => {}
        }
    }
}

/// Outputs that are not shown.
struct Nobody;

impl Outputs for Nobody {
    fn stdout(&self, _: &str) {}
    fn stderr(&self, _: &str) {}
    fn display(&self, _: Media) {}
    fn display_as(&self, _: &str, _: Media) {}
    fn update(&self, _: &str, _: Media) {}
    fn clear(&self, _: bool) {}
    fn set_next_input(&self, _: &str) {}
    fn page(&self, _: Media) {}
    fn input(&self, _: &str, _: bool) -> crate::Result<String> {
        Err(crate::Error::unsupported("there is nobody to ask"))
    }
}

/// Takes what is left of a cell's lines once it has ended.
pub struct Drain {
    desk: Arc<Desk>,
    gate: Arc<Mutex<()>>,
    stdout: Lines,
    stderr: Lines,
}

/// How long lines on standard error may lag behind.
const LAG: Duration = Duration::from_millis(5);

impl Drain {
    /// Handles what has come while the cell still runs; gives the question that it asks.
    pub fn question(&self) -> Option<String> {
        let _gate = lock(&self.gate);
        self.take_lines();
        self.desk.place().as_mut().and_then(|place| place.question.take())
    }

    fn take_lines(&self) {
        self.stdout.try_iter().for_each(|line| self.desk.line(&line));
        self.stderr.try_iter().for_each(|line| self.desk.complaint(&line));
    }

    /// Handles what has come; gives the outputs of the cell's value and how it ended.
    pub fn finish(&self) -> (Vec<Media>, Option<End>) {
        std::thread::sleep(LAG);
        let _gate = lock(&self.gate);
        self.take_lines();
        let mut place = self.desk.place();
        match &mut *place {
            Some(place) => {
                place.release();
                place.progress.end();
                (std::mem::take(&mut place.value), place.end.take())
            }
            None => (Vec::new(), None),
        }
    }
}
