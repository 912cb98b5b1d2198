//! Layers on integers whose scales are known only when the model runs:
//! [DynamicQuantizeLinear](https://onnx.ai/onnx/operators/onnx__DynamicQuantizeLinear.html), ConvInteger and MatMulInteger.
//!
//! `Cast(ConvInteger(q, w)) · (scale_x · scale_w) + bias`, with an activation or without, is one step. Its integer sums are those
//! of the operators, and what follows is done in their order, so the results have the same bits.

use super::conv::centred;
use super::{Affine, Conv, Lower, Op, Val, Weights};
use crate::compiled::tensor::{How, Id, Kind, Source};
use compresso_base::error::{Error, Result};
use compresso_kernels::Window;
use compresso_kernels::channels_last::Epilogue;
use compresso_kernels::channels_last::int8::MOST_RANGES;
use compresso_model::Element;
use compresso_model::graph::Node;
use compresso_model::ops::arithmetic::{ADD, MUL};
use compresso_model::ops::cast::CAST;
use compresso_model::ops::window::WindowAttrs;
use std::ops::Range;

/// Bytes with a zero point that is a tensor of one byte.
struct Centred {
    id: Id,
    zero: Id,
}

/// What is done to the sums: `sum · (scale · scales[o]) + bias[o]`, and the value that it makes.
struct Ends {
    scale: Id,
    scales: Vec<f32>,
    bias: Option<Vec<f32>>,
    makes: String,
}

/// What a range is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece {
    /// Channels of what the layer at this step makes.
    Layer(usize),
    /// A tensor that is measured by a step of its own.
    Alone(Id),
}

/// Most pieces of a tensor that are measured one by one: a step has room for so many.
const MOST_PIECES: usize = 12;
/// Most views and concatenations between a tensor and its pieces.
const DEEPEST: usize = 64;

/// Adds a piece, or its channels to the piece before where they go on: a convolution whose channels have been split and joined again is
/// one. False when there are too many.
fn put(to: &mut Vec<(Piece, Range<usize>)>, piece: Piece, channels: Range<usize>) -> bool {
    match to.last_mut() {
        Some((last, before)) if *last == piece && before.end == channels.start => before.end = channels.end,
        _ => to.push((piece, channels)),
    }
    to.len() <= MOST_PIECES
}

