//! What front ends show variables by: their requests of the Debug Adapter Protocol, which Jupyter carries on its control channel
//! (<https://jupyter-client.readthedocs.io/en/stable/messaging.html#debug-request>). Breakpoints are not part of it.

use super::outputs::bundle;
use super::{About, Language, Variable};
use serde_json::{Value as Json, json};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// What is answered without the language, also while a cell runs.
pub struct Watch {
    /// A front end looks at variables.
    on: AtomicBool,
    running: AtomicBool,
    /// The variables as the last cell left them.
    listed: Mutex<Json>,
    ending: &'static str,
}

impl Watch {
    pub fn new(about: &About) -> Self {
        Self { on: AtomicBool::new(false), running: AtomicBool::new(false), listed: Mutex::new(json!([])), ending: about.file_extension }
    }
    pub fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }
    pub fn begins(&self) {
        self.running.store(true, Ordering::Relaxed);
    }
    /// A cell has ended with these variables.
    pub fn ends(&self, listed: Option<Json>) {
        if let Some(listed) = listed {
            *self.listed.lock().unwrap_or_else(PoisonError::into_inner) = listed;
        }
        self.running.store(false, Ordering::Relaxed);
    }

    /// The answer to a request; `None` where the language has to be asked.
    pub fn answer(&self, request: &Json) -> Option<Json> {
        let running = self.running.load(Ordering::Relaxed);
        let body = match request["command"].as_str().unwrap_or_default() {
            "initialize" => {
                self.on.store(true, Ordering::Relaxed);
                json!({ "supportsConfigurationDoneRequest": true, "exceptionBreakpointFilters": [] })
            }
            "disconnect" => {
                self.on.store(false, Ordering::Relaxed);
                json!({})
            }
            "attach" | "configurationDone" | "setExceptionBreakpoints" => json!({}),
            "debugInfo" => json!({
                "isStarted": self.is_on(),
                "hashMethod": "Murmur2",
                "hashSeed": 0,
                "tmpFilePrefix": self.prefix(),
                "tmpFileSuffix": self.ending,
                "breakpoints": [],
                "stoppedThreads": [],
                "richRendering": true,
                "exceptionPaths": [],
                "copyToGlobals": false,
            }),
            "dumpCell" => json!({ "sourcePath": format!("{}cell{}", self.prefix(), self.ending) }),
            // None is set, so a front end shows none.
            "setBreakpoints" => json!({ "breakpoints": [] }),
            "threads" => json!({ "threads": [] }),
            "stackTrace" => json!({ "stackFrames": [], "totalFrames": 0 }),
            "scopes" => json!({ "scopes": [] }),
            "inspectVariables" if running => json!({ "variables": *self.listed.lock().unwrap_or_else(PoisonError::into_inner) }),
            "variables" | "richInspectVariables" if running => return Some(refused(request, "a cell runs: its variables are not at hand")),
            "inspectVariables" | "variables" | "richInspectVariables" => return None,
            other => return Some(refused(request, &format!("this kernel shows variables and does not know '{other}'"))),
        };
        Some(done(request, body))
    }

    /// Where cells would be, were they files.
    fn prefix(&self) -> String {
        format!("{}/compresso_{}/", std::env::temp_dir().display(), std::process::id())
    }
}

fn done(request: &Json, body: Json) -> Json {
    response(request, true, None, body)
}

fn refused(request: &Json, why: &str) -> Json {
    response(request, false, Some(why), json!({}))
}

fn response(request: &Json, success: bool, message: Option<&str>, body: Json) -> Json {
    let mut reply = json!({
        "type": "response",
        "seq": request["seq"],
        "request_seq": request["seq"],
        "success": success,
        "command": request["command"],
        "body": body,
    });
    if let Some(message) = message {
        reply["message"] = message.into();
    }
    reply
}

/// Answers what the language is asked for.
#[derive(Default)]
pub struct Explorer {
    /// What the numbers mean by which front ends ask for entries, from 1.
    paths: Vec<Vec<String>>,
}

impl Explorer {
    /// The answer to `inspectVariables`, `variables` or `richInspectVariables`. There are no variables before there is a language.
    pub fn answer(&mut self, request: &Json, mut language: Option<&mut dyn Language>) -> Json {
        let given = &request["arguments"];
        let mut explore = |path: &[String]| language.as_mut().map(|l| l.explore(path)).unwrap_or_default();
        match request["command"].as_str().unwrap_or_default() {
            "inspectVariables" => done(request, json!({ "variables": self.list(&[], explore(&[])) })),
            "variables" => {
                let number = given["variablesReference"].as_u64().and_then(|n| usize::try_from(n).ok());
                let Some(path) = number.and_then(|n| self.paths.get(n.checked_sub(1)?)).cloned() else {
                    return refused(request, "there is no such variable");
                };
                done(request, json!({ "variables": self.list(&path, explore(&path)) }))
            }
            _ => {
                let name = given["variableName"].as_str().unwrap_or_default();
                match language.as_mut().and_then(|l| l.view(name)) {
                    Some(media) => done(request, json!({ "data": bundle(media), "metadata": {} })),
                    None => refused(request, &format!("there is no variable '{name}'")),
                }
            }
        }
    }

