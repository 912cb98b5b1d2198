//! Register tiles: the inner loops of convolution.
//!
//! Both multiply matrices of which one side is never stored: its element `(k, p)` is `src[offset[k] + p]`, a shifted view
//! of a padded image. [`multiply`] makes outputs and data gradients, [`accumulate`] weight gradients. Each exists in
//! vectors of 16 (AVX-512) and 8 (AVX2) floats and as safe portable code, chosen at run time.

use crate::level::Level;
use std::mem::MaybeUninit;

/// Vectors side by side in the next tile of [`multiply`], when so many are left.
fn width(level: Level, left: usize) -> usize {
    match (level, left) {
        // Three, but rather twice two than three and one.
        (Level::Avx512, 3 | 5..) => 3,
        _ => left.min(2),
    }
}

/// Packed weights up to so many floats stay in the second-level cache while an image streams past.
const CACHED_WEIGHTS: usize = 1 << 16;

/// Floats of the source that stay in the first-level cache.
const CACHED_COLUMNS: usize = 5 << 10;

/// `out[r * ld + p] = Σ_k packed[r, k] · src[offsets[k] + p]` for `p < len` rounded up to whole vectors.
///
/// `packed` holds one block `[offsets.len(), height]` per entry of `heights`, and `out` has as many rows as these sum to.
///
/// # Panics
/// When a slice is too short for what would be read or written.
pub fn multiply(
    level: Level,
    heights: &[usize],
    offsets: &[u32],
    packed: &[f32],
    src: &[f32],
    len: usize,
    out: &mut [MaybeUninit<f32>],
    ld: usize,
) {
    let (depth, lanes, rows) = (offsets.len(), level.lanes(), heights.iter().sum::<usize>());
    let padded = len.next_multiple_of(lanes);
    let reach = offsets.iter().max().map_or(0, |&farthest| farthest as usize + padded);
    assert!(packed.len() >= rows * depth && src.len() >= reach && ld >= padded, "operands of a convolution tile");
    assert!(rows == 0 || out.len() >= (rows - 1) * ld + padded, "result of a convolution tile");
    if depth == 0 {
        // Sums of nothing: there may be no source to point into.
        (0..rows).for_each(|r| out[r * ld..][..padded].fill(MaybeUninit::new(0.0)));
        return;
    }
    let mut run = |first: usize, height: usize, p: usize, width: usize| {
        let (packed, at) = (&packed[first * depth..][..height * depth], first * ld + p);
        #[cfg(target_arch = "x86_64")]
        {
            use x86::{multiply256, multiply512};
            let f: Option<x86::Multiply> = match (level, height, width) {
                (Level::Avx512, 8, 1) => Some(multiply512::<8, 1>),
                (Level::Avx512, 8, 2) => Some(multiply512::<8, 2>),
                (Level::Avx512, 8, _) => Some(multiply512::<8, 3>),
                (Level::Avx512, 4, 1) => Some(multiply512::<4, 1>),
                (Level::Avx512, 4, 2) => Some(multiply512::<4, 2>),
                (Level::Avx512, 4, _) => Some(multiply512::<4, 3>),
                (Level::Avx2, 6, 1) => Some(multiply256::<6, 1>),
                (Level::Avx2, 6, _) => Some(multiply256::<6, 2>),
                (Level::Avx2, 4, 1) => Some(multiply256::<4, 1>),
                (Level::Avx2, 4, _) => Some(multiply256::<4, 2>),
                _ => None,
            };
            if let Some(f) = f {
                // SAFETY: the level was detected; the assertions bound every offset plus `padded` by the source and every
                // row of the block by the result, and `p + width · lanes` is at most `padded`.
                return unsafe { f(offsets, packed.as_ptr(), src.as_ptr().add(p), out.as_mut_ptr().add(at).cast(), ld) };
            }
        }
        (0..width * lanes).step_by(8).for_each(|v| portable_multiply(height, offsets, packed, &src[p + v..], &mut out[at + v..], ld));
    };
    let blocks = || {
        heights.iter().scan(0, |at, &height| {
            *at += height;
            Some((*at - height, height))
        })
    };
    let mut row = |first: usize, height: usize, start: usize, end: usize| {
        let mut p = start;
        while p < end {
            let width = width(level, (end - p) / lanes);
            run(first, height, p, width);
            p += width * lanes;
        }
    };
    if rows * depth <= CACHED_WEIGHTS {
        // Rows of the result are pages apart: each gets some lines at a time, as far as what they are made of stays in the cache.
        let columns = (CACHED_COLUMNS / depth.max(1)).max(1).next_multiple_of(width(level, usize::MAX) * lanes);
        for start in (0..padded).step_by(columns) {
            blocks().for_each(|(first, height)| row(first, height, start, padded.min(start + columns)));
        }
    } else {
        blocks().for_each(|(first, height)| row(first, height, 0, padded));
    }
}

