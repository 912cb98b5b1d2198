//! Tiles in vectors of 32 and 64 bytes.

use super::super::pack::{Ends, LANES, Panel};
use super::super::quant::{Quant, Rounding};
use super::groups::{R, pairs, quads, singles, triples};
use super::sums::{Stage, Sums};
use std::arch::x86_64::*;
use std::mem::MaybeUninit;

pub fn has_vnni() -> bool {
    std::arch::is_x86_feature_detected!("avx512f") && std::arch::is_x86_feature_detected!("avx512vnni")
}

pub fn has_avx_vnni() -> bool {
    std::arch::is_x86_feature_detected!("avxvnni")
}

/// # Safety
/// As [`super::TileKernel::run`], with as many pixels as a multiple of [`R`].
#[target_feature(enable = "avx2")]
pub unsafe fn dense(panel: &Panel, ends: &Ends, at: &[*const u8], to: *mut u8, pitch: usize, quant: Option<Quant>) {
    let mut stage: Stage = [MaybeUninit::uninit(); super::sums::MAX_PIXELS];
    if panel.steps.len() > NEAR {
        // SAFETY: the caller's promise.
        unsafe { blocks(panel, ends, at, &mut stage) };
    } else {
        for (at, stage) in at.chunks_exact(R).zip(stage.chunks_exact_mut(R)) {
            let at: &[*const u8; R] = at.try_into().expect("a chunk");
            let mut sums = [start(ends); R];
            let (mut step, mut offset) = (panel.steps.as_ptr().cast::<__m256i>(), panel.offsets.as_ptr());
            for (kind, &count) in panel.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
                // SAFETY: the caller's promise; the groups that `counts` tells of are in `steps` and `offsets`.
                unsafe { run_groups(kind, count, &mut step, &mut offset, at, &mut sums) };
            }
            for (stage, sums) in stage.iter_mut().zip(sums) {
                stage.write(sums);
            }
        }
    }
    // SAFETY: as many sums as pixels were written.
    unsafe { finish(ends, &stage, at.len(), to, pitch, quant) };
}

/// Most steps that stay in the first-level cache beside the pixels while all pixels of a run pass.
const NEAR: usize = 320;

/// Groups of each size of [`super::super::pack::GROUPS`] that fill half of that cache.
const BLOCKS: [usize; 4] = [51, 64, 85, 256];

/// # Safety
/// As [`groups!`], for groups of the `kind`-th size.
///
/// [`groups!`]: super::groups
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn run_groups(
    kind: usize,
    count: usize,
    step: &mut *const __m256i,
    offset: &mut *const u32,
    at: &[*const u8; R],
    sums: &mut [Sums; R],
) {
    // SAFETY: the caller's promise.
    unsafe {
        match kind {
            0 => quads(count, step, offset, at, sums),
            1 => triples(count, step, offset, at, sums),
            2 => pairs(count, step, offset, at, sums),
            _ => singles(count, step, offset, at, sums),
        }
    }
}

/// Sums of a panel with many steps: some of them for all pixels, then the next.
///
/// # Safety
/// As [`super::TileKernel::run`].
#[target_feature(enable = "avx2")]
unsafe fn blocks(panel: &Panel, ends: &Ends, at: &[*const u8], stage: &mut Stage) {
    stage[..at.len()].fill(MaybeUninit::new(start(ends)));
    let (mut step, mut offset) = (panel.steps.as_ptr().cast::<__m256i>(), panel.offsets.as_ptr());
    for (kind, (&all, most)) in panel.counts.iter().zip(BLOCKS).enumerate() {
        let mut left = all;
        while left > 0 {
            let count = left.min(most);
            let mut next = (step, offset);
            for (at, stage) in at.chunks_exact(R).zip(stage.chunks_exact_mut(R)) {
                let at: &[*const u8; R] = at.try_into().expect("a chunk");
                next = (step, offset);
                // SAFETY: the sums were initialized; the groups that `counts` tells of are in `steps` and `offsets`.
                unsafe {
                    let mut sums = [stage[0].assume_init(), stage[1].assume_init(), stage[2].assume_init()];
                    run_groups(kind, count, &mut next.0, &mut next.1, at, &mut sums);
                    stage.iter_mut().zip(sums).for_each(|(stage, sums)| *stage = MaybeUninit::new(sums));
                }
            }
            (step, offset) = next;
            left -= count;
        }
    }
}

