//! Running passes until nothing changes.

use super::{Pass, PassContext, Rewrite};
use crate::graph::Graph;
use compresso_base::error::{At, Error, Result};
use indexmap::{IndexMap, IndexSet};
use std::collections::HashSet;

/// What one pass did to a graph, in all rounds together.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct PassReport {
    /// Its name: [`Pass::name`].
    pub pass: &'static str,
    /// Each change once, in order.
    pub done: Vec<String>,
    /// What the pass leaves alone in the graph that came out, and why.
    pub refused: Vec<String>,
    /// What a user should know of the result: [`Rewrite::warnings`].
    pub warnings: Vec<String>,
}

/// A graph that passes have gone over.
#[derive(Debug)]
pub struct Outcome {
    /// The graph that came out.
    pub graph: Graph,
    /// One for each pass, in order.
    pub reports: Vec<PassReport>,
    /// Constants that are copies of others: copy → original.
    pub copies: IndexMap<String, String>,
    /// How often the graph changed.
    pub changes: usize,
    /// How often shape inference ran: at most once for each state of the graph.
    pub inferences: usize,
}

impl Outcome {
    /// What all passes did, one line each.
    pub fn changes(&self) -> impl Iterator<Item = &str> {
        self.reports.iter().flat_map(|r| r.done.iter().map(String::as_str))
    }
}

/// Changes of a graph, beside one for each of its nodes, after which passes are taken to undo each other's work.
const SPARE_CHANGES: usize = 64;

/// Runs the passes in order, each until it finds nothing more to do, and all again until none does. Values named in `keep` stay,
/// as graph outputs do.
///
/// # Errors
/// `Internal` when the passes do not come to an end, naming those that take turns; whatever a pass reports, with its name.
pub fn run(graph: &Graph, passes: &[&dyn Pass], keep: &[String]) -> Result<Outcome> {
    let keep: HashSet<String> = keep.iter().cloned().collect();
    let mut done: Vec<IndexSet<String>> = vec![IndexSet::new(); passes.len()];
    let mut warnings = done.clone();
    let mut refused: Vec<Vec<String>> = vec![Vec::new(); passes.len()];
    let mut latest: Vec<(&'static str, String)> = Vec::new();
    let limit = graph.nodes().len() + SPARE_CHANGES;
    let mut out = Outcome { graph: graph.same(), reports: Vec::new(), copies: IndexMap::new(), changes: 0, inferences: 0 };
    // The pass whose turn it is, and how many have found nothing in the graph as it is.
    let (mut turn, mut quiet) = (0, 0);
    loop {
        let cx = PassContext::new(&out.graph, &keep);
        let mut next: Option<Graph> = None;
        while next.is_none() && quiet < passes.len() {
            let pass = passes[turn];
            let rewrite = one(pass, &cx).at(|| format!("pass '{}'", pass.name()))?;
            refused[turn] = rewrite.refused;
            if rewrite.patch.is_empty() {
                (turn, quiet) = ((turn + 1) % passes.len(), quiet + 1);
                continue;
            }
            latest.extend(rewrite.done.first().map(|line| (pass.name(), line.clone())));
            done[turn].extend(rewrite.done);
            warnings[turn].extend(rewrite.warnings);
            for (copy, original) in rewrite.copies {
                let first = out.copies.get(&original).cloned().unwrap_or(original);
                out.copies.insert(copy, first);
            }
            next = Some(rewrite.patch.apply().at(|| format!("pass '{}'", pass.name()))?);
            (out.changes, quiet) = (out.changes + 1, 0);
        }
        out.inferences += cx.inferences();
        match next {
            Some(graph) if out.changes <= limit => out.graph = graph,
            Some(_) => return Err(endless(&latest)),
            None => break,
        }
    }
    let said = done.into_iter().zip(refused).zip(warnings);
    out.reports = passes
        .iter()
        .zip(said)
        .map(|(pass, ((done, refused), warnings))| PassReport {
            pass: pass.name(),
            done: done.into_iter().collect(),
            refused,
            warnings: warnings.into_iter().collect(),
        })
        .collect();
    Ok(out)
}

/// One sweep, held to the promise that words and edits come together.
fn one<'g>(pass: &dyn Pass, cx: &PassContext<'g>) -> Result<Rewrite<'g>> {
    let rewrite = pass.rewrite(cx)?;
    match (rewrite.patch.is_empty(), rewrite.done.first()) {
        (true, Some(line)) => Err(Error::internal(format!("it says \"{line}\" and edits nothing"))),
        (false, None) => Err(Error::internal("it edits the graph and does not say what it did")),
        _ => Ok(rewrite),
    }
}

fn endless(latest: &[(&'static str, String)]) -> Error {
    let mut turns: Vec<&(&str, String)> = Vec::new();
    for line in latest.iter().rev() {
        if turns.iter().all(|t| t.0 != line.0) {
            turns.push(line);
        }
        if turns.len() == 3 {
            break;
        }
    }
    let turns: Vec<String> = turns.iter().map(|(pass, line)| format!("pass '{pass}' ({line})")).collect();
    Error::internal(format!("the passes do not come to an end: after {} changes the latest are by {}", latest.len(), turns.join(", ")))
        .hint("a pass must find nothing to do in the graph that it leaves, nor undo what another does")
}
