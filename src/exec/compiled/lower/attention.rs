//! Attention: the product of two tensors, scale and mask, softmax, and the product with a third, as one step.

use super::{Lower, Op, Val};
use crate::compiled::tensor::{Id, Kind};
use compresso_base::error::Result;
use compresso_kernels::channels_last::strided::{Binary, MOST_CHANGES};
use compresso_model::graph::{Node, normalize_axis};
use compresso_model::ops::arithmetic::{ADD, DIV, MUL};
use compresso_model::ops::matmul::MATMUL;
use compresso_model::ops::shape::{RESHAPE, SQUEEZE, UNSQUEEZE};
use compresso_model::ops::softmax::SOFTMAX;
use compresso_model::ops::transpose::TRANSPOSE;

/// What happens to the first product before the softmax.
enum Change {
    Scale(f32),
    Tensor(Binary, Id),
}

/// The parts of an attention whose second product a node is.
struct Attention {
    q: Id,
    k: Id,
    v: Id,
    scale: f32,
    changes: Vec<(Binary, Id)>,
}

impl<'g> Lower<'g> {
    /// Lowers the second product of an attention, with all from the first on. The steps of what came before are left without a
    /// reader, and so are taken out in the end.
    pub(super) fn attention(&mut self, node: &Node) -> Result<bool> {
        let Some(found) = self.find_attention(node)? else { return Ok(false) };
        let Attention { q, k, v, scale, changes } = found;
        let out = self.out_dims(node)?;
        let order = self.product_order(node, out.len())?;
        let y = self.tensors.root(Kind::F32, &out, &order);
        let (ops, others): (Vec<_>, Vec<_>) = changes.into_iter().unzip();
        let reads = [vec![q, k, v], others].concat();
        self.step(Op::Attention(scale, ops), &reads, &[y]);
        self.set(&node.outputs[0], Val::Float(y))?;
        Ok(true)
    }

    /// The order of the axes of a product's result: as the Transpose wants it that alone reads it, so that heads come together
    /// without a copy.
    pub(super) fn product_order(&self, node: &Node, axes: usize) -> Result<Vec<usize>> {
        let row_major: Vec<usize> = (0..axes).collect();
        let Some(reader) = self.sole_reader(&node.outputs[0]).map(|i| &self.graph.nodes()[i]).filter(|n| n.is(TRANSPOSE)) else {
            return Ok(row_major);
        };
        let Some(perm) = reader.find_ints("perm")? else { return Ok(row_major) };
        let order = perm.iter().map(|&a| normalize_axis(a, axes)).collect::<Result<Vec<_>>>()?;
        Ok(if order.len() == axes && order.last() == Some(&(axes - 1)) { order } else { row_major })
    }

    fn find_attention(&mut self, node: &Node) -> Result<Option<Attention>> {
        let (p, out) = (&node.inputs[0], self.out_dims(node)?);
        let n = out.len();
        let (sizes, v) = (self.dims(p)?, self.dims(&node.inputs[1])?);
        if n < 2 || sizes.len() != n || v.len() != n || sizes[..n - 2] != v[..n - 2] || sizes.contains(&0) || v.contains(&0) {
            return Ok(None);
        }
        let Some(softmax) = self.between(p).filter(|s| s.is(SOFTMAX)) else { return Ok(None) };
        let modern = self.graph.opset() >= 13;
        if normalize_axis(softmax.get_int("axis", if modern { -1 } else { 1 })?, n)? + 1 != n {
            return Ok(None);
        }
        let mut changes = Vec::new();
        let mut value = softmax.inputs[0].as_str();
        let product = loop {
            let Some(node) = self.between(value) else { return Ok(None) };
            match node.op.as_str() {
                MATMUL => break node,
                RESHAPE | SQUEEZE | UNSQUEEZE => {
                    let (from, to) = (self.dims(&node.inputs[0])?, self.dims(value)?);
                    if from.len() < 2 || to.len() < 2 || from[from.len() - 2..] != to[to.len() - 2..] {
                        return Ok(None);
                    }
                    value = &node.inputs[0];
                }
                ADD | MUL | DIV => {
                    let Some((next, change)) = self.change(node, value, &sizes)? else { return Ok(None) };
                    changes.push(change);
                    value = next;
                }
                _ => return Ok(None),
            }
        };
        // Found from the last to the first.
        changes.reverse();
        let (mut scale, mut rest) = (1.0, Vec::new());
        for change in changes {
            match change {
                Change::Scale(v) if rest.is_empty() => scale *= v,
                Change::Scale(v) => rest.push((Binary::Mul, self.constant_tensor(&vec![1; n], &[v]))),
                Change::Tensor(op, id) => rest.push((op, id)),
            }
        }
        if rest.len() > MOST_CHANGES {
            return Ok(None);
        }
        let (first, factor) = self.unscaled(&product.inputs[0])?;
        scale *= factor;
        let (second, factor) = self.unscaled(&product.inputs[1])?;
        scale *= factor;
        let depth = self.dims(first)?.last().copied().unwrap_or(0);
        let lead = |rows: usize, columns: usize| [&sizes[..n - 2], &[rows, columns]].concat();
        let (q, k) = (self.seen_as(first, &lead(sizes[n - 2], depth))?, self.seen_as(second, &lead(depth, sizes[n - 1]))?);
        let v = self.seen_as(&node.inputs[1], &v)?;
        Ok(q.zip(k).zip(v).map(|((q, k), v)| Attention { q, k, v, scale, changes: rest }))
    }