/// # Safety
/// As [`super::TileKernel::run`], with an even number of pixels.
#[target_feature(enable = "avx2")]
pub unsafe fn depthwise(panel: &Panel, ends: &Ends, at: &[*const u8], to: *mut u8, pitch: usize, quant: Option<Quant>) {
    let mut stage: Stage = [MaybeUninit::uninit(); super::sums::MAX_PIXELS];
    for (at, stage) in at.chunks_exact(2).zip(stage.chunks_exact_mut(2)) {
        let mut sums = [start(ends); 2];
        for (offsets, step) in panel.offsets.chunks_exact(2).zip(&panel.steps) {
            for r in 0..2 {
                // SAFETY: a step of the panel reads here.
                unsafe {
                    let x0 = _mm256_cvtepu8_epi16(_mm_loadu_si128(at[r].add(offsets[0] as usize).cast()));
                    let x1 = _mm256_cvtepu8_epi16(_mm_loadu_si128(at[r].add(offsets[1] as usize).cast()));
                    let w = std::ptr::from_ref(step).cast::<__m256i>();
                    let low = _mm256_madd_epi16(_mm256_unpacklo_epi16(x0, x1), _mm256_load_si256(w));
                    let high = _mm256_madd_epi16(_mm256_unpackhi_epi16(x0, x1), _mm256_load_si256(w.add(1)));
                    sums[r] = [_mm256_add_epi32(sums[r][0], low), _mm256_add_epi32(sums[r][1], high)];
                }
            }
        }
        for (stage, sums) in stage.iter_mut().zip(sums) {
            stage.write(sums);
        }
    }
    // SAFETY: as many sums as pixels were written.
    unsafe { finish(ends, &stage, at.len(), to, pitch, quant) };
}

/// # Safety
/// As [`super::TileKernel::run`], with as many pixels as a multiple of 6.
#[target_feature(enable = "avx2,avxvnni")]
pub unsafe fn avx_vnni(panel: &Panel, ends: &Ends, at: &[*const u8], to: *mut u8, pitch: usize, quant: Option<Quant>) {
    let mut stage: Stage = [MaybeUninit::uninit(); super::sums::MAX_PIXELS];
    for (at, stage) in at.chunks_exact(6).zip(stage.chunks_exact_mut(6)) {
        let mut sums = [start(ends); 6];
        for (&offset, step) in panel.offsets.iter().zip(&panel.steps) {
            let w = std::ptr::from_ref(step).cast::<__m256i>();
            for (sum, at) in sums.iter_mut().zip(at) {
                // SAFETY: a step of the panel reads here, and has two vectors.
                unsafe {
                    let x = _mm256_set1_epi32(at.add(offset as usize).cast::<i32>().read_unaligned());
                    sum[0] = _mm256_dpbusd_avx_epi32(sum[0], x, _mm256_load_si256(w));
                    sum[1] = _mm256_dpbusd_avx_epi32(sum[1], x, _mm256_load_si256(w.add(1)));
                }
            }
        }
        for (stage, sums) in stage.iter_mut().zip(sums) {
            stage.write(sums);
        }
    }
    // SAFETY: as many sums as pixels were written.
    unsafe { finish(ends, &stage, at.len(), to, pitch, quant) };
}

/// Some panels that have the same offsets, and what becomes of their sums.
struct Several<'a, const P: usize> {
    offsets: &'a [u32],
    steps: [*const __m512i; P],
    ends: [&'a Ends; P],
    pitch: usize,
    quant: Option<Quant>,
}

