//! Einsum: sums of products by index letters.
//!
//! <https://onnx.ai/onnx/operators/onnx__Einsum.html>. Two operands meet in one (batched) matrix product; more are taken in
//! from left to right.

use super::cost::{self, CostInput};
use super::def::{OpDef, operators};
use super::elementwise::sum_keepdim;
use super::facts::{fact, same_elements};
use super::gather::pick;
use super::ints::{count, offsets, strides};
use super::matmul::matmul;
use super::roles::Data;
use super::run::Exec;
use crate::element::Element;
use crate::graph::{Cost, Dim, Fact, Infer, Node};
use crate::value::Value;
use candle_core::{DType, Tensor};
use compresso_base::error::{Error, Result};
use std::collections::BTreeMap;

operators! {
    pub const EINSUM: &str = "Einsum";
}

/// Sums of products by Einstein's notation.
pub const OPS: &[OpDef] = &[OpDef::new(EINSUM, &[12], infer, einsum).sums().data(Data::All).cost(einsum_cost)];

/// Index letters of each operand and of the result. The axes of an ellipsis have the digits 0, 1, … counted from the end.
#[derive(Debug)]
struct Plan {
    operands: Vec<Vec<char>>,
    output: Vec<char>,
}

impl Plan {
    fn of(node: &Node, ranks: &[usize]) -> Result<Self> {
        let text: String = node.get_str("equation", "")?.chars().filter(|c| !c.is_whitespace()).collect();
        let wrong = |why: String| Error::format(format!("the equation '{text}' {why}"));
        let (left, right) = text.split_once("->").map_or((text.as_str(), None), |(l, r)| (l, Some(r)));
        let terms: Vec<&str> = left.split(',').collect();
        if terms.len() != ranks.len() {
            return Err(wrong(format!("has {} terms for {} operands", terms.len(), ranks.len())));
        }
        let mut widest = 0;
        let operands = terms
            .iter()
            .zip(ranks)
            .map(|(term, &rank)| {
                let named = term.chars().filter(|&c| c != '.').count();
                let hidden = if term.contains("...") { rank.checked_sub(named) } else { Some(0) };
                let hidden = hidden.filter(|h| h + named == rank && *h <= 10);
                let hidden = hidden.ok_or_else(|| wrong(format!("has the term '{term}' for an operand of rank {rank}")))?;
                widest = widest.max(hidden);
                expand(term, hidden).ok_or_else(|| wrong(format!("has the malformed term '{term}'")))
            })
            .collect::<Result<Vec<_>>>()?;
        let output = match right {
            Some(term) => expand(term, widest).ok_or_else(|| wrong(format!("has the malformed term '{term}'")))?,
            None => {
                // Letters that stand once, in order of the alphabet, behind the ellipsis.
                let mut count: BTreeMap<char, usize> = BTreeMap::new();
                operands.iter().flatten().for_each(|c| *count.entry(*c).or_default() += 1);
                let once = count.iter().filter(|(c, n)| c.is_alphabetic() && **n == 1).map(|(c, _)| *c);
                (0..widest).rev().map(digit).chain(once).collect()
            }
        };
        if let Some(c) = output.iter().find(|c| !operands.iter().flatten().any(|o| o == *c)) {
            return Err(wrong(format!("has the index '{c}' in its result only")));
        }
        Ok(Self { operands, output })
    }
}

fn digit(i: usize) -> char {
    char::from_digit(u32::try_from(i).unwrap_or(0), 10).unwrap_or('0')
}

/// The letters of a term, its ellipsis replaced by `hidden` digits.
fn expand(term: &str, hidden: usize) -> Option<Vec<char>> {
    let dots: Vec<char> = (0..hidden).rev().map(digit).collect();
    let letters = |s: &str| s.chars().all(|c| c.is_ascii_alphabetic());
    match term.split_once("...") {
        Some((a, b)) if letters(a) && letters(b) => Some(a.chars().chain(dots).chain(b.chars()).collect()),
        None if letters(term) => Some(term.chars().collect()),
        _ => None,
    }
}

