//! What can be done in the same step as the node before it.

use super::{Lower, Val};
use crate::compiled::tensor::{How, Id};
use compresso_base::error::Result;
use compresso_kernels::activation::Activation;
use compresso_model::graph::{Node, normalize_axis};
use compresso_model::ops::activation;
use compresso_model::ops::arithmetic::{ADD, DIV, MUL, SUB};
use compresso_model::ops::transpose::TRANSPOSE;

/// A value that is what a layer makes, with its axes in any order.
#[derive(Debug, Clone)]
pub(super) struct Made {
    pub name: String,
    /// For each axis of the value, which axis of the layer's result it is.
    pub axes: Vec<usize>,
    /// The axis of the layer's result along which its channels lie, and how many there are.
    channel: usize,
    channels: usize,
    /// The layer is a matrix product: its result is rows of channels.
    flat: bool,
}

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

    /// What a layer's node makes, `[…, channels]` if it is `flat` and `[n, channels, …]` otherwise.
    pub(super) fn made(&self, node: &Node, flat: bool) -> Result<Made> {
        let out = self.out_dims(node)?;
        let channel = if flat { out.len() - 1 } else { 1 };
        Ok(Made { name: node.outputs[0].clone(), axes: (0..out.len()).collect(), channel, channels: out[channel], flat })
    }

    /// Takes what follows a layer and only scales or shifts its channels into its weights, `[channels, …]`, and its bias; on the way,
    /// its axes may change places.
    pub(super) fn take_affine(&mut self, made: &mut Made, weights: &mut [f32], bias: &mut Option<Vec<f32>>) -> Result<()> {
        let per_channel = weights.len() / made.channels.max(1);
        while let Some(i) = self.sole_reader(&made.name).filter(|&i| !self.done[i]) {
            let node = &self.graph.nodes()[i];
            if !self.take_transpose(made)? {
                let Some((vector, left)) = self.channel_operand(node, made)? else { break };
                match node.op.as_str() {
                    ADD => add(bias, &vector, 1.0),
                    SUB if left => add(bias, &vector, -1.0),
                    MUL | DIV if left || node.is(MUL) => {
                        let factor = |c: usize| if node.is(DIV) { 1.0 / vector[c] } else { vector[c] };
                        let factors: Vec<f32> = (0..made.channels).map(factor).collect();
                        if factors.iter().any(|f| !f.is_finite()) {
                            break;
                        }
                        weights.chunks_exact_mut(per_channel.max(1)).zip(&factors).for_each(|(w, f)| w.iter_mut().for_each(|w| *w *= f));
                        bias.iter_mut().for_each(|b| b.iter_mut().zip(&factors).for_each(|(b, f)| *b *= f));
                    }
                    _ => break,
                }
                self.take(i);
                made.name.clone_from(&node.outputs[0]);
            }
        }
        Ok(())
    }

    /// Takes the Transpose that is all that happens to a layer's result; true if there is one.
    pub(super) fn take_transpose(&mut self, made: &mut Made) -> Result<bool> {
        let Some(i) = self.sole_reader(&made.name).filter(|&i| !self.done[i]) else { return Ok(false) };
        let node = &self.graph.nodes()[i];
        if !node.is(TRANSPOSE) {
            return Ok(false);
        }
        let n = made.axes.len();
        let perm = match node.find_ints("perm")? {
            Some(p) => p.iter().map(|&a| normalize_axis(a, n)).collect::<Result<Vec<_>>>()?,
            None => (0..n).rev().collect(),
        };
        made.axes = perm.iter().map(|&a| made.axes[a]).collect();
        self.take(i);
        made.name.clone_from(&node.outputs[0]);
        Ok(true)
    }

    /// The constant operand, one number for each channel, of a node that reads a layer's result beside it; and whether the result
    /// is its first operand.
    fn channel_operand(&self, node: &Node, made: &Made) -> Result<Option<(Vec<f32>, bool)>> {
        if node.inputs.len() != 2 || !matches!(node.op.as_str(), ADD | SUB | MUL | DIV) || node.inputs[0] == node.inputs[1] {
            return Ok(None);
        }
        let left = node.inputs[0] == made.name;
        let Some((dims, values)) = self.constant_floats(&node.inputs[usize::from(left)])? else { return Ok(None) };
        let Some(lead) = made.axes.len().checked_sub(dims.len()) else { return Ok(None) };
        let along = |(d, &n): (usize, &usize)| n == 1 || n == made.channels && made.axes[lead + d] == made.channel;
        if !dims.iter().enumerate().all(along) {
            return Ok(None);
        }
        Ok(match values.len() {
            1 => Some((vec![values[0]; made.channels], left)),
            n => (n == made.channels).then_some((values, left)),
        })
    }

    /// The other operand, floats of the same size that exist already, of the Add that is all that happens to a layer's result; as
    /// the image, channels last, that the layer makes.
    pub(super) fn residual_of(&mut self, made: &Made) -> Result<Option<(usize, Id)>> {
        let Some(i) = self.sole_reader(&made.name).filter(|&i| !self.done[i]) else { return Ok(None) };
        let node = &self.graph.nodes()[i];
        if !node.is(ADD) {
            return Ok(None);
        }
        let Some(other) = node.inputs.iter().find(|n| **n != made.name) else { return Ok(None) };
        let Some(Val::Float(id)) = self.values.get(other) else { return Ok(None) };
        let mut id = *id;
        let dims = self.dims(&made.name)?;
        if self.tensors[id].dims != dims {
            return Ok(None);
        }
        if !made.axes.is_sorted() {
            let back: Vec<usize> = (0..dims.len()).map(|axis| made.axes.iter().position(|&a| a == axis).unwrap_or(axis)).collect();
            let sizes: Vec<usize> = back.iter().map(|&a| dims[a]).collect();
            id = self.tensors.view(id, How::Permute(back), &sizes);
        }
        if made.flat {
            let rows = dims.iter().product::<usize>() / made.channels.max(1);
            let Some(lines) = self.tensors.reshaped(id, &[1, 1, rows, made.channels]) else { return Ok(None) };
            id = self.tensors.view(lines, How::Permute(vec![0, 3, 1, 2]), &[1, made.channels, 1, rows]);
        }
        let last = self.tensors.layout(id).is_some_and(|l| l.strides.len() == 4 && (l.strides[1] == 1 || made.channels == 1));
        Ok(last.then_some((i, id)))
    }

    /// A layer's result, with the axes of its node's output, as the value that it became.
    pub(super) fn as_made(&mut self, id: Id, made: &Made) -> Id {
        if made.axes.is_sorted() {
            return id;
        }
        let sizes: Vec<usize> = made.axes.iter().map(|&a| self.tensors[id].dims[a]).collect();
        self.tensors.view(id, How::Permute(made.axes.clone()), &sizes)
    }

    pub(super) fn take(&mut self, node: usize) {
        self.done[node] = true;
    }
}

/// Adds a multiple of a vector to a bias.
fn add(bias: &mut Option<Vec<f32>>, vector: &[f32], factor: f32) {
    let bias = bias.get_or_insert_with(|| vec![0.0; vector.len()]);
    bias.iter_mut().zip(vector).for_each(|(b, v)| *b += factor * v);
}