/// Sums of `R` pixels of `P` panels: as many products of vectors as registers hold beside `P` vectors of weights and one of a pixel. Two
/// ports do them, and do about as many loads meanwhile, of which there are `R + P + 1`.
///
/// # Safety
/// As [`super::Run`] for these panels, which have a step for each offset.
#[target_feature(enable = "avx2,avx512f,avx512vnni")]
#[inline]
unsafe fn tile<const R: usize, const P: usize>(several: &Several<'_, P>, at: [*const u8; R], to: [*mut u8; P]) {
    let &Several { offsets, steps, ends, pitch, quant } = several;
    // SAFETY: starts and steps have one such vector each; pixels and results as the caller promises.
    unsafe {
        let mut sums = [ends.map(|ends| _mm512_loadu_si512(ends.start.as_ptr().cast())); R];
        for (step, &offset) in offsets.iter().enumerate() {
            let mut weights = [_mm512_setzero_si512(); P];
            for (w, steps) in weights.iter_mut().zip(&steps) {
                *w = _mm512_load_si512(steps.add(step));
            }
            for (sums, at) in sums.iter_mut().zip(&at) {
                let x = _mm512_set1_epi32(at.add(offset as usize).cast::<i32>().read_unaligned());
                for (sum, &w) in sums.iter_mut().zip(&weights) {
                    *sum = _mm512_dpbusd_epi32(*sum, x, w);
                }
            }
        }
        // Panel by panel, not in a loop: the sums are to stay in registers.
        macro_rules! finish {
            ($($p:literal)*) => {
                $(if P > $p {
                    finish_wide(ends[$p % P], &sums.map(|sums| sums[$p % P]), to[$p % P], pitch, quant);
                })*
            };
        }
        finish!(0 1 2 3);
    }
}

/// Any number of pixels of `P` panels in tiles of `R`, at most 8, and one of what is left.
///
/// # Safety
/// As [`super::Run`], for `P` panels.
#[target_feature(enable = "avx2,avx512f,avx512vnni")]
pub unsafe fn vnni<const R: usize, const P: usize>(
    panels: &[&Panel],
    ends: &[&Ends],
    at: &[*const u8],
    to: &[*mut u8],
    pitch: usize,
    quant: Option<Quant>,
) {
    let (Some(panels), Some(&ends), Some(&to)) = (panels.first_chunk::<P>(), ends.first_chunk::<P>(), to.first_chunk::<P>()) else {
        return;
    };
    let count = panels.iter().map(|panel| panel.steps.len()).min().unwrap_or(0);
    let Some(offsets) = panels[0].offsets.get(..count) else { return };
    let several = Several { offsets, steps: panels.map(|panel| panel.steps.as_ptr().cast::<__m512i>()), ends, pitch, quant };
    let (tiles, rest) = at.as_chunks::<R>();
    let place = |done: usize| to.map(|to| to.wrapping_add(done * pitch));
    // SAFETY: the caller's promise, for some of the pixels at a time.
    unsafe {
        for (i, &at) in tiles.iter().enumerate() {
            tile::<R, P>(&several, at, place(i * R));
        }
        macro_rules! last {
            ($($n:literal)*) => {
                match rest.len() {
                    $($n if R > $n => {
                        if let Some(&at) = rest.first_chunk::<$n>() {
                            tile::<$n, P>(&several, at, place(tiles.len() * R));
                        }
                    })*
                    _ => {}
                }
            };
        }
        last!(1 2 3 4 5 6 7);
    }
}

