//! Softmax along an axis.

use super::{Cut, Loops, fold, operands};
use crate::activation::exp2;
use crate::channels_last::job::{Args, Job};
use crate::channels_last::operand::{Element, Operand, Operands};
use crate::level::Level;
use compresso_base::error::{Error, Result};

/// Softmax along one axis, float32.
///
/// # Errors
/// As [`copy`](super::copy()), and when there is no such axis.
pub fn softmax(sizes: &[usize], axis: usize, x: &[usize], y: &[usize]) -> Result<Box<dyn Job>> {
    let operands = operands(Element::F32, sizes, &[x], y)?;
    if axis >= sizes.len() {
        return Err(Error::shape(format!("no axis {axis} in a tensor of sizes {sizes:?}")));
    }
    let along = (sizes[axis], [x[axis], y[axis]]);
    let rest = |v: &[usize]| -> Vec<usize> { (0..v.len()).filter(|&d| d != axis).map(|d| v[d]).collect() };
    let outer = Loops::new(&rest(sizes), [&rest(x), &rest(y)]);
    Ok(Box::new(Softmax { operands, cut: Cut::new(outer.len(), along.0), outer, along, normalize: kernel(Level::best()) }))
}

/// What is expected of numbers, one for each place along an axis, whose probabilities are the softmax along it: the sum of their
/// products, float32, in a tensor with size 1 there. A detector's distances to the sides of a box are such (Generalized Focal Loss,
/// arXiv 2006.04388).
///
/// # Errors
/// As [`softmax`], and when there is not a number for each place.
pub fn expectation(sizes: &[usize], axis: usize, numbers: Vec<f32>, x: &[usize], y: &[usize]) -> Result<Box<dyn Job>> {
    if sizes.get(axis) != Some(&numbers.len()) {
        return Err(Error::shape(format!("{} numbers for axis {axis} of sizes {sizes:?}", numbers.len())));
    }
    let made: Vec<usize> = (0..sizes.len()).map(|d| if d == axis { 1 } else { sizes[d] }).collect();
    let operands = Operands::new(vec![Operand::strided(Element::F32, sizes, x)?], vec![Operand::strided(Element::F32, &made, y)?])?;
    let rest = |v: &[usize]| -> Vec<usize> { (0..v.len()).filter(|&d| d != axis).map(|d| v[d]).collect() };
    let outer = Loops::new(&rest(sizes), [&rest(x), &rest(y)]);
    let (cut, read) = (Cut::new(outer.len(), numbers.len()), x[axis]);
    let (gather, expect) = expecting(Level::best());
    Ok(Box::new(Expectation { operands, outer, read, cut, numbers, gather, expect }))
}

struct Expectation {
    operands: Operands,
    outer: Loops<2>,
    /// From one place along the axis to the next.
    read: usize,
    cut: Cut,
    numbers: Vec<f32>,
    gather: Gather,
    expect: Expect,
}

impl Job for Expectation {
    fn name(&self) -> String {
        "softmax, expected".into()
    }
    fn operands(&self) -> &Operands {
        &self.operands
    }
    fn parts(&self) -> usize {
        self.cut.parts()
    }
    fn scratch(&self) -> usize {
        self.numbers.len() * size_of::<Lanes>()
    }
    unsafe fn run(&self, part: usize, args: Args<'_>, scratch: *mut u8) {
        let (x, y) = (args.inputs[0].cast::<f32>(), args.outputs[0].cast::<f32>());
        let (n, columns) = (self.numbers.len(), scratch.cast::<Lanes>());
        let mut rows = self.outer.walk(self.cut.range(part));
        while let Some([i, j]) = rows.next() {
            // Lanes without a line of their own work on the first one again.
            let (mut lines, mut places, mut count) = ([i; FEW], [j; FEW], 1);
            for ([i, j], (line, place)) in rows.by_ref().take(FEW - 1).zip(lines.iter_mut().zip(&mut places).skip(1)) {
                (*line, *place) = (i, j);
                count += 1;
            }
            // SAFETY: the offsets are those of elements of the views, the scratch memory has so many columns, which are all written, and
            // the level is the machine's.
            unsafe {
                (self.gather)(lines.map(|i| x.add(i)), self.read, n, columns);
                let made = (self.expect)(std::slice::from_raw_parts(columns, n), &self.numbers);
                places[..count].iter().zip(made).for_each(|(&j, v)| *y.add(j) = v);
            }
        }
    }
}

