//! From steps on tensors to jobs on memory.

use super::lower::{Affine, ChannelMap, Conv, Lowered, LoweredStep, Op, Weights, line};
use super::place::{Arena, is_part};
use super::tensor::{Home, Id, Kind, Layout, Source, Tensors};
use compresso_base::error::{Error, Result};
use compresso_kernels::channels_last::affine::affine;
use compresso_kernels::channels_last::conv::{conv, conv_after};
use compresso_kernels::channels_last::int8::{self, AveragePool, Bytes, Channels, Factors, Found, Int8Add, Int8Conv, Store};
use compresso_kernels::channels_last::program::{Buffer, Program, Slot, Step as Run};
use compresso_kernels::channels_last::strided::{AttentionSpec, Binary, NormSpec};
use compresso_kernels::channels_last::{Before, ConvSpec, Element, Job, View, map, pool, resize, strided};
use compresso_kernels::{Window, Window2};
use std::collections::HashMap;
use std::ops::Range;

/// Makes the jobs of steps and adds them to a program.
pub struct Build<'a> {
    pub tensors: &'a Tensors,
    pub arena: &'a Arena,
    pub program: &'a mut Program,
    /// Parts of the ranges that steps have found, by the tensor that they are in.
    pub parts: HashMap<Id, usize>,
}

/// A tensor as images: the view of one and the elements from one to the next.
#[derive(Clone, Copy)]
struct Images {
    count: usize,
    view: View,
    apart: usize,
}

impl Images {
    /// One element, for all images of the other operands.
    const ONE: Self = Self { count: 1, view: View { height: 1, width: 1, channels: 1, row: 1, pixel: 1, channel: 1 }, apart: 0 };
}

