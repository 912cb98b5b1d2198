//! What can be done in the same step as the node before it.

use super::Lower;
use compresso_base::error::Result;
use compresso_kernels::activation::Activation;
use compresso_model::ops::activation;
use compresso_model::ops::arithmetic::ADD;

/// A node that computes one function of a value.
pub(super) struct Follow {
    pub act: Activation,
    pub node: usize,
    /// The value that it makes.
    pub makes: String,
}

impl Lower<'_> {
    /// The activation that is all that happens to a value.
    pub(super) fn activation_of(&self, name: &str) -> Result<Option<Follow>> {
        let Some(i) = self.sole_reader(name) else { return Ok(None) };
        let node = &self.graph.nodes()[i];
        if self.is_wanted(name) || self.done[i] || node.inputs[0] != name || node.outputs.len() != 1 {
            return Ok(None);
        }
        let act = activation::of_node(node, self.graph.opset_of(node), &|n| self.constant(n))?;
        Ok(act.map(|act| Follow { act, node: i, makes: node.outputs[0].clone() }))
    }

    /// The other operand, a float image of the same size that exists already, of the Add that is all that happens to a
    /// value.
    pub(super) fn residual_of(&self, name: &str) -> Option<(usize, usize)> {
        let i = self.sole_reader(name)?;
        let node = &self.graph.nodes()[i];
        if self.done[i] || !node.is(ADD) {
            return None;
        }
        let other = node.inputs.iter().find(|n| *n != name)?;
        let Some(super::Val::Float(id)) = self.values.get(other) else { return None };
        let same = self.tensors[*id].dims == self.dims(name).ok()?;
        let last = self.tensors.layout(*id).is_some_and(|l| l.strides.len() == 4 && (l.strides[1] == 1 || self.tensors[*id].dims[1] == 1));
        (same && last).then_some((i, *id))
    }

    pub(super) fn take(&mut self, node: usize) {
        self.done[node] = true;
    }
}
