//! What `metadata.yaml` says of a model, in the words of Ultralytics' readers.

use compresso_model::{Model, Task};

/// The task; `None` where it is not known.
pub(super) fn word(task: &Task) -> Option<&'static str> {
    match task {
        Task::Unknown => None,
        Task::Classify(_) => Some("classify"),
        Task::Detect(_) => Some("detect"),
        Task::Instances(i) => Some(i.kind.word()),
    }
}

/// Input pixels per cell of the coarsest level; 32, as most networks have it, where nothing says it. A classifier has none.
pub(super) fn stride(model: &Model) -> usize {
    let said = || model.graph().metadata().get("stride").and_then(|s| s.trim().parse().ok());
    let strides = match model.task() {
        Task::Classify(_) => return 1,
        Task::Detect(d) => d.head.as_ref().map(|h| &h.strides).or(d.anchors.as_ref().map(|a| &a.strides)),
        _ => None,
    };
    strides.and_then(|s| s.iter().max().copied()).or_else(said).unwrap_or(32)
}

/// Text in double quotes, which YAML reads as JSON has them.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
