//! Two-dimensional transforms of many tiles, a vector of them at a time, and other rearrangements of floats.

#![expect(clippy::needless_range_loop, reason = "register tiles are read across their rows")]

use super::eight::{Eight, Lanes, filter3, filter4, results3, results4, signal};
use crate::level::Level;

/// Points per tile: six by six.
pub const POINTS: usize = 36;

/// Defines a safe function that runs generic code in the registers of a level. The checks come first in its body. Functions of
/// `|lanes|` have vectors of so many floats, others of eight.
macro_rules! dispatch {
    ($(#[$doc:meta])* pub fn $name:ident($($arg:ident: $type:ty),*) |$lanes:ident| $check:block => $inner:ident($($pass:expr),*)) => {
        $(#[$doc])*
        pub fn $name(level: Level, $($arg: $type),*) {
            let $lanes = level.lanes();
            $check
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f")]
                unsafe fn avx512($($arg: $type),*) {
                    // SAFETY: the function is compiled for these instructions; the caller has checked the lengths.
                    unsafe { $inner::<std::arch::x86_64::__m512>($($pass),*) }
                }
                if level == Level::Avx512 {
                    // SAFETY: the level was detected, and the check has bounded all reads and writes.
                    return unsafe { avx512($($arg),*) };
                }
            }
            dispatch!(@eight level, ($($arg: $type),*), $inner, ($($pass),*));
        }
    };
    ($(#[$doc:meta])* pub fn $name:ident($($arg:ident: $type:ty),*) $check:block => $inner:ident($($pass:expr),*)) => {
        $(#[$doc])*
        pub fn $name(level: Level, $($arg: $type),*) {
            $check
            dispatch!(@eight level, ($($arg: $type),*), $inner, ($($pass),*));
        }
    };
    (@eight $level:ident, ($($arg:ident: $type:ty),*), $inner:ident, ($($pass:expr),*)) => {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma")]
                unsafe fn avx2($($arg: $type),*) {
                    // SAFETY: the function is compiled for these instructions; the caller has checked the lengths.
                    unsafe { $inner::<std::arch::x86_64::__m256>($($pass),*) }
                }
                if $level != Level::Portable {
                    // SAFETY: the level was detected, and the check has bounded all reads and writes.
                    return unsafe { avx2($($arg),*) };
                }
            }
            let _ = $level;
            // SAFETY: the check has bounded all reads and writes.
            unsafe { $inner::<[f32; 8]>($($pass),*) }
    };
}

dispatch! {
    /// Splits a row by position modulo 4, with six parts for tiles of six that lie four apart: `to[j * pitch + t]` is
    /// `line[4 * t + j]` for `t < tiles`. Up to seven floats after each part may be overwritten too.
    pub fn split(line: &[f32], tiles: usize, pitch: usize, to: &mut [f32]) {
        let wide = tiles.next_multiple_of(8);
        assert!(line.len() >= 4 * wide + 4 && pitch > 0 && to.len() >= 5 * pitch + wide, "a row of tiles");
    } => split_in(line.as_ptr(), tiles, pitch, to.as_mut_ptr())
}

#[inline(always)]
unsafe fn split_in<V: Eight>(line: *const f32, tiles: usize, pitch: usize, to: *mut f32) {
    if tiles == 0 {
        return;
    }
    // The last two parts are the first two, one tile further on. What their first vectors write before them is put back.
    // SAFETY: the caller's check.
    unsafe {
        let before = [4, 5].map(|j| to.add(j * pitch).sub(1));
        let kept = before.map(|at| *at);
        for t in (0..tiles).step_by(8) {
            let [a, b, c, d] = V::split4(line.add(4 * t));
            a.store(to.add(t));
            b.store(to.add(pitch + t));
            c.store(to.add(2 * pitch + t));
            d.store(to.add(3 * pitch + t));
            a.store(before[0].add(t));
            b.store(before[1].add(t));
        }
        before.into_iter().zip(kept).for_each(|(at, v)| *at = v);
        before.into_iter().enumerate().for_each(|(j, at)| *at.add(tiles) = *line.add(4 * tiles + j));
    }
}

dispatch! {
    /// Transforms signals: element `p` of tile `t` is `from[p * pitch + t]`, its point `p` goes to `to[p * step + t]`.
    pub fn signals(from: &[f32], tiles: usize, pitch: usize, to: &mut [f32], step: usize) |lanes| {
        let wide = tiles.next_multiple_of(lanes);
        assert!(from.len() >= 35 * pitch + wide && to.len() >= 35 * step + wide, "tiles of a signal");
    } => signals_in(from.as_ptr(), tiles, pitch, to.as_mut_ptr(), step)
}

#[inline(always)]
unsafe fn signals_in<V: Lanes>(from: *const f32, tiles: usize, pitch: usize, to: *mut f32, step: usize) {
    for t in (0..tiles).step_by(V::N) {
        // SAFETY: the caller's check.
        unsafe {
            let mut columns = [[V::splat(0.0); 6]; 6];
            for (j, column) in columns.iter_mut().enumerate() {
                let at = from.add(j * pitch + t);
                *column = signal([
                    V::load(at),
                    V::load(at.add(6 * pitch)),
                    V::load(at.add(12 * pitch)),
                    V::load(at.add(18 * pitch)),
                    V::load(at.add(24 * pitch)),
                    V::load(at.add(30 * pitch)),
                ]);
            }
            for i in 0..6 {
                let row = signal([columns[0][i], columns[1][i], columns[2][i], columns[3][i], columns[4][i], columns[5][i]]);
                for (j, v) in row.into_iter().enumerate() {
                    v.store(to.add((6 * i + j) * step + t));
                }
            }
        }
    }
}

dispatch! {
    /// Results of four by four from products at the points: point `p` of tile `t` is `from[p * step + t]`. Element (i, j) of
    /// tile `t` goes to `to[i * pitch + 4 * t + j]`.
    pub fn results(from: &[f32], tiles: usize, step: usize, to: &mut [f32], pitch: usize) |lanes| {
        let wide = tiles.next_multiple_of(lanes);
        assert!(from.len() >= 35 * step + wide && to.len() >= 3 * pitch + 4 * wide, "tiles of a result");
    } => results_in(from.as_ptr(), tiles, step, to.as_mut_ptr(), pitch)
}

#[inline(always)]
unsafe fn results_in<V: Lanes>(from: *const f32, tiles: usize, step: usize, to: *mut f32, pitch: usize) {
    for t in (0..tiles).step_by(V::N) {
        // SAFETY: the caller's check.
        unsafe {
            let mut columns = [[V::splat(0.0); 4]; 6];
            for (j, column) in columns.iter_mut().enumerate() {
                let at = from.add(j * step + t);
                *column = results4([
                    V::load(at),
                    V::load(at.add(6 * step)),
                    V::load(at.add(12 * step)),
                    V::load(at.add(18 * step)),
                    V::load(at.add(24 * step)),
                    V::load(at.add(30 * step)),
                ]);
            }
            for i in 0..4 {
                let row = results4([columns[0][i], columns[1][i], columns[2][i], columns[3][i], columns[4][i], columns[5][i]]);
                V::join4(row, to.add(i * pitch + 4 * t));
            }
        }
    }
}

dispatch! {
    /// Points of eight filters of three by three side by side: tap `k` of filter `r` is `taps[8 * k + r]`, its point `p` goes
    /// to `to[8 * p + r]`.
    pub fn filters(taps: &[f32; 72], to: &mut [f32; 288]) {} => filters_in(taps.as_ptr(), to.as_mut_ptr())
}

#[inline(always)]
unsafe fn filters_in<V: Eight>(taps: *const f32, to: *mut f32) {
    // SAFETY: the arrays have the sizes that are read and written.
    unsafe {
        let mut columns = [[V::splat(0.0); 6]; 3];
        for (j, column) in columns.iter_mut().enumerate() {
            *column = filter3([V::load(taps.add(8 * j)), V::load(taps.add(8 * (3 + j))), V::load(taps.add(8 * (6 + j)))]);
        }
        for i in 0..6 {
            let row = filter3([columns[0][i], columns[1][i], columns[2][i]]);
            for (j, v) in row.into_iter().enumerate() {
                v.store(to.add(8 * (6 * i + j)));
            }
        }
    }
}

dispatch! {
    /// Points of filters of four by four: element (i, j) of tile `t` is `from[(4 * i + j) * pitch + t]`, its point `p` goes to
    /// `to[p * step + t]`.
    pub fn blocks(from: &[f32], tiles: usize, pitch: usize, to: &mut [f32], step: usize) |lanes| {
        let wide = tiles.next_multiple_of(lanes);
        assert!(from.len() >= 15 * pitch + wide && to.len() >= 35 * step + wide, "tiles of a gradient");
    } => blocks_in(from.as_ptr(), tiles, pitch, to.as_mut_ptr(), step)
}

#[inline(always)]
unsafe fn blocks_in<V: Lanes>(from: *const f32, tiles: usize, pitch: usize, to: *mut f32, step: usize) {
    for t in (0..tiles).step_by(V::N) {
        // SAFETY: the caller's check.
        unsafe {
            let mut columns = [[V::splat(0.0); 6]; 4];
            for (j, column) in columns.iter_mut().enumerate() {
                let at = from.add(j * pitch + t);
                *column = filter4([V::load(at), V::load(at.add(4 * pitch)), V::load(at.add(8 * pitch)), V::load(at.add(12 * pitch))]);
            }
            for i in 0..6 {
                let row = filter4([columns[0][i], columns[1][i], columns[2][i], columns[3][i]]);
                for (j, v) in row.into_iter().enumerate() {
                    v.store(to.add((6 * i + j) * step + t));
                }
            }
        }
    }
}

dispatch! {
    /// Results of three by three from sums of products at the points, eight side by side: point `p` of sum `r` is
    /// `points[p * step + r]`, result `k` goes to `to[8 * k + r]`.
    pub fn gradients(points: &[f32], step: usize, to: &mut [f32; 72]) {
        assert!(points.len() >= 35 * step + 8, "sums of a weight gradient");
    } => gradients_in(points.as_ptr(), step, to.as_mut_ptr())
}

#[inline(always)]
unsafe fn gradients_in<V: Eight>(points: *const f32, step: usize, to: *mut f32) {
    // SAFETY: the caller's check.
    unsafe {
        let mut columns = [[V::splat(0.0); 3]; 6];
        for (j, column) in columns.iter_mut().enumerate() {
            let at = points.add(j * step);
            *column = results3([
                V::load(at),
                V::load(at.add(6 * step)),
                V::load(at.add(12 * step)),
                V::load(at.add(18 * step)),
                V::load(at.add(24 * step)),
                V::load(at.add(30 * step)),
            ]);
        }
        for i in 0..3 {
            let row = results3([columns[0][i], columns[1][i], columns[2][i], columns[3][i], columns[4][i], columns[5][i]]);
            for (j, v) in row.into_iter().enumerate() {
                v.store(to.add(8 * (3 * i + j)));
            }
        }
    }
}

dispatch! {
    /// Turns eight rows of tiles, `pitch` apart, into tiles of eight, `wide` apart.
    pub fn turn(from: &[f32], tiles: usize, pitch: usize, to: &mut [f32], wide: usize) {
        let padded = tiles.next_multiple_of(8);
        assert!(from.len() >= 7 * pitch + padded && to.len() >= (padded.max(1) - 1) * wide + 8, "tiles to turn");
    } => turn_in(from.as_ptr(), tiles, pitch, to.as_mut_ptr(), wide)
}

#[inline(always)]
unsafe fn turn_in<V: Eight>(from: *const f32, tiles: usize, pitch: usize, to: *mut f32, wide: usize) {
    for t in (0..tiles).step_by(8) {
        // SAFETY: the caller's check.
        unsafe {
            let at = from.add(t);
            let rows = [
                V::load(at),
                V::load(at.add(pitch)),
                V::load(at.add(2 * pitch)),
                V::load(at.add(3 * pitch)),
                V::load(at.add(4 * pitch)),
                V::load(at.add(5 * pitch)),
                V::load(at.add(6 * pitch)),
                V::load(at.add(7 * pitch)),
            ];
            V::transpose(rows, to.add(t * wide), wide);
        }
    }
}

dispatch! {
    /// Every second float, from the first on, for eight results or more.
    pub fn halve(from: &[f32], to: &mut [f32]) {
        assert!(to.len() >= 8 && from.len() / 2 >= to.len(), "a row to halve");
    } => halve_in(from.as_ptr(), to.len(), to.as_mut_ptr())
}

#[inline(always)]
unsafe fn halve_in<V: Eight>(from: *const f32, len: usize, to: *mut f32) {
    for at in eights(len) {
        // SAFETY: the caller's check.
        unsafe { V::evens(from.add(2 * at)).store(to.add(at)) };
    }
}

dispatch! {
    /// Floats of two rows of eight or more in turn.
    pub fn join(even: &[f32], odd: &[f32], to: &mut [f32]) {
        assert!(even.len() >= 8 && even.len() == odd.len() && to.len() / 2 >= even.len(), "rows to join");
    } => join_in(even.as_ptr(), odd.as_ptr(), even.len(), to.as_mut_ptr())
}

#[inline(always)]
unsafe fn join_in<V: Eight>(even: *const f32, odd: *const f32, len: usize, to: *mut f32) {
    for at in eights(len) {
        // SAFETY: the caller's check.
        unsafe { V::join2([V::load(even.add(at)), V::load(odd.add(at))], to.add(2 * at)) };
    }
}

/// Starts of vectors of eight that cover `len` floats, eight or more; the last one lies over others where it must.
fn eights(len: usize) -> impl Iterator<Item = usize> {
    (0..len - 7).step_by(8).chain((!len.is_multiple_of(8)).then_some(len - 8))
}
