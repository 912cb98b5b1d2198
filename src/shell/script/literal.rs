//! Values as script text, and the script that remakes a model.

use crate::model::Step;
use serde_json::Value as Json;

/// JSON as a literal of the language.
pub(super) fn literal(json: &Json) -> String {
    match json {
        Json::Null => "()".into(),
        Json::Array(a) => format!("[{}]", a.iter().map(literal).collect::<Vec<_>>().join(", ")),
        Json::Object(o) => map(o),
        other => other.to_string(),
    }
}

/// `#{ ratio: 0.4, scope: "layer" }`
pub(super) fn map(entries: &serde_json::Map<String, Json>) -> String {
    if entries.is_empty() {
        return "#{}".into();
    }
    format!("#{{ {} }}", entries.iter().map(|(k, v)| format!("{}: {}", key(k), literal(v))).collect::<Vec<_>>().join(", "))
}

/// A map key, quoted when it is no identifier.
pub(super) fn key(name: &str) -> String {
    let plain =
        name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if plain { name.into() } else { format!("{name:?}") }
}

/// The script that remakes a model from its steps; the first step makes it, the others change it.
pub(super) fn script_of(steps: &[Step]) -> String {
    let line = |(i, step): (usize, &crate::model::Step)| {
        let mut args: Vec<String> = if i == 0 { vec![] } else { vec!["m".into()] };
        // A teacher is a model; other sources are datasets.
        let kinds = step.args.iter().enumerate().map(|(k, a)| match (i, k, step.operation.as_str()) {
            (0, 0, "model") => expression(a, None),
            (_, 0, "distill") => expression(a, Some("model")),
            _ => expression(a, Some("dataset")),
        });
        args.extend(kinds);
        if !step.options.is_empty() {
            args.push(map(&step.options));
        }
        format!("{}m = {}({});", if i == 0 { "let " } else { "" }, step.operation, args.join(", "))
    };
    steps.iter().enumerate().map(line).collect::<Vec<_>>().join("\n")
}

/// An argument as a step keeps it: script text already, or the name of a source.
fn expression(arg: &str, opener: Option<&str>) -> String {
    if arg.starts_with('"') || arg.ends_with(')') {
        return arg.to_string();
    }
    match opener {
        Some(f) => format!("{f}({arg:?})"),
        None => format!("{arg:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn literals_are_script_text() {
        let step = |operation: &str, args: &[&str], options| Step {
            operation: operation.into(),
            args: args.iter().map(ToString::to_string).collect(),
            options: if let Json::Object(o) = options { o } else { serde_json::Map::new() },
        };
        let steps = [step("model", &["yolov8n"], json!({ "classes": 3 })), step("prune", &["shapes"], json!({ "ratio": 0.4 }))];
        assert_eq!(script_of(&steps), "let m = model(\"yolov8n\", #{ classes: 3 });\nm = prune(m, dataset(\"shapes\"), #{ ratio: 0.4 });");
        assert_eq!(literal(&json!({ "a": [1, 2.5, null], "b-c": "x\"y" })), r#"#{ a: [1, 2.5, ()], "b-c": "x\"y" }"#);
    }
}
