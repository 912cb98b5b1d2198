//! Layers: convolutions, and matrix products with constant weights, which are convolutions of one tap.

use super::before::Taken;
use super::{Affine, Conv, Lower, Op, Out, Val, Weights};
use crate::compiled::tensor::{How, Id, Kind};
use compresso_base::error::{Error, Result};
use compresso_kernels::Window;
use compresso_kernels::channels_last::Epilogue;
use compresso_model::graph::Node;
use compresso_model::ops::matmul::GEMM;
use compresso_model::ops::quantize::{DEQUANTIZE_LINEAR, QUANTIZE_LINEAR};
use compresso_model::ops::window::WindowAttrs;
use compresso_model::{Constant, Element};

impl Lower<'_> {
    pub(super) fn conv(&mut self, node: &Node) -> Result<bool> {
        let (x, w) = (self.dims(&node.inputs[0])?, self.dims(&node.inputs[1])?);
        if !(3..=4).contains(&x.len()) || x.len() != w.len() {
            return Ok(false);
        }
        let groups = usize::try_from(node.get_int("group", 1)?).unwrap_or(1).max(1);
        let window = WindowAttrs::of(node, Some(&w[2..]), x.len() - 2)?.resolve(&x[2..])?;
        if x[1] != w[1] * groups || w[0] % groups != 0 {
            return Err(Error::shape(format!("weight {w:?} with {groups} groups does not fit {} channels", x[1])));
        }
        let Some(bias) = self.bias(node, 2, w[0])? else { return Ok(false) };
        let coded = self.coded(&node.inputs[0]).and_then(|c| Some((c.id, c.affine?)));
        if let (Some((id, affine)), Some(weights)) = (coded, self.int8_weights(&node.inputs[1], 0)?) {
            let id = self.as_4d(id)?;
            let id = self.image(id, false)?;
            self.layer(node, id, Weights::integers(weights.0, weights.1), affine, (window, groups, bias), false)?;
            return Ok(true);
        }
        let Some((_, floats)) = self.constant_floats(&node.inputs[1])? else { return Ok(false) };
        let id = self.float(&node.inputs[0])?;
        let taken = self.take_before(&node.inputs[0], id, &window, groups);
        let id = self.as_4d(taken.as_ref().map_or(id, |t| t.image))?;
        let id = self.image(id, groups == 1)?;
        self.layer_after(node, id, Weights::Float(floats), Affine { scale: 1.0, zero: 0 }, (window, groups, bias), false, taken)?;
        Ok(true)
    }

    /// Gemm and MatMul with a constant right side `[in, out]` (or transposed).
    pub(super) fn product(&mut self, node: &Node) -> Result<bool> {
        let gemm = node.is(GEMM);
        let (x, w) = (self.dims(&node.inputs[0])?, self.dims(&node.inputs[1])?);
        let transposed = gemm && node.get_int("transB", 0)? != 0;
        let plain = !gemm || node.get_int("transA", 0)? == 0 && node.get_float("alpha", 1.0)? == 1.0 && node.get_float("beta", 1.0)? == 1.0;
        let constant = self.constant_floats(&node.inputs[1])?;
        let (Some((_, floats)), true, true, true) = (constant, plain, w.len() == 2, x.len() >= 2 && !x.contains(&0)) else {
            return if gemm { Ok(false) } else { self.inner_product(node, &x, &w) };
        };
        let (ins, outs) = if transposed { (w[1], w[0]) } else { (w[0], w[1]) };
        if x[x.len() - 1] != ins {
            return Err(Error::shape(format!("{x:?} and {w:?} do not multiply")));
        }
        let Some(bias) = self.bias(node, 2, outs)? else { return Ok(false) };
        let rows: usize = x[..x.len() - 1].iter().product();
        let window = Window::square([1, rows], 1, 1, 0, 1);
        let coded = self.coded(&node.inputs[0]).and_then(|c| Some((c.id, c.affine?)));
        let int8 = self.int8_weights(&node.inputs[1], usize::from(!transposed))?;
        let flip = |v: &[f32]| -> Vec<f32> {
            if transposed { v.to_vec() } else { (0..ins * outs).map(|i| v[i % ins * outs + i / ins]).collect() }
        };
        let (id, weights, affine) = match (coded, int8) {
            (Some((id, affine)), Some((bytes, scales))) => {
                let bytes = if transposed { bytes } else { (0..ins * outs).map(|i| bytes[i % ins * outs + i / ins]).collect() };
                (id, Weights::integers(bytes, scales), affine)
            }
            _ => (self.float(&node.inputs[0])?, Weights::Float(flip(&floats)), Affine { scale: 1.0, zero: 0 }),
        };
        let id = self.rows_image(id, rows, ins)?;
        self.layer(node, id, weights, affine, (window, 1, bias), true)?;
        Ok(true)
    }

    /// A product of two activations, as in attention; leading axes of size 1 are repeated.
    fn inner_product(&mut self, node: &Node, x: &[usize], w: &[usize]) -> Result<bool> {
        if x.len() < 2 || w.len() < 2 || x.contains(&0) || w.contains(&0) || x[x.len() - 1] != w[w.len() - 2] {
            return Ok(false);
        }
        if self.attention(node)? {
            return Ok(true);
        }
        let (a, b) = (self.float(&node.inputs[0])?, self.float(&node.inputs[1])?);
        let out = self.out_dims(node)?;
        let order = self.product_order(node, out.len())?;
        let y = self.tensors.root(Kind::F32, &out, &order);
        self.step(Op::MatMul, &[a, b], &[y]);
        self.set(&node.outputs[0], Val::Float(y))?;
        Ok(true)
    }

    /// The bias of a layer (`Some(None)`: it has none); `None` when it is not a constant of one value per channel.
    fn bias(&self, node: &Node, input: usize, channels: usize) -> Result<Option<Option<Vec<f32>>>> {
        let Some(name) = node.input(input) else { return Ok(Some(None)) };
        Ok(match self.constant_floats(name)? {
            // Gemm's may also have one number per row, `[rows, 1]`.
            Some((dims, v)) if v.len() == channels && dims.last() == Some(&channels) => Some(Some(v)),
            Some((_, v)) if v.len() == 1 => Some(Some(vec![v[0]; channels])),
            _ => None,
        })
    }

    /// Integer weights less their zero points, and their scales per output channel, of a DequantizeLinear of constants of 8 bits;
    /// no more of them for an output than sums have room for.
    fn int8_weights(&self, name: &str, axis: usize) -> Result<Option<(Vec<i16>, Vec<f32>)>> {
        let Some(&i) = self.makers.get(name) else { return Ok(None) };
        let node = &self.graph.nodes()[i];
        let (Some(q), Some(s)) = (node.input(0).and_then(|n| self.constant(n)), node.input(1).and_then(|n| self.constant(n))) else {
            return Ok(None);
        };
        let bytes = matches!(q.element(), Element::I8 | Element::U8) && axis < q.dims().len();
        if !node.is(DEQUANTIZE_LINEAR) || !bytes || node.get_int("block_size", 0)? != 0 {
            return Ok(None);
        }
        let (outs, scales) = (q.dims()[axis], s.to_f32s()?);
        let given = compresso_model::graph::normalize_axis(node.get_int("axis", 1)?, q.dims().len())?;
        let scales = match scales.len() {
            1 => vec![scales[0]; outs],
            n if n == outs && given == axis => scales,
            _ => return Ok(None),
        };
        let zeros = match node.input(2).map(|z| self.constant(z)) {
            None => vec![0],
            Some(Some(z)) if z.count() == 1 || z.count() == outs && given == axis => z.to_i64s()?,
            Some(_) => return Ok(None),
        };
        let weights = centred(q, axis, &zeros)?;
        Ok(weights.filter(|w| w.len() / outs.max(1) <= Weights::most_products(w)).map(|w| (w, scales)))
    }

    /// Adds a layer and what can be done with it. `flat`: the result is `[rows, out]`, not an image.
    fn layer(
        &mut self,
        node: &Node,
        x: Id,
        weights: Weights,
        affine: Affine,
        shape: (Window, usize, Option<Vec<f32>>),
        flat: bool,
    ) -> Result<()> {
        self.layer_after(node, x, weights, affine, shape, flat, None)
    }

    /// The same on values that are worked out first.
    fn layer_after(
        &mut self,
        node: &Node,
        x: Id,
        mut weights: Weights,
        affine: Affine,
        (window, groups, mut bias): (Window, usize, Option<Vec<f32>>),
        flat: bool,
        taken: Option<Taken>,
    ) -> Result<()> {
        let mut made = self.made(node, flat)?;
        if let Weights::Float(floats) = &mut weights {
            self.take_affine(&mut made, floats, &mut bias)?;
        }
        let mut epilogue = Epilogue::default();
        let mut reads = vec![x];
        let int8 = !matches!(weights, Weights::Float(_));
        let mut quantized = None;
        if int8 {
            quantized = self.quantized_next(&made.name)?;
        }
        if quantized.is_none() {
            if let Some(f) = self.activation_of(&made.name)? {
                epilogue.act = Some(f.act);
                self.take(f.node);
                made.name = f.makes;
            }
            if int8 {
                quantized = self.quantized_next(&made.name)?;
            } else {
                while self.take_transpose(&mut made)? {}
                if let Some((add, other)) = self.residual_of(&made)? {
                    epilogue.residual = true;
                    reads.push(other);
                    self.take(add);
                    made.name.clone_from(&self.graph.nodes()[add].outputs[0]);
                    if let Some(f) = self.activation_of(&made.name)? {
                        epilogue.then = Some(f.act);
                        self.take(f.node);
                        made.name = f.makes;
                    }
                }
            }
        }
        let out = self.out_dims(node)?;
        let kind = if quantized.is_some() { Kind::U8 } else { Kind::F32 };
        let y = self.layer_result(kind, &out, &window, flat);
        let outs = if quantized.is_some() { vec![Out { id: y, first: 0, table: None }] } else { Vec::new() };
        reads.extend(taken.as_ref().and_then(|t| t.factor));
        let before = taken.map(|t| t.before);
        let quantized_to = quantized.as_ref().map(|q| q.1);
        let conv = Conv { window, groups, weights, bias, epilogue, before, affine, measured: false, quantized: quantized_to, outs };
        self.step(Op::Conv(Box::new(conv)), &reads, &[y]);
        let y = self.layer_value(y, &out, flat)?;
        match quantized {
            Some((i, _, signed)) => {
                self.take(i);
                let name = self.graph.nodes()[i].outputs[0].clone();
                self.set(&name, Val::Quantized { id: y, signed })
            }
            None => {
                let y = self.as_made(y, &made);
                self.set(&made.name, Val::Float(y))
            }
        }
    }

    /// A tensor for the result of a layer that has the sizes `out` in the graph.
    pub(super) fn layer_result(&mut self, kind: Kind, out: &[usize], window: &Window, flat: bool) -> Id {
        let wide = match (flat, out) {
            (true, _) => vec![1, out[out.len() - 1], 1, window.output_len()],
            (false, &[n, c, w]) => vec![n, c, 1, w],
            _ => out.to_vec(),
        };
        self.tensors.root(kind, &wide, &[0, 2, 3, 1])
    }

    /// That tensor with the sizes of the graph.
    pub(super) fn layer_value(&mut self, y: Id, out: &[usize], flat: bool) -> Result<Id> {
        if !flat {
            return self.shaped(y, out);
        }
        let (channels, rows) = (self.tensors[y].dims[1], self.tensors[y].dims[3]);
        let view = self.tensors.view(y, How::Permute(vec![0, 2, 3, 1]), &[1, 1, rows, channels]);
        self.shaped(view, out)
    }

    /// Rows `[…, ins]` as an image of one row, whose pixels they are.
    pub(super) fn rows_image(&mut self, id: Id, rows: usize, ins: usize) -> Result<Id> {
        let id = self.shaped(id, &[1, 1, rows, ins])?;
        let id = self.tensors.view(id, How::Permute(vec![0, 3, 1, 2]), &[1, ins, 1, rows]);
        self.image(id, false)
    }

    /// The QuantizeLinear that is all that happens to a value.
    pub(super) fn quantized_next(&self, name: &str) -> Result<Option<(usize, Affine, bool)>> {
        let Some(i) = self.sole_reader(name) else { return Ok(None) };
        let node = &self.graph.nodes()[i];
        if self.done[i] || !node.is(QUANTIZE_LINEAR) || node.inputs[0] != name {
            return Ok(None);
        }
        Ok(self.scale_of(node)?.map(|(affine, signed)| (i, affine, signed)))
    }
}

/// Integers less their zero points, of which there is one, or one for each index of `axis`; `None` if one is beyond 255.
pub(super) fn centred(w: &Constant, axis: usize, zeros: &[i64]) -> Result<Option<Vec<i16>>> {
    let (outs, inner) = (w.dims()[axis].max(1), w.dims()[axis + 1..].iter().product::<usize>().max(1));
    let of = |(i, v): (usize, i64)| i16::try_from(v - zeros[i / inner % outs % zeros.len()]).ok().filter(|w| w.unsigned_abs() <= 255);
    Ok(w.to_i64s()?.into_iter().enumerate().map(of).collect())
}
