//! Register tiles of a product whose right factor is packed: rows are pixels, columns output channels.

use crate::channels_last::spec::Bounds;
use crate::level::Level;
use crate::vector::Vector;

/// Rows of the tallest tile.
pub const ROWS: usize = 12;
/// Vectors of the widest panel.
pub const VECTORS: usize = 4;

/// A part of the depth of a tile.
#[derive(Debug, Clone, Copy)]
pub struct Part<'a> {
    /// `[runs, rows]`: where runs of consecutive values of the left factor begin.
    pub table: &'a [*const f32],
    /// Values of each run before those that count.
    pub skip: usize,
    /// Values of each run that count.
    pub depth: usize,
    /// `[runs · depth, columns]`
    pub weights: *const f32,
    /// What the sums begin with: vectors of columns `apart` floats from each other, rows `row` floats.
    pub start: Places,
    /// Weights that are needed soon; so many of them are fetched for each value of the depth.
    pub ahead: (*const f32, usize),
}

/// Where rows of vectors lie.
#[derive(Debug, Clone, Copy)]
pub struct Places {
    pub first: *const f32,
    pub row: usize,
    pub apart: usize,
}

/// Where sums go as they are.
#[derive(Debug, Clone, Copy)]
pub struct Sums {
    pub first: *mut f32,
    pub row: usize,
    pub apart: usize,
}

/// Where results go: `then` bounds of (`act` bounds of the sum, plus the residual).
#[derive(Debug, Clone, Copy)]
pub struct Pixels<'a> {
    /// The first of the columns of each row.
    pub to: &'a [*mut f32],
    /// As many; or none.
    pub residual: &'a [*const f32],
    /// Channels from the addresses on.
    pub first: usize,
    pub act: Bounds,
    pub then: Bounds,
}

/// Adds a part of the depth and keeps the sums.
///
/// # Safety
/// The level is there; the table has a row for each of the kernel's, with `skip + depth` readable values each, the weights are as deep
/// as all runs, `start` is readable and `to` writable.
pub type Add = unsafe fn(part: &Part<'_>, to: Sums);

/// Adds the last part of the depth and stores results.
///
/// # Safety
/// As [`Add`]; all columns of the panel can be written at `to`, and read at `residual`.
pub type Finish = unsafe fn(part: &Part<'_>, to: &Pixels<'_>);

/// Values of a pixel before they are multiplied: `bounds(x · scale + shift)`.
#[derive(Debug, Clone, Copy)]
pub struct Before<'a> {
    pub scale: &'a [f32],
    pub shift: &'a [f32],
    pub bounds: Bounds,
}

/// Works out a pixel's values; there are as many as scales. They may replace the pixel's own.
///
/// # Safety
/// The level is there, and so are the values at both addresses.
pub type Prepare = unsafe fn(before: &Before<'_>, from: *const f32, to: *mut f32);

/// The kernels of one panel width, by rows less one.
#[derive(Clone, Copy)]
pub struct Kernels {
    pub add: [Add; ROWS],
    pub finish: [Finish; ROWS],
}

/// `$f::<1, $v>` to that of the last number, which is there as often as it takes.
macro_rules! by_rows {
    ($f:path, $v:literal, 12) => {{
        use $f as f;
        [
            f::<1, $v>,
            f::<2, $v>,
            f::<3, $v>,
            f::<4, $v>,
            f::<5, $v>,
            f::<6, $v>,
            f::<7, $v>,
            f::<8, $v>,
            f::<9, $v>,
            f::<10, $v>,
            f::<11, $v>,
            f::<12, $v>,
        ]
    }};
    ($f:path, $v:literal, 9) => {{
        use $f as f;
        [
            f::<1, $v>, f::<2, $v>, f::<3, $v>, f::<4, $v>, f::<5, $v>, f::<6, $v>, f::<7, $v>, f::<8, $v>, f::<9, $v>, f::<9, $v>,
            f::<9, $v>, f::<9, $v>,
        ]
    }};
    ($f:path, $v:literal, 6) => {{
        use $f as f;
        [
            f::<1, $v>, f::<2, $v>, f::<3, $v>, f::<4, $v>, f::<5, $v>, f::<6, $v>, f::<6, $v>, f::<6, $v>, f::<6, $v>, f::<6, $v>,
            f::<6, $v>, f::<6, $v>,
        ]
    }};
}

/// The kernels of tiles of up to 12 rows of one or two vectors, 9 of three, 6 of four.
macro_rules! large {
    ($add:path, $finish:path) => {
        [
            Kernels { add: by_rows!($add, 1, 12), finish: by_rows!($finish, 1, 12) },
            Kernels { add: by_rows!($add, 2, 12), finish: by_rows!($finish, 2, 12) },
            Kernels { add: by_rows!($add, 3, 9), finish: by_rows!($finish, 3, 9) },
            Kernels { add: by_rows!($add, 4, 6), finish: by_rows!($finish, 4, 6) },
        ]
    };
}

/// The kernels of tiles of up to 6 rows of one or two vectors.
macro_rules! small {
    ($add:path, $finish:path) => {
        [
            Kernels { add: by_rows!($add, 1, 6), finish: by_rows!($finish, 1, 6) },
            Kernels { add: by_rows!($add, 2, 6), finish: by_rows!($finish, 2, 6) },
        ]
    };
}

/// Vectors, tiles and kernels of an instruction set.
#[derive(Clone, Copy)]
pub struct Shape {
    /// Floats of a vector.
    pub lanes: usize,
    /// Rows and vectors of the tiles whose sums, with a row of weights and one value, fill the registers.
    tiles: &'static [[usize; 2]],
    /// By vectors of a panel less one.
    kernels: &'static [Kernels],
    pub prepare: Prepare,
}

/// How a product is cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// Rows of a full tile.
    pub rows: usize,
    /// Vectors of each panel.
    pub panels: Vec<usize>,
}