fn infer(cx: &Infer<'_>) -> Result<Vec<Fact>> {
    same_elements(cx, 0)?;
    let element = cx.input(0)?.element;
    let mut shapes = Vec::new();
    for i in 0..cx.input_count() {
        match cx.shape(i)? {
            Some(s) => shapes.push(s),
            None => return Ok(vec![fact(element, None)]),
        }
    }
    let plan = Plan::of(cx.node, &shapes.iter().map(|s| s.len()).collect::<Vec<_>>())?;
    let mut sizes: BTreeMap<char, Dim> = BTreeMap::new();
    for (letters, shape) in plan.operands.iter().zip(&shapes) {
        for (c, d) in letters.iter().zip(*shape) {
            match sizes.get(c) {
                Some(known) if *known != Dim::Known(1) && (known.known().is_some() || d.known().is_none()) => {
                    if !known.compatible(d) && *d != Dim::Known(1) {
                        return Err(Error::shape(format!("index '{c}' has the sizes {known} and {d}")));
                    }
                }
                _ => drop(sizes.insert(*c, d.clone())),
            }
        }
    }
    Ok(vec![fact(element, Some(plan.output.iter().map(|c| sizes[c].clone()).collect()))])
}

/// As many multiply-accumulates as there are combinations of all indices.
fn einsum_cost(cx: &CostInput<'_>) -> Cost {
    let shapes: Option<Vec<&Vec<Dim>>> = cx.inputs.iter().map(|f| f.and_then(|f| f.shape.as_ref())).collect();
    let Some(shapes) = shapes else { return Cost::default() };
    let Ok(plan) = Plan::of(cx.node, &shapes.iter().map(|s| s.len()).collect::<Vec<_>>()) else { return Cost::default() };
    let mut sizes: BTreeMap<char, u64> = BTreeMap::new();
    for (c, d) in plan.operands.iter().zip(shapes).flat_map(|(l, s)| l.iter().zip(s)) {
        let n = d.known().map_or(1, |n| n as u64);
        sizes.entry(*c).and_modify(|s| *s = n.max(*s)).or_insert(n);
    }
    if plan.operands.len() < 2 {
        cost::per_input(cx)
    } else {
        Cost { macs: sizes.values().fold(1, |n, &size| cost::times(n, size)), other: 0 }
    }
}

/// A tensor with a letter per axis.
struct Term {
    x: Tensor,
    letters: Vec<char>,
}