/// As [`finish`], for sums of pixels in one vector each: half of the operations. Always inlined, for the sums are in registers.
///
/// # Safety
/// The machine has AVX-512, for which the caller is compiled. The [`LANES`] results of all pixels are writable.
#[inline(always)]
unsafe fn finish_wide<const R: usize>(ends: &Ends, sums: &[__m512i; R], to: *mut u8, pitch: usize, quant: Option<Quant>) {
    // SAFETY: scales and biases have one vector; results as the caller promises.
    unsafe {
        let (scales, bias) = (_mm512_loadu_ps(ends.scales.as_ptr()), _mm512_loadu_ps(ends.bias.as_ptr()));
        let real = |sum: __m512i| _mm512_add_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(sum), scales), bias);
        // Both orders of the lanes differ in the second and the third four.
        let Some(quant) = quant else {
            for (p, &sum) in sums.iter().enumerate() {
                let real = real(sum);
                _mm512_storeu_ps(to.add(p * pitch).cast(), _mm512_shuffle_f32x4::<0b11_01_10_00>(real, real));
            }
            return;
        };
        let inverse_scale = _mm512_set1_ps(quant.inverse_scale);
        let high = _mm512_set1_ps(f32::from(quant.high) - f32::from(quant.zero));
        let (zero, low) = (_mm512_set1_epi32(i32::from(quant.zero)), _mm512_set1_epi32(i32::from(quant.low)));
        for (p, &sum) in sums.iter().enumerate() {
            // A minimum is its second operand where one is NaN. What is below the range of 32 bits and NaN become the least of 32
            // bits, hence `low`.
            let near = _mm512_cvtps_epi32(_mm512_min_ps(high, _mm512_mul_ps(real(sum), inverse_scale)));
            let bytes = _mm512_cvtepi32_epi8(_mm512_max_epi32(_mm512_add_epi32(near, zero), low));
            _mm_storeu_si128(to.add(p * pitch).cast(), _mm_shuffle_epi32::<0b11_01_10_00>(bytes));
        }
    }
}

#[target_feature(enable = "avx2")]
#[inline]
fn start(ends: &Ends) -> Sums {
    let from = ends.start.as_ptr().cast::<__m256i>();
    // SAFETY: the start has two vectors.
    unsafe { [_mm256_loadu_si256(from), _mm256_loadu_si256(from.add(1))] }
}

/// # Safety
/// The first `count` sums are initialized, and the [`LANES`] results of as many pixels are writable.
#[target_feature(enable = "avx2")]
unsafe fn finish(ends: &Ends, stage: &Stage, count: usize, to: *mut u8, pitch: usize, quant: Option<Quant>) {
    // SAFETY: scales and biases have two vectors; sums and results as the caller promises.
    unsafe {
        let both = |from: &[f32; LANES]| [_mm256_loadu_ps(from.as_ptr()), _mm256_loadu_ps(from.as_ptr().add(8))];
        let (scales, bias) = (both(&ends.scales), both(&ends.bias));
        let real = |sum: __m256i, v: usize| _mm256_add_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(sum), scales[v]), bias[v]);
        let reals = |p: usize| {
            let [a, b] = stage[p].assume_init();
            [real(a, 0), real(b, 1)]
        };
        let Some(quant) = quant else {
            for p in 0..count {
                let ([a, b], to) = (reals(p), to.add(p * pitch).cast::<f32>());
                _mm256_storeu_ps(to, _mm256_permute2f128_ps::<0x20>(a, b));
                _mm256_storeu_ps(to.add(8), _mm256_permute2f128_ps::<0x31>(a, b));
            }
            return;
        };
        let rounding = Rounding::new(quant);
        for p in (0..count / 2 * 2).step_by(2) {
            let ([a, b], [c, d]) = (reals(p), reals(p + 1));
            // Halves of both pixels take turns.
            let bytes = _mm256_permute4x64_epi64::<0xd8>(_mm256_packus_epi16(rounding.shorts(a, b), rounding.shorts(c, d)));
            _mm_storeu_si128(to.add(p * pitch).cast(), _mm256_castsi256_si128(bytes));
            _mm_storeu_si128(to.add((p + 1) * pitch).cast(), _mm256_extracti128_si256::<1>(bytes));
        }
        if count % 2 == 1 {
            let [a, b] = reals(count - 1);
            let shorts = rounding.shorts(a, b);
            let bytes = _mm_packus_epi16(_mm256_castsi256_si128(shorts), _mm256_extracti128_si256::<1>(shorts));
            _mm_storeu_si128(to.add((count - 1) * pitch).cast(), bytes);
        }
    }
}
