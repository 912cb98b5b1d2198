//! What a file calls the inputs and outputs of a graph.

use compresso_model::Graph;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Names in a file, where they are not the graph's, by the graph's names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Names {
    /// Of inputs.
    pub inputs: BTreeMap<String, String>,
    /// Of outputs.
    pub outputs: BTreeMap<String, String>,
    /// Inputs `[batch, channels, …]` of the graph that the file takes as `[batch, …, channels]`, by the graph's names.
    pub channels_last: Vec<String>,
    /// Inputs and outputs of floats that the file may hold as integers, whose scales its tensors say; by the graph's names.
    pub floats: Vec<String>,
}

impl Names {
    /// All as the graph has them.
    pub fn same(_: &Graph) -> Self {
        Self::default()
    }
}