impl Term {
    /// Repeated letters become one axis, the diagonal.
    fn new(x: Tensor, letters: Vec<char>) -> Result<Self> {
        let mut kept: Vec<char> = Vec::new();
        letters.iter().for_each(|c| {
            if !kept.contains(c) {
                kept.push(*c)
            }
        });
        if kept.len() == letters.len() {
            return Ok(Self { x, letters });
        }
        let own = strides(x.dims());
        let axes = |c: &char| (0..letters.len()).filter(|&i| letters[i] == *c).collect::<Vec<_>>();
        let dims: Vec<usize> = kept.iter().map(|c| x.dims()[axes(c)[0]]).collect();
        if let Some(i) = (0..letters.len()).find(|&i| Some(x.dims()[i]) != kept.iter().position(|c| *c == letters[i]).map(|k| dims[k])) {
            return Err(Error::shape(format!("the repeated index '{}' has different sizes", letters[i])));
        }
        count(&dims)?;
        let steps: Vec<usize> = kept.iter().map(|c| axes(c).iter().map(|&a| own[a]).sum()).collect();
        Ok(Self { x: pick(&x, &offsets(&dims, &steps), &dims)?, letters: kept })
    }
    /// Sums over the letters that `keep` does not hold.
    fn sum(self, keep: impl Fn(char) -> bool) -> Result<Self> {
        let gone: Vec<usize> = (0..self.letters.len()).filter(|&i| !keep(self.letters[i])).collect();
        if gone.is_empty() {
            return Ok(self);
        }
        let dims: Vec<usize> = (0..self.letters.len()).filter(|i| !gone.contains(i)).map(|i| self.x.dims()[i]).collect();
        let letters = self.letters.iter().copied().filter(|&c| keep(c)).collect();
        Ok(Self { x: sum_keepdim(&self.x, &gone)?.reshape(dims)?, letters })
    }
    /// The axes in another order.
    fn order(&self, letters: &[char]) -> Result<Tensor> {
        let at = letters.iter().map(|c| self.letters.iter().position(|l| l == c));
        let perm = at.collect::<Option<Vec<_>>>().ok_or_else(|| Error::internal("an index got lost"))?;
        Ok(if perm.len() < 2 { self.x.clone() } else { self.x.permute(perm)? })
    }
    fn size(&self, c: char) -> usize {
        self.letters.iter().position(|l| *l == c).map_or(1, |i| self.x.dims()[i])
    }
    /// Gives up axes of size 1 that the other term has longer: they broadcast.
    fn without_ones(self, other: &Self) -> Result<Self> {
        let drop: Vec<char> = self.letters.iter().copied().filter(|&c| self.size(c) == 1 && other.size(c) != 1).collect();
        self.sum(|c| !drop.contains(&c))
    }
    /// The product of two terms, summed over the letters that both have and `keep` does not hold.
    fn times(self, other: Self, keep: impl Fn(char) -> bool) -> Result<Self> {
        let a = self.without_ones(&other)?;
        let b = other.without_ones(&a)?;
        if let Some(&c) = a.letters.iter().find(|&&c| b.letters.contains(&c) && a.size(c) != b.size(c)) {
            return Err(Error::shape(format!("index '{c}' has the sizes {} and {}", a.size(c), b.size(c))));
        }
        // What only one term has and nobody needs is summed before the product.
        let a = {
            let other = b.letters.clone();
            a.sum(|c| keep(c) || other.contains(&c))?
        };
        let b = {
            let other = a.letters.clone();
            b.sum(|c| keep(c) || other.contains(&c))?
        };
        let both = |c: &char| a.letters.contains(c) && b.letters.contains(c);
        let of = |t: &Self, f: &dyn Fn(&char) -> bool| t.letters.iter().copied().filter(|c| f(c)).collect::<Vec<_>>();
        let batch = of(&a, &|c| both(c) && keep(*c));
        let inner = of(&a, &|c| both(c) && !keep(*c));
        let (rows, cols) = (of(&a, &|c| !both(c)), of(&b, &|c| !both(c)));
        let count = |t: &Self, letters: &[char]| letters.iter().map(|&c| t.size(c)).product::<usize>();
        let (n, m, k, p) = (count(&a, &batch), count(&a, &rows), count(&a, &inner), count(&b, &cols));
        let left = a.order(&[&batch[..], &rows, &inner].concat())?.reshape((n, m, k))?;
        let right = b.order(&[&batch[..], &inner, &cols].concat())?.reshape((n, k, p))?;
        let letters = [&batch[..], &rows, &cols].concat();
        let dims: Vec<usize> = letters.iter().map(|&c| if a.letters.contains(&c) { a.size(c) } else { b.size(c) }).collect();
        Ok(Self { x: matmul(&left, &right)?.reshape(dims)?, letters })
    }
}

fn einsum(cx: &Exec<'_>) -> Result<Vec<Value>> {
    let first = cx.input(0)?;
    let element = first.element;
    if element == Element::Bool {
        return Err(Error::dtype("expected numbers, got bool"));
    }
    let ranks = (0..cx.input_count()).map(|i| Ok(cx.input(i)?.dims().len())).collect::<Result<Vec<_>>>()?;
    let plan = Plan::of(cx.node, &ranks)?;
    let mut terms = Vec::new();
    for (i, letters) in plan.operands.into_iter().enumerate() {
        let v = cx.input(i)?;
        if v.element != element {
            return Err(Error::dtype(format!("expected {element} as input 0 has, got {} for input {i}", v.element)));
        }
        // float64 holds the sums of products of integers exactly up to 2^53.
        let x = if element.is_float() { v.tensor.clone() } else { v.tensor.to_dtype(DType::F64)? };
        terms.push(Term::new(x, letters)?);
    }
    let mut terms = std::collections::VecDeque::from(terms);
    let mut all = terms.pop_front().ok_or_else(|| Error::format("there is no operand"))?;
    while let Some(next) = terms.pop_front() {
        all = all.times(next, |c| plan.output.contains(&c) || terms.iter().any(|t| t.letters.contains(&c)))?;
    }
    let out = all.sum(|c| plan.output.contains(&c))?.order(&plan.output)?;
    if element.is_float() {
        return cx.one(out);
    }
    let data = out.flatten_all()?.to_dtype(DType::I64)?.to_vec1::<i64>()?;
    Ok(vec![super::ints::Ints { dims: out.dims().to_vec(), data }.into_value(element, first.tensor.device())?])
}
