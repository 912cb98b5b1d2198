//! Errors of scripts, explained.

use super::binding::{bindings, find};
use super::failure::{Failure, Spot};
use super::inserted::Inserted;
use super::python;
use super::raised::{lower_first, plain, unwrap};
use super::value::kind_of_type;
use super::words::{usage, with_article};
use crate::error::{Error, ErrorKind, nearest};
use crate::report::counted;
use rhai::{EvalAltResult, LexError, ParseErrorType, Position};
use std::path::PathBuf;
use std::sync::Arc;

/// What is needed to explain an error: the texts that were run, and the names in scope.
pub(super) struct Explain<'a> {
    /// Name and text of what was run.
    pub source: (&'a str, &'a str),
    /// Name and text of where a script function was defined.
    pub function_source: &'a dyn Fn(&str) -> Option<(String, String)>,
    /// The file of a module that an import names.
    pub module_file: &'a dyn Fn(&str) -> PathBuf,
    pub variables: Vec<String>,
    /// Names of the entries of maps that variables hold, by the variable.
    pub entries: &'a dyn Fn() -> Vec<(String, Vec<String>)>,
    /// Names and numbers of parameters of script functions.
    pub functions: Vec<(String, usize)>,
    /// Steps that were allowed.
    pub most_operations: u64,
    /// Signatures of the engine's own functions, made when asked.
    pub builtins: &'a dyn Fn() -> Vec<String>,
}

/// A function or module in which an error arose.
struct Around<'e> {
    /// The function's name; `None` for a module that was being read.
    function: Option<&'e String>,
    /// The module, as the import names it, or what was run.
    source: &'e str,
    /// The place of the call or import.
    at: Position,
}

