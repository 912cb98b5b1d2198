//! One node.

use super::{From, Lower, Op, To, Val};
use crate::compiled::tensor::Kind;
use compresso_base::error::{Error, Result};
use compresso_kernels::Window;
use compresso_kernels::channels_last::strided::{Binary, Reduce};
use compresso_model::graph::{Node, normalize_axis};
use compresso_model::ops::activation;
use compresso_model::ops::activation::DROPOUT;
use compresso_model::ops::arithmetic::{ADD, DIV, MUL, SUB};
use compresso_model::ops::cast::CAST;
use compresso_model::ops::concat::{CONCAT, PAD};
use compresso_model::ops::conv::{CONV, CONV_INTEGER};
use compresso_model::ops::gather::GATHER;
use compresso_model::ops::matmul::{GEMM, MATMUL, MATMUL_INTEGER};
use compresso_model::ops::norm::{BATCH_NORMALIZATION, INSTANCE_NORMALIZATION, LAYER_NORMALIZATION, RMS_NORMALIZATION};
use compresso_model::ops::pool::{AVERAGE_POOL, GLOBAL_AVERAGE_POOL, MAX_POOL};
use compresso_model::ops::quantize::{DEQUANTIZE_LINEAR, DYNAMIC_QUANTIZE_LINEAR, QUANTIZE_LINEAR};
use compresso_model::ops::reduce::{REDUCE_L2, REDUCE_MAX, REDUCE_MEAN, REDUCE_SUM};
use compresso_model::ops::resize::{RESIZE, UPSAMPLE, scales_input};
use compresso_model::ops::shape::{FLATTEN, RESHAPE, SQUEEZE, UNSQUEEZE};
use compresso_model::ops::slice::{SLICE, SPLIT};
use compresso_model::ops::softmax::SOFTMAX;
use compresso_model::ops::transpose::{EXPAND, IDENTITY, TRANSPOSE};
use compresso_model::ops::window::WindowAttrs;
use compresso_model::{Attr, Element};