/// One tile of 8 columns.
fn portable_multiply(height: usize, offsets: &[u32], packed: &[f32], src: &[f32], out: &mut [MaybeUninit<f32>], ld: usize) {
    let mut sums = [[0.0f32; 8]; 8];
    for (&offset, weights) in offsets.iter().zip(packed.chunks_exact(height)) {
        let values = &src[offset as usize..][..8];
        for (sum, w) in sums.iter_mut().zip(weights) {
            sum.iter_mut().zip(values).for_each(|(s, v)| *s += w * v);
        }
    }
    for (r, sum) in sums.iter().enumerate().take(height) {
        out[r * ld..][..8].write_copy_of_slice(sum);
    }
}

/// Pixels of a weight gradient: `images` that are `apart` in the source, each of `rows` of `width` that are `pitch` apart.
#[derive(Debug, Clone, Copy)]
pub struct Pixels {
    pub images: usize,
    pub apart: usize,
    pub rows: usize,
    pub width: usize,
    pub pitch: usize,
}

/// `out[k * ld + m] += Σ_p src[offsets[k] + p] · gy[p, m]` over all pixels, for the `vectors · lanes` values of `m` that
/// `gy: [pixels, vectors · lanes]` has. `offsets` come in whole groups of `level.taps()`.
///
/// # Panics
/// When a slice is too short for what would be read or written.
pub fn accumulate(level: Level, vectors: usize, offsets: &[u32], src: &[f32], pixels: Pixels, gy: &[f32], out: &mut [f32], ld: usize) {
    let (taps, lanes) = (level.taps(), level.lanes());
    let wide = vectors * lanes;
    assert!((1..=2).contains(&vectors) && offsets.len().is_multiple_of(taps), "tile of a weight gradient");
    let count = pixels.images * pixels.rows * pixels.width;
    if offsets.is_empty() || count == 0 {
        return;
    }
    let last = (pixels.images - 1) * pixels.apart + (pixels.rows - 1) * pixels.pitch + pixels.width;
    let reach = offsets.iter().copied().max().unwrap_or(0) as usize + last;
    assert!(src.len() >= reach && gy.len() >= count * wide, "operands of a weight gradient");
    assert!(ld >= wide && out.len() >= (offsets.len() - 1) * ld + wide, "result of a weight gradient");
    for (i, group) in offsets.chunks_exact(taps).enumerate() {
        let at = i * taps * ld;
        match level {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the level was detected, and the assertions bound every pixel of every offset by the source, every
            // pixel's vectors by the gradient, and every row of the group by the result.
            Level::Avx512 => unsafe {
                let f = if vectors == 1 { x86::accumulate512::<1> } else { x86::accumulate512::<2> };
                f(group, src.as_ptr(), pixels, gy.as_ptr(), out.as_mut_ptr().add(at), ld);
            },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Level::Avx2 => unsafe {
                let f = if vectors == 1 { x86::accumulate256::<1> } else { x86::accumulate256::<2> };
                f(group, src.as_ptr(), pixels, gy.as_ptr(), out.as_mut_ptr().add(at), ld);
            },
            _ => portable_accumulate(wide, group, src, pixels, gy, &mut out[at..], ld),
        }
    }
}

