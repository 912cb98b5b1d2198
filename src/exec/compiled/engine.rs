//! A graph ready to run on inputs of any shape.

use super::{Compiled, StepTime, Watch, eagerly};
use crate::Outputs;
use compresso_base::context::Cancel;
use compresso_base::error::Result;
use compresso_model::graph::{Graph, Patch};
use compresso_model::{Fact, Value, ValueInfo, passes};
use std::collections::{HashMap, HashSet};

/// Plans that are kept; the oldest makes room for a new one.
const PLANS: usize = 4;

/// Runs a graph with one [`Compiled`] plan for each shape of its inputs. What cannot be planned runs by the eager executor.
#[derive(Debug)]
pub struct Engine {
    graph: Graph,
    wanted: Vec<String>,
    /// The graph that is planned.
    simple: Graph,
    keep: HashSet<String>,
    threads: usize,
    plans: Vec<(HashMap<String, Vec<usize>>, Compiled)>,
    refused: Option<String>,
}

impl Engine {
    /// Gives `wanted` (the graph's outputs when empty) on `threads` threads.
    ///
    /// # Errors
    /// `Missing` for wanted values that do not exist.
    pub fn new(graph: &Graph, wanted: &[&str], threads: usize) -> Result<Self> {
        Self::watching(graph, wanted, HashSet::new(), threads)
    }

    /// As [`Engine::new`]; the values in `keep` can be watched.
    ///
    /// # Errors
    /// As [`Engine::new`].
    pub fn watching(graph: &Graph, wanted: &[&str], keep: HashSet<String>, threads: usize) -> Result<Self> {
        let kept: Vec<String> = keep.iter().cloned().collect();
        let simple = with_outputs(graph, wanted)?.and_then(|g| passes::pipelines::NATIVE.run_keeping(&g, &kept).map(|o| o.graph));
        let (simple, refused) = match simple {
            Ok(s) => (s, None),
            Err(e) => (Graph::default(), Some(e.to_string())),
        };
        let wanted = wanted.iter().map(ToString::to_string).collect();
        Ok(Self { graph: graph.clone(), wanted, simple, keep, threads, plans: Vec::new(), refused })
    }

    /// Runs on `feeds`, tensors by input name.
    ///
    /// # Errors
    /// As [`eager::run`](crate::run).
    pub fn run(&mut self, feeds: &HashMap<String, Value>, cancel: Option<&Cancel>) -> Result<Outputs> {
        match self.plan(feeds)? {
            Some(plan) => plan.run(feeds, cancel),
            None => {
                let wanted: Vec<&str> = self.wanted.iter().map(String::as_str).collect();
                eagerly(&self.graph, feeds, &wanted, cancel)
            }
        }
    }

    /// As [`Engine::run`], showing the kept values. `false` when the graph cannot be planned and nothing was run.
    ///
    /// # Errors
    /// As [`Engine::run`], and whatever `watch` reports.
    pub fn run_watched(&mut self, feeds: &HashMap<String, Value>, cancel: Option<&Cancel>, watch: Watch<'_>) -> Result<bool> {
        match self.plan(feeds)? {
            Some(plan) => plan.run_watched(feeds, cancel, watch).map(|_| true),
            None => Ok(false),
        }
    }

    /// The time of each step on `feeds`; `None` when the graph cannot be planned.
    ///
    /// # Errors
    /// As [`Engine::run`].
    pub fn profile(&mut self, feeds: &HashMap<String, Value>, runs: usize, cancel: Option<&Cancel>) -> Result<Option<Vec<StepTime>>> {
        self.plan(feeds)?.map(|plan| plan.profile(feeds, runs, cancel)).transpose()
    }

    /// The plan for inputs of these shapes; `None` when there cannot be one.
    fn plan(&mut self, feeds: &HashMap<String, Value>) -> Result<Option<&mut Compiled>> {
        crate::eager::check_feeds(&self.graph, feeds)?;
        // A value given in place of a constant changes what the plan has worked out.
        let replaced = feeds.keys().any(|n| self.graph.constant(n).is_some());
        if self.refused.is_some() || replaced || feeds.values().any(|v| !v.tensor.device().is_cpu()) {
            return Ok(None);
        }
        let fits = |shapes: &HashMap<String, Vec<usize>>| feeds.iter().all(|(n, v)| shapes.get(n).is_some_and(|s| s == v.dims()));
        if let Some(i) = self.plans.iter().position(|(shapes, _)| fits(shapes)) {
            return Ok(Some(&mut self.plans[i].1));
        }
        let shapes: HashMap<String, Vec<usize>> = feeds.iter().map(|(n, v)| (n.clone(), v.dims().to_vec())).collect();
        match Compiled::new(&self.simple, &shapes, &self.keep, self.threads) {
            Ok(plan) => {
                if self.plans.len() == PLANS {
                    self.plans.remove(0);
                }
                self.plans.push((shapes, plan));
                Ok(self.plans.last_mut().map(|p| &mut p.1))
            }
            Err(e) => {
                self.refused = Some(e.to_string());
                Ok(None)
            }
        }
    }

    /// Why the eager executor runs, if it does.
    pub fn refused(&self) -> Option<&str> {
        self.refused.as_deref()
    }
    /// The plan that was made last.
    pub fn latest(&self) -> Option<&Compiled> {
        self.plans.last().map(|p| &p.1)
    }
}

