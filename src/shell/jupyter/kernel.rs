//! The kernel: takes requests in turn, runs cells, answers control beside them.

use super::debug::{Explorer, Watch};
use super::history::History;
use super::outputs::{Questions, WireOutputs, bundle};
use super::wire::{self, Handover, Incoming, Request, Sender, Wire, error_content};
use super::{About, Cell, CellError, IsComplete, Language};
use crate::error::{Error, Result};
use crate::shell::interrupt::leave;
use serde_json::{Map, Value as Json, json};
use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::error::TryRecvError;

/// Threads of the sockets.
const WIRE_THREADS: usize = 2;

type Action = Arc<dyn Fn() + Send + Sync>;

/// What the control channel does to the language; empty until the language is there.
#[derive(Default)]
struct Actions {
    interrupt: Mutex<Option<Action>>,
    stop: Mutex<Option<Action>>,
}

impl Actions {
    fn run(action: &Mutex<Option<Action>>) {
        let action = action.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(action) = action {
            action();
        }
    }
}

/// Serves a front end until it asks for the end; does not return before. `make` makes the language, after the first
/// answer: it may take a while.
///
/// # Errors
/// For a connection file that cannot be used, and addresses that cannot be bound.
pub fn serve(connection_file: &Path, about: About, make: impl FnOnce() -> Result<Box<dyn Language>>) -> Result<()> {
    let info = wire::connection(connection_file)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WIRE_THREADS)
        .thread_name("jupyter")
        .enable_all()
        .build()
        .map_err(|e| Error::internal("threads for the sockets cannot be started").because(e))?;
    let Wire { iopub, shell: (shell, requests), handover, control: (control, commands), stdin } = runtime.block_on(wire::bind(&info))?;
    iopub.publish("status", json!({ "execution_state": "starting" }), None);
    let actions = Arc::new(Actions::default());
    let questions = Arc::new(Questions::new(stdin));
    let interrupt: Action = {
        let (actions, questions) = (actions.clone(), questions.clone());
        Arc::new(move || {
            questions.interrupt();
            Actions::run(&actions.interrupt);
        })
    };
    watch_signals(interrupt.clone(), actions.clone())?;
    watch_parent(actions.clone());
    let watch = Arc::new(Watch::new(&about));
    let channel =
        Control { control: control.clone(), iopub: iopub.clone(), handover, interrupt, actions: actions.clone(), watch: watch.clone() };
    runtime.spawn(serve_control(about, commands, channel));
    let mut kernel = Kernel {
        about,
        language: Err(Some(make)),
        actions,
        questions,
        iopub,
        shell,
        control,
        watch,
        explorer: Explorer::default(),
        history: History::default(),
        count: 0,
        requests,
        behind: VecDeque::new(),
        greeted: false,
        warm: false,
    };
    kernel.run();
    Ok(())
}

/// SIGINT interrupts as the message does; SIGTERM ends the process.
fn watch_signals(interrupt: Action, actions: Arc<Actions>) -> Result<()> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    let mut signals =
        signal_hook::iterator::Signals::new([SIGINT, SIGTERM]).map_err(|e| Error::internal("signals cannot be watched").because(e))?;
    std::thread::spawn(move || {
        for signal in signals.forever() {
            if signal == SIGTERM {
                Actions::run(&actions.stop);
                leave(143);
            }
            interrupt();
        }
    });
    Ok(())
}

/// Front ends that start kernels say so with this variable; when such a front end dies, its kernels end.
fn watch_parent(actions: Arc<Actions>) {
    #[cfg(unix)]
    if std::env::var_os("JPY_PARENT_PID").is_some() {
        let parent = std::os::unix::process::parent_id();
        std::thread::spawn(move || {
            while std::os::unix::process::parent_id() == parent {
                std::thread::sleep(Duration::from_secs(1));
            }
            Actions::run(&actions.stop);
            leave(0);
        });
    }
}

/// What the control channel works with.
struct Control {
    control: Sender,
    iopub: Sender,
    handover: Handover,
    interrupt: Action,
    actions: Arc<Actions>,
    watch: Arc<Watch>,
}