fn portable_accumulate(wide: usize, offsets: &[u32], src: &[f32], pixels: Pixels, gy: &[f32], out: &mut [f32], ld: usize) {
    let rows = (0..pixels.images).flat_map(|i| (0..pixels.rows).map(move |row| i * pixels.apart + row * pixels.pitch));
    let places = rows.flat_map(|at| at..at + pixels.width);
    for (at, gy) in places.zip(gy.chunks_exact(wide)) {
        for (k, &offset) in offsets.iter().enumerate() {
            let v = src[offset as usize + at];
            out[k * ld..][..wide].iter_mut().zip(gy).for_each(|(o, g)| *o += v * g);
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Pixels;
    use std::arch::x86_64::*;

    /// One tile of [`super::multiply`].
    pub type Multiply = unsafe fn(&[u32], *const f32, *const f32, *mut f32, usize);

    /// Defines the tiles for one vector width. Their safety: the caller has shown that the machine has the features, that
    /// all reads through `src` and `gy` and all writes through `out` that the sizes imply are inside their slices, and
    /// that `packed` has a row of weights per offset.
    macro_rules! tiles {
        ($multiply:ident, $accumulate:ident, $features:literal, $taps:literal, $lanes:literal,
         $load:ident, $store:ident, $all:ident, $fma:ident, $add:ident, $zero:ident) => {
            #[target_feature(enable = $features)]
            pub unsafe fn $multiply<const R: usize, const V: usize>(
                offsets: &[u32],
                packed: *const f32,
                src: *const f32,
                out: *mut f32,
                ld: usize,
            ) {
                let mut sums = [[$zero(); V]; R];
                for (k, &offset) in offsets.iter().enumerate() {
                    // SAFETY: see the macro.
                    unsafe {
                        let from = src.add(offset as usize);
                        let weights = packed.add(k * R);
                        let mut values = [$zero(); V];
                        for (v, value) in values.iter_mut().enumerate() {
                            *value = $load(from.add(v * $lanes));
                        }
                        for r in 0..R {
                            let w = $all(*weights.add(r));
                            for v in 0..V {
                                sums[r][v] = $fma(w, values[v], sums[r][v]);
                            }
                        }
                    }
                }
                for (r, row) in sums.iter().enumerate() {
                    for (v, &sum) in row.iter().enumerate() {
                        // SAFETY: see the macro.
                        unsafe { $store(out.add(r * ld + v * $lanes), sum) };
                    }
                }
            }

            #[target_feature(enable = $features)]
            pub unsafe fn $accumulate<const V: usize>(
                offsets: &[u32],
                src: *const f32,
                pixels: Pixels,
                mut gy: *const f32,
                out: *mut f32,
                ld: usize,
            ) {
                let mut sums = [[$zero(); V]; $taps];
                for row in 0..pixels.images * pixels.rows {
                    let at = row / pixels.rows * pixels.apart + row % pixels.rows * pixels.pitch;
                    // SAFETY: see the macro; there are as many offsets as taps.
                    unsafe {
                        let mut from = [src; $taps];
                        for (k, from) in from.iter_mut().enumerate() {
                            *from = src.add(*offsets.get_unchecked(k) as usize + at);
                        }
                        for x in 0..pixels.width {
                            let mut values = [$zero(); V];
                            for (v, value) in values.iter_mut().enumerate() {
                                *value = $load(gy.add(v * $lanes));
                            }
                            gy = gy.add(V * $lanes);
                            for k in 0..$taps {
                                let s = $all(*from[k].add(x));
                                for v in 0..V {
                                    sums[k][v] = $fma(s, values[v], sums[k][v]);
                                }
                            }
                        }
                    }
                }
                for (k, row) in sums.iter().enumerate() {
                    for (v, &sum) in row.iter().enumerate() {
                        // SAFETY: see the macro.
                        unsafe {
                            let at = out.add(k * ld + v * $lanes);
                            $store(at, $add($load(at), sum));
                        }
                    }
                }
            }
        };
    }

    tiles!(
        multiply256,
        accumulate256,
        "avx2,fma",
        6,
        8,
        _mm256_loadu_ps,
        _mm256_storeu_ps,
        _mm256_set1_ps,
        _mm256_fmadd_ps,
        _mm256_add_ps,
        _mm256_setzero_ps
    );
    tiles!(
        multiply512,
        accumulate512,
        "avx512f",
        8,
        16,
        _mm512_loadu_ps,
        _mm512_storeu_ps,
        _mm512_set1_ps,
        _mm512_fmadd_ps,
        _mm512_add_ps,
        _mm512_setzero_ps
    );
}