impl Explain<'_> {
    pub fn failure(&self, error: &EvalAltResult) -> Failure {
        let mut around: Vec<Around> = Vec::new();
        let mut inner = error;
        loop {
            match inner {
                EvalAltResult::ErrorInFunctionCall(name, source, next, at) => {
                    around.push(Around { function: Some(name), source, at: *at });
                    inner = next;
                }
                EvalAltResult::ErrorInModule(path, next, at) => {
                    around.push(Around { function: None, source: path, at: *at });
                    inner = next;
                }
                _ => break,
            }
        }
        // What a function or module does lies in the text that defined it; its call or import in the text around it.
        let text_of = |depth: usize| match depth.checked_sub(1).and_then(|d| around.get(d)) {
            Some(a) => self.module(a).or_else(|| (self.function_source)(a.function?).map(Text::run)).unwrap_or_else(|| self.own()),
            None => self.own(),
        };
        let at = spot(&text_of(around.len()), inner.position());
        let called = |i: usize| Some((around[i].function?.clone(), spot(&text_of(i), around[i].at)));
        let trace = (0..around.len()).rev().filter_map(called).collect();
        Failure { error: Arc::new(self.leaf(inner, at.as_ref())), at, trace }
    }

    /// File and text of the module that holds what failed; `None` for what was run itself.
    fn module(&self, a: &Around) -> Option<Text> {
        if a.function.is_some() && (a.source.is_empty() || a.source == self.source.0) {
            return None;
        }
        let file = (self.module_file)(a.source);
        match std::fs::read_to_string(&file) {
            Ok(text) => Some(Text::module(file.display().to_string(), text)),
            Err(_) if a.function.is_some() => None,
            Err(_) => Some(Text::module(file.display().to_string(), String::new())),
        }
    }

    fn own(&self) -> Text {
        Text::run((self.source.0.to_string(), self.source.1.to_string()))
    }

    /// The error without its position, which is `at`.
    pub fn leaf(&self, error: &EvalAltResult, at: Option<&Spot>) -> Error {
        match error {
            EvalAltResult::ErrorRuntime(..) | EvalAltResult::ErrorTerminated(..) => unwrap(error),
            EvalAltResult::ErrorFunctionNotFound(call, _) => self.no_function(call),
            EvalAltResult::ErrorVariableNotFound(name, _) => self.no_variable(name, at),
            EvalAltResult::ErrorPropertyNotFound(name, _) => self.no_entry(name, at),
            EvalAltResult::ErrorParsing(kind, _) => syntax(kind, at),
            EvalAltResult::ErrorArrayBounds(len, place, _) => {
                let e = Error::new(ErrorKind::Script, format!("the list has {} and no place {place}", counted(*len, "item")));
                e.hint("places are counted from 0, and from the end with -1, -2, …")
            }
            EvalAltResult::ErrorStringBounds(len, place, _) => {
                Error::new(ErrorKind::Script, format!("the text has {} and no place {place}", counted(*len, "character")))
            }
            EvalAltResult::ErrorFor(_) => {
                Error::new(ErrorKind::Script, "for goes through lists, ranges and texts").hint("for x in list { … }, for i in 0..10 { … }")
            }
            EvalAltResult::ErrorTooManyOperations(_) => {
                let steps = self.most_operations;
                Error::new(ErrorKind::Script, format!("it took more than the {steps} steps that --max-operations allows"))
            }
            EvalAltResult::ErrorStackOverflow(_) => {
                Error::new(ErrorKind::Script, "functions call each other too deeply").hint("does a recursive function ever stop?")
            }
            EvalAltResult::ErrorMismatchDataType(wanted, got, _) if !wanted.is_empty() => {
                let (wanted, got) = (kind_of_type(wanted), kind_of_type(got));
                let e = Error::new(ErrorKind::Script, format!("expected {}, got {}", with_article(wanted), with_article(got)));
                if wanted == "whole number" && got == "range" { e.hint(PART) } else { e }
            }
            EvalAltResult::ErrorDotExpr(text, _) => no_property(text),
            EvalAltResult::ErrorIndexingType(text, _) => Error::new(
                ErrorKind::Script,
                format!("{} cannot be indexed", with_article(kind_of_type(text.split(' ').next().unwrap_or(text)))),
            ),
            other => Error::new(ErrorKind::Script, plain(other)),
        }
    }

    fn no_entry(&self, name: &str, at: Option<&Spot>) -> Error {
        let e = Error::missing(format!("the map has no entry '{name}'"));
        let all = (self.entries)();
        // `cfg` in `cfg.ratoi`
        let of = at.and_then(|at| {
            let before: String = at.text.chars().take(at.column.saturating_sub(1)).collect();
            let end = before.trim_end_matches(['.', '[', '"', '?']);
            let name = end.rsplit(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
            all.iter().find(|(variable, _)| variable == name)
        });
        let names = |keys: &[String]| keys.iter().take(12).map(String::as_str).collect::<Vec<_>>().join(", ");
        match of {
            Some((_, keys)) => match nearest(name, keys.iter().map(String::as_str)) {
                Some(near) => e.hint(format!("did you mean '{near}'?")),
                None => e.hint(format!("its entries are {}", names(keys))),
            },
            // A closure's argument has no value that is known here.
            None => match nearest(name, all.iter().flat_map(|(_, keys)| keys).map(String::as_str)) {
                Some(near) => e.hint(format!("did you mean '{near}'?")),
                None => e,
            },
        }
    }

    fn no_variable(&self, name: &str, at: Option<&Spot>) -> Error {
        let e = Error::new(ErrorKind::Script, format!("unknown variable '{name}'"));
        if let Some(at) = at {
            let text = at.text.trim_start();
            if text.starts_with("import ") || text.starts_with("from ") {
                let hint = "nothing needs to be imported; import \"tools\" as tools reads tools.rhai beside the script";
                return e.hint(hint);
            }
            let after: String = at.text.chars().skip(at.column.saturating_sub(1) + name.chars().count()).collect();
            let after = after.trim_start();
            if after.starts_with('=') && !after.starts_with("==") && !self.variables.iter().any(|v| v == name) {
                let e = match nearest(name, self.variables.iter().map(String::as_str)) {
                    Some(near) => return e.hint(format!("did you mean '{near}'? let {name} = … makes a new variable")),
                    None => e,
                };
                return e.hint(format!("let {name} = … makes a variable"));
            }
        }
        if let Some(hint) = python::word(name) {
            return e.hint(hint);
        }
        if let Some(b) = find(name) {
            return e.hint(format!("'{name}' is a function; call it: {}", b.signature.usage()));
        }
        if self.variables.iter().any(|v| v == name) {
            return e.hint("functions see their arguments and their own variables alone: give it as an argument");
        }
        match nearest(name, self.variables.iter().map(String::as_str)) {
            Some(near) => e.hint(format!("did you mean '{near}'?")),
            None => e,
        }
    }

    /// `call` is `name (type, type)`.
    fn no_function(&self, call: &str) -> Error {
        let (name, types) = call.split_once(" (").unwrap_or((call, ""));
        let types: Vec<&str> = types.strip_suffix(')').unwrap_or(types).split(", ").filter(|t| !t.is_empty()).map(kind_of_type).collect();
        let script = |m: String| Error::new(ErrorKind::Script, m);
        let given =
            || if types.is_empty() { "nothing".to_string() } else { types.iter().map(|t| with_article(t)).collect::<Vec<_>>().join(", ") };
        if name.starts_with("anon$") {
            let e = Error::argument(format!("the closure takes another number of arguments: it was given {}", types.len()));
            return e.hint("its arguments stand between the bars: |a, b| a + b");
        }
        if let Some(property) = name.strip_prefix("get$") {
            return script(format!("{} has no field '{property}'", with_article(types.first().unwrap_or(&"value"))));
        }
        if let Some(property) = name.strip_prefix("set$") {
            return script(format!("the field '{property}' of {} cannot be set", with_article(types.first().unwrap_or(&"value"))))
                .hint("models, reports and tensors are values; operations return new ones");
        }
        if !name.starts_with(|c: char| c.is_alphabetic() || c == '_') {
            return match types.as_slice() {
                [a, b] => script(format!("'{name}' does not work between {} and {}", with_article(a), with_article(b))),
                _ => script(format!("'{name}' does not work on {}", given())),
            };
        }
        if let Some(b) = find(name) {
            let sig = &b.signature;
            let most = sig.args.len() + usize::from(!sig.fields.is_empty());
            let missing = sig.args.get(types.len()).filter(|a| !a.optional);
            let e = match missing {
                Some(arg) => {
                    let wanted = with_article(&arg.kind.to_string());
                    format!("{name} needs {wanted} as argument {} ('{}')", types.len() + 1, arg.name)
                }
                None if types.len() > most => format!("{name} takes at most {most} arguments, got {}", types.len()),
                None => format!("{name} does not take {}", given()),
            };
            return Error::argument(e).hint(usage(sig));
        }
        if let Some((_, count)) = self.functions.iter().find(|(n, _)| n == name) {
            let s = if *count == 1 { "" } else { "s" };
            return Error::argument(format!("{name} takes {count} argument{s}, got {}", types.len()));
        }
        if self.variables.iter().any(|v| v == name) {
            return script(format!("'{name}' is a variable, not a function"));
        }
        let builtins = (self.builtins)();
        if builtins.iter().any(|s| function_name(s) == name) {
            let e = Error::argument(format!("{name} does not take {}", given()));
            let mut forms: Vec<String> = builtins.iter().filter(|s| function_name(s) == name).filter_map(|s| form(s)).collect();
            // What takes such a first argument says more.
            if let Some(first) = types.first().filter(|t| forms.iter().any(|f| f.starts_with(&format!("{name}({t}")))) {
                forms.retain(|f| f.starts_with(&format!("{name}({first}")));
            }
            forms.sort();
            forms.dedup();
            forms.truncate(4);
            return match python::function(name) {
                Some(hint) if name != "open" => e.hint(hint),
                _ if forms.is_empty() => e,
                _ => e.hint(format!("it is {}", forms.join(" or "))),
            };
        }
        let e = script(format!("unknown function '{name}'"));
        if let Some(hint) = python::function(name) {
            return e.hint(hint);
        }
        let own = bindings().map(|b| b.signature.name).chain(self.functions.iter().map(|f| f.0.as_str()));
        let near = nearest(name, own).or_else(|| {
            nearest(name, builtins.iter().map(|s| function_name(s)).filter(|n| n.len() > 1 && n.starts_with(char::is_alphabetic)))
        });
        if let Some(near) = near {
            return e.hint(format!("did you mean '{near}'?"));
        }
        // A word that someone would search for.
        match bindings().find(|b| b.signature.keywords.contains(&name)) {
            Some(b) => e.hint(format!("did you mean '{}'?", b.signature.name)),
            None => e.hint("help() lists the functions"),
        }
    }
}

