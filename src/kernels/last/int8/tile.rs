//! Register tiles of convolution: sums of products of a few pixels for the [`LANES`] output channels of a [`Panel`], and
//! what makes reals or bytes of them.

use super::pack::{LANES, Panel};
use super::store::{Quant, to_byte};
use crate::kernels::conv::tile::Level;
#[cfg(target_arch = "x86_64")]
pub use x86::bytes_of_reals;

/// One way to compute tiles.
#[derive(Debug, Clone, Copy)]
pub struct Tile {
    /// Pixels that are computed at once; `run` takes a multiple of it.
    pub pixels: usize,
    /// Sums are made in 16 bits: panels need groups.
    pub grouped: bool,
    pub name: &'static str,
    /// Writes [`LANES`] results for each pixel `p` at `to + p · pitch` (in bytes): bytes with a [`Quant`], float32 without.
    ///
    /// # Safety
    /// The machine has the instructions. Each of `at` is where a pixel's window begins: all that the steps of the panel
    /// read there is readable. The results are writable.
    pub run: unsafe fn(panel: &Panel, at: &[*const u8], to: *mut u8, pitch: usize, quant: Option<Quant>),
}

impl Tile {
    pub fn dense(level: Level) -> Self {
        #[cfg(target_arch = "x86_64")]
        match level {
            Level::Portable => {}
            Level::Avx512 if x86::has_vnni() => return Self { pixels: 8, grouped: false, name: "vnni", run: x86::vnni },
            Level::Avx2 | Level::Avx512 => return Self { pixels: 3, grouped: true, name: "avx2", run: x86::dense },
        }
        let _ = level;
        Self { pixels: 1, grouped: false, name: "portable", run: dense }
    }

    pub fn depthwise(level: Level) -> Self {
        #[cfg(target_arch = "x86_64")]
        if level != Level::Portable {
            return Self { pixels: 2, grouped: false, name: "avx2", run: x86::depthwise };
        }
        let _ = level;
        Self { pixels: 1, grouped: false, name: "portable", run: depthwise }
    }
}

unsafe fn dense(panel: &Panel, at: &[*const u8], to: *mut u8, pitch: usize, quant: Option<Quant>) {
    for (p, at) in at.iter().enumerate() {
        let mut sums = panel.start;
        for (&offset, step) in panel.offsets.iter().zip(&panel.steps) {
            // SAFETY: a step of the panel reads here.
            let x = unsafe { at.add(offset as usize).cast::<[u8; 4]>().read() }.map(i32::from);
            for (sum, w) in sums.iter_mut().zip(step.0.chunks_exact(4)) {
                *sum += x.iter().zip(w).map(|(x, &w)| x * i32::from(w)).sum::<i32>();
            }
        }
        // SAFETY: the results of a pixel.
        unsafe { finish(panel, &sums, to.add(p * pitch), quant) };
    }
}

unsafe fn depthwise(panel: &Panel, at: &[*const u8], to: *mut u8, pitch: usize, quant: Option<Quant>) {
    for (p, at) in at.iter().enumerate() {
        let mut sums = panel.start;
        for (offsets, step) in panel.offsets.chunks_exact(2).zip(&panel.steps) {
            for (k, &offset) in offsets.iter().enumerate() {
                // SAFETY: a step of the panel reads here.
                let x = unsafe { at.add(offset as usize).cast::<[u8; LANES]>().read() };
                for (lane, sum) in sums.iter_mut().enumerate() {
                    let place = (lane % 4 + [0, 8, 4, 12][lane / 4]) * 2 + k;
                    let w = i16::from_ne_bytes([step.0[place * 2] as u8, step.0[place * 2 + 1] as u8]);
                    *sum += i32::from(x[lane]) * i32::from(w);
                }
            }
        }
        // SAFETY: the results of a pixel.
        unsafe { finish(panel, &sums, to.add(p * pitch), quant) };
    }
}