impl Build<'_> {
    fn layout(&self, id: Id) -> Result<Layout> {
        self.tensors.layout(id).ok_or_else(|| Error::internal("a tensor without a layout"))
    }

    /// The slot of a tensor, `apart` elements from one image to the next, `reach` elements long.
    fn slot(&self, id: Id, apart: usize, reach: usize) -> Result<Slot> {
        let (layout, bytes) = (self.layout(id)?, self.tensors[id].kind.bytes());
        let Source::Root { home, .. } = &self.tensors[layout.root].source else { return Err(Error::internal("a root that is a view")) };
        let (buffer, base) = match home {
            Home::Arena => {
                (Buffer::Arena, self.arena.offsets.get(&layout.root).copied().ok_or_else(|| Error::internal("a root without memory"))?)
            }
            Home::Input(i) => (Buffer::Input(*i), 0),
            Home::Constants(at) => (Buffer::Constants, *at),
            Home::Within { .. } => return Err(Error::internal("an outermost root within another")),
        };
        let [image, reach] = [apart, reach].map(|elements| elements.saturating_mul(bytes));
        Ok(Slot { buffer, offset: base + layout.offset * bytes, image, reach })
    }
    /// The slot of a whole tensor.
    pub fn whole(&self, id: Id) -> Result<Slot> {
        let reach = self.layout(id)?.reach(&self.tensors[id].dims);
        self.slot(id, 0, reach)
    }

    fn image(&self, id: Id) -> Result<Images> {
        let (layout, dims) = (self.layout(id)?, &self.tensors[id].dims);
        let (&[count, channels, height, width], &[apart, channel, row, pixel]) = (dims.as_slice(), layout.strides.as_slice()) else {
            return Err(Error::internal("an image without four axes"));
        };
        let channel = if channels == 1 { 1 } else { channel };
        Ok(Images { count, view: View { height, width, channels, row, pixel, channel }, apart })
    }
    fn image_slot(&self, id: Id, i: &Images) -> Result<Slot> {
        self.slot(id, i.apart, i.view.reach())
    }

    fn push_images(&mut self, job: Box<dyn Job>, reads: &[(Id, Images)], writes: &[(Id, Images)]) -> Result<usize> {
        let inputs = reads.iter().map(|(id, i)| self.image_slot(*id, i)).collect::<Result<Vec<_>>>()?;
        let outputs = writes.iter().map(|(id, i)| self.image_slot(*id, i)).collect::<Result<Vec<_>>>()?;
        let images = writes.first().map_or(1, |(_, i)| i.count);
        self.program.push(Run { job, images, inputs, outputs })
    }
    fn push_whole(&mut self, job: Box<dyn Job>, reads: &[Id], writes: &[Id]) -> Result<usize> {
        let inputs = reads.iter().map(|&id| self.whole(id)).collect::<Result<Vec<_>>>()?;
        let outputs = writes.iter().map(|&id| self.whole(id)).collect::<Result<Vec<_>>>()?;
        self.program.push(Run { job, images: 1, inputs, outputs })
    }

    /// Tensors of equal sizes as images that are worked on element by element.
    fn elements(&self, ids: &[Id]) -> Result<Vec<(Id, Images)>> {
        let dims = &self.tensors[ids[0]].dims;
        let layouts = ids.iter().map(|&id| self.layout(id)).collect::<Result<Vec<_>>>()?;
        let mut axes: Vec<(usize, Vec<usize>)> =
            (0..dims.len()).filter(|&d| dims[d] != 1).map(|d| (dims[d], layouts.iter().map(|l| l.strides[d]).collect())).collect();
        axes.sort_by(|a, b| b.1.cmp(&a.1));
        // The fastest axis stays by itself, so that there are rows to share among threads.
        // Bytes of a pixel lie together: where they do not, each is a pixel.
        let one = (1, vec![1; ids.len()]);
        let together = |(_, s): &(usize, Vec<usize>)| s.iter().zip(ids).all(|(&s, &id)| s == 1 || self.tensors[id].kind == Kind::F32);
        let channel = axes.pop_if(|axis| together(axis)).unwrap_or(one);
        let mut merged: Vec<(usize, Vec<usize>)> = Vec::new();
        for (n, s) in axes {
            match merged.last_mut() {
                Some((outer, t)) if merged_from(t, &s, n) => (*outer, *t) = (*outer * n, s),
                _ => merged.push((n, s)),
            }
        }
        if merged.len() > 3 {
            return Err(Error::unsupported(format!("an elementwise operation on bytes with {} axes that lie apart", merged.len() + 1)));
        }
        let nothing = (1, vec![0; ids.len()]);
        let axis = |from_end: usize| merged.len().checked_sub(from_end).map_or(&nothing, |i| &merged[i]);
        let (pixel, row, image) = (axis(1), axis(2), axis(3));
        Ok(ids
            .iter()
            .enumerate()
            .map(|(i, &id)| {
                // Rows of one pixel, where there is but one axis, are shared like rows.
                let (height, width) = if row.0 == 1 { (pixel.0, 1) } else { (row.0, pixel.0) };
                let view = View {
                    height,
                    width,
                    channels: channel.0,
                    row: if row.0 == 1 { pixel.1[i] } else { row.1[i] },
                    pixel: pixel.1[i].max(1),
                    channel: channel.1[i],
                };
                (id, Images { count: image.0, view, apart: image.1[i] })
            })
            .collect())
    }

    /// Adds the jobs of a step; their numbers. Candle's steps have none.
    ///
    /// # Errors
    /// `Unsupported` for layouts that no kernel takes.
    pub fn step(&mut self, step: &LoweredStep, threads: usize) -> Result<Vec<usize>> {
        let (reads, writes) = (&step.reads, &step.writes);
        Ok(match &step.op {
            Op::Conv(c) => vec![self.conv(c, reads, writes, threads)?],
            Op::MaxPool(w) => {
                let (x, y, w) = (self.image(reads[0])?, self.image(writes[0])?, plane(w)?);
                let job = match self.tensors[reads[0]].kind {
                    Kind::F32 => pool::max_pool(&w, x.view, y.view)?,
                    Kind::U8 => int8::max_pool(w, x.view, y.view, threads)?,
                };
                vec![self.push_images(job, &[(reads[0], x)], &[(writes[0], y)])?]
            }
            Op::AveragePool(w, count_padding) => {
                let (x, y) = (self.image(reads[0])?, self.image(writes[0])?);
                let end = pair(&w.pad_end, 0)?;
                let job = pool::average_pool(&plane(w)?, x.view, y.view, *count_padding, end)?;
                vec![self.push_images(job, &[(reads[0], x)], &[(writes[0], y)])?]
            }
            Op::Nearest(scale) => {
                let (x, y) = (self.image(reads[0])?, self.image(writes[0])?);
                let job = match self.tensors[reads[0]].kind {
                    Kind::F32 => resize::nearest(*scale, x.view, y.view)?,
                    Kind::U8 => int8::resize_nearest(*scale, x.view, y.view, threads)?,
                };
                vec![self.push_images(job, &[(reads[0], x)], &[(writes[0], y)])?]
            }
            Op::Unary(act) => {
                let ids = [reads[0], writes[0]];
                match self.elements(&ids) {
                    Ok(pair) => {
                        let job = map::map(*act, pair[0].1.view, pair[1].1.view)?;
                        vec![self.push_images(job, &pair[..1], &pair[1..])?]
                    }
                    // More axes that lie apart than an image has.
                    Err(_) => {
                        let (x, y) = (self.layout(reads[0])?, self.layout(writes[0])?);
                        let job = strided::unary(*act, &self.tensors[reads[0]].dims, &x.strides, &y.strides)?;
                        vec![self.push_whole(job, reads, writes)?]
                    }
                }
            }
            Op::PerChannel(p) => {
                let (x, y) = (self.image(reads[0])?, self.image(writes[0])?);
                let job = affine(&p.scale, &p.shift, p.act, x.view, y.view, threads)?;
                vec![self.push_images(job, &[(reads[0], x)], &[(writes[0], y)])?]
            }
            Op::Binary(op) => {
                let dims = &self.tensors[writes[0]].dims;
                let (a, b) = (self.broadcast(reads[0], dims)?, self.broadcast(reads[1], dims)?);
                let job = strided::binary(*op, dims, &a, &b, &self.layout(writes[0])?.strides)?;
                vec![self.push_whole(job, reads, writes)?]
            }
            Op::Softmax(axis) => {
                let (x, y) = (self.layout(reads[0])?, self.layout(writes[0])?);
                let job = strided::softmax(&self.tensors[reads[0]].dims, *axis, &x.strides, &y.strides)?;
                vec![self.push_whole(job, reads, writes)?]
            }
            Op::Expectation(axis, numbers) => {
                let (x, y) = (self.layout(reads[0])?, self.layout(writes[0])?);
                let job = strided::expectation(&self.tensors[reads[0]].dims, *axis, numbers.clone(), &x.strides, &y.strides)?;
                vec![self.push_whole(job, reads, writes)?]
            }
            Op::MatMul => {
                let sizes = |id: Id| -> &[usize] { &self.tensors[id].dims };
                let (a, b, y) = (sizes(reads[0]), sizes(reads[1]), sizes(writes[0]));
                let leading = &y[..y.len() - 2];
                let (&[rows, inner], &columns) = (&a[a.len() - 2..], &b[b.len() - 1]) else {
                    return Err(Error::internal("a product of what are no matrices"));
                };
                let left = self.broadcast(reads[0], &[leading, &[rows, inner]].concat())?;
                let right = self.broadcast(reads[1], &[leading, &[inner, columns]].concat())?;
                let job = strided::matmul(leading, [rows, inner, columns], &left, &right, &self.layout(writes[0])?.strides, threads)?;
                vec![self.push_whole(job, reads, writes)?]
            }
            Op::Attention(scale, changes) => vec![self.attention(*scale, changes, reads, writes, threads)?],
            Op::Norm(norm) => {
                let (x, y) = (self.layout(reads[0])?, self.layout(writes[0])?);
                let spec =
                    NormSpec { epsilon: norm.epsilon, centred: norm.centred, scale: norm.scale.as_deref(), bias: norm.bias.as_deref() };
                let job = strided::norm(&self.tensors[reads[0]].dims, norm.axis, &x.strides, &y.strides, &spec)?;
                vec![self.push_whole(job, reads, writes)?]
            }
            Op::Reduce(kind, gone) => {
                let (x, y) = (self.layout(reads[0])?, self.layout(writes[0])?);
                let job = strided::reduce(*kind, &self.tensors[reads[0]].dims, gone, &x.strides, &y.strides)?;
                vec![self.push_whole(job, reads, writes)?]
            }
            Op::Repeat => {
                let dims = &self.tensors[writes[0]].dims;
                let (x, y) = (self.broadcast(reads[0], dims)?, self.layout(writes[0])?);
                let job = strided::copy(Element::F32, dims, &x, &y.strides)?;
                vec![self.push_whole(job, reads, writes)?]
            }
            Op::Concat(axis) => self.concat(*axis, reads, writes[0])?,
            Op::Copy => vec![self.copy(reads[0], writes[0], 0, 0)?],
            Op::Range => {
                let job = int8::ranges(&self.tensors[reads[0]].dims, &self.layout(reads[0])?.strides, threads)?;
                self.parts.insert(writes[0], job.parts());
                vec![self.push_whole(job, reads, writes)?]
            }
            Op::Measure(channels) => self.measure(reads, channels, writes, threads)?,
            Op::Quantize(affine) => {
                let pair = self.floats_and_bytes(reads[0], writes[0])?;
                let job = int8::quantize(1.0 / affine.scale, affine.zero, pair[0].1.view, vec![Bytes::whole(pair[1].1.view)], threads)?;
                vec![self.push_images(job, &pair[..1], &pair[1..])?]
            }
            Op::Dequantize(table) => {
                let pair = self.elements(&[reads[0], writes[0]])?;
                let job = int8::dequantize(Box::new(**table), pair[0].1.view, pair[1].1.view, threads)?;
                vec![self.push_images(job, &pair[..1], &pair[1..])?]
            }
            Op::Table(table) => {
                let pair = self.elements(&[reads[0], writes[0]])?;
                let out = Bytes { view: pair[1].1.view, first: 0, table: Some(Box::new(**table)) };
                vec![self.push_images(int8::table(pair[0].1.view, vec![out], threads)?, &pair[..1], &pair[1..])?]
            }
            Op::SumTable(table) => {
                let all = self.elements(&[reads[0], reads[1], writes[0]])?;
                let boxed: Box<[u8; 65536]> = table.to_vec().try_into().map_err(|_| Error::internal("a table of another size"))?;
                let job = int8::binary(boxed, all[0].1.view, all[1].1.view, all[2].1.view, threads)?;
                vec![self.push_images(job, &all[..2], &all[2..])?]
            }
            Op::Add(from, act, to) => {
                let all = self.elements(&[reads[0], reads[1], writes[0]])?;
                let store = stored(Some(*to), all[2].1.view);
                let inputs = [all[0].1.view, all[1].1.view];
                let spec = Int8Add { inputs, scales: from.map(|a| a.scale), zeros: from.map(|a| a.zero), act: *act, store, threads };
                vec![self.push_images(int8::add(&spec)?, &all[..2], &all[2..])?]
            }
            Op::Sum(tables, act, to) => {
                let ids: Vec<Id> = reads.iter().chain(writes).copied().collect();
                let all = self.elements(&ids)?;
                let (terms, out) = all.split_at(reads.len());
                let store = stored(*to, out[0].1.view);
                let floats = terms.get(tables.len()).map(|t| t.1.view);
                let codes = terms.iter().take(tables.len()).map(|t| t.1.view).collect();
                let tables = tables.iter().map(|t| Box::new(**t)).collect();
                let job = int8::sum(tables, codes, floats, *act, &store, threads)?;
                vec![self.push_images(job, terms, out)?]
            }
            Op::ChannelMap(map) => vec![self.channel_map(map, reads, writes[0], threads)?],
            Op::AverageBytes { window, count_padding, affine, table, quantized } => {
                let (x, y, end) = (self.image(reads[0])?, self.image(writes[0])?, pair(&window.pad_end, 0)?);
                let curve = affine.is_none().then(|| Box::new(**table));
                let affine = line(*affine);
                let spec = AveragePool {
                    window: plane(window)?,
                    input: x.view,
                    input_zero: affine.zero,
                    scale: affine.scale,
                    table: curve,
                    padded: count_padding.then_some(end),
                    store: stored(*quantized, y.view),
                    threads,
                };
                vec![self.push_images(int8::average_pool(&spec)?, &[(reads[0], x)], &[(writes[0], y)])?]
            }
            Op::Candle { .. } => Vec::new(),
        })
    }

    fn attention(&mut self, scale: f32, changes: &[Binary], reads: &[Id], writes: &[Id], threads: usize) -> Result<usize> {
        let (&[q, k, v, ref others @ ..], &[y]) = (reads, writes) else { return Err(Error::internal("an attention without factors")) };
        let sizes = |id: Id| -> &[usize] { &self.tensors[id].dims };
        let n = sizes(q).len().saturating_sub(2);
        let (leading, &[rows, depth], &[keys, columns]) = (&sizes(q)[..n], &sizes(q)[n..], &sizes(v)[n..]) else {
            return Err(Error::internal("an attention whose factors are no matrices"));
        };
        let changed = [leading, &[rows, keys]].concat();
        let changes = changes.iter().zip(others).map(|(&op, &id)| Ok((op, self.broadcast(id, &changed)?)));
        let changes = changes.collect::<Result<Vec<_>>>()?;
        let strides = |id: Id| self.layout(id).map(|l| l.strides);
        let (q, k, v, y) = (strides(q)?, strides(k)?, strides(v)?, strides(y)?);
        let spec = AttentionSpec { leading, rows, depth, keys, columns, q: &q, k: &k, v: &v, y: &y, scale, changes: &changes };
        let job = strided::attention(&spec, threads)?;
        self.push_whole(job, reads, writes)
    }

    fn channel_map(&mut self, map: &ChannelMap, reads: &[Id], y: Id, threads: usize) -> Result<usize> {
        let images = reads.iter().map(|&id| Ok((id, self.image(id)?))).collect::<Result<Vec<_>>>()?;
        let to = self.image(y)?;
        let channels = images.iter().zip(&map.tables);
        let spec = int8::ChannelMap {
            images: channels.map(|(i, t)| Channels { view: i.1.view, table: t.as_ref().map(|t| Box::new(**t)) }).collect(),
            by: match (&map.constants, images.get(map.tables.len())) {
                (Some([scale, shift]), _) => Factors::Constants { scale: scale.clone(), shift: shift.clone() },
                (None, Some(by)) => Factors::Read(by.1.view),
                (None, None) => return Err(Error::internal("a gate without factors")),
            },
            act: map.act,
            store: stored(map.quantized, to.view),
            threads,
        };
        self.push_images(int8::channel_map(spec)?, &images, &[(y, to)])
    }

    /// Floats and their bytes as images.
    fn floats_and_bytes(&self, x: Id, y: Id) -> Result<Vec<(Id, Images)>> {
        match self.tensors[x].dims.len() {
            // An image of planes and one of pixels have no order of axes in common.
            4 => Ok(vec![(x, self.image(x)?), (y, self.image(y)?)]),
            _ => self.elements(&[x, y]),
        }
    }

    /// The scale and the zero point of a tensor from the ranges of its pieces, then its bytes.
    fn measure(&mut self, reads: &[Id], channels: &[Range<usize>], writes: &[Id], threads: usize) -> Result<Vec<usize>> {
        let (&[x, ref found @ ..], &[y, scale, zero]) = (reads, writes) else {
            return Err(Error::internal("a measured tensor without its scale"));
        };
        let (mut pieces, mut inputs) = (Vec::new(), Vec::new());
        for (&id, channels) in found.iter().zip(channels) {
            let parts = self.parts.get(&id).copied().ok_or_else(|| Error::internal("ranges that no step finds"))?;
            let Images { count, view, apart } = self.image(id)?;
            pieces.push(Found { images: count, parts, channels: channels.len(), strides: [apart, view.row, view.pixel] });
            let slot = self.whole(id)?;
            let skipped = channels.start * Kind::F32.bytes();
            inputs.push(Slot { offset: slot.offset + skipped, reach: slot.reach - skipped, ..slot });
        }
        let outputs = vec![self.whole(scale)?, self.whole(zero)?];
        let first = self.program.push(Run { job: int8::scale(&pieces)?, images: 1, inputs, outputs })?;
        let pair = self.floats_and_bytes(x, y)?;
        let job = int8::quantize_measured(pair[0].1.view, &[Bytes::whole(pair[1].1.view)], threads)?;
        let second = self.push_images(job, &[pair[0], (scale, Images::ONE), (zero, Images::ONE)], &pair[1..])?;
        Ok(vec![first, second])
    }

    fn conv(&mut self, c: &Conv, reads: &[Id], writes: &[Id], threads: usize) -> Result<usize> {
        let x = self.image(reads[0])?;
        let ys = writes.iter().map(|&id| Ok((id, self.image(id)?))).collect::<Result<Vec<_>>>()?;
        let window = plane(&c.window)?;
        let mut inputs = vec![(reads[0], x)];
        let ranges = c.measured && c.quantized.is_none() && writes.len() > 1;
        let job = match &c.weights {
            Weights::Float(w) => {
                for &id in &reads[1..] {
                    inputs.push((id, self.image(id)?));
                }
                let mut views = inputs[1..].iter().map(|i| i.1.view);
                let residual = if c.epilogue.residual { views.next() } else { None };
                let spec = ConvSpec { window, groups: c.groups, input: x.view, output: ys[0].1.view, residual, epilogue: c.epilogue };
                match &c.before {
                    None => conv(&spec, w, c.bias.as_deref(), threads)?,
                    Some(b) => {
                        let factor = if b.factor { views.next() } else { None };
                        let before = Before { scale: b.scale.as_deref(), shift: b.shift.as_deref(), factor, act: b.act };
                        conv_after(&before, &spec, w, c.bias.as_deref(), threads)?
                    }
                }
            }
            Weights::Int8(_, scales) | Weights::Wide(_, scales) => {
                if c.measured {
                    inputs.extend(reads[1..].iter().map(|&id| (id, Images::ONE)));
                }
                let store = match c.quantized {
                    None => Store::Floats { output: ys[0].1.view },
                    Some(to) => Store::Bytes {
                        inverse_scale: 1.0 / to.scale,
                        zero: to.zero,
                        outputs: c
                            .outs
                            .iter()
                            .zip(&ys)
                            .map(|(o, y)| Bytes { view: y.1.view, first: o.first, table: o.table.as_ref().map(|t| Box::new(**t)) })
                            .collect(),
                    },
                };
                let spec = Int8Conv {
                    window,
                    groups: c.groups,
                    input: x.view,
                    input_zero: (!c.measured).then_some(c.affine.zero),
                    scales: scales.iter().map(|s| s * c.affine.scale).collect(),
                    bias: c.bias.clone().unwrap_or_else(|| vec![0.0; scales.len()]),
                    act: c.epilogue.act,
                    store,
                    ranges,
                    threads,
                };
                match &c.weights {
                    Weights::Wide(w, _) => int8::conv_wide(&spec, w)?,
                    Weights::Int8(w, _) => int8::conv(&spec, w)?,
                    Weights::Float(_) => return Err(Error::internal("float weights of an integer layer")),
                }
            }
        };
        if ranges {
            self.parts.insert(writes[1], job.parts());
        }
        self.push_images(job, &inputs, &ys)
    }

    /// Strides of an operand over the axes of the result; 0 along axes that it repeats on.
    fn broadcast(&self, id: Id, out: &[usize]) -> Result<Vec<usize>> {
        let (layout, dims) = (self.layout(id)?, &self.tensors[id].dims);
        let lead = out.len().checked_sub(dims.len()).ok_or_else(|| Error::internal("an operand of more axes than the result"))?;
        Ok((0..out.len()).map(|d| if d < lead || dims[d - lead] == 1 { 0 } else { layout.strides[d - lead] }).collect())
    }

    fn concat(&mut self, axis: usize, reads: &[Id], to: Id) -> Result<Vec<usize>> {
        let mut jobs = Vec::new();
        let mut start = 0;
        for &id in reads {
            if !is_part(self.tensors, id, to, axis, start) {
                jobs.push(self.copy(id, to, axis, start)?);
            }
            start += self.tensors[id].dims[axis];
        }
        Ok(jobs)
    }

    /// Copies a tensor to positions `start..` of `axis` of another.
    fn copy(&mut self, from: Id, to: Id, axis: usize, start: usize) -> Result<usize> {
        let (x, y, dims) = (self.layout(from)?, self.layout(to)?, &self.tensors[from].dims);
        let (bytes, element) = match self.tensors[from].kind {
            Kind::F32 => (4, Element::F32),
            Kind::U8 => (1, Element::U8),
        };
        let job = strided::copy(element, dims, &x.strides, &y.strides)?;
        let mut output = self.whole(to)?;
        output.offset += start * y.strides.get(axis).copied().unwrap_or(0) * bytes;
        output.reach = y.reach(dims) * bytes;
        let inputs = vec![self.whole(from)?];
        self.program.push(Run { job, images: 1, inputs, outputs: vec![output] })
    }
}

