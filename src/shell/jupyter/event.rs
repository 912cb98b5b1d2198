//! What a Rust notebook's process and the kernel tell each other, a line each; the process's among what its cells print.

use serde::{Deserialize, Serialize};

/// Begins the line, or what follows printed text without a line break.
pub const MARK: &str = "\u{1}compresso ";

/// Pairs of a MIME type and data.
type Forms = Vec<(String, String)>;

/// Something that is not plain output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// Printed text that ends without a line break.
    Out { text: String },
    /// Text for standard error.
    Err { text: String },
    /// Text for standard error, which is an error's own if [`Event::Failed`] follows at once.
    Held { text: String, kind: Option<String> },
    /// A `?` has ended the cell.
    Failed,
    /// A thread panics; perhaps somebody catches it.
    Panic { message: String, file: String, line: u32 },
    /// A panic has ended the cell.
    Panicked,
    /// An output.
    Display { media: Forms },
    /// The outputs of the value of the last expression.
    Value { media: Vec<Forms> },
    /// A question to the user. evcxr's request for a line follows; the line is one of the next two.
    Ask { prompt: String },
    /// What the user has answered.
    Answer { text: String },
    /// Why there is no answer.
    Refused { text: String, cancelled: bool },
    /// Drops what the cell has shown.
    Clear { wait: bool },
    /// Long work begins.
    Start { id: u64, label: String, total: u64 },
    /// It goes on.
    Step { id: u64, done: u64, message: String },
    /// It ends.
    Finish { id: u64 },
}

impl Event {
    /// The line that stands for it, with its line break.
    pub fn line(&self) -> String {
        // JSON has no raw line breaks, and a map with text keys always serializes. evcxr looks for words of its own in all lines.
        let json = serde_json::to_string(self).unwrap_or_default().replace("EVCXR_", "\\u0045VCXR_");
        format!("{MARK}{json}\n")
    }

    /// Splits a line into what is printed before an event and the event. A line that only looks like one is text.
    pub fn split(line: &str) -> (&str, Option<Self>) {
        let Some(at) = line.find(MARK) else { return (line, None) };
        match serde_json::from_str(&line[at + MARK.len()..]) {
            Ok(event) => (&line[..at], Some(event)),
            Err(_) => (line, None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_go_through_a_line() {
        let media = vec![("text/plain".to_string(), "a\nb\u{1}compresso {EVCXR_BEGIN_CONTENT text/html".to_string())];
        for event in [Event::Failed, Event::Display { media: media.clone() }, Event::Value { media: vec![media] }] {
            let line = event.line();
            assert_eq!((line.matches('\n').count(), line.contains("EVCXR_")), (1, false));
            assert_eq!(Event::split(line.trim_end()), ("", Some(event)));
        }
        let line = format!("abc{}", Event::Clear { wait: true }.line());
        assert_eq!(Event::split(line.trim_end()), ("abc", Some(Event::Clear { wait: true })));
    }

    #[test]
    fn what_only_looks_like_an_event_is_text() {
        for line in ["", "plain", "\u{1}compresso", "\u{1}compresso {\"event\":\"other\"}", "x\u{1}compresso 7"] {
            assert_eq!(Event::split(line), (line, None));
        }
    }
}
