//! What a model's file says of it beside the graph: the metadata under [`KEY`].

use super::{Graph, ModelOptions, Task, zoo};
use compresso_base::error::{At, Error, Result};
use compresso_base::operation::{Argument, Call, Operation, Recipe};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Key of the metadata that says what a model is for and how it came to be.
pub(super) const KEY: &str = "compresso";

/// The metadata under [`KEY`].
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Card {
    pub task: Task,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recipe: Option<Recipe>,
}

/// The card as it is in files.
#[derive(Deserialize)]
struct Written {
    task: Task,
    #[serde(default)]
    recipe: Option<Recipe>,
    #[serde(default)]
    steps: Vec<StoredStep>,
}

/// A call as version 0.1 kept it.
#[derive(Deserialize)]
struct StoredStep {
    operation: String,
    /// The arguments beside the value itself, as script text.
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    options: Map<String, Value>,
    #[serde(default)]
    file: Option<String>,
}

impl Card {
    /// The card of a graph's metadata, if it has one.
    ///
    /// # Errors
    /// `Format` when it cannot be read.
    pub fn of(graph: &Graph) -> Result<Option<Self>> {
        let Some(text) = graph.metadata().get(KEY) else { return Ok(None) };
        let written: Written = serde_json::from_str(text).map_err(|e| {
            let e = Error::format(format!("the metadata '{KEY}' cannot be read")).because(e);
            e.hint("it was written by another version, or by hand; give `decode` and `classes` to load the model without it")
        })?;
        let recipe = match written.recipe {
            Some(recipe) => Some(recipe),
            None => of_steps(written.steps, graph.name()).at(|| format!("the metadata '{KEY}'"))?,
        };
        Ok(Some(Self { task: written.task, recipe }))
    }
}

/// Each step was given the result of the one before, and script texts; of the first, only the name may be known.
fn of_steps(steps: Vec<StoredStep>, name: &str) -> Result<Option<Recipe>> {
    let Some(first) = steps.first() else { return Ok(None) };
    let opened = first.operation == ModelOptions::SIGNATURE.name;
    let mut calls =
        if opened { Vec::new() } else { vec![Call::new(ModelOptions::SIGNATURE.name, [Argument::Named(name.into())], Map::new())] };
    for step in steps {
        let given = calls.len().checked_sub(1).map(Argument::Call);
        let opens = calls.is_empty();
        let literal = |text: String| match serde_json::from_str(&text) {
            // Which content the file had is not known.
            Ok(Value::String(path)) if opens && !zoo::is_name(&path) => Argument::File { path, sha256: None },
            Ok(value @ (Value::String(_) | Value::Number(_))) => Argument::Value(value),
            _ => Argument::Script(text),
        };
        let call = Call::new(&step.operation, given.into_iter().chain(step.args.into_iter().map(literal)), step.options);
        calls.push(match step.file {
            Some(file) => call.writing(file),
            None => call,
        });
    }
    Recipe::checked(calls).map(Some)
}

/// A model of which only the name is known.
pub(super) fn named(name: &str) -> Recipe {
    Recipe::of(Call::new(ModelOptions::SIGNATURE.name, [Argument::Named(name.into())], Map::new()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_an_old_step_opened_is_known_by_its_path_alone() {
        let opened = |source: &str| {
            let step = StoredStep { operation: "model".into(), args: vec![format!("{source:?}")], options: Map::new(), file: None };
            of_steps(vec![step], "net").unwrap().unwrap()
        };
        assert_eq!(opened("yolov8n").calls()[0].args, [Argument::Value("yolov8n".into())]);
        assert!(opened("yolov8n").hash().is_some());
        let file = opened("best.onnx");
        assert_eq!(file.calls()[0].args, [Argument::File { path: "best.onnx".into(), sha256: None }]);
        assert_eq!(file.hash(), None, "another file may have the name");
    }
}
