//! A running cell's outputs, on the wire.

use super::wire::{Incoming, Request, Sender};
use crate::error::{Error, Result};
use crate::report::Media;
use crate::shell::jupyter::Outputs;
use serde_json::{Map, Value as Json, json};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The stdin channel: one question at a time.
pub struct Questions {
    sender: Sender,
    answers: Mutex<Incoming>,
    /// Ends a question that waits.
    interrupted: AtomicBool,
}

impl Questions {
    pub fn new((sender, answers): (Sender, Incoming)) -> Self {
        Self { sender, answers: Mutex::new(answers), interrupted: AtomicBool::new(false) }
    }
    pub fn interrupt(&self) {
        self.interrupted.store(true, Ordering::Relaxed);
    }
    pub fn reset(&self) {
        self.interrupted.store(false, Ordering::Relaxed);
    }
    fn ask(&self, parent: &Request, prompt: &str, password: bool) -> Result<String> {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        // Answers to questions that were given up.
        while answers.try_recv().is_ok() {}
        self.sender.reply("input_request", json!({ "prompt": prompt, "password": password }), parent);
        loop {
            if self.interrupted.load(Ordering::Relaxed) {
                return Err(Error::cancelled());
            }
            match answers.try_recv() {
                Ok(answer) if answer.kind() == "input_reply" => return Ok(answer.text("value").to_string()),
                Ok(_) => {}
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }
}

/// The outputs of one cell.
pub struct WireOutputs {
    pub iopub: Sender,
    pub questions: Arc<Questions>,
    pub parent: Request,
    /// A silent cell shows nothing.
    pub silent: bool,
    /// Payloads of the reply.
    pub payload: Mutex<Vec<Json>>,
}

impl WireOutputs {
    fn publish(&self, kind: &str, content: Json) {
        if !self.silent {
            self.iopub.publish(kind, content, Some(&self.parent));
        }
    }
    fn stream(&self, name: &str, text: &str) {
        if !text.is_empty() {
            self.publish("stream", json!({ "name": name, "text": text }));
        }
    }
}

/// The forms of an output by MIME type.
pub fn bundle(media: Media) -> Json {
    let form = |(mime, data): (String, String)| {
        // Front ends expect JSON types as JSON.
        let json = mime.ends_with("json").then(|| serde_json::from_str(&data).ok()).flatten();
        (mime, json.unwrap_or(Json::String(data)))
    };
    Json::Object(media.0.into_iter().map(form).collect::<Map<_, _>>())
}

impl Outputs for WireOutputs {
    fn stdout(&self, text: &str) {
        self.stream("stdout", text);
    }
    fn stderr(&self, text: &str) {
        self.stream("stderr", text);
    }
    fn display(&self, media: Media) {
        self.publish("display_data", json!({ "data": bundle(media), "metadata": {}, "transient": {} }));
    }
    fn display_as(&self, id: &str, media: Media) {
        self.publish("display_data", json!({ "data": bundle(media), "metadata": {}, "transient": { "display_id": id } }));
    }
    fn update(&self, id: &str, media: Media) {
        self.publish("update_display_data", json!({ "data": bundle(media), "metadata": {}, "transient": { "display_id": id } }));
    }
    fn clear(&self, wait: bool) {
        self.publish("clear_output", json!({ "wait": wait }));
    }
    fn set_next_input(&self, text: &str) {
        let payload = json!({ "source": "set_next_input", "text": text, "replace": true });
        self.payload.lock().unwrap_or_else(PoisonError::into_inner).push(payload);
    }
    fn page(&self, media: Media) {
        let payload = json!({ "source": "page", "data": bundle(media), "start": 0 });
        self.payload.lock().unwrap_or_else(PoisonError::into_inner).push(payload);
    }
    fn input(&self, prompt: &str, password: bool) -> Result<String> {
        if !self.parent.flag("allow_stdin", false) {
            return Err(Error::unsupported("this front end takes no input"));
        }
        self.questions.ask(&self.parent, prompt, password)
    }
}