    /// Variables as the protocol has them. A number keeps its meaning: front ends ask for entries long after they had it.
    pub fn list(&mut self, path: &[String], all: Vec<Variable>) -> Json {
        let one = |v: Variable| {
            let number = if v.has_entries { self.number([path, std::slice::from_ref(&v.name)].concat()) } else { 0 };
            json!({ "name": v.name, "type": type_of(&v), "value": v.value, "evaluateName": v.name, "variablesReference": number })
        };
        all.into_iter().map(one).collect()
    }

    fn number(&mut self, path: Vec<String>) -> usize {
        let known = self.paths.iter().position(|p| *p == path);
        known.map_or_else(
            || {
                self.paths.push(path);
                self.paths.len()
            },
            |at| at + 1,
        )
    }
}

/// JupyterLab shows the value of a variable whose type has one of four names, and of others the type alone: there the value, which says more.
fn type_of(v: &Variable) -> &str {
    match v.kind.as_str() {
        "whole number" => "int",
        "number" => "float",
        "true or false" => "bool",
        "text" => "str",
        kind if v.value.is_empty() => kind,
        _ => &v.value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::Context;
    use crate::shell::jupyter::{RHAI, RhaiCells};

    #[test]
    fn variables_are_listed_opened_and_shown() {
        let mut cells = RhaiCells::new(Context::new());
        cells.evaluate("let rows = [#{ ms: 2.5, name: \"a\" }, #{ ms: 1.5, name: \"b\" }]; let n = 3; let t = table(rows);").unwrap();
        let mut explorer = Explorer::default();
        let mut ask = |command: &str, arguments: Json| {
            let request = json!({ "type": "request", "seq": 7, "command": command, "arguments": arguments });
            explorer.answer(&request, Some(&mut cells as &mut dyn Language))
        };
        let all = ask("inspectVariables", json!({}));
        assert_eq!((&all["success"], &all["request_seq"]), (&json!(true), &json!(7)));
        let all = all["body"]["variables"].as_array().unwrap().clone();
        let line =
            |v: &Json| format!("{} | {} | {}", v["name"].as_str().unwrap(), v["type"].as_str().unwrap(), v["value"].as_str().unwrap());
        let lines: Vec<String> = all.iter().map(line).collect();
        assert_eq!(lines[1], "n | int | 3");
        assert!(lines[0].starts_with("rows | [#{ ms: 2.5, name: \"a\" }") && lines[2].starts_with("t | 2 rows | "), "{lines:?}");
        assert_eq!(all[1]["variablesReference"], 0);
        let inner = ask("variables", json!({ "variablesReference": all[0]["variablesReference"] }));
        let second = &inner["body"]["variables"][1];
        assert_eq!(second["name"], "[1]");
        let fields = ask("variables", json!({ "variablesReference": second["variablesReference"] }));
        let fields: Vec<String> = fields["body"]["variables"].as_array().unwrap().iter().map(line).collect();
        assert_eq!(fields, ["ms | float | 1.5", "name | str | \"b\""]);
        let shown = ask("richInspectVariables", json!({ "variableName": "t" }));
        assert!(shown["body"]["data"]["text/html"].as_str().unwrap().contains("<td"), "{shown}");
        for (command, arguments) in
            [("variables", json!({ "variablesReference": 99 })), ("richInspectVariables", json!({ "variableName": "x" }))]
        {
            assert_eq!(ask(command, arguments)["success"], false, "{command}");
        }
    }

    #[test]
    fn a_running_cell_does_not_keep_front_ends_waiting() {
        let watch = Watch::new(&RHAI);
        let ask = |command: &str| watch.answer(&json!({ "seq": 1, "command": command }));
        assert_eq!(ask("debugInfo").unwrap()["body"]["isStarted"], false);
        assert!(ask("initialize").unwrap()["success"] == true && watch.is_on());
        assert_eq!(ask("inspectVariables"), None);
        watch.begins();
        watch.ends(Some(json!([{ "name": "n" }])));
        watch.begins();
        assert_eq!(ask("inspectVariables").unwrap()["body"]["variables"][0]["name"], "n");
        assert_eq!(ask("variables").unwrap()["success"], false);
        assert_eq!(ask("setBreakpoints").unwrap()["body"]["breakpoints"], json!([]));
        assert_eq!(ask("stepIn").unwrap()["success"], false);
        ask("disconnect");
        assert!(!watch.is_on());
    }
}
