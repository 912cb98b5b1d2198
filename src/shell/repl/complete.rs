//! Completion: functions, options, variables, fields, words of options, paths.

use super::commands::COMMANDS;
use super::lexer::keywords;
use super::place::{Cursor, CursorPlace, cursor};
use crate::model::zoo;
use crate::operation::{Field, OptionKind};
use crate::shell::script::{Session, bindings, find, takes};
use crate::target::TARGETS;

/// A suggestion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suggestion {
    /// What replaces the typed text.
    pub text: String,
    /// A word on it; may be empty.
    pub about: String,
}

/// Suggestions for the text before the cursor, and the byte offset from which they replace it.
pub fn complete(session: &Session, before: &str) -> (usize, Vec<Suggestion>) {
    // `:sa` is the beginning of a command, unless something follows it.
    if before.starts_with(':') && !before.contains(char::is_whitespace) {
        let mut found: Vec<Suggestion> = COMMANDS.map(|(usage, about)| suggestion(usage.split(' ').next().unwrap_or(usage), about)).into();
        found.retain(|s| s.text.starts_with(before) && s.text != before);
        return (0, found);
    }
    let c = cursor(before);
    let mut found = match &c.place {
        CursorPlace::Nothing => Vec::new(),
        CursorPlace::Name if c.typed.is_empty() && before.trim().is_empty() => Vec::new(),
        CursorPlace::Name => names(session),
        CursorPlace::Field { of } => fields(session, *of),
        CursorPlace::OptionKey { call, given } => option_keys(call, given),
        CursorPlace::OptionValue { call, key, quoted } => match words(call, key, *quoted) {
            words if !words.is_empty() => words,
            _ if *quoted => return paths(&c, Vec::new()),
            _ => names(session),
        },
        CursorPlace::Text { call, argument } => return paths(&c, texts(*call, *argument)),
    };
    found.retain(|s| s.text.starts_with(c.typed) && s.text != c.typed);
    (c.start, found)
}

fn suggestion(text: impl Into<String>, about: impl Into<String>) -> Suggestion {
    Suggestion { text: text.into(), about: about.into() }
}

/// Functions, variables and keywords.
fn names(session: &Session) -> Vec<Suggestion> {
    let mut all: Vec<Suggestion> = session.variables().into_iter().map(|(name, kind)| suggestion(name, kind)).collect();
    all.extend(session.functions().into_iter().map(|name| suggestion(format!("{name}("), "function of this session")));
    all.extend(bindings().map(|b| suggestion(format!("{}(", b.signature.name), b.signature.summary)));
    all.extend(["print(", "type_of("].map(|n| suggestion(n, "")));
    all.extend(keywords().map(|k| suggestion(k, "")));
    all
}

/// Fields of a variable, and the functions that take it as their first argument.
fn fields(session: &Session, of: Option<&str>) -> Vec<Suggestion> {
    let mut all: Vec<Suggestion> = of.map(|v| session.fields(v)).unwrap_or_default().into_iter().map(|(n, d)| suggestion(n, d)).collect();
    let kind = of.and_then(|v| session.variables().into_iter().find(|(n, _)| n == v)).map(|(_, k)| k);
    if of.is_some() && kind.is_none() {
        return all;
    }
    let fits = |s: &crate::operation::Signature| match (s.args.first(), kind) {
        (None, _) => false,
        (Some(first), Some(kind)) => takes(first.kind, kind),
        (Some(first), None) => ["model", "report", "dataset"].iter().any(|kind| takes(first.kind, kind)),
    };
    all.extend(bindings().filter(|b| fits(&b.signature)).map(|b| suggestion(format!("{}(", b.signature.name), b.signature.summary)));
    all
}

fn option_keys(call: &str, given: &[&str]) -> Vec<Suggestion> {
    let Some(b) = find(call) else { return Vec::new() };
    let free = b.signature.fields.iter().filter(|f| !given.contains(&f.name));
    free.map(|f| suggestion(format!("{}: ", f.name), option_about(f))).collect()
}