/// Answers the control channel, also while a cell runs.
async fn serve_control(about: About, mut commands: Incoming, channel: Control) {
    let Control { control, iopub, handover, interrupt, actions, watch } = channel;
    while let Some(request) = commands.recv().await {
        let debugged = (request.kind() == "debug_request").then(|| watch.answer(&request.content));
        if let Some(None) = debugged {
            // The language is asked, in turn.
            drop(handover.send(request));
            continue;
        }
        status(&iopub, "busy", &request);
        if let Some(Some(reply)) = debugged {
            if request.text("command") == "attach" {
                iopub.publish("debug_event", json!({ "type": "event", "event": "initialized", "seq": 0 }), Some(&request));
            }
            control.reply("debug_reply", reply, &request);
            status(&iopub, "idle", &request);
            continue;
        }
        match request.kind() {
            "kernel_info_request" => control.reply("kernel_info_reply", kernel_info(&about), &request),
            "interrupt_request" => {
                interrupt();
                control.reply("interrupt_reply", json!({ "status": "ok" }), &request);
            }
            "shutdown_request" => {
                let (control, iopub, actions) = (control.clone(), iopub.clone(), actions.clone());
                let _ = tokio::task::spawn_blocking(move || shut_down(&control, &iopub, &request, &actions)).await;
                return;
            }
            _ => refuse(&control, &request),
        }
        status(&iopub, "idle", &request);
    }
}

/// Answers, tells all front ends, and ends the process.
fn shut_down(replies: &Sender, iopub: &Sender, request: &Request, actions: &Actions) {
    let content = json!({ "status": "ok", "restart": request.flag("restart", false) });
    replies.reply("shutdown_reply", content.clone(), request);
    iopub.publish("shutdown_reply", content, Some(request));
    status(iopub, "idle", request);
    Actions::run(&actions.stop);
    replies.drain();
    iopub.drain();
    // What has been handed to a socket is written by its own task.
    std::thread::sleep(Duration::from_millis(50));
    leave(0);
}

fn status(iopub: &Sender, state: &str, parent: &Request) {
    iopub.publish("status", json!({ "execution_state": state }), Some(parent));
}

/// The answer to a request of an unknown kind. Other messages get none.
fn refuse(replies: &Sender, request: &Request) {
    if let Some(kind) = request.reply_kind() {
        let message = format!("this kernel does not know '{}'", request.kind());
        let error = CellError { name: "Unsupported".into(), message: message.clone(), traceback: vec![message] };
        replies.reply(&kind, error_content(&error), request);
    }
}

fn kernel_info(a: &About) -> Json {
    json!({
        "status": "ok",
        "protocol_version": "5.3",
        "implementation": "compresso",
        "implementation_version": env!("CARGO_PKG_VERSION"),
        "language_info": {
            "name": a.name,
            "version": a.version,
            "mimetype": a.mimetype,
            "file_extension": a.file_extension,
            "pygments_lexer": a.pygments_lexer,
            "codemirror_mode": a.codemirror_mode,
            "nbconvert_exporter": "script",
        },
        "banner": a.banner,
        "debugger": true,
        "supported_features": ["debugger"],
        "help_links": a.help_links.iter().map(|(text, url)| json!({ "text": text, "url": url })).collect::<Vec<_>>(),
    })
}

struct Kernel<F> {
    about: About,
    /// `Err` holds what makes it.
    language: std::result::Result<std::result::Result<Box<dyn Language>, CellError>, Option<F>>,
    actions: Arc<Actions>,
    questions: Arc<Questions>,
    iopub: Sender,
    shell: Sender,
    control: Sender,
    watch: Arc<Watch>,
    explorer: Explorer,
    history: History,
    /// Cells that have run.
    count: usize,
    requests: Incoming,
    /// What waited when a cell failed.
    behind: VecDeque<Request>,
    /// Something has been answered.
    greeted: bool,
    /// The language has been warmed up.
    warm: bool,
}

/// How long there has to be no request before the language is warmed up.
const PAUSE: Duration = Duration::from_millis(250);

impl<F: FnOnce() -> Result<Box<dyn Language>>> Kernel<F> {
    fn run(&mut self) {
        while let Some((request, aborted)) = self.next() {
            status(&self.iopub, "busy", &request);
            match request.kind() {
                "execute_request" if aborted => {
                    let content = json!({ "status": "aborted", "execution_count": self.count });
                    self.shell.reply("execute_reply", content, &request);
                }
                "execute_request" => {
                    self.watch.begins();
                    self.execute(&request);
                    let listed = self.watch.is_on().then(|| self.language().map(|l| l.explore(&[])).unwrap_or_default());
                    self.watch.ends(listed.map(|all| self.explorer.list(&[], all)));
                }
                "debug_request" => {
                    let language = self.language.as_mut().ok().and_then(|l| l.as_mut().ok());
                    let reply = self.explorer.answer(&request.content, language.map(|l| &mut **l as &mut dyn Language));
                    self.control.reply("debug_reply", reply, &request);
                }
                "shutdown_request" => shut_down(&self.shell, &self.iopub, &request, &self.actions),
                kind => match self.answer(kind, &request) {
                    Some((kind, content)) => self.shell.reply(kind, content, &request),
                    None => refuse(&self.shell, &request),
                },
            }
            status(&self.iopub, "idle", &request);
            self.greeted = true;
        }
    }