/// How a part of something is taken.
const PART: &str = "a part of a list is list.extract(0..2), of a text text.sub_string(0..2), of a tensor x.slice(0, 0, 2)";

/// A signature of the engine in the words of this language, `push(list, any)`; `None` where it names types that scripts do not have.
fn form(signature: &str) -> Option<String> {
    let (name, rest) = signature.split_once('(')?;
    let (params, _) = rest.rsplit_once(") ->").or_else(|| rest.rsplit_once(')'))?;
    if params.contains('<') {
        return None;
    }
    let kinds: Option<Vec<&str>> = params.split(", ").filter(|p| !p.is_empty()).map(parameter).collect();
    Some(format!("{}({})", name.trim(), kinds?.join(", ")))
}

/// The kind of a parameter, `any` where it takes all; `None` for a type that scripts do not have.
fn parameter(param: &str) -> Option<&str> {
    let ty = param.split_once(':').map_or(param, |p| p.1).trim();
    let kind = kind_of_type(ty);
    if ty.ends_with("Dynamic") || kind == "?" { Some("any") } else { Some(kind).filter(|k| KINDS.contains(k)) }
}

/// Kinds of values that the language's own functions take.
const KINDS: [&str; 8] = ["whole number", "number", "text", "true or false", "list", "map", "function", "nothing"];