/// How results are stored in one view: as bytes where they are quantized.
fn stored(quantized: Option<Affine>, view: View) -> Store {
    match quantized {
        None => Store::Floats { output: view },
        Some(to) => Store::Bytes { inverse_scale: 1.0 / to.scale, zero: to.zero, outputs: vec![Bytes::whole(view)] },
    }
}

/// True when an axis with strides `outer` goes on where one of `n` positions with strides `inner` ends.
fn merged_from(outer: &[usize], inner: &[usize], n: usize) -> bool {
    outer.iter().zip(inner).all(|(&o, &i)| o == i * n)
}

fn plane(w: &Window) -> Result<Window2> {
    w.as_2d().ok_or_else(|| Error::unsupported("only one or two spatial axes are planned"))
}

fn pair(v: &[usize], fill: usize) -> Result<[usize; 2]> {
    match *v {
        [w] => Ok([fill, w]),
        [h, w] => Ok([h, w]),
        _ => Err(Error::unsupported("only one or two spatial axes are planned")),
    }
}

/// Bytes that a run reads of each input of float32.
pub fn input_bytes(plan: &Lowered) -> Vec<usize> {
    let mut sizes = Vec::new();
    for t in &plan.tensors.0 {
        if let Source::Root { home: Home::Input(i), .. } = t.source {
            sizes.resize(sizes.len().max(i + 1), 0);
            sizes[i] = t.dims.iter().product::<usize>() * t.kind.bytes();
        }
    }
    sizes
}
