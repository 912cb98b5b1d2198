//! The linear maps around the products: Lavin and Gray's for 4×4 outputs of a 3×3 kernel, by the points 0, ±1, ±2, ∞.

use crate::channels_last::finish::Sums;
use crate::level::Level;
use crate::vector::Vector;

/// Values of a transformed tile.
pub const POINTS: usize = 36;

/// Transforms 6×6 pixels: value `[point, channel]` goes to `to[point · plane + channel]`, also for channels up to a
/// multiple of 16.
///
/// # Safety
/// The level is there; `channels` can be read of each pixel, and all values written.
pub type Input = unsafe fn(pixels: &[*const f32; POINTS], channels: usize, to: *mut f32, plane: usize);

/// Transforms values `[point, columns]`, points `plane` apart, to rows of sums: 4×4 pixels, plus the bias of each
/// column.
///
/// # Safety
/// The level is there, `columns` is 8 or 16 (16 at AVX-512), and values and bias can be read.
pub type Output = unsafe fn(from: *const f32, plane: usize, columns: usize, bias: *const f32, sums: &mut Sums);

/// The transforms of a level.
pub fn transforms(level: Level) -> (Input, Output) {
    match level {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => (x86::input512, x86::output512),
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => (x86::input256, x86::output256),
        _ => (input::<[f32; 8]>, output::<[f32; 8]>),
    }
}

/// Transforms a kernel `[3, 3]`.
pub fn weights(kernel: &[f64; 9]) -> [f64; POINTS] {
    let line = |g: [f64; 3]| {
        let (even, odd) = (g[0] + g[2], g[1]);
        let (even2, odd2) = (g[0] / 24.0 + g[2] / 6.0, g[1] / 12.0);
        [g[0] / 4.0, -(even + odd) / 6.0, -(even - odd) / 6.0, even2 + odd2, even2 - odd2, g[2]]
    };
    let rows: [[f64; 6]; 3] = std::array::from_fn(|y| line([kernel[3 * y], kernel[3 * y + 1], kernel[3 * y + 2]]));
    let columns: [[f64; 6]; 6] = std::array::from_fn(|x| line([rows[0][x], rows[1][x], rows[2][x]]));
    std::array::from_fn(|i| columns[i % 6][i / 6])
}

/// # Safety
/// See [`Vector::splat`].
#[inline(always)]
unsafe fn input_line<L: Vector>(d: [L; 6]) -> [L; 6] {
    // SAFETY: as the caller vouches.
    unsafe {
        let (four, minus_four, minus_five) = (L::splat(4.0), L::splat(-4.0), L::splat(-5.0));
        let (two, minus_two) = (L::splat(2.0), L::splat(-2.0));
        let (a, b) = (minus_four.fma(d[2], d[4]), minus_four.fma(d[1], d[3]));
        let (c, e) = (d[4].sub(d[2]), d[3].sub(d[1]));
        [
            four.fma(d[0], minus_five.fma(d[2], d[4])),
            a.add(b),
            a.sub(b),
            two.fma(e, c),
            minus_two.fma(e, c),
            four.fma(d[1], minus_five.fma(d[3], d[5])),
        ]
    }
}

/// # Safety
/// See [`Vector::splat`].
#[inline(always)]
unsafe fn output_line<L: Vector>(m: [L; 6]) -> [L; 4] {
    // SAFETY: as the caller vouches.
    unsafe {
        let (even, odd) = (m[1].add(m[2]), m[1].sub(m[2]));
        let (even2, odd2) = (m[3].add(m[4]), m[3].sub(m[4]));
        [m[0].add(even).add(even2), L::splat(2.0).fma(odd2, odd), L::splat(4.0).fma(even2, even), L::splat(8.0).fma(odd2, odd.add(m[5]))]
    }
}

/// # Safety
/// See [`Input`].
#[inline(always)]
unsafe fn input<L: Vector>(pixels: &[*const f32; POINTS], channels: usize, to: *mut f32, plane: usize) {
    // SAFETY: as the caller vouches; the last channels come from a copy filled up with zeros.
    unsafe {
        let full = channels / L::N * L::N;
        for c in (0..full).step_by(L::N) {
            input_block::<L>(pixels, c, to.add(c), plane);
        }
        if full < channels {
            let mut copy = [[0.0f32; 16]; POINTS];
            for (copy, pixel) in copy.iter_mut().zip(pixels) {
                copy[..channels - full].iter_mut().enumerate().for_each(|(c, v)| *v = *pixel.add(full + c));
            }
            input_block::<L>(&copy.each_ref().map(|c| c.as_ptr()), 0, to.add(full), plane);
        }
    }
}

/// # Safety
/// `L::N` channels from `c` on can be read of each pixel; see [`Input`].
#[expect(clippy::needless_range_loop, reason = "the loops transpose")]
#[inline(always)]
unsafe fn input_block<L: Vector>(pixels: &[*const f32; POINTS], c: usize, to: *mut f32, plane: usize) {
    // SAFETY: as the caller vouches.
    unsafe {
        let mut half = [[L::splat(0.0); 6]; 6];
        for x in 0..6 {
            let mut d = [L::splat(0.0); 6];
            for y in 0..6 {
                d[y] = L::load(pixels[y * 6 + x].add(c));
            }
            let t = input_line(d);
            for y in 0..6 {
                half[y][x] = t[y];
            }
        }
        for y in 0..6 {
            let t = input_line(half[y]);
            for x in 0..6 {
                t[x].store(to.add((y * 6 + x) * plane));
            }
        }
    }
}

/// # Safety
/// See [`Output`].
#[expect(clippy::needless_range_loop, reason = "the loops transpose")]
#[inline(always)]
unsafe fn output<L: Vector>(from: *const f32, plane: usize, columns: usize, bias: *const f32, sums: &mut Sums) {
    // SAFETY: as the caller vouches; a row of sums has 16 values.
    unsafe {
        for c in (0..columns).step_by(L::N) {
            let bias = L::load(bias.add(c));
            let mut half = [[L::splat(0.0); 6]; 4];
            for x in 0..6 {
                let mut m = [L::splat(0.0); 6];
                for y in 0..6 {
                    m[y] = L::load(from.add((y * 6 + x) * plane + c));
                }
                let t = output_line(m);
                for y in 0..4 {
                    half[y][x] = t[y];
                }
            }
            for y in 0..4 {
                let t = output_line(half[y]);
                for x in 0..4 {
                    t[x].add(bias).store(sums.0[y * 4 + x].as_mut_ptr().add(c));
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{POINTS, Sums, input, output};
    use std::arch::x86_64::{__m256, __m512};

    macro_rules! transforms {
        ($input:ident, $output:ident, $type:ident, $features:literal) => {
            /// # Safety
            /// See [`super::Input`].
            #[target_feature(enable = $features)]
            pub unsafe fn $input(pixels: &[*const f32; POINTS], channels: usize, to: *mut f32, plane: usize) {
                // SAFETY: as the caller vouches.
                unsafe { input::<$type>(pixels, channels, to, plane) }
            }
            /// # Safety
            /// See [`super::Output`].
            #[target_feature(enable = $features)]
            pub unsafe fn $output(from: *const f32, plane: usize, columns: usize, bias: *const f32, sums: &mut Sums) {
                // SAFETY: as the caller vouches.
                unsafe { output::<$type>(from, plane, columns, bias, sums) }
            }
        };
    }

    transforms!(input256, output256, __m256, "avx2,fma");
    transforms!(input512, output512, __m512, "avx512f");
}
