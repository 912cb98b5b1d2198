//! Integers in nodes that follow from which channels are kept.

use super::Atom;
use std::sync::Arc;

/// Where a node has integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Site {
    /// A one-dimensional (or scalar) integer input. One that is left out so far is added.
    Input(usize),
    /// An int or ints attribute.
    Attr(&'static str),
}

/// One integer, as it must be once channels are gone.
#[derive(Debug, Clone, PartialEq)]
pub enum Size {
    /// As given.
    Fixed(i64),
    /// As many as indices with these labels are kept.
    Count(Arc<[Atom]>),
    /// The entry that the input has when the graph runs.
    Open,
}

impl Size {
    /// The size of an axis: what is kept of its labels, else its size.
    pub fn of_axis(labels: &super::AxisLabels, otherwise: i64) -> Self {
        labels.clone().map_or(Self::Fixed(otherwise), Self::Count)
    }
    /// How many of the first `n` indices of an axis are kept: where index `n` is then.
    pub fn before(labels: &[Atom], n: usize) -> Self {
        Self::Count(labels[..n.min(labels.len())].into())
    }
}

/// A change that removing channels makes to a node.
#[derive(Debug, Clone, PartialEq)]
pub enum Edit {
    /// All integers at a place.
    Sizes {
        /// Position of the node in the graph.
        node: usize,
        /// Where it has them.
        place: Site,
        /// What each becomes, in order.
        sizes: Vec<Size>,
    },
    /// Indices into an axis: those of removed indices go, others move up.
    Indices {
        /// Position of the node in the graph.
        node: usize,
        /// Position of the input that holds them.
        input: usize,
        /// Labels of the axis that they point into.
        labels: Arc<[Atom]>,
        /// The indices as they are, from 0.
        indices: Vec<usize>,
    },
}

impl Edit {
    /// Position of the node in the graph.
    pub fn node(&self) -> usize {
        match self {
            Self::Sizes { node, .. } | Self::Indices { node, .. } => *node,
        }
    }
}