struct Softmax {
    operands: Operands,
    outer: Loops<2>,
    along: (usize, [usize; 2]),
    cut: Cut,
    normalize: Normalize,
}

impl Job for Softmax {
    fn name(&self) -> String {
        "softmax".into()
    }
    fn operands(&self) -> &Operands {
        &self.operands
    }
    fn parts(&self) -> usize {
        self.cut.parts()
    }
    fn scratch(&self) -> usize {
        self.along.0 * 4
    }
    unsafe fn run(&self, part: usize, args: Args<'_>, scratch: *mut u8) {
        let (x, y) = (args.inputs[0].cast::<f32>(), args.outputs[0].cast::<f32>());
        let (n, [read, write]) = self.along;
        for [i, j] in self.outer.walk(self.cut.range(part)) {
            // SAFETY: the offsets are those of elements of the views, the scratch memory has a row of floats, and the level is
            // the machine's.
            unsafe {
                let (x, y) = (x.add(i), y.add(j));
                let line = if write == 1 { y } else { scratch.cast::<f32>() };
                if read == 1 {
                    std::ptr::copy_nonoverlapping(x, line, n);
                } else {
                    (0..n).for_each(|k| line.add(k).write(*x.add(k * read)));
                }
                let line = std::slice::from_raw_parts_mut(line, n);
                (self.normalize)(line, 1.0);
                if write != 1 {
                    (0..n).for_each(|k| *y.add(k * write) = line[k]);
                }
            }
        }
    }
}

/// Makes parts of 1 of a line: `e^(factor · v)`, each divided by their sum. The factor is not negative.
///
/// # Safety
/// The level is there.
pub type Normalize = unsafe fn(line: &mut [f32], factor: f32);

/// The kernel of a level.
pub fn kernel(level: Level) -> Normalize {
    match level {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => x86::normalize512,
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => x86::normalize256,
        _ => normalize::<false>,
    }
}

/// The sums of numbers, each times its part of 1, of a few lines side by side.
///
/// # Safety
/// The level is there.
type Expect = unsafe fn(columns: &[Lanes], numbers: &[f32]) -> Lanes;

/// What lies at one place of a few lines.
type Lanes = [f32; FEW];

/// Writes `n` elements of lines, `step` apart, as so many columns.
///
/// # Safety
/// The elements are readable, the columns writable, and the level is there.
type Gather = unsafe fn(lines: [*const f32; FEW], step: usize, n: usize, columns: *mut Lanes);

fn expecting(level: Level) -> (Gather, Expect) {
    match level {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => (x86::gather512, x86::expect512),
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => (gather, x86::expect256),
        _ => (gather, expect::<false>),
    }
}

