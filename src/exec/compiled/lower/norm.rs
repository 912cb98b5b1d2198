//! Normalizations of lines, reductions over axes, and elements that constant indices pick.

use super::{Lower, Op, Val};
use crate::compiled::tensor::{Id, Kind};
use compresso_base::error::Result;
use compresso_kernels::channels_last::strided::{Binary, Reduce};
use compresso_model::graph::{Node, normalize_axis};

/// A normalization of each line of an axis.
#[derive(Debug, Clone)]
pub struct Norm {
    pub axis: usize,
    pub epsilon: f32,
    /// The mean is taken out first.
    pub centred: bool,
    pub scale: Option<Vec<f32>>,
    pub bias: Option<Vec<f32>>,
}

impl Lower<'_> {
    /// LayerNormalization and, not `centred`, RMSNormalization with constant scale and bias.
    pub(super) fn line_norm(&mut self, node: &Node, centred: bool) -> Result<bool> {
        let dims = self.dims(&node.inputs[0])?;
        let first = normalize_axis(node.get_int("axis", -1)?, dims.len())?;
        if dims.contains(&0) || node.outputs.iter().skip(1).any(|o| !o.is_empty()) || node.get_int("stash_type", 1)? != 1 {
            return Ok(false);
        }
        let count: usize = dims[first..].iter().product();
        // All axes from the first on are one line.
        let vector = |name: &str| -> Result<Option<Vec<f32>>> {
            let found = self.constant_floats(name)?.filter(|(d, _)| d[..] == dims[first..] || d.len() == 1 && d[0] == count);
            Ok(found.map(|(_, v)| v))
        };
        let Some(scale) = vector(&node.inputs[1])? else { return Ok(false) };
        let bias = match node.input(2) {
            None => None,
            Some(name) => match vector(name)? {
                None => return Ok(false),
                bias => bias,
            },
        };
        let x = self.float(&node.inputs[0])?;
        let lines = [&dims[..first], &[count]].concat();
        let mut x = if first + 1 == dims.len() { x } else { self.shaped(x, &lines)? };
        // Lines that do not lie together are put so first, for all that read them: the residual path is one of them.
        if count > 1 && self.tensors.layout(x).is_some_and(|l| l.strides[first] != 1) {
            x = self.plain_copy(x);
            if first + 1 == dims.len() {
                self.values.insert(node.inputs[0].clone(), Val::Float(x));
            }
        }
        let order = self.like(x)?.1;
        let y = self.tensors.root(Kind::F32, &lines, &order);
        let norm = Norm { axis: first, epsilon: node.get_float("epsilon", 1e-5)?, centred, scale: Some(scale), bias };
        self.step(Op::Norm(Box::new(norm)), &[x], &[y]);
        let y = self.shaped(y, &dims)?;
        self.set(&node.outputs[0], Val::Float(y))?;
        Ok(true)
    }

    /// A copy in row-major order.
    fn plain_copy(&mut self, id: Id) -> Id {
        let (kind, dims) = (self.tensors[id].kind, self.tensors[id].dims.clone());
        let order: Vec<usize> = (0..dims.len()).collect();
        let to = self.tensors.root(kind, &dims, &order);
        self.step(Op::Copy, &[id], &[to]);
        to
    }

    /// InstanceNormalization: of each channel of each image; group normalization is written with it, without scale and bias.
    pub(super) fn instance_norm(&mut self, node: &Node) -> Result<bool> {
        let dims = self.dims(&node.inputs[0])?;
        let vectors = [1, 2].map(|i| node.input(i).map(|name| self.constant_floats(name)));
        let [Some(scale), Some(bias)] = vectors else { return Ok(false) };
        let (Some((_, scale)), Some((_, bias))) = (scale?, bias?) else { return Ok(false) };
        if dims.len() < 3 || dims.contains(&0) || scale.len() != dims[1] || bias.len() != dims[1] {
            return Ok(false);
        }
        let x = self.float(&node.inputs[0])?;
        let x = self.shaped(x, &[dims[0], dims[1], dims[2..].iter().product()])?;
        let (lines, order) = self.like(x)?;
        let mut y = self.tensors.root(Kind::F32, &lines, &order);
        let norm = Norm { axis: 2, epsilon: node.get_float("epsilon", 1e-5)?, centred: true, scale: None, bias: None };
        self.step(Op::Norm(Box::new(norm)), &[x], &[y]);
        for (op, vector, nothing) in [(Binary::Mul, scale, 1.0), (Binary::Add, bias, 0.0)] {
            if vector.iter().any(|v| *v != nothing) {
                let by = self.constant_tensor(&[dims[1], 1], &vector);
                let to = self.tensors.root(Kind::F32, &lines, &order);
                self.step(Op::Binary(op), &[y, by], &[to]);
                y = to;
            }
        }
        let y = self.shaped(y, &dims)?;
        self.set(&node.outputs[0], Val::Float(y))?;
        Ok(true)
    }

    pub(super) fn reduce(&mut self, node: &Node, kind: Reduce) -> Result<bool> {
        let (dims, out) = (self.dims(&node.inputs[0])?, self.out_dims(node)?);
        let axes = match (node.find_ints("axes")?, node.input(1).map(|n| self.constant(n))) {
            (Some(a), _) => a.to_vec(),
            (None, Some(Some(c))) => c.to_i64s()?,
            (None, None) => Vec::new(),
            (None, Some(None)) => return Ok(false),
        };
        if dims.contains(&0) || axes.is_empty() && node.get_int("noop_with_empty_axes", 0)? != 0 {
            return Ok(false);
        }
        let axes = axes.iter().map(|&a| normalize_axis(a, dims.len())).collect::<Result<Vec<_>>>()?;
        let gone: Vec<bool> = (0..dims.len()).map(|d| axes.is_empty() || axes.contains(&d)).collect();
        let x = self.float(&node.inputs[0])?;
        let order = self.like(x)?.1;
        let kept: Vec<usize> = dims.iter().zip(&gone).map(|(&n, &g)| if g { 1 } else { n }).collect();
        let y = self.tensors.root(Kind::F32, &kept, &order);
        self.step(Op::Reduce(kind, gone), &[x], &[y]);
        let y = self.shaped(y, &out)?;
        self.set(&node.outputs[0], Val::Float(y))?;
        Ok(true)
    }

    /// Gather with constant indices at even distances is a view.
    pub(super) fn gather(&mut self, node: &Node) -> Result<bool> {
        let (dims, out) = (self.dims(&node.inputs[0])?, self.out_dims(node)?);
        let axis = normalize_axis(node.get_int("axis", 0)?, dims.len())?;
        let Some(indices) = self.constant(&node.inputs[1]) else { return Ok(false) };
        let size = i64::try_from(dims[axis]).unwrap_or(i64::MAX);
        let places: Option<Vec<usize>> = indices
            .to_i64s()?
            .into_iter()
            .map(|i| usize::try_from(if i < 0 { i + size } else { i }).ok().filter(|&i| i < dims[axis]))
            .collect();
        let Some(places) = places.filter(|_| !out.contains(&0)) else { return Ok(false) };
        let first = places[0];
        let step = places.get(1).map_or(Some(1), |second| second.checked_sub(first)).filter(|&s| s > 0);
        let Some(step) = step.filter(|&step| places.iter().enumerate().all(|(i, &p)| p == first + i * step)) else { return Ok(false) };
        let val = self.moved(&node.inputs[0], |l, id| {
            let picked = l.slice(id, axis, first, step, places.len());
            l.shaped(picked, &out)
        })?;
        self.set(&node.outputs[0], val)?;
        Ok(true)
    }

    /// A tensor repeated along axes.
    pub(super) fn expand(&mut self, node: &Node) -> Result<bool> {
        let out = self.out_dims(node)?;
        if out.contains(&0) {
            return Ok(false);
        }
        let x = self.float(&node.inputs[0])?;
        if self.tensors[x].dims == out {
            self.set(&node.outputs[0], Val::Float(x))?;
            return Ok(true);
        }
        let order: Vec<usize> = (0..out.len()).collect();
        let y = self.tensors.root(Kind::F32, &out, &order);
        self.step(Op::Repeat, &[x], &[y]);
        self.set(&node.outputs[0], Val::Float(y))?;
        Ok(true)
    }

    /// Pad by nothing.
    pub(super) fn no_pad(&mut self, node: &Node) -> Result<bool> {
        let same = self.dims(&node.inputs[0])? == self.out_dims(node)?;
        let pads = match (node.find_ints("pads")?, node.input(1).map(|n| self.constant(n))) {
            (Some(p), _) => p.to_vec(),
            (None, Some(Some(c))) => c.to_i64s()?,
            _ => return Ok(false),
        };
        // Negative pads cut off.
        if !same || pads.iter().any(|&p| p != 0) {
            return Ok(false);
        }
        let val = self.moved(&node.inputs[0], |_, id| Ok(id))?;
        self.set(&node.outputs[0], val)?;
        Ok(true)
    }
}
