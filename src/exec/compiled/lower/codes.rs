//! Values that are functions of stored bytes: what quantized graphs compute between QuantizeLinear and the next.
//!
//! A function of one byte is a table of 256 entries, so whatever happens to a dequantized value before it is quantized
//! again, is exact in one look-up per element. Moves of data commute with it.

use super::{Affine, Lower, Op, Val};
use crate::compiled::tensor::{Home, How, Id, Kind, Source, Tensor};
use compresso_base::error::{Error, Result};
use compresso_kernels::activation::Activation;
use compresso_kernels::channels_last::int8;
use compresso_model::graph::Node;
use compresso_model::ops::quantize::QUANTIZE_LINEAR;
use compresso_model::{Constant, Element};
use std::sync::Arc;

/// `table[q]` for the bytes `q` of a tensor.
#[derive(Debug, Clone)]
pub struct Coded {
    pub id: Id,
    pub table: Arc<[f32; 256]>,
    /// Set where the table is `(q − zero) · scale`.
    pub affine: Option<Affine>,
}

impl Affine {
    fn table(self) -> [f32; 256] {
        std::array::from_fn(|q| (q as f32 - f32::from(self.zero)) * self.scale)
    }
    /// The byte of a real value, as QuantizeLinear, with a multiplication by `1 / scale` as in the kernels.
    pub fn encode(self, real: f32) -> u8 {
        let q = (real * (1.0 / self.scale)).round_ties_even() + f32::from(self.zero);
        // `as` saturates, and makes 0 of NaN.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturation is meant")]
        let byte = q as u8;
        byte
    }
}

impl Coded {
    /// The same function of another tensor.
    pub fn at(&self, id: Id) -> Self {
        Self { id, ..self.clone() }
    }
    fn with(&self, table: [f32; 256]) -> Self {
        Self { id: self.id, table: Arc::new(table), affine: None }
    }
    pub fn map(&self, act: Activation) -> Self {
        let mut table = [0.0; 256];
        act.forward(&self.table[..], &mut table);
        self.with(table)
    }
    /// A function of this and of another of the same tensor.
    pub fn zip(&self, other: &Self, f: impl Fn(f32, f32) -> f32) -> Self {
        self.with(std::array::from_fn(|q| f(self.table[q], other.table[q])))
    }
    pub fn each(&self, f: impl Fn(f32) -> f32) -> Self {
        self.with(std::array::from_fn(|q| f(self.table[q])))
    }
}

