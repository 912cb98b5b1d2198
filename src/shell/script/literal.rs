//! Values as text of the script language.

use serde_json::{Map, Value as Json};

/// JSON as a literal.
pub fn literal(json: &Json) -> String {
    match json {
        Json::Null => "()".into(),
        Json::Array(a) => format!("[{}]", a.iter().map(literal).collect::<Vec<_>>().join(", ")),
        Json::Object(o) => map(o),
        other => other.to_string(),
    }
}

/// `#{ ratio: 0.4, scope: "layer" }`
pub fn map(entries: &Map<String, Json>) -> String {
    if entries.is_empty() {
        return "#{}".into();
    }
    format!("#{{ {} }}", entries.iter().map(|(k, v)| format!("{}: {}", key(k), literal(v))).collect::<Vec<_>>().join(", "))
}

/// A map key, quoted when it is no identifier.
pub fn key(name: &str) -> String {
    let plain =
        name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if plain { name.into() } else { format!("{name:?}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn literals_are_script_text() {
        assert_eq!(literal(&json!({ "a": [1, 2.5, null], "b-c": "x\"y" })), r#"#{ a: [1, 2.5, ()], "b-c": "x\"y" }"#);
    }
}
