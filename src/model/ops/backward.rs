//! How gradients flow back through a node, where its operator says it itself.

use super::run::Exec;
use crate::value::Value;
use candle_core::Tensor;
use compresso_base::error::{Error, Result};

/// How gradients flow back through a node: what each input receives, by its index, any number of times.
pub type BackwardRule = fn(&Back<'_>) -> Result<Vec<(usize, Flow)>>;

/// What a [`BackwardRule`] sees.
pub struct Back<'a> {
    /// The node with its inputs, as the forward computation saw them.
    pub cx: &'a Exec<'a>,
    /// What the forward computation returned; it may have returned more than the node has outputs.
    pub made: &'a [Value],
    /// Gradients of the node's outputs.
    pub gradients: Vec<Option<Tensor>>,
    /// Whether the gradient of each input is asked for; others are dropped.
    pub needs: &'a [bool],
}

impl Back<'_> {
    /// The gradient of the first output.
    ///
    /// # Errors
    /// `Internal` when there is none.
    pub fn gradient(&self) -> Result<&Tensor> {
        self.gradients.first().and_then(Option::as_ref).ok_or_else(|| Error::internal("a gradient of the first output is missing"))
    }
}

/// A gradient that an input receives.
#[derive(Debug, Clone)]
pub enum Flow {
    /// A contiguous tensor that nothing else holds: it may be changed.
    Own(Tensor),
    /// A tensor, or a view of one, that others may hold.
    Shared(Tensor),
    /// The gradient of some indices of an axis, from `start` on; the others receive zeros.
    Part {
        /// Position of the axis.
        axis: usize,
        /// The first of the indices.
        start: usize,
        /// As the input, but for the axis, which is as long as there are such indices.
        gradient: Tensor,
    },
}