    /// The next request, and whether a cell is not to run because one before it failed. `None` at the end.
    fn next(&mut self) -> Option<(Request, bool)> {
        let begin = Instant::now();
        loop {
            if let Some(waiting) = self.behind.pop_front() {
                return Some((waiting, true));
            }
            match self.requests.try_recv() {
                Ok(request) => return Some((request, false)),
                Err(TryRecvError::Disconnected) => return None,
                // The front end has its first answer and nobody waits: a good time to make the language.
                Err(TryRecvError::Empty) if self.greeted && self.language.is_err() => drop(self.language()),
                Err(TryRecvError::Empty) if self.greeted && !self.warm && begin.elapsed() < PAUSE => std::thread::sleep(PAUSE / 50),
                Err(TryRecvError::Empty) if self.greeted && !self.warm => {
                    self.warm = true;
                    if let Ok(language) = self.language() {
                        language.warm_up();
                    }
                }
                Err(TryRecvError::Empty) => return self.requests.blocking_recv().map(|request| (request, false)),
            }
        }
    }

    fn language(&mut self) -> std::result::Result<&mut Box<dyn Language>, CellError> {
        if let Err(make) = &mut self.language {
            let made = make.take().map_or_else(|| Err(Error::internal("the language is being made")), |make| make());
            if let Ok(language) = &made {
                *self.actions.interrupt.lock().unwrap_or_else(PoisonError::into_inner) = Some(language.interrupter());
                *self.actions.stop.lock().unwrap_or_else(PoisonError::into_inner) = Some(language.stopper());
            }
            self.language = Ok(made.map_err(|e| {
                eprintln!("compresso: {e}");
                CellError::from(e)
            }));
        }
        match &mut self.language {
            Ok(Ok(language)) => Ok(language),
            Ok(Err(e)) => Err(e.clone()),
            Err(_) => Err(CellError { name: "Internal".into(), message: "there is no language".into(), traceback: Vec::new() }),
        }
    }

    /// Kind and content of the answer.
    fn answer(&mut self, kind: &str, request: &Request) -> Option<(&'static str, Json)> {
        let code = request.text("code").to_string();
        let cursor = || byte_offset(&code, request.content["cursor_pos"].as_u64());
        Some(match kind {
            "kernel_info_request" => ("kernel_info_reply", kernel_info(&self.about)),
            "complete_request" => ("complete_reply", self.complete(&code, cursor())),
            "inspect_request" => {
                let detail = u8::from(request.content["detail_level"].as_u64().is_some_and(|d| d > 0));
                let found = self.language().ok().and_then(|l| l.inspect(&code, cursor(), detail));
                let is_found = found.is_some();
                let data = found.map_or_else(|| json!({}), bundle);
                ("inspect_reply", json!({ "status": "ok", "found": is_found, "data": data, "metadata": {} }))
            }
            "is_complete_request" => {
                let content = match self.language().map_or(IsComplete::Unknown, |l| l.is_complete(&code)) {
                    IsComplete::Complete => json!({ "status": "complete" }),
                    IsComplete::Incomplete { indent } => json!({ "status": "incomplete", "indent": indent }),
                    IsComplete::Invalid => json!({ "status": "invalid" }),
                    IsComplete::Unknown => json!({ "status": "unknown" }),
                };
                ("is_complete_reply", content)
            }
            "history_request" => ("history_reply", self.history.answer(&request.content)),
            "comm_info_request" => ("comm_info_reply", json!({ "status": "ok", "comms": {} })),
            "comm_open" => {
                // There are no targets: the protocol's answer is to close it.
                self.iopub.publish("comm_close", json!({ "comm_id": request.text("comm_id"), "data": {} }), Some(request));
                return None;
            }
            "interrupt_request" => ("interrupt_reply", json!({ "status": "ok" })),
            _ => return None,
        })
    }

