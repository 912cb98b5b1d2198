//! Operations on tensors of any strides: copies, arithmetic, softmax, normalization, products, attention.

mod arithmetic;
mod attention;
mod copy;
#[cfg(test)]
mod line_tests;
mod matmul;
mod norm;
mod packed;
#[cfg(test)]
mod product_tests;
mod reduce;
mod softmax;
#[cfg(test)]
mod tests;

use super::operand::{Element, Operand, Operands};
use compresso_base::error::Result;

pub use arithmetic::{Binary, binary, unary};
pub use attention::{AttentionSpec, MOST_CHANGES, attention, attention_with};
pub use copy::copy;
pub use matmul::{matmul, matmul_with};
pub use norm::{NormSpec, norm};
pub use reduce::{Reduce, reduce};
pub use softmax::{expectation, softmax};

/// Loops over a tensor's indices with `N` strides each, the fastest last. Axes that all strides allow are merged.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Loops<const N: usize> {
    sizes: Vec<usize>,
    strides: Vec<[usize; N]>,
}

impl<const N: usize> Loops<N> {
    /// Ordered so that the last of the strides falls.
    fn new(sizes: &[usize], strides: [&[usize]; N]) -> Self {
        let mut axes: Vec<(usize, [usize; N])> =
            sizes.iter().enumerate().filter(|(_, n)| **n != 1).map(|(d, &n)| (n, std::array::from_fn(|i| strides[i][d]))).collect();
        axes.sort_by_key(|(_, s)| std::cmp::Reverse(s[N - 1]));
        let mut merged: Vec<(usize, [usize; N])> = Vec::new();
        for (n, s) in axes {
            match merged.last_mut() {
                Some((outer, t)) if (0..N).all(|i| t[i] == s[i].saturating_mul(n)) => (*outer, *t) = (*outer * n, s),
                _ => merged.push((n, s)),
            }
        }
        let (sizes, strides) = merged.into_iter().unzip();
        Self { sizes, strides }
    }
    /// Splits off the fastest axis.
    fn inner(&mut self) -> (usize, [usize; N]) {
        match (self.sizes.pop(), self.strides.pop()) {
            (Some(n), Some(s)) => (n, s),
            _ => (1, [1; N]),
        }
    }
    fn take(&mut self, axis: usize) -> (usize, [usize; N]) {
        (self.sizes.remove(axis), self.strides.remove(axis))
    }
    fn len(&self) -> usize {
        self.sizes.iter().product()
    }
    /// Offsets of the index with number `at`.
    fn offsets(&self, mut at: usize) -> [usize; N] {
        let mut sums = [0; N];
        for (&n, s) in self.sizes.iter().zip(&self.strides).rev() {
            let i = at % n;
            at /= n;
            (0..N).for_each(|k| sums[k] += i * s[k]);
        }
        sums
    }
    /// The offsets of the indices with these numbers, one after the other.
    fn walk(&self, range: std::ops::Range<usize>) -> Walk<'_, N> {
        let mut at = range.start;
        let mut index: Vec<usize> = self.sizes.iter().rev().map(|&n| (at % n.max(1), at /= n.max(1)).0).collect();
        index.reverse();
        let last = self.sizes.last().zip(self.strides.last());
        let (row, step) = last.map_or((usize::MAX, [0; N]), |(&n, &step)| (n - index[index.len() - 1].min(n), step));
        Walk { loops: self, index, row, step, next: self.offsets(range.start), left: range.len() }
    }
}

/// Offsets of a tensor's indices, by additions alone.
struct Walk<'a, const N: usize> {
    loops: &'a Loops<N>,
    /// Of the row that the next offsets lie in, and before its last axis.
    index: Vec<usize>,
    /// What is left of the row, and from one place of it to the next.
    row: usize,
    step: [usize; N],
    next: [usize; N],
    left: usize,
}

impl<const N: usize> Walk<'_, N> {
    /// From the last place of a row to the first of the next.
    #[cold]
    fn turn(&mut self) {
        for (d, (&n, strides)) in self.loops.sizes.iter().zip(&self.loops.strides).enumerate().rev() {
            if d + 1 == self.index.len() {
                self.row = n;
            } else {
                self.index[d] += 1;
                if self.index[d] < n {
                    return (0..N).for_each(|k| self.next[k] += strides[k]);
                }
                self.index[d] = 0;
            }
            (0..N).for_each(|k| self.next[k] -= strides[k] * (n - 1));
        }
    }
}

impl<const N: usize> Iterator for Walk<'_, N> {
    type Item = [usize; N];

    #[inline(always)]
    fn next(&mut self) -> Option<[usize; N]> {
        self.left = self.left.checked_sub(1)?;
        let now = self.next;
        self.row -= 1;
        if self.row > 0 {
            (0..N).for_each(|k| self.next[k] += self.step[k]);
        } else {
            self.turn();
        }
        Some(now)
    }
}

/// All lanes as one, halves with each other: no lane waits for the one before it. `N` is a power of two.
#[inline(always)]
fn fold<const N: usize>(mut lanes: [f32; N], f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut n = N;
    while n > 1 {
        n /= 2;
        for i in 0..n {
            lanes[i] = f(lanes[i], lanes[i + n]);
        }
    }
    lanes[0]
}

/// Work of a part: about so many elements.
const GRAIN: usize = 1 << 12;

/// Cuts `count` rows of `width` elements into parts.
#[derive(Debug, Clone, Copy)]
struct Cut {
    count: usize,
    rows: usize,
}

impl Cut {
    fn new(count: usize, width: usize) -> Self {
        Self { count, rows: (GRAIN / width.max(1)).clamp(1, count.max(1)) }
    }
    fn parts(self) -> usize {
        self.count.div_ceil(self.rows)
    }
    fn range(self, part: usize) -> std::ops::Range<usize> {
        part * self.rows..((part + 1) * self.rows).min(self.count)
    }
}

/// The operands of a job from tensors of such strides to one.
///
/// # Errors
/// `Shape` when there are not as many strides as sizes, or an element of the result is several.
fn operands(element: Element, sizes: &[usize], reads: &[&[usize]], write: &[usize]) -> Result<Operands> {
    let inputs = reads.iter().map(|strides| Operand::strided(element, sizes, strides)).collect::<Result<_>>()?;
    Operands::new(inputs, vec![Operand::strided(element, sizes, write)?])
}