/// Lowers a node; false where its operator has no kernel for these inputs.
type Lowering = fn(&mut Lower<'_>, &Node) -> Result<bool>;

/// Operators that go between floats and their codes, and those on codes.
const CODES: &[(&str, Lowering)] = &[
    (QUANTIZE_LINEAR, |l, n| l.quantize(n)),
    (DEQUANTIZE_LINEAR, |l, n| l.dequantize(n)),
    (DYNAMIC_QUANTIZE_LINEAR, |l, n| l.dynamic_quantize(n)),
    (CONV_INTEGER, |l, n| l.conv_integer(n)),
    (MATMUL_INTEGER, |l, n| l.product_integer(n)),
    (BATCH_NORMALIZATION, |l, n| l.batch_norm_of_codes(n)),
    (MUL, |l, n| l.gate(n)),
];

/// Operators on floats that have kernels, beside the functions of one value ([`activation::of_node`]).
const FLOATS: &[(&str, Lowering)] = &[
    (CONV, |l, n| l.conv(n)),
    (GEMM, |l, n| l.product(n)),
    (MATMUL, |l, n| l.product(n)),
    (MAX_POOL, |l, n| l.max_pool(n)),
    (AVERAGE_POOL, |l, n| l.average_pool(n)),
    (GLOBAL_AVERAGE_POOL, |l, n| l.global_average_pool(n)),
    (REDUCE_MEAN, |l, n| l.reduce_mean(n)),
    (REDUCE_SUM, |l, n| l.reduce(n, Reduce::Sum)),
    (REDUCE_MAX, |l, n| l.reduce(n, Reduce::Max)),
    (REDUCE_L2, |l, n| l.reduce(n, Reduce::L2)),
    (LAYER_NORMALIZATION, |l, n| l.line_norm(n, true)),
    (RMS_NORMALIZATION, |l, n| l.line_norm(n, false)),
    (INSTANCE_NORMALIZATION, |l, n| l.instance_norm(n)),
    (GATHER, |l, n| l.gather(n)),
    (EXPAND, |l, n| l.expand(n)),
    (PAD, |l, n| l.no_pad(n)),
    (RESIZE, |l, n| l.nearest(n)),
    (UPSAMPLE, |l, n| l.nearest(n)),
    (ADD, |l, n| l.add(n)),
    (SUB, |l, n| l.binary(n, Binary::Sub)),
    (MUL, |l, n| l.binary(n, Binary::Mul)),
    (DIV, |l, n| l.binary(n, Binary::Div)),
    (SOFTMAX, |l, n| l.softmax(n)),
    (CONCAT, |l, n| l.concat_node(n)),
    (SPLIT, |l, n| l.split(n)),
    (SLICE, |l, n| l.slice_node(n)),
    (RESHAPE, |l, n| l.reshape(n)),
    (FLATTEN, |l, n| l.reshape(n)),
    (SQUEEZE, |l, n| l.reshape(n)),
    (UNSQUEEZE, |l, n| l.reshape(n)),
    (TRANSPOSE, |l, n| l.transpose(n)),
    (IDENTITY, |l, n| l.same(n)),
    (DROPOUT, |l, n| l.same(n)),
    (CAST, |l, n| l.same(n)),
];

impl Lower<'_> {
    pub(super) fn lower_node(&mut self, node: &Node) -> Result<()> {
        // Constants of any size that inference has worked out need no step.
        if node.outputs.iter().all(|o| o.is_empty() || self.constant(o).is_some()) {
            return Ok(());
        }
        if self.weight_only(node) || self.planned(node)? {
            return Ok(());
        }
        self.candle(node)
    }

    /// A DequantizeLinear of constants: read by the layers through [`Lower::constant_floats`].
    fn weight_only(&self, node: &Node) -> bool {
        node.is(DEQUANTIZE_LINEAR) && self.constant(&node.inputs[0]).is_some() && !self.is_wanted(&node.outputs[0])
    }

    /// Lowers the operators that have kernels. False: not one of them, or not with these inputs.
    fn planned(&mut self, node: &Node) -> Result<bool> {
        if !matches!(node.domain.as_str(), "" | "ai.onnx") {
            return Ok(false);
        }
        let float = |name: &String| self.element(name) == Some(Element::F32);
        let floats = node.inputs.first().is_some_and(float) && node.outputs.first().is_some_and(float);
        for (_, lower) in CODES.iter().filter(|(op, _)| *op == node.op) {
            if lower(self, node)? {
                return Ok(true);
            }
        }
        if !floats {
            return Ok(false);
        }
        if self.affine(node)? {
            return Ok(true);
        }
        match FLOATS.iter().find(|(op, _)| *op == node.op) {
            Some((_, lower)) => lower(self, node),
            None => match activation::of_node(node, self.graph.opset_of(node), &|n| self.constant(n))? {
                Some(act) => self.unary(node, act),
                None => Ok(false),
            },
        }
    }

    fn average_pool(&mut self, node: &Node) -> Result<bool> {
        let x = self.dims(&node.inputs[0])?;
        let w = WindowAttrs::of(node, None, x.len().saturating_sub(2))?.resolve(&x[2..])?;
        self.average(node, w, node.get_int("count_include_pad", 0)? != 0)
    }

    fn global_average_pool(&mut self, node: &Node) -> Result<bool> {
        let x = self.dims(&node.inputs[0])?;
        self.average(node, whole(&x[2..]), false)
    }

    fn same(&mut self, node: &Node) -> Result<bool> {
        let val = match self.values.get(&node.inputs[0]) {
            Some(v) => v.clone(),
            None => Val::Float(self.float(&node.inputs[0])?),
        };
        if node.output(1).is_some() {
            return Ok(false);
        }
        self.set(&node.outputs[0], val)?;
        Ok(true)
    }

    fn max_pool(&mut self, node: &Node) -> Result<bool> {
        let dims = self.dims(&node.inputs[0])?;
        if !(3..=4).contains(&dims.len()) || node.output(1).is_some() {
            return Ok(false);
        }
        let window = WindowAttrs::of(node, None, dims.len() - 2)?.resolve(&dims[2..])?;
        let out = self.out_dims(node)?;
        // Of a window that lies in the padding alone the floats make -inf, which no code stands for.
        let codes = window.as_2d().is_some_and(|w| w.reads_everywhere());
        let coded = self.coded(&node.inputs[0]).filter(|_| codes).map(|c| self.ranked(&c));
        let x = match &coded {
            Some(c) => c.id,
            None => self.float(&node.inputs[0])?,
        };
        let (x, wide) = (self.as_4d(x)?, four(&out));
        let x = self.image(x, false)?;
        let kind = self.tensors[x].kind;
        let y = self.tensors.root(kind, &wide, &[0, 2, 3, 1]);
        self.step(Op::MaxPool(window), &[x], &[y]);
        let y = self.shaped(y, &out)?;
        let val = match coded {
            Some(c) => Val::Coded(c.at(y)),
            None => Val::Float(y),
        };
        self.set(&node.outputs[0], val)?;
        Ok(true)
    }

    fn average(&mut self, node: &Node, window: Window, count_padding: bool) -> Result<bool> {
        let out = self.out_dims(node)?;
        if !(3..=4).contains(&out.len()) {
            return Ok(false);
        }
        if let Some(c) = self.coded(&node.inputs[0]).filter(|_| !out.contains(&0)) {
            let wide = four(&out);
            let wide = [wide[0], wide[1], wide[2], wide[3]];
            self.average_of_codes(node, &c, window, wide, count_padding)?;
            return Ok(true);
        }
        let x = self.float(&node.inputs[0])?;
        let x = self.as_4d(x)?;
        let x = self.image(x, false)?;
        let y = self.tensors.root(Kind::F32, &four(&out), &[0, 2, 3, 1]);
        self.step(Op::AveragePool(window, count_padding), &[x], &[y]);
        let y = self.shaped(y, &out)?;
        self.set(&node.outputs[0], Val::Float(y))?;
        Ok(true)
    }

    /// The mean over both spatial axes of an image, as classifiers end.
    fn reduce_mean(&mut self, node: &Node) -> Result<bool> {
        let dims = self.dims(&node.inputs[0])?;
        let axes = match (node.find_ints("axes")?, node.input(1).map(|n| self.constant(n))) {
            (Some(a), _) => a.to_vec(),
            (None, Some(Some(c))) => c.to_i64s()?,
            _ => return self.reduce(node, Reduce::Mean),
        };
        let axes = axes.iter().map(|&a| normalize_axis(a, dims.len())).collect::<Result<Vec<_>>>()?;
        if dims.len() != 4 || axes.len() != 2 || !axes.contains(&2) || !axes.contains(&3) {
            return self.reduce(node, Reduce::Mean);
        }
        let out = self.out_dims(node)?;
        if let Some(c) = self.coded(&node.inputs[0]).filter(|_| !dims.contains(&0)) {
            self.average_of_codes(node, &c, whole(&dims[2..]), [dims[0], dims[1], 1, 1], false)?;
            return Ok(true);
        }
        let x = self.float(&node.inputs[0])?;
        let x = self.image(x, false)?;
        let y = self.tensors.root(Kind::F32, &[dims[0], dims[1], 1, 1], &[0, 2, 3, 1]);
        self.step(Op::AveragePool(whole(&dims[2..]), false), &[x], &[y]);
        let y = self.shaped(y, &out)?;
        self.set(&node.outputs[0], Val::Float(y))?;
        Ok(true)
    }

    /// Whole-number enlargement by repeating pixels.
    fn nearest(&mut self, node: &Node) -> Result<bool> {
        let (from, to) = (self.dims(&node.inputs[0])?, self.out_dims(node)?);
        if from.len() != 4 || from[..2] != to[..2] || node.get_str("mode", "nearest")? != "nearest" {
            return Ok(false);
        }
        let whole = (2..4).all(|d| from[d] > 0 && to[d] % from[d] == 0);
        // Half-pixel centres round to the pixel itself for whole factors; so does the floor of an asymmetric scale.
        let modern = node.is(RESIZE) && self.graph.opset() >= 11;
        let repeats = match (modern, node.get_str("coordinate_transformation_mode", "half_pixel")?) {
            (false, _) => true,
            (true, "half_pixel" | "pytorch_half_pixel") => {
                matches!(node.get_str("nearest_mode", "round_prefer_floor")?, "round_prefer_floor" | "round_prefer_ceil")
            }
            (true, "asymmetric") => node.get_str("nearest_mode", "round_prefer_floor")? == "floor",
            _ => false,
        };
        if !whole || !repeats || node.find_ints("axes")?.is_some() || !self.has_exact_scales(node, &from, &to)? {
            return Ok(false);
        }
        let coded = self.coded(&node.inputs[0]);
        let x = match &coded {
            Some(c) => c.id,
            None => self.float(&node.inputs[0])?,
        };
        let x = self.image(x, false)?;
        let y = self.tensors.root(self.tensors[x].kind, &to, &[0, 2, 3, 1]);
        self.step(Op::Nearest([to[2] / from[2], to[3] / from[3]]), &[x], &[y]);
        let val = match coded {
            Some(c) => Val::Coded(c.at(y)),
            None => Val::Float(y),
        };
        self.set(&node.outputs[0], val)?;
        Ok(true)
    }

    /// Whether the scales of a resize, if it states any, are the ratios of its sizes: sizes are rounded down, scales are not.
    fn has_exact_scales(&self, node: &Node, from: &[usize], to: &[usize]) -> Result<bool> {
        let scales = match scales_input(node, self.graph.opset()) {
            None => node.find_floats("scales")?.map(<[f32]>::to_vec),
            Some(i) => match node.input(i).map(|name| self.constant(name)) {
                None => None,
                Some(Some(scales)) => Some(scales.to_f32s()?),
                Some(None) => return Ok(false),
            },
        };
        let Some(scales) = scales.filter(|s| !s.is_empty()) else { return Ok(true) };
        let exact = |((&s, &f), &t): ((&f32, &usize), &usize)| f64::from(s) * f as f64 == t as f64;
        Ok(scales.len() == from.len() && scales.iter().zip(from).zip(to).all(exact))
    }

    fn softmax(&mut self, node: &Node) -> Result<bool> {
        let dims = self.out_dims(node)?;
        let modern = self.graph.opset() >= 13;
        let axis = normalize_axis(node.get_int("axis", if modern { -1 } else { 1 })?, dims.len())?;
        if !modern && axis + 1 != dims.len() || dims.contains(&0) {
            return Ok(false);
        }
        let x = self.float(&node.inputs[0])?;
        let order = self.like(x)?.1;
        if let Some((reader, numbers)) = self.expectation_of(node, axis)? {
            let made = self.graph.nodes()[reader].outputs[0].clone();
            let y = self.tensors.root(Kind::F32, &self.dims(&made)?, &order);
            self.take(reader);
            self.step(Op::Expectation(axis, numbers), &[x], &[y]);
            self.set(&made, Val::Float(y))?;
            return Ok(true);
        }
        let y = self.tensors.root(Kind::F32, &dims, &order);
        self.step(Op::Softmax(axis), &[x], &[y]);
        self.set(&node.outputs[0], Val::Float(y))?;
        Ok(true)
    }

    /// The convolution of one tap and one filter that is all that reads a softmax over channels, with its weights.
    fn expectation_of(&self, node: &Node, axis: usize) -> Result<Option<(usize, Vec<f32>)>> {
        let name = &node.outputs[0];
        let Some(i) = self.sole_reader(name).filter(|&i| axis == 1 && !self.done[i] && !self.is_wanted(name)) else { return Ok(None) };
        let reader = &self.graph.nodes()[i];
        let biased = reader.inputs.get(2).is_some_and(|bias| !bias.is_empty());
        if !reader.is(CONV) || reader.inputs[0] != *name || biased || reader.get_int("group", 1)? != 1 {
            return Ok(None);
        }
        let (from, to) = (self.dims(name)?, self.out_dims(reader)?);
        let Some((w, numbers)) = self.constant_floats(&reader.inputs[1])? else { return Ok(None) };
        let one = w.len() == from.len() && w[0] == 1 && w[1..] == [&from[1..2], &vec![1; w.len() - 2]].concat();
        // One tap without padding or strides, in which case the sizes are the same.
        let plain = reader.find_ints("pads")?.is_none_or(|p| p.iter().all(|&p| p == 0)) && from[2..] == to[2..];
        let strides = reader.find_ints("strides")?.is_none_or(|s| s.iter().all(|&s| s == 1));
        Ok((one && plain && strides).then_some((i, numbers)))
    }

    /// Runs a node by candle, on row-major copies.
    fn candle(&mut self, node: &Node) -> Result<()> {
        let mut from = Vec::new();
        let mut reads = Vec::new();
        if node.attrs.values().any(|a| matches!(a, Attr::Graph(_) | Attr::Graphs(_))) {
            return Err(Error::unsupported("control flow is not planned"));
        }
        for name in &node.inputs {
            let source = if name.is_empty() {
                From::None
            } else if let Some(val) = self.values.get(name).cloned() {
                match val {
                    Val::Held(n) => From::Held(n),
                    Val::Quantized { id, signed, .. } => From::Bytes { id: self.plain(id)?, signed },
                    _ => {
                        let id = self.float(name)?;
                        From::Tensor(self.settled(id)?)
                    }
                }
            } else if let Some(c) = self.constant(name) {
                From::Constant(c.clone())
            } else {
                From::Tensor(self.float(name)?)
            };
            if let From::Tensor(id) | From::Bytes { id, .. } = source {
                reads.push(id);
            }
            from.push(source);
        }
        let (mut to, mut writes) = (Vec::new(), Vec::new());
        for name in &node.outputs {
            to.push(match self.element(name) {
                _ if name.is_empty() => To::None,
                Some(Element::F32) => {
                    let dims = self.dims(name)?;
                    let order: Vec<usize> = (0..dims.len()).collect();
                    let id = self.tensors.root(Kind::F32, &dims, &order);
                    self.tensors.0[id].fixed = true;
                    writes.push(id);
                    To::Tensor(id)
                }
                _ => {
                    self.held += 1;
                    To::Held(self.held - 1)
                }
            });
        }
        self.step(Op::Candle { node: self.node, from, to: to.clone() }, &reads, &writes);
        for (name, to) in node.outputs.iter().zip(to) {
            match to {
                To::Tensor(id) => self.set(name, Val::Float(id))?,
                To::Held(n) => self.set(name, Val::Held(n))?,
                To::None => {}
            }
        }
        Ok(())
    }
}

/// `[n, c, w]` with a height of 1.
fn four(dims: &[usize]) -> Vec<usize> {
    match *dims {
        [n, c, w] => vec![n, c, 1, w],
        _ => dims.to_vec(),
    }
}

/// A window over all of an image.
fn whole(size: &[usize]) -> Window {
    let n = size.len();
    Window {
        input: size.to_vec(),
        kernel: size.to_vec(),
        stride: vec![1; n],
        dilation: vec![1; n],
        pad_begin: vec![0; n],
        pad_end: vec![0; n],
        output: vec![1; n],
    }
}