impl Lower<'_> {
    pub(super) fn coded(&self, name: &str) -> Option<Coded> {
        match self.values.get(name) {
            Some(Val::Coded(c)) => Some(c.clone()),
            _ => None,
        }
    }

    /// Scale and zero point of a QuantizeLinear or DequantizeLinear, when there is one of each, and the type is int8 or
    /// uint8; true for int8.
    pub(super) fn scale_of(&self, node: &Node) -> Result<Option<(Affine, bool)>> {
        let quantized = if node.is(QUANTIZE_LINEAR) { &node.outputs[0] } else { &node.inputs[0] };
        let signed = match self.element(quantized) {
            Some(Element::I8) => true,
            Some(Element::U8) => false,
            _ => return Ok(None),
        };
        let (Some(scale), zero) = (self.constant(&node.inputs[1]), node.input(2).map(|n| self.constant(n))) else { return Ok(None) };
        let zero = match zero {
            None => 0,
            Some(Some(z)) if z.count() == 1 => z.to_i64s()?[0],
            Some(_) => return Ok(None),
        };
        if scale.count() != 1 || scale.element() != Element::F32 {
            return Ok(None);
        }
        let scale = Constant::to_f32s(scale)?[0];
        let zero = u8::try_from(if signed { zero + 128 } else { zero });
        Ok(match zero {
            Ok(zero) if scale > 0.0 && scale.is_finite() => Some((Affine { scale, zero }, signed)),
            _ => None,
        })
    }

    pub(super) fn quantize(&mut self, node: &Node) -> Result<bool> {
        let Some((affine, signed)) = self.scale_of(node)? else { return Ok(false) };
        if self.element(&node.inputs[0]) != Some(Element::F32) {
            return Ok(false);
        }
        let val = match self.values.get(&node.inputs[0]) {
            Some(v) => v.clone(),
            None => Val::Float(self.float(&node.inputs[0])?),
        };
        let id = self.encode(&val, affine)?;
        self.set(&node.outputs[0], Val::Quantized { id, signed })?;
        Ok(true)
    }

    pub(super) fn dequantize(&mut self, node: &Node) -> Result<bool> {
        let Some((affine, _)) = self.scale_of(node)? else { return Ok(false) };
        let Some(Val::Quantized { id, .. }) = self.values.get(&node.inputs[0]) else { return Ok(false) };
        let val = Val::Coded(Coded { id: *id, table: Arc::new(affine.table()), affine: Some(affine) });
        self.set(&node.outputs[0], val)?;
        Ok(true)
    }

    /// The bytes of a value.
    fn encode(&mut self, val: &Val, affine: Affine) -> Result<Id> {
        match val {
            Val::Coded(c) => {
                let table: [u8; 256] = std::array::from_fn(|q| affine.encode(c.table[q]));
                self.look_up(c.id, table)
            }
            Val::Sum(terms, floats, act)
                if terms.len() > 2
                    || floats.is_some()
                    || (int8::sums_of_curves_are_fast() && !terms.iter().all(|t| t.affine.is_some())) =>
            {
                self.sum(terms, *floats, *act, Some(affine))
            }
            Val::Sum(terms, _, act) => {
                let [a, b] = terms.as_slice() else { return Err(Error::internal("a sum of one")) };
                if let (Some(x), Some(y)) = (a.affine, b.affine) {
                    let (dims, order) = self.like(a.id)?;
                    let to = self.tensors.root(Kind::U8, &dims, &order);
                    self.step(Op::Add([x, y], *act, affine), &[a.id, b.id], &[to]);
                    return Ok(to);
                }
                let mut table = vec![0u8; 1 << 16];
                for (row, x) in table.chunks_exact_mut(256).zip(a.table.iter()) {
                    let mut sums = b.table.map(|y| x + y);
                    if let Some(act) = act {
                        act.forward(&sums.clone(), &mut sums);
                    }
                    row.iter_mut().zip(sums).for_each(|(t, sum)| *t = affine.encode(sum));
                }
                let table: Arc<[u8; 65536]> = table.try_into().map(Arc::new).unwrap_or_else(|_| Arc::new([0; 65536]));
                let (dims, order) = self.like(a.id)?;
                let to = self.tensors.root(Kind::U8, &dims, &order);
                self.step(Op::SumTable(table), &[a.id, b.id], &[to]);
                Ok(to)
            }
            Val::Parts(axis, parts) => {
                let ids = parts.iter().map(|p| self.encode(p, affine)).collect::<Result<Vec<_>>>()?;
                self.concat(*axis, &ids)
            }
            val => {
                let id = self.floats_of(val)?;
                let to = self.bytes_of(id)?;
                self.step(Op::Quantize(affine), &[id], &[to]);
                Ok(to)
            }
        }
    }

    /// The step that works out a sum, as bytes where it is quantized.
    pub(super) fn sum(&mut self, terms: &[Coded], floats: Option<Id>, act: Option<Activation>, quantized: Option<Affine>) -> Result<Id> {
        let (dims, order) = self.like(terms[0].id)?;
        let to = self.tensors.root(if quantized.is_some() { Kind::U8 } else { Kind::F32 }, &dims, &order);
        let (tables, mut ids): (Vec<_>, Vec<_>) = terms.iter().map(|c| (c.table.clone(), c.id)).unzip();
        ids.extend(floats);
        self.step(Op::Sum(tables, act, quantized), &ids, &[to]);
        Ok(to)
    }

    /// Bytes as kernels take them: some that lie together, in at most three axes that lie apart; a copy where they do not.
    pub(super) fn even(&mut self, id: Id) -> Result<Id> {
        let layout = self.tensors.layout(id).ok_or_else(|| Error::internal("a tensor without a layout"))?;
        let mut axes: Vec<(usize, usize)> = self.tensors[id].dims.iter().copied().zip(layout.strides).filter(|(n, _)| *n != 1).collect();
        axes.sort_by_key(|&(_, stride)| std::cmp::Reverse(stride));
        axes.pop_if(|(_, stride)| *stride == 1);
        let apart = axes.len() - axes.windows(2).filter(|w| w[0].1 == w[1].0 * w[1].1).count();
        if apart <= 3 { Ok(id) } else { self.copied(id, id) }
    }

    /// A copy of a tensor, its axes in the order of another's.
    fn copied(&mut self, id: Id, like: Id) -> Result<Id> {
        let order = self.like(like)?.1;
        let (kind, dims) = (self.tensors[id].kind, self.tensors[id].dims.clone());
        let to = self.tensors.root(kind, &dims, &order);
        self.step(Op::Copy, &[id], &[to]);
        Ok(to)
    }

    /// The same terms with their axes in the order of the first one's.
    pub(super) fn alike(&mut self, terms: Vec<Coded>) -> Result<Vec<Coded>> {
        let first = terms[0].id;
        let order = |l: &Self, id: Id| -> Result<Vec<usize>> {
            let order = l.like(id)?.1;
            Ok(order.into_iter().filter(|&a| l.tensors[id].dims[a] != 1).collect())
        };
        terms
            .into_iter()
            .map(|c| if order(self, c.id)? == order(self, first)? { Ok(c) } else { Ok(c.at(self.copied(c.id, first)?)) })
            .collect()
    }

    /// A tensor for the bytes of floats. Images get their channels last, of a few channels each in a word of four bytes.
    pub(super) fn bytes_of(&mut self, floats: Id) -> Result<Id> {
        let dims = self.tensors[floats].dims.clone();
        let (order, pitch) = match dims.len() {
            4 => (vec![0, 2, 3, 1], if dims[1] <= 4 { 4 } else { 1 }),
            _ => (self.like(floats)?.1, 1),
        };
        let source = Source::Root { order, pitch, home: Home::Arena };
        Ok(self.tensors.add(Tensor { kind: Kind::U8, dims, source, fixed: pitch > 1 }))
    }

    /// The bytes `table[q]`; the tensor itself when that changes nothing.
    fn look_up(&mut self, id: Id, table: [u8; 256]) -> Result<Id> {
        if (0..=255u8).zip(table).all(|(q, t)| q == t) {
            return Ok(id);
        }
        let same = |op: &Op| matches!(op, Op::Table(t) if **t == table);
        if let Some(step) = self.steps.iter().find(|s| s.reads == [id] && same(&s.op)) {
            return Ok(step.writes[0]);
        }
        let (dims, order) = self.like(id)?;
        // Repeating pixels commutes with a table, which has less to do before it.
        let enlarged = self.steps.iter().find_map(|s| match s.op {
            Op::Nearest(scale) if s.writes == [id] => Some((s.reads[0], scale)),
            _ => None,
        });
        if let Some((small, scale)) = enlarged {
            let small = self.look_up(small, table)?;
            let to = self.tensors.root(Kind::U8, &dims, &order);
            self.step(Op::Nearest(scale), &[small], &[to]);
            return Ok(to);
        }
        let to = self.tensors.root(Kind::U8, &dims, &order);
        self.step(Op::Table(Arc::new(table)), &[id], &[to]);
        Ok(to)
    }

    /// The same values by bytes that are ordered as they are, so that the largest byte stands for the largest value.
    pub(super) fn ranked(&mut self, c: &Coded) -> Coded {
        if c.table.is_sorted() {
            return c.clone();
        }
        let mut values = *c.table;
        values.sort_by(f32::total_cmp);
        let table: [u8; 256] = std::array::from_fn(|q| values.iter().position(|v| v.total_cmp(&c.table[q]).is_eq()).unwrap_or(0) as u8);
        // A layout exists: the tensor was made by a step.
        let id = self.look_up(c.id, table).unwrap_or(c.id);
        Coded { id, table: Arc::new(values), affine: None }
    }

    /// Lets the convolution that makes the bytes which a table step reads do the look-up too.
    pub(super) fn join_tables(&mut self) {
        let mut at = 0;
        while at < self.steps.len() {
            let Some((found, first, table)) = self.joinable(at) else {
                at += 1;
                continue;
            };
            let id = self.remove_step(at).writes[0];
            let step = &mut self.steps[found];
            step.writes.push(id);
            if let Op::Conv(conv) = &mut step.op {
                conv.outs.push(super::Out { id, first, table: Some(table) });
            }
        }
        // Bytes that nothing reads as they are, are not stored.
        for i in 0..self.steps.len() {
            let Op::Conv(conv) = &self.steps[i].op else { continue };
            if conv.outs.len() < 2 || conv.outs[0].table.is_some() {
                continue;
            }
            let raw = conv.outs[0].id;
            let wanted = self
                .values
                .values()
                .any(|v| matches!(v, Val::Quantized { id, .. } if self.tensors.own_root(*id) == raw && self.tensors[*id].fixed));
            if !wanted && !self.steps.iter().any(|s| s.reads.iter().any(|&r| self.tensors.own_root(r) == raw)) {
                let step = &mut self.steps[i];
                step.writes.retain(|&w| w != raw);
                if let Op::Conv(conv) = &mut step.op {
                    conv.outs.remove(0);
                }
            }
        }
    }

    /// What a table step can be joined to, where it reads channels of a convolution's bytes: that step, the first channel, and the
    /// table.
    fn joinable(&self, at: usize) -> Option<(usize, usize, Arc<[u8; 256]>)> {
        let step = &self.steps[at];
        let Op::Table(table) = &step.op else { return None };
        let (mut id, mut first) = (step.reads[0], 0);
        while let Source::View { of, how } = &self.tensors[id].source {
            let How::Slice { axis: 1, start, step: 1 } = how else { return None };
            first += start;
            id = *of;
        }
        let makes =
            |s: &super::LoweredStep| matches!(&s.op, Op::Conv(c) if c.outs.first().is_some_and(|o| o.id == id && o.table.is_none()));
        let found = self.steps[..at].iter().position(makes)?;
        // A conv has room for some outputs.
        (self.steps[found].writes.len() < 6).then(|| (found, first, table.clone()))
    }
}
