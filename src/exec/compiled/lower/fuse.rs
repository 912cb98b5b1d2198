//! What can be done in the same step as the node before it.

use super::Lower;
use compresso_base::error::Result;
use compresso_kernels::activation::Activation;
use compresso_model::ops::activation;

/// Nodes that compute one function of a value together.
pub(super) struct Follow {
    pub act: Activation,
    pub nodes: Vec<usize>,
    /// The value that they make.
    pub makes: String,
}

impl Lower<'_> {
    /// The activation that is all that happens to a value.
    pub(super) fn activation_of(&self, name: &str) -> Result<Option<Follow>> {
        if self.is_wanted(name) {
            return Ok(None);
        }
        if let Some(i) = self.sole_reader(name) {
            let node = &self.graph.nodes()[i];
            if self.done[i] || node.inputs[0] != name || node.outputs.len() != 1 {
                return Ok(None);
            }
            let act = activation::of_node(node, self.graph.opset_of(node), &|n| self.constant(n))?;
            return Ok(act.map(|act| Follow { act, nodes: vec![i], makes: node.outputs[0].clone() }));
        }
        Ok(match self.gated(name)? {
            Some(f) if self.consumers.get(name).is_some_and(|r| r.len() == 2) => Some(f),
            _ => None,
        })
    }

    /// `x · sigmoid(x)` written as two nodes, and the same of the hard sigmoid.
    pub(super) fn gated(&self, name: &str) -> Result<Option<Follow>> {
        let Some(readers) = self.consumers.get(name) else { return Ok(None) };
        for &i in readers {
            let gate = &self.graph.nodes()[i];
            if self.done[i] || gate.inputs.len() != 1 {
                continue;
            }
            let act = match gate.op.as_str() {
                "Sigmoid" => Activation::Swish { alpha: 1.0 },
                "HardSigmoid" => {
                    let (alpha, beta) = (gate.get_float("alpha", 0.2)?, gate.get_float("beta", 0.5)?);
                    if (alpha - 1.0 / 6.0).abs() > 1e-6 || beta != 0.5 {
                        continue;
                    }
                    Activation::HardSwish
                }
                _ => continue,
            };
            let Some(j) = self.sole_reader(&gate.outputs[0]) else { continue };
            let product = &self.graph.nodes()[j];
            let other = |a: usize, b: usize| product.inputs[a] == name && product.inputs[b] == gate.outputs[0];
            if product.is("Mul") && !self.done[j] && (other(0, 1) || other(1, 0)) {
                return Ok(Some(Follow { act, nodes: vec![i, j], makes: product.outputs[0].clone() }));
            }
        }
        Ok(None)
    }

    /// The other operand, a float image of the same size that exists already, of the Add that is all that happens to a
    /// value.
    pub(super) fn residual_of(&self, name: &str) -> Option<(usize, usize)> {
        let i = self.sole_reader(name)?;
        let node = &self.graph.nodes()[i];
        if self.done[i] || !node.is("Add") {
            return None;
        }
        let other = node.inputs.iter().find(|n| *n != name)?;
        let Some(super::Val::Float(id)) = self.values.get(other) else { return None };
        let same = self.tensors[*id].dims == self.dims(name).ok()?;
        let last = self.tensors.layout(*id).is_some_and(|l| l.strides.len() == 4 && (l.strides[1] == 1 || self.tensors[*id].dims[1] == 1));
        (same && last).then_some((i, *id))
    }

    pub(super) fn take(&mut self, nodes: &[usize]) {
        for &i in nodes {
            self.done[i] = true;
        }
    }
}
