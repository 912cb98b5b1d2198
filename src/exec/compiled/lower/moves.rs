//! Arithmetic of two tensors, functions of one, and moves of data.

use super::{Lower, Op, Val};
use crate::compiled::tensor::{How, Id, Kind};
use compresso_base::error::{Error, Result};
use compresso_kernels::activation::Activation;
use compresso_kernels::channels_last::strided::Binary;
use compresso_model::graph::{Node, normalize_axis};

/// Most terms of a sum that is worked out in one step.
const MOST_TERMS: usize = 6;

impl Lower<'_> {
    pub(super) fn unary(&mut self, node: &Node, act: Activation) -> Result<bool> {
        if let Some(c) = self.coded(&node.inputs[0]) {
            self.set(&node.outputs[0], Val::Coded(c.map(act)))?;
            return Ok(true);
        }
        if let Some(Val::Sum(terms, floats, None)) = self.values.get(&node.inputs[0]) {
            let val = Val::Sum(terms.clone(), *floats, Some(act));
            self.set(&node.outputs[0], val)?;
            return Ok(true);
        }
        let x = self.float(&node.inputs[0])?;
        let (dims, order) = self.like(x)?;
        let y = self.tensors.root(Kind::F32, &dims, &order);
        self.step(Op::Unary(act), &[x], &[y]);
        self.set(&node.outputs[0], Val::Float(y))?;
        Ok(true)
    }

    pub(super) fn add(&mut self, node: &Node) -> Result<bool> {
        let terms = |name: &String| match self.values.get(name) {
            Some(Val::Coded(c)) => Some(vec![c.clone()]),
            Some(Val::Sum(terms, None, None)) => Some(terms.clone()),
            _ => None,
        };
        let sides = [terms(&node.inputs[0]), terms(&node.inputs[1])];
        for (codes, name) in [(&sides[0], &node.inputs[1]), (&sides[1], &node.inputs[0])] {
            if let (Some(codes), Some(Val::Float(x))) = (codes, self.values.get(name))
                && codes.len() < MOST_TERMS
                && self.lie_alike(codes, *x)?
            {
                let val = Val::Sum(codes.clone(), Some(*x), None);
                self.set(&node.outputs[0], val)?;
                return Ok(true);
            }
        }
        let [a, b] = sides;
        let terms = match (a, b) {
            // Addition commutes; the sum of the left terms stays the first.
            (Some(a), Some(b)) if b.len() == 1 => Some([a, b].concat()),
            (Some(a), Some(b)) if a.len() == 1 => Some([b, a].concat()),
            _ => None,
        };
        if let Some(terms) = terms.filter(|t| t.len() <= MOST_TERMS) {
            let same = |c: &super::Coded| self.tensors[c.id].dims == self.tensors[terms[0].id].dims;
            let one = terms.len() == 2 && terms[0].id == terms[1].id;
            if !one && terms.iter().all(same) {
                let terms = self.alike(terms)?;
                self.set(&node.outputs[0], Val::Sum(terms, None, None))?;
                return Ok(true);
            }
        }
        self.binary(node, Binary::Add)
    }

    /// Whether floats of a tensor of their own have the size of each of the codes and lie in the same order: images, which kernels walk
    /// together.
    fn lie_alike(&self, codes: &[super::Coded], x: Id) -> Result<bool> {
        let dims = &self.tensors[x].dims;
        let order = |id: Id| -> Result<Vec<usize>> { Ok(self.like(id)?.1.into_iter().filter(|&a| dims[a] != 1).collect()) };
        if dims.len() > 4 || self.tensors.own_root(x) != x || codes.iter().any(|c| self.tensors[c.id].dims != *dims) {
            return Ok(false);
        }
        let first = order(x)?;
        codes.iter().try_fold(true, |alike, c| Ok(alike && order(c.id)? == first))
    }

    pub(super) fn binary(&mut self, node: &Node, op: Binary) -> Result<bool> {
        let (x, y) = (&node.inputs[0], &node.inputs[1]);
        let scalar = |name: &String| -> Result<Option<f32>> { Ok(self.constant_floats(name)?.filter(|c| c.1.len() == 1).map(|c| c.1[0])) };
        let out = self.out_dims(node)?;
        let same = |id: Id| self.tensors[id].dims == out;
        let coded = match (self.coded(x), self.coded(y)) {
            (Some(a), Some(b)) if a.id == b.id && same(a.id) => Some(a.zip(&b, |a, b| op.apply(a, b))),
            (Some(a), None) if same(a.id) => scalar(y)?.map(|v| a.each(|a| op.apply(a, v))),
            (None, Some(b)) if same(b.id) => scalar(x)?.map(|v| b.each(|b| op.apply(v, b))),
            _ => None,
        };
        if let Some(c) = coded {
            self.set(&node.outputs[0], Val::Coded(c))?;
            return Ok(true);
        }
        if out.contains(&0) {
            return Ok(false);
        }
        let (a, b) = (self.float(x)?, self.float(y)?);
        let order = match [a, b].into_iter().find(|&i| self.tensors[i].dims == out) {
            Some(leader) => self.like(leader)?.1,
            None => (0..out.len()).collect(),
        };
        let to = self.tensors.root(Kind::F32, &out, &order);
        self.step(Op::Binary(op), &[a, b], &[to]);
        self.set(&node.outputs[0], Val::Float(to))?;
        Ok(true)
    }

    pub(super) fn concat_node(&mut self, node: &Node) -> Result<bool> {
        let out = self.out_dims(node)?;
        let axis = normalize_axis(node.get_int("axis", 1)?, out.len())?;
        let mut vals = Vec::new();
        for name in &node.inputs {
            if self.dims(name)?.contains(&0) {
                continue;
            }
            vals.push(match self.values.get(name) {
                Some(v) => v.clone(),
                None => Val::Float(self.float(name)?),
            });
        }
        let val = match vals.len() {
            0 => return Ok(false),
            1 => vals.swap_remove(0),
            _ if vals.iter().any(|v| matches!(v, Val::Coded(_) | Val::Sum(..) | Val::Parts(..))) => Val::Parts(axis, vals),
            _ => {
                let ids = vals.iter().map(|v| self.floats_of(v)).collect::<Result<Vec<_>>>()?;
                Val::Float(self.concat(axis, &ids)?)
            }
        };
        self.set(&node.outputs[0], val)?;
        Ok(true)
    }

    /// `f` of the tensors that a value is made of.
    pub(super) fn moved(&mut self, name: &str, mut f: impl FnMut(&mut Self, Id) -> Result<Id>) -> Result<Val> {
        Ok(match self.values.get(name).cloned() {
            Some(Val::Coded(c)) => {
                let id = f(self, c.id)?;
                Val::Coded(c.at(self.even(id)?))
            }
            Some(Val::Sum(terms, None, act)) => {
                let mut moved = |c: &super::Coded| {
                    let id = f(self, c.id)?;
                    Ok(c.at(self.even(id)?))
                };
                Val::Sum(terms.iter().map(&mut moved).collect::<Result<_>>()?, None, act)
            }
            _ => {
                let id = self.float(name)?;
                Val::Float(f(self, id)?)
            }
        })
    }

    pub(super) fn split(&mut self, node: &Node) -> Result<bool> {
        let dims = self.dims(&node.inputs[0])?;
        let axis = normalize_axis(node.get_int("axis", 0)?, dims.len())?;
        let mut start = 0;
        for name in &node.outputs {
            if name.is_empty() {
                return Ok(false);
            }
            let len = self.dims(name)?[axis];
            if start + len > dims[axis] {
                return Err(Error::shape(format!("parts of {} do not fit {dims:?}", start + len)));
            }
            let val = self.moved(&node.inputs[0], |l, id| Ok(l.slice(id, axis, start, 1, len)))?;
            self.set(name, val)?;
            start += len;
        }
        Ok(true)
    }

    pub(super) fn slice_node(&mut self, node: &Node) -> Result<bool> {
        let (dims, out) = (self.dims(&node.inputs[0])?, self.out_dims(node)?);
        let ints = |name: &str, input: usize| -> Result<Option<Vec<i64>>> {
            match (node.find_ints(name)?, node.input(input)) {
                (Some(v), _) => Ok(Some(v.to_vec())),
                (None, Some(n)) => self.constant(n).map(compresso_model::Constant::to_i64s).transpose(),
                (None, None) => Ok(None),
            }
        };
        let Some(starts) = ints("starts", 1)? else { return Ok(false) };
        let axes = match (node.find_ints("axes")?.is_some() || node.input(3).is_some(), ints("axes", 3)?) {
            (true, None) => return Ok(false),
            (_, Some(a)) => a,
            (false, None) => (0..starts.len()).filter_map(|a| i64::try_from(a).ok()).collect(),
        };
        let steps = match (node.input(4).is_some(), ints("steps", 4)?) {
            (true, None) => return Ok(false),
            (_, Some(s)) => s,
            (false, None) => vec![1; starts.len()],
        };
        if axes.len() != starts.len() || steps.len() != starts.len() || steps.iter().any(|&s| s < 1) || out.contains(&0) {
            return Ok(false);
        }
        let mut cuts = Vec::new();
        for ((&axis, &start), &step) in axes.iter().zip(&starts).zip(&steps) {
            let axis = normalize_axis(axis, dims.len())?;
            let n = i64::try_from(dims[axis]).unwrap_or(i64::MAX);
            let start = if start < 0 { (start + n).max(0) } else { start.min(n) };
            let (start, step) = (usize::try_from(start).unwrap_or(0), usize::try_from(step).unwrap_or(1));
            if start + (out[axis] - 1) * step >= dims[axis] {
                return Ok(false);
            }
            cuts.push((axis, start, step));
        }
        let val = self.moved(&node.inputs[0], |l, mut id| {
            for &(axis, start, step) in &cuts {
                id = l.slice(id, axis, start, step, out[axis]);
            }
            Ok(id)
        })?;
        self.set(&node.outputs[0], val)?;
        Ok(true)
    }

    pub(super) fn reshape(&mut self, node: &Node) -> Result<bool> {
        let out = self.out_dims(node)?;
        if out.contains(&0) {
            return Ok(false);
        }
        let val = self.moved(&node.inputs[0], |l, id| l.shaped(id, &out))?;
        self.set(&node.outputs[0], val)?;
        Ok(true)
    }

    pub(super) fn transpose(&mut self, node: &Node) -> Result<bool> {
        let out = self.out_dims(node)?;
        let n = out.len();
        let axes = match node.find_ints("perm")? {
            Some(p) => p.iter().map(|&a| normalize_axis(a, n)).collect::<Result<Vec<_>>>()?,
            None => (0..n).rev().collect(),
        };
        let val = self.moved(&node.inputs[0], |l, id| Ok(l.tensors.view(id, How::Permute(axes.clone()), &out)))?;
        self.set(&node.outputs[0], val)?;
        Ok(true)
    }
}