/// A [`Gather`].
unsafe fn gather(lines: [*const f32; FEW], step: usize, n: usize, columns: *mut Lanes) {
    for k in 0..n {
        // SAFETY: the caller's promise.
        unsafe { columns.add(k).write(lines.map(|line| *line.add(k * step))) };
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Lanes;
    use std::arch::x86_64::*;

    #[target_feature(enable = "avx2,fma")]
    pub fn normalize256(line: &mut [f32], factor: f32) {
        super::normalize::<true>(line, factor);
    }

    #[target_feature(enable = "avx512f")]
    pub fn normalize512(line: &mut [f32], factor: f32) {
        super::normalize::<true>(line, factor);
    }

    /// A [`super::Gather`]: squares of 16 elements are transposed in registers.
    #[target_feature(enable = "avx512f")]
    pub unsafe fn gather512(lines: [*const f32; 16], step: usize, n: usize, columns: *mut Lanes) {
        if step != 1 {
            // SAFETY: the caller's promise.
            return unsafe { super::gather(lines, step, n, columns) };
        }
        for k in (0..n).step_by(16) {
            let count = (n - k).min(16);
            let mask = (u32::MAX >> (32 - count)) as __mmask16;
            // SAFETY: inside the lines, others are masked.
            let rows = lines.map(|line| unsafe { _mm512_maskz_loadu_ps(mask, line.add(k)) });
            for (i, column) in transposed(rows).into_iter().enumerate().take(count) {
                // SAFETY: one of the columns.
                unsafe { _mm512_storeu_ps(columns.add(k + i).cast(), column) };
            }
        }
    }

    /// Columns of rows: pairs of neighbours, then of pairs, within the quarters of vectors; then the quarters.
    #[target_feature(enable = "avx512f")]
    #[inline]
    fn transposed(rows: [__m512; 16]) -> [__m512; 16] {
        let pair = |a: __m512, b: __m512, high: bool| {
            let (a, b) = (_mm512_castps_pd(a), _mm512_castps_pd(b));
            _mm512_castpd_ps(if high { _mm512_unpackhi_pd(a, b) } else { _mm512_unpacklo_pd(a, b) })
        };
        // `quads[g][c]` has, in quarter q, the elements 4q + c of the rows 4g to 4g + 3.
        let quads: [[__m512; 4]; 4] = std::array::from_fn(|g| {
            let [a, b, c, d] = [0, 1, 2, 3].map(|i| rows[4 * g + i]);
            let (low, high) = ([_mm512_unpacklo_ps(a, b), _mm512_unpacklo_ps(c, d)], [_mm512_unpackhi_ps(a, b), _mm512_unpackhi_ps(c, d)]);
            [pair(low[0], low[1], false), pair(low[0], low[1], true), pair(high[0], high[1], false), pair(high[0], high[1], true)]
        });
        let columns: [[__m512; 4]; 4] = std::array::from_fn(|c| {
            let [a, b, d, e] = [0, 1, 2, 3].map(|g| quads[g][c]);
            let (even, odd) = (
                [_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0x88>(d, e)],
                [_mm512_shuffle_f32x4::<0xdd>(a, b), _mm512_shuffle_f32x4::<0xdd>(d, e)],
            );
            [
                _mm512_shuffle_f32x4::<0x88>(even[0], even[1]),
                _mm512_shuffle_f32x4::<0x88>(odd[0], odd[1]),
                _mm512_shuffle_f32x4::<0xdd>(even[0], even[1]),
                _mm512_shuffle_f32x4::<0xdd>(odd[0], odd[1]),
            ]
        });
        std::array::from_fn(|i| columns[i % 4][i / 4])
    }

    #[target_feature(enable = "avx2,fma")]
    pub fn expect256(columns: &[Lanes], numbers: &[f32]) -> Lanes {
        super::expect::<true>(columns, numbers)
    }

    #[target_feature(enable = "avx512f")]
    pub fn expect512(columns: &[Lanes], numbers: &[f32]) -> Lanes {
        super::expect::<true>(columns, numbers)
    }
}

/// Values that are worked on at once.
const LANES: usize = 32;
/// The same in short lines, and in what is left of a line.
const FEW: usize = 16;

#[inline(always)]
fn normalize<const FUSED: bool>(line: &mut [f32], factor: f32) {
    let part = Part::new(line, factor);
    let mut sums = [0.0f32; LANES];
    let mut chunks = line.chunks_exact_mut(LANES);
    for lanes in &mut chunks {
        for (v, sum) in lanes.iter_mut().zip(&mut sums) {
            *v = part.of::<FUSED>(*v);
            *sum += *v;
        }
    }
    let mut few = [0.0f32; FEW];
    let mut chunks = chunks.into_remainder().chunks_exact_mut(FEW);
    for lanes in &mut chunks {
        for (v, sum) in lanes.iter_mut().zip(&mut few) {
            *v = part.of::<FUSED>(*v);
            *sum += *v;
        }
    }
    let rest = chunks.into_remainder();
    let mut last = filled(rest, 0.0);
    for (i, (v, sum)) in last.iter_mut().zip(&mut few).enumerate() {
        *v = part.of::<FUSED>(*v);
        *sum += if i < rest.len() { *v } else { 0.0 };
    }
    rest.copy_from_slice(&last[..rest.len()]);
    let sum = fold(halves(sums, few, |a, b| a + b), |a, b| a + b);
    let scale = 1.0 / sum;
    line.iter_mut().for_each(|v| *v *= scale);
}

#[inline(always)]
fn expect<const FUSED: bool>(columns: &[Lanes], numbers: &[f32]) -> Lanes {
    let mut most = [f32::NEG_INFINITY; FEW];
    columns.iter().for_each(|c| most.iter_mut().zip(c).for_each(|(m, &v)| *m = if *m > v { *m } else { v }));
    let shifts = most.map(|most| Part::below(most, 1.0).shift);
    let (mut sums, mut products) = ([0.0f32; FEW], [0.0f32; FEW]);
    for (column, number) in columns.iter().zip(numbers) {
        for i in 0..FEW {
            let v = Part { factor: std::f32::consts::LOG2_E, shift: shifts[i] }.of::<FUSED>(column[i]);
            sums[i] += v;
            products[i] += v * number;
        }
    }
    std::array::from_fn(|i| products[i] / sums[i])
}

/// Turns a value of a line into `e^(factor · (v − the largest))`.
#[derive(Clone, Copy)]
struct Part {
    factor: f32,
    shift: f32,
}

impl Part {
    #[inline(always)]
    fn new(line: &[f32], factor: f32) -> Self {
        let larger = |m: f32, v: f32| if m > v { m } else { v };
        let (mut most, mut few) = ([f32::NEG_INFINITY; LANES], [f32::NEG_INFINITY; FEW]);
        let (chunks, rest) = line.as_chunks::<LANES>();
        for lanes in chunks {
            most.iter_mut().zip(lanes).for_each(|(m, &v)| *m = larger(*m, v));
        }
        let (chunks, rest) = rest.as_chunks::<FEW>();
        for lanes in chunks {
            few.iter_mut().zip(lanes).for_each(|(m, &v)| *m = larger(*m, v));
        }
        few.iter_mut().zip(filled(rest, f32::NEG_INFINITY)).for_each(|(m, v)| *m = larger(*m, v));
        Self::below(fold(halves(most, few, larger), larger), factor)
    }

    /// With the largest value of the line.
    #[inline(always)]
    fn below(most: f32, factor: f32) -> Self {
        let factor = factor * std::f32::consts::LOG2_E;
        Self { factor, shift: -most * factor }
    }

    #[inline(always)]
    fn of<const FUSED: bool>(self, v: f32) -> f32 {
        let z = if FUSED { v.mul_add(self.factor, self.shift) } else { v * self.factor + self.shift };
        exp2::<FUSED>(if z < -126.0 { -126.0 } else { z })
    }
}

/// What is left of a line, with something else behind it.
#[inline(always)]
fn filled(rest: &[f32], with: f32) -> [f32; FEW] {
    let mut all = [with; FEW];
    all[..rest.len()].copy_from_slice(rest);
    all
}

/// Both halves of many lanes and a few more, as one.
#[inline(always)]
fn halves(many: [f32; LANES], few: [f32; FEW], f: impl Fn(f32, f32) -> f32) -> [f32; FEW] {
    std::array::from_fn(|i| f(f(many[i], many[i + FEW]), few[i]))
}
