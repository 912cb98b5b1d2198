//! What quantized graphs do channel by channel between layers: batch normalizations that no layer took up, gates of channels, and
//! averages. Each reads bytes and writes those of the next QuantizeLinear, or floats.

use super::{Affine, ChannelMap, Coded, Lower, Op, Table, Val};
use crate::compiled::tensor::{Id, Kind};
use compresso_base::error::Result;
use compresso_kernels::Window;
use compresso_model::graph::Node;

impl Lower<'_> {
    /// A batch normalization of bytes, or of a concatenation that has some.
    pub(super) fn batch_norm_of_codes(&mut self, node: &Node) -> Result<bool> {
        if !self.has_codes(&node.inputs[0]) {
            return Ok(false);
        }
        let dims = self.dims(&node.inputs[0])?;
        let plain = node.outputs.iter().skip(1).all(String::is_empty) && node.get_int("training_mode", 0)? == 0;
        if dims.len() != 4 || dims.contains(&0) || !plain {
            return Ok(false);
        }
        let mut constants = Vec::new();
        for name in node.inputs.iter().skip(1).take(4) {
            match self.constant_floats(name)? {
                Some((_, v)) if v.len() == dims[1] => constants.push(v),
                _ => return Ok(false),
            }
        }
        let [scale, bias, mean, variance] = constants.as_slice() else { return Ok(false) };
        // The operations of the operator, in its order.
        let epsilon = node.get_float("epsilon", 1e-5)?;
        let factor: Vec<f32> = scale.iter().zip(variance).map(|(s, v)| s / (v + epsilon).sqrt()).collect();
        let shift = bias.iter().zip(mean).zip(&factor).map(|((b, m), a)| b - m * a).collect();
        let Some(val) = self.values.get(&node.inputs[0]).cloned() else { return Ok(false) };
        let mut images = Vec::new();
        self.images_of(&val, &mut images)?;
        self.channel_map(node, images, ChannelBy::Constants(factor, shift))?;
        Ok(true)
    }

    /// Whether a value, or a part of it along the channels, is a function of bytes.
    fn has_codes(&self, name: &str) -> bool {
        fn any(val: &Val) -> bool {
            match val {
                Val::Coded(_) => true,
                Val::Parts(1, parts) => parts.iter().any(any),
                _ => false,
            }
        }
        self.values.get(name).is_some_and(any)
    }

    /// The images whose channels make up a value, with the numbers that bytes stand for.
    fn images_of(&mut self, val: &Val, to: &mut Vec<(Id, Option<Table>)>) -> Result<()> {
        match val {
            Val::Parts(1, parts) => parts.iter().try_for_each(|part| self.images_of(part, to))?,
            Val::Coded(c) => to.push((self.image(c.id, false)?, Some(c.table.clone()))),
            val => {
                let id = self.floats_of(val)?;
                to.push((id, None));
            }
        }
        Ok(())
    }

    /// A product of bytes and a number for each channel of an image.
    pub(super) fn gate(&mut self, node: &Node) -> Result<bool> {
        if node.inputs.iter().all(|name| self.coded(name).is_none()) {
            return Ok(false);
        }
        let out = self.out_dims(node)?;
        if out.len() != 4 || out.contains(&0) {
            return Ok(false);
        }
        for (x, by) in [(0, 1), (1, 0)] {
            let (x, by) = (&node.inputs[x], &node.inputs[by]);
            let Some(c) = self.coded(x).filter(|c| self.tensors[c.id].dims == out) else { continue };
            if !self.values.contains_key(by) || self.dims(by)? != [out[0], out[1], 1, 1] || out[2] * out[3] == 1 {
                continue;
            }
            let (id, by) = (self.image(c.id, false)?, self.float(by)?);
            self.channel_map(node, vec![(id, Some(c.table))], ChannelBy::Read(by))?;
            return Ok(true);
        }
        Ok(false)
    }

    /// Adds the steps for images whose channels follow one another, with the activation and the QuantizeLinear after them.
    fn channel_map(&mut self, node: &Node, images: Vec<(Id, Option<Table>)>, by: ChannelBy) -> Result<()> {
        let (mut makes, out) = (node.outputs[0].clone(), self.out_dims(node)?);
        let (mut act, mut next) = (None, self.quantized_next(&makes)?);
        if next.is_none()
            && let Some(f) = self.activation_of(&makes)?
        {
            act = Some(f.act);
            self.take(f.node);
            makes = f.makes;
            next = self.quantized_next(&makes)?;
        }
        let y = self.tensors.root(if next.is_some() { Kind::U8 } else { Kind::F32 }, &out, &[0, 2, 3, 1]);
        let mut start = 0;
        for some in images.chunks(MOST_IMAGES) {
            let channels: usize = some.iter().map(|(id, _)| self.tensors[*id].dims[1]).sum();
            let to = if channels == out[1] { y } else { self.slice(y, 1, start, 1, channels) };
            let (mut reads, tables): (Vec<Id>, Vec<_>) = some.iter().cloned().unzip();
            let constants = match &by {
                ChannelBy::Constants(scale, shift) => Some([scale, shift].map(|v| v[start..start + channels].to_vec())),
                ChannelBy::Read(by) => {
                    reads.push(*by);
                    None
                }
            };
            self.step(Op::ChannelMap(Box::new(ChannelMap { tables, constants, act, quantized: next.map(|n| n.1) })), &reads, &[to]);
            start += channels;
        }
        match next {
            Some((i, _, signed)) => {
                self.take(i);
                let name = self.graph.nodes()[i].outputs[0].clone();
                self.set(&name, Val::Quantized { id: y, signed })
            }
            None => self.set(&makes, Val::Float(y)),
        }
    }

    /// The average of bytes as an image of `dims`, of bytes where it is quantized next. Sums of bytes are exact.
    pub(super) fn average_of_codes(&mut self, node: &Node, c: &Coded, window: Window, dims: [usize; 4], count_padding: bool) -> Result<()> {
        let out = self.out_dims(node)?;
        let x = self.as_4d(c.id)?;
        let x = self.image(x, false)?;
        let next = self.quantized_next(&node.outputs[0])?;
        let y = self.tensors.root(if next.is_some() { Kind::U8 } else { Kind::F32 }, &dims, &[0, 2, 3, 1]);
        let op = Op::AverageBytes { window, count_padding, affine: c.affine, table: c.table.clone(), quantized: next.map(|n| n.1) };
        self.step(op, &[x], &[y]);
        let y = self.shaped(y, &out)?;
        match next {
            Some((i, _, signed)) => {
                self.take(i);
                let name = self.graph.nodes()[i].outputs[0].clone();
                self.set(&name, Val::Quantized { id: y, signed })
            }
            None => self.set(&node.outputs[0], Val::Float(y)),
        }
    }
}

/// Images that a step reads at most: a step has few slots.
const MOST_IMAGES: usize = 12;

/// What the numbers of each channel are multiplied with.
enum ChannelBy {
    /// Scale and shift.
    Constants(Vec<f32>, Vec<f32>),
    /// A tensor, which only a single image may have.
    Read(Id),
}

/// Scale and zero point of numbers on a line; of others 1 and 0.
pub fn line(affine: Option<Affine>) -> Affine {
    affine.unwrap_or(Affine { scale: 1.0, zero: 0 })
}
