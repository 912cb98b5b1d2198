//! `forward`: running a model once, on the device that there is.

use super::{Engine, Outputs, Run, run};
use compresso_base::context::Context;
use compresso_base::error::{Error, Result};
use compresso_base::operation::{Arg, ArgKind, Operation, Options, Signature};
use compresso_model::names::fits;
use compresso_model::{Graph, Model, Value};
use indexmap::IndexSet;
use std::collections::HashMap;

compresso_base::options! {
    /// Runs a model once.
    pub struct Forward {
        /// Inner values to give beside the others: layers and blocks by the names that `summary` prints (of a block, what its last layer
        /// gives), values, and patterns of these (of all layers that one fits).
        pub keep: Vec<String> = Vec::new(),
    }
}

/// Tensors for a model's inputs.
#[derive(Debug, Clone)]
pub enum Feeds {
    /// For the only input.
    Only(Value),
    /// By the names of the inputs.
    Named(HashMap<String, Value>),
}

impl Feeds {
    /// By the names of the inputs of a model.
    ///
    /// # Errors
    /// `Argument` for one tensor and a model of several inputs.
    pub fn named(&self, model: &Model) -> Result<HashMap<String, Value>> {
        let x = match self {
            Self::Only(x) => x,
            Self::Named(all) => return Ok(all.clone()),
        };
        let names: Vec<&str> = model.graph().feeds().map(|f| f.name.as_str()).collect();
        let [name] = names.as_slice() else {
            let entries = names.iter().map(|n| format!("{n}: tensor")).collect::<Vec<_>>().join(", ");
            return Err(Error::argument(format!("the model has {} inputs", names.len())).hint(format!("give a map: #{{ {entries} }}")));
        };
        Ok(HashMap::from([((*name).to_string(), x.clone())]))
    }
}

/// Runs a model and gives its outputs by name, or the values asked for. The engine runs it on the CPU.
///
/// # Errors
/// `Argument` for one tensor and a model of several inputs; `Missing` and `Shape` for inputs that do not fit; whatever running reports.
impl Operation for Forward {
    const SIGNATURE: Signature = Signature {
        name: "forward",
        summary: "Runs a model and gives its outputs by name, and any inner values asked for",
        group: "models",
        args: &[Arg::new("m", ArgKind::Model), Arg::new("x", ArgKind::Feeds), Arg::optional("wanted", ArgKind::Texts)],
        returns: "map of tensors",
        fields: Self::FIELDS,
        examples: &[
            "forward(model(\"classifier\", #{ classes: 3, image_size: 32 }), random([1, 3, 32, 32]))",
            "forward(model(\"classifier\", #{ classes: 3, image_size: 32 }), random([1, 3, 32, 32]), #{ keep: [\"model.2\"] })[\"model.2\"].shape",
        ],
        keywords: &["run", "infer", "inference", "outputs", "activations"],
    };
    type Inputs<'a> = (&'a Model, &'a Feeds, Option<&'a Vec<String>>);
    type Output = Outputs;

    fn run(&self, (model, feeds, wanted): Self::Inputs<'_>, ctx: &Context) -> Result<Outputs> {
        let graph = model.graph();
        let mut wanted: Vec<&str> = wanted.into_iter().flatten().map(String::as_str).collect();
        let kept = kept(graph, &self.keep)?;
        if !kept.is_empty() {
            if wanted.is_empty() {
                wanted = graph.outputs().iter().map(|o| o.name.as_str()).collect();
            }
            let given: Vec<(String, &str)> = wanted.iter().map(|v| ((*v).to_string(), *v)).chain(kept).collect();
            let values: IndexSet<&str> = given.iter().map(|g| g.1).collect();
            let all = Self::default().run((model, feeds, Some(&values.into_iter().map(String::from).collect())), ctx)?;
            return Ok(given.into_iter().filter_map(|(name, value)| Some((name, all.get(value)?.clone()))).collect());
        }
        let on_device = |(name, v): (String, Value)| Ok((name, v.with(v.tensor.to_device(&ctx.device)?)?));
        let feeds: HashMap<String, Value> = feeds.named(model)?.into_iter().map(on_device).collect::<Result<_>>()?;
        if ctx.device.is_cpu() {
            return Engine::new(graph, &wanted, ctx.threads)?.run(&feeds, Some(&ctx.cancel));
        }
        run(graph, &feeds, Run { wanted: &wanted, cancel: Some(&ctx.cancel), device: Some(ctx.device.clone()), ..Run::default() })
    }
}

/// The values that patterns name, each with the name that the caller knows it by.
///
/// # Errors
/// `Missing` for a pattern that fits nothing, with the nearest name.
fn kept<'g>(graph: &'g Graph, patterns: &[String]) -> Result<Vec<(String, &'g str)>> {
    let mut all = Vec::new();
    for pattern in patterns {
        if let Some(value) = graph.nodes().iter().flat_map(|n| &n.outputs).find(|value| *value == pattern) {
            all.push((pattern.clone(), value.as_str()));
            continue;
        }
        let fitting =
            graph.nodes().iter().filter(|n| fits(pattern, &n.name)).filter_map(|n| Some((n.name.clone(), n.outputs.first()?.as_str())));
        if pattern.contains(['*', '?']) {
            let before = all.len();
            all.extend(fitting);
            if all.len() > before {
                continue;
            }
        } else if let Some((_, value)) = fitting.last() {
            all.push((pattern.clone(), value));
            continue;
        }
        // It names the nearest one.
        graph.find(pattern).map_err(|e| e.at("option 'keep'"))?;
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use compresso_base::operation::Operation;
    use compresso_model::zoo::{ZooOptions, build};

    #[test]
    fn blocks_layers_and_patterns_are_kept_beside_the_outputs() {
        let options = ZooOptions { image_size: Some([32, 32]), ..ZooOptions::default() };
        let model = build("classifier", &options).unwrap();
        let x = Feeds::Only(compresso_model::uniform(&[1, 3, 32, 32], 1).unwrap());
        let given = |keep: &[&str]| {
            let forward = Forward { keep: keep.iter().map(ToString::to_string).collect() };
            forward.run((&model, &x, None), &Context::new())
        };
        let outputs = given(&[]).unwrap();
        let all = given(&["model.2", "model.0.conv.Conv", "model.?.conv.Conv"]).unwrap();
        let names: Vec<&str> = all.keys().map(String::as_str).collect();
        assert_eq!(names[..3], [outputs.keys().next().unwrap().as_str(), "model.2", "model.0.conv.Conv"]);
        assert!(names.len() > 3 && names[3..].iter().all(|n| n.ends_with(".conv.Conv")), "{names:?}");
        // The block's output is what the next block reads.
        let last = model.graph().nodes().iter().rfind(|n| n.name.starts_with("model.2.")).unwrap();
        let by_value = given(&[&last.outputs[0]]).unwrap();
        let [a, b] = [&all["model.2"], &by_value[&last.outputs[0]]].map(|v| v.to_f64s().unwrap());
        // What else is kept changes which steps are one, and so the last digits.
        assert!(a.len() == b.len() && a.iter().zip(&b).all(|(x, y)| (x - y).abs() < 1e-6), "{:?} and {:?}", &a[..4], &b[..4]);
        assert!(given(&["model.2x"]).unwrap_err().to_string().contains("option 'keep'"));
    }
}