/// `number, 0.5: Share to remove …`
pub fn option_about(f: &Field) -> String {
    let default = f.default();
    let default = if default.is_null() { String::new() } else { format!(", {default}") };
    format!("{}{default}: {}", f.kind, f.doc.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// The words of a choice, or `true` and `false`.
fn words(call: &str, key: &str, quoted: bool) -> Vec<Suggestion> {
    let Some(field) = find(call).and_then(|b| b.signature.fields.iter().find(|f| f.name == key)) else { return Vec::new() };
    let mut kind = field.kind;
    while let OptionKind::Optional(inner) | OptionKind::List(inner) = kind {
        kind = *inner;
    }
    match kind {
        OptionKind::Choice(words) | OptionKind::ChoiceOrMap(words) if quoted => {
            words.iter().map(|w| suggestion(format!("{w}\""), "")).collect()
        }
        OptionKind::Choice(words) | OptionKind::ChoiceOrMap(words) => words.iter().map(|w| suggestion(format!("\"{w}\""), "")).collect(),
        OptionKind::Bool if !quoted => ["true", "false"].map(|w| suggestion(w, "")).into(),
        _ => Vec::new(),
    }
}

/// Words that a text argument of a function may be.
fn texts(call: Option<&str>, argument: usize) -> Vec<Suggestion> {
    match (call, argument) {
        (Some("model"), 0) => zoo::names().map(|(n, about)| suggestion(format!("{n}\""), about)).collect(),
        (Some("dataset"), 0) => vec![suggestion("shapes\"", "drawn shapes"), suggestion("random\"", "seeded noise")],
        (Some("split"), 1) => ["train", "val", "test"].map(|s| suggestion(format!("{s}\""), "")).into(),
        (Some("device"), 0) => ["auto", "cpu", "cuda"].map(|s| suggestion(format!("{s}\""), "")).into(),
        (Some("lint"), 1) => TARGETS.iter().map(|t| suggestion(format!("{}\"", t.name), t.summary)).collect(),
        (Some("help"), 0) => bindings().map(|b| suggestion(format!("{}\"", b.signature.name), b.signature.summary)).collect(),
        _ => Vec::new(),
    }
}

/// `words` and the files and folders that begin with what was typed.
fn paths(c: &Cursor<'_>, words: Vec<Suggestion>) -> (usize, Vec<Suggestion>) {
    let mut found: Vec<Suggestion> = words.into_iter().filter(|s| s.text.starts_with(c.typed)).collect();
    let split = c.typed.rfind('/').map_or(0, |i| i + 1);
    let (folder, start) = c.typed.split_at(split);
    let home = std::env::var("HOME").unwrap_or_default();
    let real = if let Some(rest) = folder.strip_prefix("~/") { format!("{home}/{rest}") } else { folder.to_string() };
    let entries = std::fs::read_dir(if real.is_empty() { "." } else { &real });
    let mut files: Vec<Suggestion> = entries
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|e| {
            let name = e.file_name().into_string().ok()?;
            let shown = name.starts_with(start) && (start.starts_with('.') || !name.starts_with('.'));
            let slash = if e.path().is_dir() { "/" } else { "" };
            shown.then(|| suggestion(format!("{}{name}{slash}", if folder.starts_with("~/") { &real } else { folder }), ""))
        })
        .collect();
    files.sort_by(|a, b| a.text.cmp(&b.text));
    found.extend(files);
    (c.start, found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Context;
    use crate::report::Style;
    use crate::shell::Buffer;
    use std::sync::Arc;

    fn session() -> Session {
        let mut s = Session::new(Context::new(), Arc::new(Buffer::new(Style::plain())));
        s.run("let m = model(\"classifier\", #{ classes: 2, image_size: 32 }); let mine = 3; fn my_fn(x) { x }", "t").unwrap();
        s
    }
    fn texts_of(before: &str) -> Vec<String> {
        complete(&session(), before).1.into_iter().map(|s| s.text).collect()
    }

    #[test]
    fn functions_variables_and_keywords() {
        assert_eq!(texts_of("pru"), ["prune(", "prune_groups("]);
        assert_eq!(texts_of("let x = mi"), ["mine", "min("]);
        assert_eq!(texts_of("my_"), ["my_fn("]);
        assert_eq!(texts_of("whi"), ["while"]);
        assert_eq!(texts_of(""), Vec::<String>::new());
        assert_eq!((texts_of(":sa"), texts_of(":u")), (vec![":save".to_string()], vec![":undo".to_string()]));
        assert!(!texts_of(":save ").contains(&":save".to_string()));
    }

    #[test]
    fn options_with_their_docs_and_without_those_given() {
        let (start, found) = complete(&session(), "prune(m, #{ ratio: 0.3, sc");
        assert_eq!(start, 24);
        assert_eq!(found.iter().map(|s| s.text.as_str()).collect::<Vec<_>>(), ["scope: ", "schedule: ", "score: "]);
        assert!(found[0].about.contains("\"global\" or \"layer\", \"global\": "), "{}", found[0].about);
        assert!(!texts_of("m.prune(#{ ratio: 0.3, ").contains(&"ratio: ".to_string()));
        assert!(texts_of("m.prune(#{ ").len() > 4);
    }

    #[test]
    fn words_of_choices() {
        assert_eq!(texts_of("prune(m, #{ scope: \"l"), ["layer\""]);
        assert_eq!(texts_of("prune(m, #{ scope: "), ["\"global\"", "\"layer\""]);
        assert_eq!(texts_of("benchmark(m, #{ runtimes: [\"na"), ["native\""]);
        assert_eq!(
            texts_of("benchmark(m, #{ runtimes: [\"native\", "),
            ["\"native\"", "\"cuda\"", "\"onnxruntime\"", "\"openvino\"", "\"tflite\"", "\"ncnn\""]
        );
        assert_eq!(texts_of("model(\"yolov8")[..5], ["yolov8n\"", "yolov8s\"", "yolov8m\"", "yolov8l\"", "yolov8x\""]);
        assert_eq!(texts_of("model(\"yolo11s"), ["yolo11s\"", "yolo11s-cls\"", "yolo11s-seg\"", "yolo11s-pose\"", "yolo11s-obb\""]);
        assert_eq!(texts_of("lint(m, \"tens"), ["tensorrt\""]);
        assert_eq!(texts_of("quantize(m, #{ target: \"onn"), ["onnx\"", "onnxruntime\""]);
        assert_eq!(texts_of("help(\"prune"), ["prune\"", "prune_groups\""]);
    }

    #[test]
    fn fields_and_methods_of_a_variable() {
        assert_eq!(texts_of("m.para"), ["params"]);
        assert_eq!(texts_of("m.pru"), ["prune(", "prune_groups("]);
        assert!(!texts_of("mine.").contains(&"prune(".to_string()));
        assert!(texts_of("m.prune().qu").contains(&"quantize(".to_string()));
    }

    #[test]
    fn paths_inside_texts() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("models")).unwrap();
        std::fs::write(dir.path().join("models/best.onnx"), "").unwrap();
        let base = dir.path().display();
        assert_eq!(texts_of(&format!("model(\"{base}/mo")), [format!("{base}/models/")]);
        assert_eq!(texts_of(&format!("load(\"{base}/models/b")), [format!("{base}/models/best.onnx")]);
        assert_eq!(texts_of(&format!("load(\"{base}/none")), Vec::<String>::new());
    }
}
