//! Rewrites of a graph that leave its outputs unchanged.
//!
//! A pass reads a graph and returns a [`Rewrite`]: a patch, and in words what it did and what it had to leave alone and
//! why. [`PASSES`] lists them in the order in which they help each other; a new pass is one file and one line here. Each
//! pass has a test that holds the outputs before against the outputs after.

mod dead_code;
mod eliminate;
mod fold_batch_norm;
mod fold_constants;
mod opset;

pub use opset::raise_opset;

use super::graph::{Graph, Patch};
use compresso_base::error::{Error, Result, nearest};

/// What a pass wants to do to a graph.
#[derive(Debug)]
pub struct Rewrite<'g> {
    pub patch: Patch<'g>,
    /// One line per change: `node 'bn1' (BatchNormalization) is folded into node 'conv1' (Conv)`.
    pub done: Vec<String>,
    /// One line per place that looked right and was left alone, with the reason.
    pub refused: Vec<String>,
}

impl<'g> Rewrite<'g> {
    pub fn new(graph: &'g Graph) -> Self {
        Self { patch: Patch::new(graph), done: Vec::new(), refused: Vec::new() }
    }
}

/// One rewrite.
#[derive(Clone, Copy)]
pub struct Pass {
    pub name: &'static str,
    /// One sentence.
    pub summary: &'static str,
    pub rewrite: for<'g> fn(&'g Graph) -> Result<Rewrite<'g>>,
}

impl std::fmt::Debug for Pass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// All passes, in running order.
pub const PASSES: &[Pass] = &[
    Pass { name: "fold_constants", summary: "Computes what depends on constants and known shapes only", rewrite: fold_constants::rewrite },
    Pass { name: "eliminate_identity", summary: "Removes Identity, and Dropout as inference sees it", rewrite: eliminate::rewrite },
    Pass {
        name: "fold_batch_norm",
        summary: "Merges batch normalizations into the convolution or matrix product before them",
        rewrite: fold_batch_norm::rewrite,
    },
    Pass { name: "dead_code", summary: "Removes nodes and constants that no output needs", rewrite: dead_code::rewrite },
];

/// What one pass did to a graph.
#[derive(Debug, Clone, serde::Serialize)]
pub struct PassReport {
    pub pass: &'static str,
    pub done: Vec<String>,
    pub refused: Vec<String>,
}

/// Runs the named passes in order, each until it finds nothing more to do.
///
/// # Errors
/// `Argument` for a pass that does not exist; whatever a pass reports, with its name.
pub fn run(graph: &Graph, names: &[&str]) -> Result<(Graph, Vec<PassReport>)> {
    let mut graph = graph.clone();
    let mut reports = Vec::new();
    for name in names {
        let pass = find(name)?;
        let mut report = PassReport { pass: pass.name, done: Vec::new(), refused: Vec::new() };
        loop {
            let rewrite = (pass.rewrite)(&graph).map_err(|e| e.at(format!("pass '{}'", pass.name)))?;
            report.refused = rewrite.refused;
            if rewrite.done.is_empty() {
                break;
            }
            report.done.extend(rewrite.done);
            graph = rewrite.patch.apply().map_err(|e| e.at(format!("pass '{}'", pass.name)))?;
        }
        reports.push(report);
    }
    Ok((graph, reports))
}

/// Runs all passes: the graph as an inference engine wants it.
///
/// # Errors
/// As [`run`].
pub fn simplify(graph: &Graph) -> Result<(Graph, Vec<PassReport>)> {
    let names: Vec<&str> = PASSES.iter().map(|p| p.name).collect();
    run(graph, &names)
}

fn find(name: &str) -> Result<&'static Pass> {
    PASSES.iter().find(|p| p.name == name).ok_or_else(|| {
        let e = Error::argument(format!("there is no pass '{name}'"));
        match nearest(name, PASSES.iter().map(|p| p.name)) {
            Some(near) => e.hint(format!("did you mean '{near}'?")),
            None => e.hint(format!("the passes are {}", PASSES.iter().map(|p| p.name).collect::<Vec<_>>().join(", "))),
        }
    })
}