/// # Safety
/// The [`LANES`] results at `to` are writable.
unsafe fn finish(panel: &Panel, sums: &[i32; LANES], to: *mut u8, quant: Option<Quant>) {
    let reals: [f32; LANES] = std::array::from_fn(|lane| sums[lane] as f32 * panel.scales[lane] + panel.bias[lane]);
    // SAFETY: the caller's promise.
    unsafe {
        match quant {
            Some(q) => to.cast::<[u8; LANES]>().write(reals.map(|real| to_byte(real, q.inverse_scale, q.zero))),
            None => to.cast::<[f32; LANES]>().write_unaligned(reals),
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{LANES, Panel, Quant};
    use std::arch::x86_64::*;

    pub fn has_vnni() -> bool {
        std::arch::is_x86_feature_detected!("avx512f") && std::arch::is_x86_feature_detected!("avx512vnni")
    }

    /// Pixels of a dense tile: for each, two vectors of 32-bit and two of 16-bit sums stay in registers.
    const R: usize = 3;
    type Sums<const R: usize> = [[__m256i; 2]; R];

    /// # Safety
    /// As [`super::Tile::run`], with as many pixels as a multiple of [`R`].
    #[target_feature(enable = "avx2")]
    pub unsafe fn dense(panel: &Panel, at: &[*const u8], to: *mut u8, pitch: usize, quant: Option<Quant>) {
        for (p, at) in at.chunks_exact(R).enumerate() {
            let at: &[*const u8; R] = at.try_into().expect("a chunk");
            // SAFETY: the caller's promise; the groups that `counts` tells of are in `steps` and `offsets`.
            unsafe {
                let mut sums = [start(panel); R];
                let (mut step, mut offset) = (panel.steps.as_ptr().cast::<__m256i>(), panel.offsets.as_ptr());
                groups::<4>(panel.counts[0], &mut step, &mut offset, at, &mut sums);
                groups::<3>(panel.counts[1], &mut step, &mut offset, at, &mut sums);
                groups::<2>(panel.counts[2], &mut step, &mut offset, at, &mut sums);
                groups::<1>(panel.counts[3], &mut step, &mut offset, at, &mut sums);
                finish(panel, &sums, to.add(p * R * pitch), pitch, quant);
            }
        }
    }

    /// # Safety
    /// There are `count` groups of `G` steps, and pixels are readable where they say.
    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn groups<const G: usize>(
        count: usize,
        step: &mut *const __m256i,
        offset: &mut *const u32,
        at: &[*const u8; R],
        sums: &mut Sums<R>,
    ) {
        let ones = _mm256_set1_epi16(1);
        for _ in 0..count {
            // SAFETY: the caller's promise.
            unsafe {
                let mut short = [[_mm256_setzero_si256(); 2]; R];
                if G > 1 {
                    short = [[_mm256_load_si256(*step), _mm256_load_si256(step.add(1))]; R];
                    *step = step.add(2);
                }
                for _ in 0..G {
                    let w = [_mm256_load_si256(*step), _mm256_load_si256(step.add(1))];
                    let from = **offset as usize;
                    *step = step.add(2);
                    *offset = offset.add(1);
                    for r in 0..R {
                        let x = _mm256_set1_epi32(at[r].add(from).cast::<i32>().read_unaligned());
                        for v in 0..2 {
                            let product = _mm256_maddubs_epi16(x, w[v]);
                            short[r][v] = if G > 1 { _mm256_add_epi16(short[r][v], product) } else { product };
                        }
                    }
                }
                for r in 0..R {
                    for v in 0..2 {
                        sums[r][v] = _mm256_add_epi32(sums[r][v], _mm256_madd_epi16(short[r][v], ones));
                    }
                }
            }
        }
    }

    /// # Safety
    /// As [`super::Tile::run`], with an even number of pixels.
    #[target_feature(enable = "avx2")]
    pub unsafe fn depthwise(panel: &Panel, at: &[*const u8], to: *mut u8, pitch: usize, quant: Option<Quant>) {
        for (p, at) in at.chunks_exact(2).enumerate() {
            let [s0, s1] = start(panel);
            // In the order of the steps: channels 0–3, 8–11 and 4–7, 12–15.
            let first = [_mm256_permute2x128_si256::<0x20>(s0, s1), _mm256_permute2x128_si256::<0x31>(s0, s1)];
            let mut sums = [first; 2];
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
            let sums = sums.map(|[a, b]| [_mm256_permute2x128_si256::<0x20>(a, b), _mm256_permute2x128_si256::<0x31>(a, b)]);
            // SAFETY: the results of two pixels.
            unsafe { finish(panel, &sums, to.add(p * 2 * pitch), pitch, quant) };
        }
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn start(panel: &Panel) -> [__m256i; 2] {
        let from = panel.start.as_ptr().cast::<__m256i>();
        // SAFETY: the start has two vectors.
        unsafe { [_mm256_loadu_si256(from), _mm256_loadu_si256(from.add(1))] }
    }

    /// # Safety
    /// The [`LANES`] results of each pixel are writable.
    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn finish<const R: usize>(panel: &Panel, sums: &Sums<R>, to: *mut u8, pitch: usize, quant: Option<Quant>) {
        // SAFETY: scales and biases have two vectors; results as the caller promises.
        unsafe {
            let both = |from: &[f32; LANES]| [_mm256_loadu_ps(from.as_ptr()), _mm256_loadu_ps(from.as_ptr().add(8))];
            let (scales, bias) = (both(&panel.scales), both(&panel.bias));
            let real = |r: usize, v: usize| _mm256_add_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(sums[r][v]), scales[v]), bias[v]);
            if let Some(q) = quant {
                let inverse = _mm256_set1_ps(q.inverse_scale);
                for r in 0..R {
                    _mm_storeu_si128(to.add(r * pitch).cast(), bytes_of_reals(real(r, 0), real(r, 1), inverse, q.zero));
                }
            } else {
                for r in 0..R {
                    let to = to.add(r * pitch).cast::<f32>();
                    _mm256_storeu_ps(to, real(r, 0));
                    _mm256_storeu_ps(to.add(8), real(r, 1));
                }
            }
        }
    }

    /// [`super::to_byte`] of 16 reals.
    #[target_feature(enable = "avx2")]
    #[inline]
    pub fn bytes_of_reals(a: __m256, b: __m256, inverse_scale: __m256, zero: u8) -> __m128i {
        let high = _mm256_set1_ps(f32::from(255 - zero));
        // The second operand, where the first is larger or one is NaN. What is below the range of 32 bits and NaN become the
        // least of 32 bits, hence 0.
        let round = |v: __m256| _mm256_cvtps_epi32(_mm256_min_ps(high, _mm256_mul_ps(v, inverse_scale)));
        let both = _mm256_permute4x64_epi64::<0xd8>(_mm256_packs_epi32(round(a), round(b)));
        let both = _mm256_adds_epi16(both, _mm256_set1_epi16(i16::from(zero)));
        _mm_packus_epi16(_mm256_castsi256_si128(both), _mm256_extracti128_si256::<1>(both))
    }

    /// # Safety
    /// As [`super::Tile::run`], with as many pixels as a multiple of 8.
    #[target_feature(enable = "avx2,avx512f,avx512vnni")]
    pub unsafe fn vnni(panel: &Panel, at: &[*const u8], to: *mut u8, pitch: usize, quant: Option<Quant>) {
        for (p, at) in at.chunks_exact(8).enumerate() {
            // SAFETY: the start has one such vector; pixels and results as the caller promises.
            unsafe {
                let mut sums = [_mm512_loadu_si512(panel.start.as_ptr().cast()); 8];
                for (&offset, step) in panel.offsets.iter().zip(&panel.steps) {
                    let w = _mm512_load_si512(step.0.as_ptr().cast());
                    for (sum, at) in sums.iter_mut().zip(at) {
                        let x = _mm512_set1_epi32(at.add(offset as usize).cast::<i32>().read_unaligned());
                        *sum = _mm512_dpbusd_epi32(*sum, x, w);
                    }
                }
                let halves = sums.map(|s| [_mm512_castsi512_si256(s), _mm512_extracti64x4_epi64::<1>(s)]);
                finish(panel, &halves, to.add(p * 8 * pitch), pitch, quant);
            }
        }
    }
}