    fn complete(&mut self, code: &str, cursor: usize) -> Json {
        let found = self.language().map(|l| l.complete(code, cursor)).unwrap_or_default();
        let (start, end) = (char_offset(code, found.start.min(cursor)), char_offset(code, found.end.max(cursor).min(code.len())));
        let types: Vec<Json> = found
            .matches
            .iter()
            .map(|m| json!({ "start": start, "end": end, "text": m.text, "type": m.kind, "signature": m.about }))
            .collect();
        json!({
            "status": "ok",
            "matches": found.matches.iter().map(|m| m.text.as_str()).collect::<Vec<_>>(),
            "cursor_start": start,
            "cursor_end": end,
            "metadata": { "_jupyter_types_experimental": types },
        })
    }

    fn execute(&mut self, request: &Request) {
        let code = request.text("code").to_string();
        let silent = request.flag("silent", false);
        let store = request.flag("store_history", true) && !silent;
        self.count += usize::from(store);
        let number = self.count;
        if !silent {
            self.iopub.publish("execute_input", json!({ "code": code, "execution_count": number }), Some(request));
        }
        self.questions.reset();
        let outputs = Arc::new(WireOutputs {
            iopub: self.iopub.clone(),
            questions: self.questions.clone(),
            parent: request.clone(),
            silent,
            payload: Mutex::default(),
        });
        let names = |of: &Json| of.as_array().into_iter().flatten().filter_map(|n| n.as_str().map(str::to_string)).collect();
        let id = request.metadata["cellId"].as_str().map(str::to_string);
        let cell = Cell { number, id, removed: names(&request.metadata["deletedCells"]), outputs: outputs.clone() };
        let result = match self.language() {
            Ok(_) if code.trim().is_empty() => Ok(None),
            Ok(language) => language.execute(&code, &cell),
            Err(e) => Err(e),
        };
        let kept = result.as_ref().ok().and_then(|m| m.as_ref()?.get("text/plain").map(str::to_string));
        if store {
            self.history.push(number, &code, kept);
        }
        let content = match result {
            Ok(value) => {
                if let Some(media) = value.filter(|m| !silent && !m.is_empty()) {
                    let content = json!({ "execution_count": number, "data": bundle(media), "metadata": {} });
                    self.iopub.publish("execute_result", content, Some(request));
                }
                let expressions = self.user_expressions(request);
                let payload = std::mem::take(&mut *outputs.payload.lock().unwrap_or_else(PoisonError::into_inner));
                json!({ "status": "ok", "execution_count": number, "payload": payload, "user_expressions": expressions })
            }
            Err(e) => {
                let mut content = error_content(&e);
                if !silent {
                    let published = json!({ "ename": e.name, "evalue": e.message, "traceback": e.traceback });
                    self.iopub.publish("error", published, Some(request));
                }
                content["execution_count"] = number.into();
                if request.flag("stop_on_error", true) {
                    // Those that are here now. What is sent after the answer runs.
                    while let Ok(waiting) = self.requests.try_recv() {
                        self.behind.push_back(waiting);
                    }
                }
                content
            }
        };
        self.shell.reply("execute_reply", content, request);
    }

    fn user_expressions(&mut self, request: &Request) -> Json {
        let wanted = request.content["user_expressions"].as_object().cloned().unwrap_or_default();
        let one = |(name, code): (String, Json)| {
            let result = self.language().and_then(|l| l.evaluate(code.as_str().unwrap_or_default()));
            let content = match result {
                Ok(media) => json!({ "status": "ok", "data": bundle(media), "metadata": {} }),
                Err(e) => error_content(&e),
            };
            (name, content)
        };
        Json::Object(wanted.into_iter().map(one).collect::<Map<_, _>>())
    }
}

/// The byte offset of a position in characters (Unicode code points, as protocol 5.2 and later count); the end when there is none.
fn byte_offset(code: &str, position: Option<u64>) -> usize {
    let position = position.and_then(|p| usize::try_from(p).ok()).unwrap_or(usize::MAX);
    code.char_indices().nth(position).map_or(code.len(), |(at, _)| at)
}

fn char_offset(code: &str, byte: usize) -> usize {
    code.get(..byte).map_or(0, |before| before.chars().count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_characters() {
        assert_eq!(byte_offset("aé😀b", Some(3)), 7);
        assert_eq!(byte_offset("aé", Some(99)), 3);
        assert_eq!(byte_offset("aé", None), 3);
        assert_eq!(char_offset("aé😀b", 7), 3);
    }
}
