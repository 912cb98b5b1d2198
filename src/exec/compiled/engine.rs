//! A graph ready to run on inputs of any shape.

use super::{Compiled, StepTime, Watch, eagerly};
use crate::context::Cancel;
use crate::error::{ErrorKind, Result};
use crate::exec::Outputs;
use crate::model::graph::{Graph, Patch};
use crate::model::{Value, passes};
use std::collections::{HashMap, HashSet};

/// Plans that are kept; the oldest makes room for a new one.
const PLANS: usize = 4;

/// Runs a graph with one [`Compiled`] plan for each shape of its inputs. What cannot be planned runs by the eager executor.
#[derive(Debug)]
pub struct Engine {
    graph: Graph,
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

    /// As [`Engine::new`]; the values in `keep` can be watched. They are values of `graph` as it is given, which is not
    /// simplified.
    ///
    /// # Errors
    /// As [`Engine::new`].
    pub fn watching(graph: &Graph, wanted: &[&str], keep: HashSet<String>, threads: usize) -> Result<Self> {
        let graph = with_outputs(graph, wanted)?;
        let simple = if keep.is_empty() { passes::simplify(&graph).map(|s| s.0) } else { Ok(graph.clone()) };
        let (simple, refused) = match simple {
            Ok(s) => (s, None),
            Err(e) => (graph.clone(), Some(e.to_string())),
        };
        Ok(Self { graph, simple, keep, threads, plans: Vec::new(), refused })
    }

    /// Runs on `feeds`, tensors by input name.
    ///
    /// # Errors
    /// As [`eager::run`](crate::exec::run).
    pub fn run(&mut self, feeds: &HashMap<String, Value>, cancel: Option<&Cancel>) -> Result<Outputs> {
        match self.plan(feeds)? {
            Some(plan) => plan.run(feeds, cancel),
            None => eagerly(&self.graph, feeds, &[], cancel),
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
        crate::exec::eager::check_feeds(&self.graph, feeds)?;
        if self.refused.is_some() || feeds.values().any(|v| !v.tensor.device().is_cpu()) {
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
            Err(e) if e.kind() == ErrorKind::Unsupported => {
                self.refused = Some(e.to_string());
                Ok(None)
            }
            Err(e) => Err(e),
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

/// The graph with other values of it as outputs.
fn with_outputs(graph: &Graph, wanted: &[&str]) -> Result<Graph> {
    if wanted.is_empty() || graph.outputs().iter().map(|o| o.name.as_str()).eq(wanted.iter().copied()) {
        return Ok(graph.clone());
    }
    let facts = crate::model::graph::infer(graph)?;
    let outputs = wanted
        .iter()
        .map(|&name| match facts.get(name) {
            Some(fact) => Ok(crate::model::ValueInfo::new(name, crate::model::Fact { constant: None, contents: None, ..fact.clone() })),
            None => Err(crate::exec::eager::missing(graph, name)),
        })
        .collect::<Result<Vec<_>>>()?;
    let mut patch = Patch::new(graph);
    patch.set_outputs(outputs);
    patch.apply()
}
