//! How a model or a dataset came to be: the calls that made it, and their script.

use crate::operation::script::{literal, map};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

/// One call that made a value: the operation, and what it was given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Script function, such as `prune`.
    pub operation: String,
    /// The arguments beside the value itself, as script text: `dataset("shapes")`.
    #[serde(default)]
    pub args: Vec<String>,
    /// Options that differ from the defaults.
    #[serde(default)]
    pub options: Map<String, Json>,
}

impl Step {
    /// A call with one argument, a text or a number.
    pub fn new(operation: &str, arg: impl Into<Json>) -> Self {
        Self { operation: operation.into(), args: vec![literal(&arg.into())], options: Map::new() }
    }
    /// `prune(m, dataset("shapes"), #{ ratio: 0.4 })` of the value `m`, or without one.
    fn call(&self, of: Option<&str>) -> String {
        let options = (!self.options.is_empty()).then(|| map(&self.options));
        let all: Vec<String> = of.map(str::to_string).into_iter().chain(self.args.iter().cloned()).chain(options).collect();
        format!("{}({})", self.operation, all.join(", "))
    }
}

/// The script that remakes a model from its steps: the first makes it, the others change it.
pub fn script(steps: &[Step]) -> String {
    let line = |(i, step): (usize, &Step)| match i {
        0 => format!("let m = {};", step.call(None)),
        _ => format!("m = {};", step.call(Some("m"))),
    };
    steps.iter().enumerate().map(line).collect::<Vec<_>>().join("\n")
}

/// The expression that remakes a value from its steps: `dataset("shapes").take(8)`.
pub fn expression<'a>(steps: impl Iterator<Item = &'a Step>) -> String {
    steps.map(|s| s.call(None)).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn step(operation: &str, args: &[&str], options: Json) -> Step {
        Step {
            operation: operation.into(),
            args: args.iter().map(ToString::to_string).collect(),
            options: if let Json::Object(o) = options { o } else { Map::new() },
        }
    }

    #[test]
    fn steps_are_script_text() {
        let steps = [
            step("model", &["\"yolov8n\""], json!({ "classes": 3 })),
            step("prune", &["dataset(\"shapes\").take(8)"], json!({ "ratio": 0.4 })),
        ];
        assert_eq!(
            script(&steps),
            "let m = model(\"yolov8n\", #{ classes: 3 });\nm = prune(m, dataset(\"shapes\").take(8), #{ ratio: 0.4 });"
        );
        assert_eq!(expression(steps.iter()), "model(\"yolov8n\", #{ classes: 3 }).prune(dataset(\"shapes\").take(8), #{ ratio: 0.4 })");
    }
}