/// Tiles of AVX-512's 32 registers. Two vectors to a panel take more loads than the machine does beside its multiplications.
const LARGE: &[[usize; 2]] = &[[6, 4], [9, 3], [12, 2]];
const SMALL: &[[usize; 2]] = &[[6, 2]];

impl Shape {
    /// Of a level.
    pub fn of(level: Level) -> Self {
        match level {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => {
                Self { lanes: 16, tiles: LARGE, kernels: const { &large!(x86::add512, x86::finish512) }, prepare: x86::prepare512 }
            }
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => {
                Self { lanes: 8, tiles: SMALL, kernels: const { &small!(x86::add256, x86::finish256) }, prepare: x86::prepare256 }
            }
            _ => Self { lanes: 8, tiles: SMALL, kernels: const { &small!(portable::add, portable::finish) }, prepare: portable::prepare },
        }
    }

    /// The tiles of the widest instruction set, without its instructions.
    #[cfg(test)]
    pub fn widest() -> Self {
        Self { lanes: 16, tiles: LARGE, kernels: const { &large!(wide::add, wide::finish) }, prepare: wide::prepare }
    }

    /// The kernels for panels of so many vectors.
    pub fn kernels(&self, vectors: usize) -> &'static Kernels {
        &self.kernels[vectors - 1]
    }

    /// The tiles with which a product of so many rows and columns takes least time.
    pub fn cut(&self, rows: usize, columns: usize) -> Cut {
        let vectors = columns.div_ceil(self.lanes);
        let ways = self.tiles.iter().map(|&[most, widest]| {
            let tiles = rows.div_ceil(most).max(1);
            let (cost, panels) = panels(vectors, widest, rows.div_ceil(tiles));
            (cost * tiles as f64, Cut { rows: most, panels })
        });
        let best = ways.min_by(|a, b| a.0.total_cmp(&b.0));
        best.map_or(Cut { rows: 1, panels: vec![1; vectors] }, |(_, cut)| cut)
    }
}

/// Cycles for a value of the depth: two multiplications of vectors in each, or about as many loads.
fn cycles(rows: usize, vectors: usize) -> f64 {
    /// Cycles of a load, as measured where loads are what a tile waits for (Ice Lake).
    const LOAD: f64 = 0.93;
    (0.5 * (rows * vectors) as f64).max(LOAD * (rows + vectors) as f64)
}

