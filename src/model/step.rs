//! How a model or a dataset came to be: the calls that made it, and their script.

use super::ModelOptions;
use compresso_base::operation::script::{literal, map};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};
use std::path::Path;
use std::sync::Arc;

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
    /// Where the result lies, of a call that writes it to a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
}

impl Step {
    pub fn new(operation: &str, args: Vec<String>, options: Map<String, Json>) -> Self {
        Self { operation: operation.into(), args, options, file: None }
    }
    /// A call with one argument, a text or a number.
    pub fn with(operation: &str, arg: impl Into<Json>) -> Self {
        Self::new(operation, vec![literal(&arg.into())], Map::new())
    }
    /// The call that opens a model: of a file, or of a name.
    pub(super) fn opening(source: &str) -> Self {
        Self::with(ModelOptions::SIGNATURE.name, source)
    }
    /// A call that writes its result to a file; `path` is its first argument.
    pub fn writing(operation: &str, path: &Path, data: Option<String>, options: Map<String, Json>, file: &Path) -> Self {
        let path = literal(&path.to_string_lossy().into());
        Self { file: Some(file.to_string_lossy().into()), ..Self::new(operation, std::iter::once(path).chain(data).collect(), options) }
    }
    /// `prune(m, dataset("shapes"), #{ ratio: 0.4 })` of the value `m`, or without one.
    fn call(&self, of: Option<&str>) -> String {
        let options = (!self.options.is_empty()).then(|| map(&self.options));
        let all: Vec<String> = of.map(str::to_string).into_iter().chain(self.args.iter().cloned()).chain(options).collect();
        format!("{}({})", self.operation, all.join(", "))
    }
}

/// Steps with one more.
pub fn followed(steps: &[Step], next: Step) -> Arc<[Step]> {
    steps.iter().cloned().chain([next]).collect()
}

/// The script that remakes a model from its steps: the first makes it, the others change it.
pub fn script(steps: &[Step]) -> String {
    let line = |(i, step): (usize, &Step)| match (i, &step.file) {
        (0, _) => format!("let m = {};", step.call(None)),
        (_, None) => format!("m = {};", step.call(Some("m"))),
        (_, Some(file)) => format!("{};\nm = {};", step.call(Some("m")), Step::opening(file).call(None)),
    };
    steps.iter().enumerate().map(line).collect::<Vec<_>>().join("\n")
}

/// The expression that remakes a value from its steps: `dataset("shapes").take(8)`. A file that was written is opened.
pub fn expression(steps: &[Step]) -> String {
    let written = steps.iter().rposition(|s| s.file.is_some());
    let begin = written.and_then(|at| steps[at].file.as_deref()).map(|file| Step::opening(file).call(None));
    let rest = steps[written.map_or(0, |at| at + 1)..].iter().map(|s| s.call(None));
    begin.into_iter().chain(rest).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn step(operation: &str, args: &[&str], options: Json) -> Step {
        let Json::Object(options) = options else { panic!("{options} is no map") };
        Step::new(operation, args.iter().map(ToString::to_string).collect(), options)
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
        assert_eq!(expression(&steps), "model(\"yolov8n\", #{ classes: 3 }).prune(dataset(\"shapes\").take(8), #{ ratio: 0.4 })");
    }

    #[test]
    fn what_is_written_to_a_file_is_opened() {
        let files = (Path::new("out"), Path::new("out/m_fp16.onnx"));
        let written = Step::writing("tensorrt_export", files.0, Some("dataset(\"a\")".into()), Map::new(), files.1);
        let steps = [Step::with("model", "yolov8n"), written, step("prune", &[], json!({ "ratio": 0.4 }))];
        let wanted = "let m = model(\"yolov8n\");\ntensorrt_export(m, \"out\", dataset(\"a\"));\nm = model(\"out/m_fp16.onnx\");\nm = prune(m, #{ ratio: 0.4 });";
        assert_eq!(script(&steps), wanted);
        assert_eq!(expression(&steps), "model(\"out/m_fp16.onnx\").prune(#{ ratio: 0.4 })");
    }
}
