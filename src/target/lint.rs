//! What a target would refuse or run badly.

use super::{Takes, TargetSpec};
use compresso_base::error::{Error, Result};
use compresso_model::{Element, Fact, Graph, Node};
use serde::Serialize;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It works, but not at its best.
    Advice,
    /// The target refuses it.
    Error,
}

/// Something about a model that its target does not like.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// Refused, or no more than advice.
    pub severity: Severity,
    /// The node or value, as errors name it; empty for the whole model.
    pub place: String,
    /// What is wrong, in a clause; what a writer refuses, with the remedy.
    pub message: String,
}

impl Finding {
    /// What a writer refuses, with the remedy, at one of the error's places.
    pub(crate) fn refusal(e: &Error, place: Option<&str>) -> Self {
        let remedy = e.suggestion().map(|h| format!("; {h}")).unwrap_or_default();
        Self { severity: Severity::Error, place: place.unwrap_or_default().into(), message: format!("{}{remedy}", e.message()) }
    }
}

/// The first of all that a writer refuses; where there are more, it says how to see them.
pub(crate) fn first_refusal(mut all: Vec<Error>, target: &str) -> Error {
    let count = all.len();
    let first = all.swap_remove(0);
    if count == 1 { first } else { first.hint(format!("lint(m, \"{target}\") lists all {count} nodes that cannot be written")) }
}

/// Findings of a graph, those that the target refuses first.
///
/// # Errors
/// Whatever the target's own rules report.
pub fn lint(target: &TargetSpec, graph: &Graph) -> Result<Vec<Finding>> {
    let mut found = if target.empty { Vec::new() } else { empty(target, graph)? };
    if !found.is_empty() {
        return Ok(found);
    }
    for node in graph.nodes() {
        if let Some((severity, message)) = of_node(target, graph, node) {
            found.push(Finding { severity, place: node.label(), message });
        }
    }
    let inputs = graph.feeds().map(|i| (format!("input '{}'", i.name), i.fact.element));
    let constants = graph.constants().iter().map(|(name, c)| (format!("constant '{name}'"), c.element()));
    for (place, element) in inputs.chain(constants).filter(|&(_, e)| !takes_element(target, e)) {
        found.push(Finding { severity: Severity::Error, place, message: format!("{} has no {element} tensors", target.title) });
    }
    for rule in target.rules {
        found.extend(rule(graph)?);
    }
    found.sort_by_key(|f| std::cmp::Reverse(f.severity));
    Ok(found)
}

/// Inputs and results without elements.
fn empty(target: &TargetSpec, graph: &Graph) -> Result<Vec<Finding>> {
    let facts = graph.facts()?;
    let is_empty = |fact: &Fact| fact.shape.iter().flatten().any(|d| d.known() == Some(0));
    let message = |fact: &Fact| format!("{} has no tensors without elements, as {fact} is", target.title);
    let inputs = graph.feeds().filter(|i| is_empty(&i.fact)).map(|i| (format!("input '{}'", i.name), message(&i.fact)));
    let made = graph.nodes().iter().filter_map(|node| {
        let fact = node.outputs.iter().filter_map(|name| facts.get(name)).find(|fact| is_empty(fact))?;
        Some((node.label(), message(fact)))
    });
    Ok(inputs.chain(made).map(|(place, message)| Finding { severity: Severity::Error, place, message }).collect())
}

fn of_node(target: &TargetSpec, graph: &Graph, node: &Node) -> Option<(Severity, String)> {
    let refused = match target.operators {
        // Names in these lists are those of ONNX's own operators.
        Takes::Only(ops) => {
            let known = node.domain.is_empty() || node.domain == "ai.onnx";
            let taken = known && ops.iter().any(|op| op.is(graph, node));
            (!taken).then(|| format!("{} does not take the operator {} as it is used here", target.title, node.op))
        }
        Takes::AllBut(refused) => refused.iter().find(|r| r.op.is(graph, node)).map(|r| r.text.to_string()),
    };
    let advice = || target.advice.iter().find(|r| r.op.is(graph, node)).map(|r| (Severity::Advice, r.text.to_string()));
    refused.map(|text| (Severity::Error, text)).or_else(advice)
}

fn takes_element(target: &TargetSpec, element: Element) -> bool {
    match target.elements {
        Takes::Only(taken) => taken.contains(&element),
        Takes::AllBut(refused) => !refused.contains(&element),
    }
}