    /// The maker of a value that one node alone reads, as floats.
    fn between(&self, value: &str) -> Option<&'g Node> {
        self.sole_reader(value)?;
        matches!(self.values.get(value), Some(Val::Float(_))).then_some(())?;
        self.makers.get(value).map(|&i| &self.graph.nodes()[i])
    }

    /// A tensor of floats with such sizes, unless it must be copied for them.
    fn seen_as(&mut self, name: &str, dims: &[usize]) -> Result<Option<Id>> {
        let Some(Val::Float(id)) = self.values.get(name) else { return Ok(None) };
        let id = *id;
        let matrix = |d: &[usize]| d[d.len().saturating_sub(2)..].to_vec();
        // A product may repeat one side's leading axes, and only they are reshaped.
        if matrix(&self.tensors[id].dims) != matrix(dims) {
            return Ok(None);
        }
        Ok(self.tensors.reshaped(id, dims))
    }

    /// What a node does to the one of its operands that leads to the product: that operand, and the change.
    fn change(&mut self, node: &'g Node, made: &str, sizes: &[usize]) -> Result<Option<(&'g str, Change)>> {
        let dims = self.dims(made)?;
        let sides: &[(usize, usize)] = if node.is(DIV) { &[(0, 1)] } else { &[(0, 1), (1, 0)] };
        for &(value, other) in sides {
            let (value, other) = (node.inputs[value].as_str(), node.inputs[other].as_str());
            if self.dims(value)? != dims || value == other {
                continue;
            }
            if let Some((_, v)) = self.constant_floats(other)?.filter(|(_, v)| v.len() == 1)
                && !node.is(ADD)
            {
                return Ok(Some((value, Change::Scale(if node.is(DIV) { 1.0 / v[0] } else { v[0] }))));
            }
            // The product is what a node with one reader made; a mask may be anything that is there.
            let product =
                self.between(value).is_some_and(|n| [MATMUL, ADD, MUL, DIV, RESHAPE, SQUEEZE, UNSQUEEZE].contains(&n.op.as_str()));
            let there = match self.values.get(other) {
                Some(val) => matches!(val, Val::Float(_)),
                None => self.constant_floats(other)?.is_some(),
            };
            if node.is(DIV) || !product || !there {
                continue;
            }
            let id = self.float(other)?;
            let Some(to) = repeated(&self.tensors[id].dims, &dims, sizes) else { continue };
            let Some(id) = self.tensors.reshaped(id, &to) else { continue };
            return Ok(Some((value, Change::Tensor(if node.is(ADD) { Binary::Add } else { Binary::Mul }, id))));
        }
        Ok(None)
    }

    /// The value that a factor of a product is a multiple of, where that is there, and by what it is multiplied.
    fn unscaled(&self, name: &'g str) -> Result<(&'g str, f32)> {
        let Some(node) = self.makers.get(name).map(|&i| &self.graph.nodes()[i]).filter(|n| n.is(MUL) || n.is(DIV)) else {
            return Ok((name, 1.0));
        };
        let sides: &[(usize, usize)] = if node.is(DIV) { &[(0, 1)] } else { &[(0, 1), (1, 0)] };
        for &(value, other) in sides {
            let value = node.inputs[value].as_str();
            let there = matches!(self.values.get(value), Some(Val::Float(_))) && self.dims(value)? == self.dims(name)?;
            if let (true, Some((_, v))) = (there, self.constant_floats(&node.inputs[other])?.filter(|(_, v)| v.len() == 1)) {
                return Ok((value, if node.is(DIV) { 1.0 / v[0] } else { v[0] }));
            }
        }
        Ok((name, 1.0))
    }
}

/// The sizes over a tensor `[…, rows, keys]` seen as `to` of an operand that is repeated over the same tensor seen as `from`;
/// `None` where leading axes that are not 1 differ.
fn repeated(operand: &[usize], from: &[usize], to: &[usize]) -> Option<Vec<usize>> {
    let (lead, n) = (from.len().checked_sub(operand.len())?, to.len());
    let operand = [&vec![1; lead], operand].concat();
    let mut sizes: Vec<usize> = Vec::with_capacity(n);
    let mut left = from[..from.len() - 2].iter().zip(&operand).filter(|(f, _)| **f != 1);
    for &size in &to[..n - 2] {
        if size == 1 {
            sizes.push(1);
            continue;
        }
        let (&f, &o) = left.next()?;
        if f != size {
            return None;
        }
        sizes.push(o);
    }
    if left.next().is_some() {
        return None;
    }
    sizes.extend(&operand[operand.len() - 2..]);
    Some(sizes)
}

#[cfg(test)]
mod tests {
    use super::repeated;

    #[test]
    fn masks_keep_to_their_axes() {
        assert_eq!(repeated(&[3, 7, 7], &[4, 3, 7, 7], &[4, 3, 7, 7]), Some(vec![1, 3, 7, 7]));
        // Windows, then heads: [1, 4, 3, …] seen as [4, 3, …].
        assert_eq!(repeated(&[1, 4, 1, 7, 7], &[1, 4, 3, 7, 7], &[4, 3, 7, 7]), Some(vec![4, 1, 7, 7]));
        assert_eq!(repeated(&[7], &[4, 3, 7, 7], &[4, 3, 7, 7]), Some(vec![1, 1, 1, 7]));
        // Two images of four windows are eight of something else.
        assert_eq!(repeated(&[1, 4, 1, 7, 7], &[2, 4, 3, 7, 7], &[8, 3, 7, 7]), None);
        assert_eq!(repeated(&[2, 3, 7, 7], &[3, 7, 7], &[3, 7, 7]), None);
    }
}
