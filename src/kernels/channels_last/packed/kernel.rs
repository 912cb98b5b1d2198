//! Register tiles of a product whose right factor is packed: rows are pixels, columns output channels.

use crate::channels_last::spec::Bounds;
use crate::level::Level;
use crate::vector::Vector;

/// Rows of the tallest tile.
pub const ROWS: usize = 10;
/// Vectors of the widest panel.
pub const VECTORS: usize = 2;

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

/// `$f::<1, $v>` to `$f::<10, $v>`, or to `$f::<6, $v>` and no further.
macro_rules! by_rows {
    ($f:path, $v:literal) => {{
        use $f as f;
        [f::<1, $v>, f::<2, $v>, f::<3, $v>, f::<4, $v>, f::<5, $v>, f::<6, $v>, f::<6, $v>, f::<6, $v>, f::<6, $v>, f::<6, $v>]
    }};
    (tall $f:path, $v:literal) => {{
        use $f as f;
        [f::<1, $v>, f::<2, $v>, f::<3, $v>, f::<4, $v>, f::<5, $v>, f::<6, $v>, f::<7, $v>, f::<8, $v>, f::<9, $v>, f::<10, $v>]
    }};
}

/// Vectors, tiles and kernels of an instruction set.
#[derive(Clone, Copy)]
pub struct Shape {
    /// Floats of a vector.
    pub lanes: usize,
    /// Rows of a full tile: its accumulators, a vector of weights for each two of them and one value fill the registers.
    pub rows: usize,
    /// For panels of one and of two vectors.
    pub kernels: [Kernels; VECTORS],
    pub prepare: Prepare,
}

impl Shape {
    /// Of a level.
    pub fn of(level: Level) -> Self {
        match level {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => Self {
                lanes: 16,
                rows: ROWS,
                kernels: [
                    Kernels { add: by_rows!(tall x86::add512, 1), finish: by_rows!(tall x86::finish512, 1) },
                    Kernels { add: by_rows!(tall x86::add512, 2), finish: by_rows!(tall x86::finish512, 2) },
                ],
                prepare: x86::prepare512,
            },
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => Self {
                lanes: 8,
                rows: 6,
                kernels: [
                    Kernels { add: by_rows!(x86::add256, 1), finish: by_rows!(x86::finish256, 1) },
                    Kernels { add: by_rows!(x86::add256, 2), finish: by_rows!(x86::finish256, 2) },
                ],
                prepare: x86::prepare256,
            },
            _ => Self {
                lanes: 8,
                rows: 6,
                kernels: [
                    Kernels { add: by_rows!(portable::add, 1), finish: by_rows!(portable::finish, 1) },
                    Kernels { add: by_rows!(portable::add, 2), finish: by_rows!(portable::finish, 2) },
                ],
                prepare: portable::prepare,
            },
        }
    }

    /// The tiles of the widest instruction set, without its instructions.
    #[cfg(test)]
    pub fn widest() -> Self {
        Self {
            lanes: 16,
            rows: ROWS,
            kernels: [
                Kernels { add: by_rows!(tall wide::add, 1), finish: by_rows!(tall wide::finish, 1) },
                Kernels { add: by_rows!(tall wide::add, 2), finish: by_rows!(tall wide::finish, 2) },
            ],
            prepare: wide::prepare,
        }
    }
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
            for (sums, pixel) in sums.into_iter().zip(to.to) {
                for (v, sum) in sums.into_iter().enumerate() {
                    bounds(bounds(sum, to.act), to.then).store(pixel.add(to.first + v * L::N));
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
