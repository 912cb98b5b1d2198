//! Where the channels of a weight lie.

use crate::graph::Node;
use compresso_base::error::Result;

/// How an operator multiplies its data, input 0, with a weight.
#[derive(Debug, Clone, Copy)]
pub struct WeightRule {
    /// Position of the weight among the inputs.
    pub input: usize,
    /// The axes of a weight of some rank; `None` where the rank has no output channels.
    pub axes: fn(&Node, usize) -> Result<Option<WeightAxes>>,
    /// The operator that computes the same sums on integers.
    pub integer: Option<&'static str>,
}

impl WeightRule {
    /// A weight at this input, with no form of the operator on integers.
    pub const fn new(input: usize, axes: fn(&Node, usize) -> Result<Option<WeightAxes>>) -> Self {
        Self { input, axes, integer: None }
    }
    /// The operator `op` computes the same sums on integers.
    pub const fn integer(mut self, op: &'static str) -> Self {
        self.integer = Some(op);
        self
    }
}

/// Where output and input channels lie in a weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WeightAxes {
    /// Of the channels that the layer makes.
    pub output: ChannelAxis,
    /// Of the channels that it reads.
    pub input: ChannelAxis,
}

/// An axis of a weight, which has the channels of one of `groups` groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelAxis {
    /// Position of the axis.
    pub axis: usize,
    /// Groups of the layer; 1 where the axis has the channels of all of them.
    pub groups: usize,
}

impl ChannelAxis {
    /// An axis that has the channels of all groups.
    pub const fn whole(axis: usize) -> Self {
        Self { axis, groups: 1 }
    }
    /// Channels in all groups of a weight with these sizes; 0 where it lacks the axis.
    pub fn count(self, dims: &[usize]) -> usize {
        dims.get(self.axis).map_or(0, |n| n.saturating_mul(self.groups))
    }
}
