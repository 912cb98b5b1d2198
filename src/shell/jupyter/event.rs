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
    Out {
        /// What was printed.
        text: String,
    },
    /// Text for standard error.
    Err {
        /// What was printed.
        text: String,
    },
    /// Text for standard error, which is an error's own if [`Event::Failed`] follows at once.
    Held {
        /// What was printed: the error's message, if it is one's own.
        text: String,
        /// The error's kind, where it is the library's.
        kind: Option<String>,
    },
    /// A `?` has ended the cell.
    Failed,
    /// A thread panics; perhaps somebody catches it.
    Panic {
        /// What it says.
        message: String,
        /// The file of the code that panics, as the compiler saw it.
        file: String,
        /// The line in it, from 1.
        line: u32,
    },
    /// A panic has ended the cell.
    Panicked,
    /// An output.
    Display {
        /// Its forms, by MIME type.
        media: Forms,
    },
    /// The outputs of the value of the last expression.
    Value {
        /// The forms of each output.
        media: Vec<Forms>,
    },
    /// A question to the user. evcxr's request for a line follows; the line is one of the next two.
    Ask {
        /// What stands before the field for the answer.
        prompt: String,
    },
    /// What the user has answered.
    Answer {
        /// The line, without its break.
        text: String,
    },
    /// Why there is no answer.
    Refused {
        /// The error's text.
        text: String,
        /// The user has interrupted the cell; else the front end takes no input.
        cancelled: bool,
    },
    /// Drops what the cell has shown.
    Clear {
        /// Only once there is something new.
        wait: bool,
    },
    /// Long work begins.
    Start {
        /// Unique in the process.
        id: u64,
        /// What is done.
        label: String,
        /// Its steps; 0: unknown.
        total: u64,
    },
    /// It goes on.
    Step {
        /// That of its start.
        id: u64,
        /// Steps that are done.
        done: u64,
        /// A short note, such as `loss 1.23`.
        message: String,
    },
    /// It ends.
    Finish {
        /// That of its start.
        id: u64,
    },
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