impl Lower<'_> {
    pub(super) fn dynamic_quantize(&mut self, node: &Node) -> Result<bool> {
        let dims = self.dims(&node.inputs[0])?;
        if self.element(&node.inputs[0]) != Some(Element::F32) || dims.contains(&0) || node.outputs.len() != 3 {
            return Ok(false);
        }
        let mut x = self.float(&node.inputs[0])?;
        if dims.len() > 4 {
            // Kernels take as many axes as an image has, which one long row is.
            x = self.settled(x)?;
        }
        let y = self.bytes_of(x)?;
        let one = |l: &mut Self, kind, dims: &[usize]| {
            let order: Vec<usize> = (0..dims.len()).collect();
            let id = l.tensors.root(kind, dims, &order);
            l.tensors.0[id].fixed = true;
            id
        };
        let (scale, zero) = (one(self, Kind::F32, &[]), one(self, Kind::U8, &[]));
        let (found, channels): (Vec<Id>, Vec<_>) = self.ranges_of(x).into_iter().unzip();
        self.step(Op::Measure(channels), &[vec![x], found].concat(), &[y, scale, zero]);
        self.set(&node.outputs[0], Val::Quantized { id: y, signed: false })?;
        self.set(&node.outputs[1], Val::Float(scale))?;
        self.set(&node.outputs[2], Val::Quantized { id: zero, signed: false })?;
        Ok(true)
    }

    /// Ranges that together are those of a tensor, and the channels of each that count: those that layers find of what they make
    /// while it is at hand, and for other pieces those of steps of their own.
    fn ranges_of(&mut self, x: Id) -> Vec<(Id, Range<usize>)> {
        let mut pieces = Vec::new();
        if !self.pieces(x, None, DEEPEST, &mut pieces) {
            pieces = vec![(Piece::Alone(x), 0..1)];
        }
        pieces.into_iter().map(|(piece, channels)| (self.measured(piece), channels)).collect()
    }

    /// The pieces of the channels of a tensor, or of all of it, that are measured one by one; false as soon as there are more than
    /// [`MOST_PIECES`], or some lie more than so many `levels` of views and concatenations away.
    fn pieces(&mut self, x: Id, channels: Option<Range<usize>>, levels: usize, to: &mut Vec<(Piece, Range<usize>)>) -> bool {
        let Some(levels) = levels.checked_sub(1) else { return false };
        let source = self.tensors[x].source.clone();
        match (&source, &channels) {
            (Source::View { of, how: How::Slice { axis: 1, start, step: 1 } }, _) if self.tensors[*of].dims.len() == 4 => {
                let inner = channels.unwrap_or(0..self.tensors[x].dims[1]);
                self.pieces(*of, Some(start + inner.start..start + inner.end), levels, to)
            }
            // The same elements, in another order.
            (Source::View { of, how: How::Shape | How::Permute(_) }, None) => self.pieces(*of, None, levels, to),
            (Source::Root { .. }, _) if self.tensors[x].dims.len() == 4 => {
                let channels = channels.unwrap_or(0..self.tensors[x].dims[1]);
                let maker = self.steps.iter().rposition(|s| s.writes.first() == Some(&x));
                match maker.map(|at| (at, &self.steps[at].op)) {
                    Some((at, Op::Conv(c))) if c.measured && c.quantized.is_none() => put(to, Piece::Layer(at), channels),
                    Some((at, Op::Concat(1))) => {
                        let mut first = 0;
                        for id in self.steps[at].reads.clone() {
                            let end = first + self.tensors[id].dims[1];
                            let of_part = channels.start.max(first)..channels.end.min(end);
                            let inner = of_part.start.saturating_sub(first)..of_part.end.saturating_sub(first);
                            if !of_part.is_empty() && !self.pieces(id, Some(inner), levels, to) {
                                return false;
                            }
                            first = end;
                        }
                        true
                    }
                    _ => self.alone(x, channels, to),
                }
            }
            (_, None) => put(to, Piece::Alone(x), 0..1),
            (_, Some(channels)) => self.alone(x, channels.clone(), to),
        }
    }

    /// Channels of a tensor that no layer measures.
    fn alone(&mut self, x: Id, channels: Range<usize>, to: &mut Vec<(Piece, Range<usize>)>) -> bool {
        let whole = channels.len() == self.tensors[x].dims[1];
        let piece = if whole { x } else { self.slice(x, 1, channels.start, 1, channels.len()) };
        put(to, Piece::Alone(piece), 0..1)
    }

    /// The ranges of a piece: a tensor like an image, with those of parts where an image has pixels.
    fn measured(&mut self, piece: Piece) -> Id {
        let found = match piece {
            Piece::Layer(at) => self.steps[at].writes.get(1).copied(),
            Piece::Alone(id) => self.ranges.get(&id).copied(),
        };
        if let Some(found) = found {
            return found;
        }
        let dims = match piece {
            Piece::Layer(at) => {
                let made = &self.tensors[self.steps[at].writes[0]].dims;
                [made[0], made[1], MOST_RANGES, 2]
            }
            Piece::Alone(_) => [1, 1, MOST_RANGES, 2],
        };
        let found = self.tensors.root(Kind::F32, &dims, &[0, 2, 3, 1]);
        self.tensors.0[found].fixed = true;
        match piece {
            Piece::Layer(at) => self.steps[at].writes.push(found),
            Piece::Alone(id) => {
                self.step(Op::Range, &[id], &[found]);
                self.ranges.insert(id, found);
            }
        }
        found
    }

    pub(super) fn conv_integer(&mut self, node: &Node) -> Result<bool> {
        let (x, w) = (self.dims(&node.inputs[0])?, self.dims(&node.inputs[1])?);
        if !(3..=4).contains(&x.len()) || x.len() != w.len() || x.contains(&0) || w.contains(&0) {
            return Ok(false);
        }
        let groups = usize::try_from(node.get_int("group", 1)?).unwrap_or(1).max(1);
        let window = WindowAttrs::of(node, Some(&w[2..]), x.len() - 2)?.resolve(&x[2..])?;
        if x[1] != w[1] * groups || w[0] % groups != 0 {
            return Err(Error::shape(format!("weight {w:?} with {groups} groups does not fit {} channels", x[1])));
        }
        let Some(weights) = self.centred_weights(node, 0)? else { return Ok(false) };
        let Some(input) = self.centred(node)? else { return Ok(false) };
        let Some(ends) = self.ends(node, w[0], 1)? else { return Ok(false) };
        let id = self.as_4d(input.id)?;
        let id = self.image(id, false)?;
        self.integer_layer(node, Centred { id, ..input }, weights, ends, (window, groups), false)?;
        Ok(true)
    }

    /// MatMulInteger with a constant right side `[in, out]`.
    pub(super) fn product_integer(&mut self, node: &Node) -> Result<bool> {
        let (x, w) = (self.dims(&node.inputs[0])?, self.dims(&node.inputs[1])?);
        let (&[ins, outs], true) = (w.as_slice(), x.len() >= 2 && !x.contains(&0) && !w.contains(&0)) else { return Ok(false) };
        if x[x.len() - 1] != ins {
            return Err(Error::shape(format!("{x:?} and {w:?} do not multiply")));
        }
        let Some(weights) = self.centred_weights(node, 1)? else { return Ok(false) };
        let Some(input) = self.centred(node)? else { return Ok(false) };
        let Some(ends) = self.ends(node, outs, x.len() - 1)? else { return Ok(false) };
        let weights = (0..ins * outs).map(|i| weights[i % ins * outs + i / ins]).collect();
        let rows: usize = x[..x.len() - 1].iter().product();
        let id = self.rows_image(input.id, rows, ins)?;
        self.integer_layer(node, Centred { id, ..input }, weights, ends, (Window::square([1, rows], 1, 1, 0, 1), 1), true)?;
        Ok(true)
    }

    /// The first input of an integer product with its zero point, if it has one.
    fn centred(&mut self, node: &Node) -> Result<Option<Centred>> {
        let Some(&Val::Quantized { id, signed }) = self.values.get(&node.inputs[0]) else { return Ok(None) };
        let zero = match node.input(2) {
            Some(name) => match (self.constant(name), self.values.get(name)) {
                (Some(c), _) if c.count() == 1 => c.to_i64s()?[0],
                (None, Some(&Val::Quantized { id: zero, signed: other }))
                    if other == signed && self.tensors[zero].dims.iter().all(|&n| n == 1) =>
                {
                    return Ok(Some(Centred { id, zero }));
                }
                _ => return Ok(None),
            },
            None => 0,
        };
        let Ok(zero) = u8::try_from(if signed { zero + 128 } else { zero }) else { return Ok(None) };
        let zero = self.constant_memory(Kind::U8, &[], &[zero]);
        Ok(Some(Centred { id, zero }))
    }

    /// Constant weights less their zero points, of which there is one, or one for each index of `axis`; as many products for
    /// a result as sums have room for.
    fn centred_weights(&self, node: &Node, axis: usize) -> Result<Option<Vec<i16>>> {
        let Some(w) = self.constant(&node.inputs[1]).filter(|c| matches!(c.element(), Element::I8 | Element::U8)) else { return Ok(None) };
        let outs = w.dims()[axis];
        let zeros = match node.input(3).map(|n| self.constant(n)) {
            None => vec![0],
            Some(Some(z)) if z.count() == 1 || z.dims() == [outs] => z.to_i64s()?,
            Some(_) => return Ok(None),
        };
        Ok(centred(w, axis, &zeros)?.filter(|w| w.len() / outs <= Weights::most_products(w)))
    }

    /// What is done to the sums of an integer product that has `channels` on `axis`, and takes the nodes that do it. `None` where
    /// something else than a Cast to float32 reads the sums.
    fn ends(&mut self, node: &Node, channels: usize, axis: usize) -> Result<Option<Ends>> {
        let Some(cast) = self.sole_reader(&node.outputs[0]) else { return Ok(None) };
        let made = &self.graph.nodes()[cast];
        if self.done[cast] || !made.is(CAST) || self.element(&made.outputs[0]) != Some(Element::F32) {
            return Ok(None);
        }
        self.take(cast);
        let mut makes = made.outputs[0].clone();
        let (mut scale, mut scales, mut bias) = (None, vec![1.0; channels], None);
        if let Some((mul, other)) = self.other_of(&makes, MUL)
            && let Some((by, each)) = self.factors(&other, &makes, channels, axis)?
        {
            self.take(mul);
            makes = self.graph.nodes()[mul].outputs[0].clone();
            (scale, scales) = (by, each);
            if let Some((add, other)) = self.other_of(&makes, ADD)
                && let Some(each) = self.per_channel(&other, &makes, channels, axis)?
            {
                self.take(add);
                makes = self.graph.nodes()[add].outputs[0].clone();
                bias = Some(each);
            }
        }
        let scale = scale.unwrap_or_else(|| self.constant_tensor(&[], &[1.0]));
        Ok(Some(Ends { scale, scales, bias, makes }))
    }

    /// The node of this operator that is all that happens to a value, and its other operand.
    fn other_of(&self, name: &str, op: &str) -> Option<(usize, String)> {
        let i = self.sole_reader(name)?;
        let node = &self.graph.nodes()[i];
        let other = node.inputs.iter().find(|n| *n != name)?;
        let same = self.dims(&node.outputs[0]).ok()? == self.dims(name).ok()?;
        (!self.done[i] && node.is(op) && node.inputs.len() == 2 && same).then(|| (i, other.clone()))
    }

    /// A factor of each channel of `of`: a number that is worked out when the plan runs, if there is one, and constants.
    fn factors(&self, name: &str, of: &str, channels: usize, axis: usize) -> Result<Option<(Option<Id>, Vec<f32>)>> {
        let number = |name: &str| match self.values.get(name) {
            Some(Val::Float(id)) if self.tensors[*id].dims.iter().all(|&n| n == 1) && self.constant(name).is_none() => Some(*id),
            _ => None,
        };
        if let Some(each) = self.per_channel(name, of, channels, axis)? {
            return Ok(Some((None, each)));
        }
        if let Some(&i) = self.makers.get(name)
            && let node = &self.graph.nodes()[i]
            && node.is(MUL)
        {
            for (a, b) in [(0, 1), (1, 0)] {
                if let Some(id) = number(&node.inputs[a])
                    && let Some(each) = self.per_channel(&node.inputs[b], of, channels, axis)?
                {
                    return Ok(Some((Some(id), each)));
                }
            }
        }
        Ok(number(name).map(|id| (Some(id), vec![1.0; channels])))
    }

    /// A constant that has one number for all of `of`, or one for each of the channels on its `axis`.
    fn per_channel(&self, name: &str, of: &str, channels: usize, axis: usize) -> Result<Option<Vec<f32>>> {
        let Some((dims, v)) = self.constant_floats(name)? else { return Ok(None) };
        let rank = self.dims(of)?.len();
        Ok(match v.as_slice() {
            [one] => Some(vec![*one; channels]),
            _ => (dims.len() <= rank && v.len() == channels && (axis + dims.len()).checked_sub(rank).is_some_and(|a| dims[a] == channels))
                .then_some(v),
        })
    }

    fn integer_layer(
        &mut self,
        node: &Node,
        input: Centred,
        weights: Vec<i16>,
        ends: Ends,
        (window, groups): (Window, usize),
        flat: bool,
    ) -> Result<()> {
        let Ends { scale, scales, bias, mut makes } = ends;
        let mut epilogue = Epilogue::default();
        if let Some(f) = self.activation_of(&makes)? {
            epilogue.act = Some(f.act);
            self.take(f.node);
            makes = f.makes;
        }
        let out = self.out_dims(node)?;
        let y = self.layer_result(Kind::F32, &out, &window, flat);
        let affine = Affine { scale: 1.0, zero: 0 };
        let conv = Conv {
            before: None,
            window,
            groups,
            weights: Weights::integers(weights, scales),
            bias,
            epilogue,
            affine,
            measured: true,
            quantized: None,
            outs: Vec::new(),
        };
        self.step(Op::Conv(Box::new(conv)), &[input.id, scale, input.zero], &[y]);
        let y = self.layer_value(y, &out, flat)?;
        self.set(&makes, Val::Float(y))
    }
}