/// The panels of at most `widest` vectors that take least time for tiles of so many rows, the wide ones first, and that time.
fn panels(vectors: usize, widest: usize, rows: usize) -> (f64, Vec<usize>) {
    // Of each number of vectors the time, and the last panel.
    let mut best = vec![(0.0, 0)];
    for n in 1..=vectors {
        let ways = (1..=widest.min(n)).map(|v| (best[n - v].0 + cycles(rows, v), v));
        best.push(ways.min_by(|a, b| a.0.total_cmp(&b.0)).unwrap_or_default());
    }
    let (mut left, mut panels) = (vectors, Vec::new());
    while left > 0 {
        let v = best[left].1.max(1);
        panels.push(v);
        left -= v.min(left);
    }
    panels.sort_unstable_by(|a, b| b.cmp(a));
    (best[vectors].0, panels)
}

/// # Safety
/// See [`Add`].
#[inline(always)]
unsafe fn sums<L: Vector, const R: usize, const V: usize>(part: &Part<'_>) -> [[L; V]; R] {
    // SAFETY: as the caller vouches.
    unsafe {
        let mut sums = [[L::splat(0.0); V]; R];
        for (r, sums) in sums.iter_mut().enumerate() {
            for (v, sum) in sums.iter_mut().enumerate() {
                *sum = L::load(part.start.first.add(r * part.start.row + v * part.start.apart));
            }
        }
        let (mut weights, (mut ahead, pace)) = (part.weights, part.ahead);
        for runs in part.table.chunks_exact(R) {
            let mut from = [std::ptr::null(); R];
            from.iter_mut().zip(runs).for_each(|(f, run)| *f = run.add(part.skip));
            for k in 0..part.depth {
                let mut w = [L::splat(0.0); V];
                for (v, w) in w.iter_mut().enumerate() {
                    *w = L::load(weights.add(v * L::N));
                }
                weights = weights.add(V * L::N);
                L::prefetch(ahead);
                ahead = ahead.wrapping_add(pace);
                for (sums, from) in sums.iter_mut().zip(&from) {
                    let x = L::splat(*from.add(k));
                    for (sum, w) in sums.iter_mut().zip(w) {
                        *sum = x.fma(w, *sum);
                    }
                }
            }
        }
        sums
    }
}

/// # Safety
/// See [`Add`].
#[inline(always)]
unsafe fn add<L: Vector, const R: usize, const V: usize>(part: &Part<'_>, to: Sums) {
    // SAFETY: as the caller vouches.
    unsafe {
        for (r, sums) in sums::<L, R, V>(part).into_iter().enumerate() {
            for (v, sum) in sums.into_iter().enumerate() {
                sum.store(to.first.add(r * to.row + v * to.apart));
            }
        }
    }
}

/// # Safety
/// See [`Finish`].
#[inline(always)]
unsafe fn finish<L: Vector, const R: usize, const V: usize>(part: &Part<'_>, to: &Pixels<'_>) {
    // SAFETY: as the caller vouches.
    unsafe {
        let sums = sums::<L, R, V>(part);
        let bounds = |v: L, [low, high]: Bounds| v.at_least(L::splat(low)).at_most(L::splat(high));
        if to.residual.is_empty() {
            // One pair of bounds does what two do.
            let [low, high] = [to.act[0], to.act[1]].map(|v| v.max(to.then[0]).min(to.then[1]));
            for (sums, pixel) in sums.into_iter().zip(to.to) {
                for (v, sum) in sums.into_iter().enumerate() {
                    bounds(sum, [low, high]).store(pixel.add(to.first + v * L::N));
                }
            }
            return;
        }
        for ((sums, pixel), residual) in sums.into_iter().zip(to.to).zip(to.residual) {
            for (v, sum) in sums.into_iter().enumerate() {
                let at = to.first + v * L::N;
                let sum = bounds(sum, to.act).add(L::load(residual.add(at)));
                bounds(sum, to.then).store(pixel.add(at));
            }
        }
    }
}

/// # Safety
/// See [`Prepare`].
#[inline(always)]
unsafe fn prepare<L: Vector>(before: &Before<'_>, from: *const f32, to: *mut f32) {
    /// # Safety
    /// See [`Prepare`]; `L::N` values from `at` on are there.
    #[inline(always)]
    unsafe fn some<L: Vector>(before: &Before<'_>, from: *const f32, to: *mut f32, at: usize) {
        // SAFETY: as the caller vouches.
        unsafe {
            let (scale, shift) = (L::load(before.scale.as_ptr().add(at)), L::load(before.shift.as_ptr().add(at)));
            let v = L::load(from.add(at)).fma(scale, shift);
            v.at_least(L::splat(before.bounds[0])).at_most(L::splat(before.bounds[1])).store(to.add(at));
        }
    }
    let n = before.scale.len().min(before.shift.len());
    let full = n / L::N * L::N;
    // SAFETY: as the caller vouches.
    unsafe {
        (0..full).step_by(L::N).for_each(|at| some::<L>(before, from, to, at));
        (full..n).for_each(|at| some::<f32>(before, from, to, at));
    }
}

