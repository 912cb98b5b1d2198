//! How operations are added for a node: constants that they read, and those that several operators are written with.

use super::lower::{Lower, broadcast, lacks};
use super::program::{Kind, Literal, Ref, Type};
use compresso_base::error::{Error, Result};
use compresso_base::memory;
use compresso_model::Constant;

impl Lower<'_> {
    // Constants.

    fn literal(&mut self, literal: Literal) -> Ref {
        let name = self.inner("const");
        self.net.constant(&name, literal)
    }
    pub fn int(&mut self, value: i64) -> Ref {
        self.literal(Literal::i32s(&[], &[value]))
    }
    pub fn list_of(&mut self, values: &[usize]) -> Ref {
        let values: Vec<i64> = values.iter().map(|&v| v as i64).collect();
        self.literal(Literal::i32s(&[values.len()], &values))
    }
    pub fn int_tensor(&mut self, dims: &[usize], values: &[i64]) -> Ref {
        self.literal(Literal::i32s(dims, values))
    }
    pub fn flag(&mut self, on: bool) -> Ref {
        self.literal(Literal::new(Kind::Bool, &[], vec![u8::from(on)]))
    }
    pub fn flags(&mut self, dims: &[usize], on: &[bool]) -> Ref {
        self.literal(Literal::new(Kind::Bool, dims, on.iter().map(|&b| u8::from(b)).collect::<Vec<_>>()))
    }
    pub fn text(&mut self, text: &str) -> Ref {
        self.literal(Literal::text(text))
    }
    /// A scalar of a type.
    pub fn number(&mut self, value: f32, kind: Kind) -> Ref {
        if kind.is_float() { self.literal(Literal::floats(kind, &[], &[value])) } else { self.int(value as i64) }
    }
    pub fn floats(&mut self, kind: Kind, dims: &[usize], values: &[f32]) -> Ref {
        self.literal(Literal::floats(kind, dims, values))
    }

    // Operations.

    fn inner(&self, kind: &str) -> String {
        let name = if self.node.name.is_empty() { self.node.outputs.first().map_or("", String::as_str) } else { &self.node.name };
        format!("{name}_{kind}")
    }
    pub fn several(&mut self, kind: &'static str, inputs: &[(&'static str, Ref)], made: Vec<Type>) -> Vec<Ref> {
        let name = self.inner(kind);
        let inputs = inputs.iter().map(|(name, value)| (*name, vec![*value])).collect();
        self.net.operation(&name, kind, inputs, Vec::new(), made)
    }
    pub fn op(&mut self, kind: &'static str, inputs: &[(&'static str, Ref)], made: Type) -> Ref {
        self.several(kind, inputs, vec![made])[0]
    }
    /// An operation on `x` that makes a tensor like it.
    pub fn like(&mut self, kind: &'static str, x: Ref, settings: &[(&'static str, Ref)]) -> Ref {
        let made = self.net.made(x).clone();
        let inputs: Vec<_> = std::iter::once(("x", x)).chain(settings.iter().copied()).collect();
        self.op(kind, &inputs, made)
    }
    /// An operation of two tensors of one type, which broadcast.
    pub fn binary(&mut self, kind: &'static str, a: Ref, b: Ref) -> Result<Ref> {
        let made = Type { kind: self.kind(a), dims: broadcast(&self.sizes(a), &self.sizes(b))? };
        Ok(self.op(kind, &[("x", a), ("y", b)], made))
    }
    /// As [`Lower::binary`], which makes booleans.
    pub fn test(&mut self, kind: &'static str, a: Ref, b: Ref) -> Result<Ref> {
        let made = Type { kind: Kind::Bool, dims: broadcast(&self.sizes(a), &self.sizes(b))? };
        Ok(self.op(kind, &[("x", a), ("y", b)], made))
    }
    /// `a` where `on`, else `b`.
    pub fn select(&mut self, on: Ref, a: Ref, b: Ref) -> Result<Ref> {
        let dims = broadcast(&broadcast(&self.sizes(a), &self.sizes(b))?, &self.sizes(on))?;
        // coremltools works the result's sizes out from both choices alone.
        let a = if broadcast(&self.sizes(a), &self.sizes(b))? == dims { a } else { self.spread(a, &dims)? };
        let made = Type { kind: self.kind(a), dims };
        Ok(self.op("select", &[("cond", on), ("a", a), ("b", b)], made))
    }
    pub fn cast(&mut self, x: Ref, to: Kind) -> Ref {
        if self.kind(x) == to {
            return x;
        }
        let (made, word) = (Type { kind: to, dims: self.sizes(x) }, self.text(to.word()));
        self.op("cast", &[("x", x), ("dtype", word)], made)
    }
    /// The value with other sizes of as many elements.
    pub fn reshape(&mut self, x: Ref, dims: &[usize]) -> Ref {
        let own = self.sizes(x);
        if own == dims {
            return x;
        }
        let made = Type::new(self.kind(x), dims);
        if dims.is_empty() {
            return self.op("squeeze", &[("x", x)], made);
        }
        let shape = self.list_of(dims);
        self.op("reshape", &[("x", x), ("shape", shape)], made)
    }
    /// The value with its axes in another order.
    pub fn transpose(&mut self, x: Ref, order: &[usize]) -> Ref {
        let own = self.sizes(x);
        if order.iter().enumerate().all(|(i, &a)| i == a) {
            return x;
        }
        let made = Type { kind: self.kind(x), dims: order.iter().map(|&a| own[a]).collect() };
        let order = self.list_of(order);
        self.op("transpose", &[("x", x), ("perm", order)], made)
    }
    /// The value repeated along axes of size 1, and those before its own, until it has these sizes.
    pub fn spread(&mut self, x: Ref, dims: &[usize]) -> Result<Ref> {
        let own = self.sizes(x);
        if own == dims {
            return Ok(x);
        }
        let lead = dims.len().checked_sub(own.len()).ok_or_else(|| Error::internal("a value is spread to fewer axes"))?;
        let full: Vec<usize> = std::iter::repeat_n(1, lead).chain(own).collect();
        let x = self.reshape(x, &full);
        let repeats: Vec<usize> = full.iter().zip(dims).map(|(&own, &to)| if own == to { 1 } else { to }).collect();
        self.repeat(x, &repeats)
    }
    pub fn repeat(&mut self, x: Ref, repeats: &[usize]) -> Result<Ref> {
        if repeats.iter().all(|&r| r == 1) {
            return Ok(x);
        }
        let dims: Vec<usize> = self.sizes(x).iter().zip(repeats).map(|(d, r)| d * r).collect();
        memory::elements(dims.iter().copied()).ok_or_else(|| lacks(format!("tensor as large as {dims:?}")))?;
        let (made, repeats) = (Type { kind: self.kind(x), dims }, self.list_of(repeats));
        Ok(self.op("tile", &[("x", x), ("reps", repeats)], made))
    }
    /// Elements along an axis by their numbers, from 0 on.
    pub fn gather(&mut self, x: Ref, at: Ref, axis: usize) -> Ref {
        let (own, indices) = (self.sizes(x), self.sizes(at));
        let dims = own[..axis].iter().chain(&indices).chain(&own[axis + 1..]).copied().collect();
        let (made, axis) = (Type { kind: self.kind(x), dims }, self.int(axis as i64));
        self.op("gather", &[("x", x), ("indices", at), ("axis", axis)], made)
    }
    /// From an element to another of each axis.
    pub fn cut(&mut self, x: Ref, begin: &[usize], end: &[usize], step: &[usize]) -> Ref {
        let dims: Vec<usize> = (0..begin.len()).map(|d| (end[d] - begin[d]).div_ceil(step[d])).collect();
        if dims == self.sizes(x) {
            return x;
        }
        let made = Type { kind: self.kind(x), dims };
        let (begin, end) = (self.list_of(begin), self.list_of(end));
        let mut inputs = vec![("x", x), ("begin", begin), ("end", end)];
        if step.iter().any(|&s| s != 1) {
            inputs.push(("stride", self.list_of(step)));
        }
        self.op("slice_by_index", &inputs, made)
    }
    pub fn join(&mut self, values: Vec<Ref>, axis: usize) -> Ref {
        let mut made = self.net.made(values[0]).clone();
        made.dims[axis] = values.iter().map(|v| self.net.made(*v).dims[axis]).sum();
        let (axis, interleave, name) = (self.int(axis as i64), self.flag(false), self.inner("concat"));
        let inputs = vec![("values", values), ("axis", vec![axis]), ("interleave", vec![interleave])];
        self.net.operation(&name, "concat", inputs, Vec::new(), vec![made])[0]
    }
    /// A reduction along axes.
    pub fn reduce(&mut self, kind: &'static str, x: Ref, axes: &[usize], keep: bool) -> Ref {
        let kept = |(d, &n): (usize, &usize)| match (axes.contains(&d), keep) {
            (false, _) => Some(n),
            (true, true) => Some(1),
            (true, false) => None,
        };
        let dims = self.sizes(x).iter().enumerate().filter_map(kept).collect();
        let made = Type { kind: self.kind(x), dims };
        let (axes, keep) = (self.list_of(axes), self.flag(keep));
        self.op(kind, &[("x", x), ("axes", axes), ("keep_dims", keep)], made)
    }
    /// Input `i`, a number for each channel, for values of this rank whose axis 1 are the channels.
    pub fn per_channel(&mut self, i: usize, rank: usize) -> Result<Ref> {
        let (x, count) = (self.input(i)?, self.dims(i)?.iter().product());
        let dims: Vec<usize> = (0..rank).map(|d| if d == 1 { count } else { 1 }).collect();
        match self.constant(i).map(Constant::to_f32s).transpose()? {
            Some(values) => Ok(self.floats(self.kind(x), &dims, &values)),
            None => Ok(self.reshape(x, &dims)),
        }
    }
}