/// From Rhai's "Unknown property 'b' - a getter is not registered for type 'i64'".
fn no_property(text: &str) -> Error {
    let quoted: Vec<&str> = text.split('\'').skip(1).step_by(2).collect();
    let (Some(name), Some(of)) = (quoted.first(), quoted.get(1)) else { return Error::new(ErrorKind::Script, lower_first(text)) };
    let of = with_article(kind_of_type(of));
    if text.contains("setter") {
        return Error::new(ErrorKind::Script, format!("the field '{name}' of {of} cannot be set"));
    }
    Error::new(ErrorKind::Script, format!("{of} has no field '{name}'"))
}

fn function_name(signature: &str) -> &str {
    signature.split('(').next().unwrap_or_default().trim()
}

/// A text that was run.
struct Text {
    name: String,
    text: String,
    /// What the compiled text has more.
    inserted: Inserted,
}

impl Text {
    /// Of the session.
    fn run((name, text): (String, String)) -> Self {
        let inserted = Inserted::into(&text).1;
        Self { name, text, inserted }
    }
    /// Of a file that the engine has read as it is.
    fn module(name: String, text: String) -> Self {
        Self { name, text, inserted: Inserted::default() }
    }
}

fn spot(of: &Text, position: Position) -> Option<Spot> {
    let position = of.inserted.back(position);
    let (source, text) = (&of.name, &of.text);
    let line = position.line()?;
    let text = text.lines().nth(line - 1).unwrap_or_default().to_string();
    let column = position.position().unwrap_or(0);
    // Rhai points at the dot before a field; the field's name says more.
    let at_dot = column > 0 && text.chars().nth(column - 1) == Some('.');
    Some(Spot { source: source.clone(), line, column: column + usize::from(at_dot), text })
}

fn syntax(kind: &ParseErrorType, at: Option<&Spot>) -> Error {
    let e = Error::new(ErrorKind::Script, format!("syntax error: {}", lower_first(&kind.to_string())));
    if let Some(hint) = at.and_then(|at| python::syntax(&at.text, at.column)) {
        return e.hint(hint);
    }
    match kind {
        ParseErrorType::Reserved(word) if word == "export" => e.hint("use save(m, path), or onnx_export(m, path)"),
        ParseErrorType::BadInput(LexError::MalformedChar(_)) => e.hint("texts stand in double quotes: \"text\""),
        ParseErrorType::Reserved(word) if word == "print" || word == "debug" => e.hint(format!("calls have parentheses: {word}(x)")),
        ParseErrorType::MissingToken(_, what) if what.contains("arguments to function call") => {
            e.hint("arguments stand apart by commas; options stand in a map: train(m, d, #{ epochs: 3 })")
        }
        ParseErrorType::ExprTooDeep => e.hint("split the expression with let"),
        _ => e,
    }
}