mod portable {
    use super::{Before, Part, Pixels, Sums};

    /// # Safety
    /// See [`super::Add`].
    pub unsafe fn add<const R: usize, const V: usize>(part: &Part<'_>, to: Sums) {
        // SAFETY: as the caller vouches.
        unsafe { super::add::<[f32; 8], R, V>(part, to) }
    }
    /// # Safety
    /// See [`super::Finish`].
    pub unsafe fn finish<const R: usize, const V: usize>(part: &Part<'_>, to: &Pixels<'_>) {
        // SAFETY: as the caller vouches.
        unsafe { super::finish::<[f32; 8], R, V>(part, to) }
    }
    /// # Safety
    /// See [`super::Prepare`].
    pub unsafe fn prepare(before: &Before<'_>, from: *const f32, to: *mut f32) {
        // SAFETY: as the caller vouches.
        unsafe { super::prepare::<[f32; 8]>(before, from, to) }
    }
}

#[cfg(test)]
mod wide {
    use super::{Before, Part, Pixels, Sums};

    /// # Safety
    /// See [`super::Add`].
    pub unsafe fn add<const R: usize, const V: usize>(part: &Part<'_>, to: Sums) {
        // SAFETY: as the caller vouches.
        unsafe { super::add::<[f32; 16], R, V>(part, to) }
    }
    /// # Safety
    /// See [`super::Finish`].
    pub unsafe fn finish<const R: usize, const V: usize>(part: &Part<'_>, to: &Pixels<'_>) {
        // SAFETY: as the caller vouches.
        unsafe { super::finish::<[f32; 16], R, V>(part, to) }
    }
    /// # Safety
    /// See [`super::Prepare`].
    pub unsafe fn prepare(before: &Before<'_>, from: *const f32, to: *mut f32) {
        // SAFETY: as the caller vouches.
        unsafe { super::prepare::<[f32; 16]>(before, from, to) }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Before, Part, Pixels, Sums};
    use std::arch::x86_64::{__m256, __m512};

    /// # Safety
    /// See [`super::Add`].
    #[target_feature(enable = "avx2,fma")]
    pub unsafe fn add256<const R: usize, const V: usize>(part: &Part<'_>, to: Sums) {
        // SAFETY: as the caller vouches.
        unsafe { super::add::<__m256, R, V>(part, to) }
    }
    /// # Safety
    /// See [`super::Finish`].
    #[target_feature(enable = "avx2,fma")]
    pub unsafe fn finish256<const R: usize, const V: usize>(part: &Part<'_>, to: &Pixels<'_>) {
        // SAFETY: as the caller vouches.
        unsafe { super::finish::<__m256, R, V>(part, to) }
    }
    /// # Safety
    /// See [`super::Prepare`].
    #[target_feature(enable = "avx2,fma")]
    pub unsafe fn prepare256(before: &Before<'_>, from: *const f32, to: *mut f32) {
        // SAFETY: as the caller vouches.
        unsafe { super::prepare::<__m256>(before, from, to) }
    }
    /// # Safety
    /// See [`super::Add`].
    #[target_feature(enable = "avx512f")]
    pub unsafe fn add512<const R: usize, const V: usize>(part: &Part<'_>, to: Sums) {
        // SAFETY: as the caller vouches.
        unsafe { super::add::<__m512, R, V>(part, to) }
    }
    /// # Safety
    /// See [`super::Finish`].
    #[target_feature(enable = "avx512f")]
    pub unsafe fn finish512<const R: usize, const V: usize>(part: &Part<'_>, to: &Pixels<'_>) {
        // SAFETY: as the caller vouches.
        unsafe { super::finish::<__m512, R, V>(part, to) }
    }
    /// # Safety
    /// See [`super::Prepare`].
    #[target_feature(enable = "avx512f")]
    pub unsafe fn prepare512(before: &Before<'_>, from: *const f32, to: *mut f32) {
        // SAFETY: as the caller vouches.
        unsafe { super::prepare::<__m512>(before, from, to) }
    }
}
