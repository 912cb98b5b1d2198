//! Two-dimensional transforms of many tiles, eight at a time.

#![expect(clippy::needless_range_loop, reason = "register tiles are read across their rows")]

use super::eight::{Eight, filter3, filter4, results3, results4, signal};
use crate::level::Level;

/// Points per tile: six by six.
pub const POINTS: usize = 36;

/// Defines a safe function that runs generic code in the registers of a level. The checks come first in its body.
macro_rules! dispatch {
    ($(#[$doc:meta])* pub fn $name:ident($($arg:ident: $type:ty),*) $check:block => $inner:ident($($pass:expr),*)) => {
        $(#[$doc])*
        pub fn $name(level: Level, $($arg: $type),*) {
            $check
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma")]
                unsafe fn avx2($($arg: $type),*) {
                    // SAFETY: the function is compiled for these instructions; the caller has checked the lengths.
                    unsafe { $inner::<std::arch::x86_64::__m256>($($pass),*) }
                }
                if level != Level::Portable {
                    // SAFETY: the level was detected, and the check has bounded all reads and writes.
                    return unsafe { avx2($($arg),*) };
                }
            }
            let _ = level;
            // SAFETY: the check has bounded all reads and writes.
            unsafe { $inner::<[f32; 8]>($($pass),*) }
        }
    };
}

dispatch! {
    /// Splits a row by position modulo 4, with six parts for tiles of six that lie four apart: `to[j * pitch + t]` is
    /// `line[4 * t + j]` for `t < tiles`. Up to seven floats after each part may be overwritten too.
    pub fn split(line: &[f32], tiles: usize, pitch: usize, to: &mut [f32]) {
        let wide = tiles.next_multiple_of(8);
        assert!(line.len() >= 4 * wide + 4 && to.len() >= 5 * pitch + wide, "a row of tiles");
    } => split_in(line.as_ptr(), tiles, pitch, to.as_mut_ptr())
}

#[inline(always)]
unsafe fn split_in<V: Eight>(line: *const f32, tiles: usize, pitch: usize, to: *mut f32) {
    for t in (0..tiles).step_by(8) {
        // SAFETY: the caller's check.
        unsafe {
            let [a, b, c, d] = V::split4(line.add(4 * t));
            let [e, f, ..] = V::split4(line.add(4 * t + 4));
            a.store(to.add(t));
            b.store(to.add(pitch + t));
            c.store(to.add(2 * pitch + t));
            d.store(to.add(3 * pitch + t));
            e.store(to.add(4 * pitch + t));
            f.store(to.add(5 * pitch + t));
        }
    }
}

dispatch! {
    /// Transforms signals: element `p` of tile `t` is `from[p * pitch + t]`, its point `p` goes to `to[p * step + t]`.
    pub fn signals(from: &[f32], tiles: usize, pitch: usize, to: &mut [f32], step: usize) {
        let wide = tiles.next_multiple_of(8);
        assert!(from.len() >= 35 * pitch + wide && to.len() >= 35 * step + wide, "tiles of a signal");
    } => signals_in(from.as_ptr(), tiles, pitch, to.as_mut_ptr(), step)
}

#[inline(always)]
unsafe fn signals_in<V: Eight>(from: *const f32, tiles: usize, pitch: usize, to: *mut f32, step: usize) {
    for t in (0..tiles).step_by(8) {
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
    pub fn results(from: &[f32], tiles: usize, step: usize, to: &mut [f32], pitch: usize) {
        let wide = tiles.next_multiple_of(8);
        assert!(from.len() >= 35 * step + wide && to.len() >= 3 * pitch + 4 * wide, "tiles of a result");
    } => results_in(from.as_ptr(), tiles, step, to.as_mut_ptr(), pitch)
}

#[inline(always)]
unsafe fn results_in<V: Eight>(from: *const f32, tiles: usize, step: usize, to: *mut f32, pitch: usize) {
    for t in (0..tiles).step_by(8) {
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
    pub fn blocks(from: &[f32], tiles: usize, pitch: usize, to: &mut [f32], step: usize) {
        let wide = tiles.next_multiple_of(8);
        assert!(from.len() >= 15 * pitch + wide && to.len() >= 35 * step + wide, "tiles of a gradient");
    } => blocks_in(from.as_ptr(), tiles, pitch, to.as_mut_ptr(), step)
}

#[inline(always)]
unsafe fn blocks_in<V: Eight>(from: *const f32, tiles: usize, pitch: usize, to: *mut f32, step: usize) {
    for t in (0..tiles).step_by(8) {
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