/// The graph with other values of it as outputs; the inner error is for graphs whose types cannot be inferred.
///
/// # Errors
/// `Missing` for values that do not exist.
fn with_outputs(graph: &Graph, wanted: &[&str]) -> Result<Result<Graph>> {
    if wanted.is_empty() || graph.outputs().iter().map(|o| o.name.as_str()).eq(wanted.iter().copied()) {
        return Ok(Ok(graph.clone()));
    }
    let facts = match graph.facts() {
        Ok(facts) => facts,
        Err(e) => return Ok(Err(e)),
    };
    let mut outputs: Vec<ValueInfo> = Vec::new();
    for &name in wanted {
        let fact = facts.get(name).ok_or_else(|| crate::eager::missing(graph, name))?;
        if outputs.iter().all(|o| o.name != name) {
            outputs.push(ValueInfo::new(name, Fact { constant: None, contents: None, ..fact.clone() }));
        }
    }
    let mut patch = Patch::new(graph);
    patch.set_outputs(outputs);
    Ok(patch.apply())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Run, run};
    use candle_core::{Device, Tensor};
    use compresso_model::{Element, zoo};
    use zoo::ZooOptions;

    fn net() -> Graph {
        let options = ZooOptions {
            classes: Some(vec!["a".into(), "b".into()]),
            image_size: Some([64, 64]),
            width: Some(0.125),
            ..ZooOptions::default()
        };
        zoo::build("yolov8n", &options).unwrap().graph().clone()
    }

    fn feeds(graph: &Graph, n: usize, size: usize) -> HashMap<String, Value> {
        let input = graph.feeds().next().unwrap();
        let values: Vec<f32> = (0..n * 3 * size * size).map(|i| (i * 7919 % 1009) as f32 / 1009.0).collect();
        let x = Tensor::from_vec(values, (n, 3, size, size), &Device::Cpu).unwrap();
        HashMap::from([(input.name.clone(), Value::plain(x).unwrap())])
    }

    fn assert_equal(expected: &Outputs, got: &Outputs) {
        assert_eq!(expected.keys().collect::<Vec<_>>(), got.keys().collect::<Vec<_>>());
        for (name, e) in expected {
            let g = &got[name];
            assert_eq!((e.element, e.dims()), (g.element, g.dims()), "{name}");
            let (e, g) = (e.to_f32s().unwrap(), g.to_f32s().unwrap());
            let most = e.iter().fold(0f32, |m, v| m.max(v.abs()));
            for (a, b) in e.iter().zip(&g) {
                assert!((a - b).abs() <= 1e-4 * most, "{name}: {a} became {b}");
            }
        }
    }

    #[test]
    fn inner_values_inputs_and_constants_are_as_the_eager_executor_gives_them() {
        let graph = net();
        let feeds = feeds(&graph, 1, 64);
        let inner = graph.nodes().iter().step_by(5).map(|n| n.outputs[0].as_str());
        let constant = graph.constants().iter().find(|(_, c)| c.element() == Element::F32).unwrap().0;
        let input = graph.feeds().next().unwrap().name.as_str();
        let output = graph.outputs()[0].name.as_str();
        let wanted: Vec<&str> = inner.chain([constant.as_str(), input, output, output]).collect();
        let mut engine = Engine::new(&graph, &wanted, 2).unwrap();
        let got = engine.run(&feeds, None).unwrap();
        assert_eq!(engine.refused(), None);
        assert_equal(&run(&graph, &feeds, Run { wanted: &wanted, ..Run::default() }).unwrap(), &got);
        assert_eq!(Engine::new(&graph, &["no such value"], 1).unwrap_err().kind(), compresso_base::ErrorKind::Missing);
    }

    #[test]
    fn each_shape_has_a_plan_and_every_kept_value_is_shown() {
        let graph = passes::simplify(&net()).unwrap().0;
        let input = graph.feeds().next().unwrap().name.clone();
        let made = graph.nodes().iter().flat_map(|n| n.outputs.iter().cloned());
        let facts = compresso_model::graph::infer(&graph).unwrap();
        let keep: HashSet<String> = made.filter(|n| facts[n].element == Element::F32).chain([input]).collect();
        let mut engine = Engine::watching(&graph, &[], keep.clone(), 2).unwrap();
        for n in [2, 1, 2] {
            let feeds = feeds(&graph, n, 64);
            let mut expected: HashMap<String, Value> = HashMap::new();
            let mut observe = |name: &str, value: &Value| {
                expected.insert(name.to_string(), value.clone());
                Ok(())
            };
            let names: Vec<&str> = keep.iter().map(String::as_str).collect();
            run(&graph, &feeds, Run { wanted: &names, observer: Some(&mut observe), ..Run::default() }).unwrap();
            let mut shown = HashSet::new();
            let planned = engine.run_watched(&feeds, None, &mut |seen| {
                let e = &expected[seen.name];
                assert_eq!(e.dims(), seen.dims, "{}", seen.name);
                let e = e.to_f32s()?;
                let most = e.iter().fold(0f32, |m, v| m.max(v.abs()));
                for (i, v) in e.iter().enumerate() {
                    let mut left = i;
                    let at: usize = seen
                        .dims
                        .iter()
                        .zip(seen.strides)
                        .rev()
                        .map(|(&d, &s)| {
                            let k = left % d;
                            left /= d;
                            k * s
                        })
                        .sum();
                    assert!((v - seen.values[at]).abs() <= 1e-4 * most, "{} at {i}: {v} became {}", seen.name, seen.values[at]);
                }
                assert!(shown.insert(seen.name.to_string()), "{} is shown twice", seen.name);
                Ok(())
            });
            assert!(planned.unwrap(), "{:?}", engine.refused());
            assert_eq!(shown, keep);
        }
        assert_eq!(engine.plans.len(), 2);
    }
}
