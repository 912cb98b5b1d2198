//! Register tiles of convolution: sums of products of a few pixels for the [`LANES`] output channels of a [`Panel`], and
//! what makes reals or bytes of them.

use super::pack::{LANES, ORDER, Panel};
use super::store::{Quant, to_byte};
use crate::kernels::conv::tile::Level;
#[cfg(target_arch = "x86_64")]
pub use x86::Rounding;

/// Most pixels that a tile is run for at once: a multiple of what any computes together.
pub const MAX_PIXELS: usize = 96;

/// One way to compute tiles.
#[derive(Debug, Clone, Copy)]
pub struct Tile {
    /// Pixels that are computed at once; `run` takes a multiple of it, up to [`MAX_PIXELS`].
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
                    let at = (lane * 2 + k) * 2;
                    let w = i16::from_ne_bytes([step.0[at] as u8, step.0[at + 1] as u8]);
                    *sum += i32::from(x[ORDER[lane]]) * i32::from(w);
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
    let mut reals = [0.0; LANES];
    for (lane, channel) in ORDER.into_iter().enumerate() {
        reals[channel] = sums[lane] as f32 * panel.scales[lane] + panel.bias[lane];
    }
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
    use super::{LANES, MAX_PIXELS, Panel, Quant};
    use std::arch::x86_64::*;
    use std::mem::MaybeUninit;

    pub fn has_vnni() -> bool {
        std::arch::is_x86_feature_detected!("avx512f") && std::arch::is_x86_feature_detected!("avx512vnni")
    }

    /// Pixels of a dense tile: for each, two vectors of 32-bit and two of 16-bit sums stay in registers.
    const R: usize = 3;
    /// The sums of a pixel.
    type Sums = [__m256i; 2];
    /// Sums of all pixels of a run. What follows is done for all of them together: so tiles need not wait for it.
    type Stage = [MaybeUninit<Sums>; MAX_PIXELS];

    /// # Safety
    /// As [`super::Tile::run`], with as many pixels as a multiple of [`R`].
    #[target_feature(enable = "avx2")]
    pub unsafe fn dense(panel: &Panel, at: &[*const u8], to: *mut u8, pitch: usize, quant: Option<Quant>) {
        let mut stage: Stage = [MaybeUninit::uninit(); MAX_PIXELS];
        for (at, stage) in at.chunks_exact(R).zip(stage.chunks_exact_mut(R)) {
            let at: &[*const u8; R] = at.try_into().expect("a chunk");
            let mut sums = [start(panel); R];
            // SAFETY: the caller's promise; the groups that `counts` tells of are in `steps` and `offsets`.
            unsafe {
                let (mut step, mut offset) = (panel.steps.as_ptr().cast::<__m256i>(), panel.offsets.as_ptr());
                let [fours, threes, twos, ones] = panel.counts;
                if fours > 0 {
                    quads(fours, &mut step, &mut offset, at, &mut sums);
                }
                if threes > 0 {
                    triples(threes, &mut step, &mut offset, at, &mut sums);
                }
                if twos > 0 {
                    pairs(twos, &mut step, &mut offset, at, &mut sums);
                }
                if ones > 0 {
                    singles(ones, &mut step, &mut offset, at, &mut sums);
                }
            }
            for (stage, sums) in stage.iter_mut().zip(sums) {
                stage.write(sums);
            }
        }
        // SAFETY: as many sums as pixels were written.
        unsafe { finish(panel, &stage, at.len(), to, pitch, quant) };
    }

    /// Products of a group's first step for a pixel, in the registers of its two 16-bit sums.
    macro_rules! first {
        ($at:literal, $low:literal, $high:literal) => {
            concat!(
                "vpbroadcastd ymm14, dword ptr [{",
                $at,
                "} + {from}]\n",
                "vpmaddubsw ",
                $low,
                ", ymm14, ymm12\n",
                "vpmaddubsw ",
                $high,
                ", ymm14, ymm13\n",
            )
        };
    }

    /// Adds the products of a further step.
    macro_rules! more {
        ($at:literal, $low:literal, $high:literal) => {
            concat!(
                "vpbroadcastd ymm14, dword ptr [{",
                $at,
                "} + {from}]\n",
                "vpmaddubsw ymm15, ymm14, ymm12\n",
                "vpmaddubsw ymm14, ymm14, ymm13\n",
                "vpaddw ",
                $low,
                ", ",
                $low,
                ", ymm15\n",
                "vpaddw ",
                $high,
                ", ",
                $high,
                ", ymm14\n",
            )
        };
    }

    /// A step at byte `$step` of the group's steps, with the `$offset`-th byte of its offsets.
    macro_rules! step {
        ($each:ident, $step:literal, $offset:literal) => {
            concat!(
                "mov {from:e}, dword ptr [{offset} + ",
                $offset,
                "]\n",
                "vmovdqa ymm12, ymmword ptr [{step} + ",
                $step,
                "]\n",
                "vmovdqa ymm13, ymmword ptr [{step} + ",
                $step,
                " + 32]\n",
                $each!("a", "ymm6", "ymm7"),
                $each!("b", "ymm8", "ymm9"),
                $each!("c", "ymm10", "ymm11"),
            )
        };
    }

    /// Adds what the 16-bit sums start from.
    macro_rules! shift {
        () => {
            concat!(
                "vpaddw ymm6, ymm6, ymmword ptr [{step}]\n",
                "vpaddw ymm7, ymm7, ymmword ptr [{step} + 32]\n",
                "vpaddw ymm8, ymm8, ymmword ptr [{step}]\n",
                "vpaddw ymm9, ymm9, ymmword ptr [{step} + 32]\n",
                "vpaddw ymm10, ymm10, ymmword ptr [{step}]\n",
                "vpaddw ymm11, ymm11, ymmword ptr [{step} + 32]\n",
            )
        };
    }

    /// Defines the loop over the groups of one size, in assembly: the sums of three pixels need every register, and
    /// compilers that hoist loads of later steps spill them. Arguments: steps of a group, bytes of its steps and offsets, code.
    macro_rules! groups {
        ($name:ident, $steps:literal, $offsets:literal, $code:expr) => {
            /// # Safety
            /// There are `count` groups, at least one, at `step` and `offset`, and pixels are readable where they say.
            #[target_feature(enable = "avx2")]
            #[inline]
            unsafe fn $name(count: usize, step: &mut *const __m256i, offset: &mut *const u32, at: &[*const u8; R], sums: &mut [Sums; R]) {
                let [[s0, s1], [s2, s3], [s4, s5]] = sums;
                // SAFETY: reads what the caller promises, and writes registers only.
                unsafe {
                    std::arch::asm!(
                        ".p2align 5",
                        "2:",
                        $code,
                        "vmovdqa ymm12, ymmword ptr [{ones}]",
                        "vpmaddwd ymm6, ymm6, ymm12",
                        "vpmaddwd ymm7, ymm7, ymm12",
                        "vpmaddwd ymm8, ymm8, ymm12",
                        "vpmaddwd ymm9, ymm9, ymm12",
                        "vpmaddwd ymm10, ymm10, ymm12",
                        "vpmaddwd ymm11, ymm11, ymm12",
                        "vpaddd ymm0, ymm0, ymm6",
                        "vpaddd ymm1, ymm1, ymm7",
                        "vpaddd ymm2, ymm2, ymm8",
                        "vpaddd ymm3, ymm3, ymm9",
                        "vpaddd ymm4, ymm4, ymm10",
                        "vpaddd ymm5, ymm5, ymm11",
                        concat!("add {step}, ", $steps),
                        concat!("add {offset}, ", $offsets),
                        "dec {count}",
                        "jnz 2b",
                        count = inout(reg) count => _,
                        step = inout(reg) *step,
                        offset = inout(reg) *offset,
                        from = out(reg) _,
                        a = in(reg) at[0],
                        b = in(reg) at[1],
                        c = in(reg) at[2],
                        ones = in(reg) &raw const ONES,
                        inout("ymm0") *s0,
                        inout("ymm1") *s1,
                        inout("ymm2") *s2,
                        inout("ymm3") *s3,
                        inout("ymm4") *s4,
                        inout("ymm5") *s5,
                        out("ymm6") _,
                        out("ymm7") _,
                        out("ymm8") _,
                        out("ymm9") _,
                        out("ymm10") _,
                        out("ymm11") _,
                        out("ymm12") _,
                        out("ymm13") _,
                        out("ymm14") _,
                        out("ymm15") _,
                        options(readonly, nostack),
                    );
                }
            }
        };
    }

    static ONES: Ones = Ones([1; 2 * LANES]);
    #[repr(C, align(64))]
    struct Ones([i16; 2 * LANES]);

    groups!(singles, 64, 4, step!(first, 0, 0));
    groups!(pairs, 192, 8, concat!(step!(first, 64, 0), shift!(), step!(more, 128, 4)));
    groups!(triples, 256, 12, concat!(step!(first, 64, 0), shift!(), step!(more, 128, 4), step!(more, 192, 8)));
    groups!(quads, 320, 16, concat!(step!(first, 64, 0), shift!(), step!(more, 128, 4), step!(more, 192, 8), step!(more, 256, 12)));

    /// # Safety
    /// As [`super::Tile::run`], with an even number of pixels.
    #[target_feature(enable = "avx2")]
    pub unsafe fn depthwise(panel: &Panel, at: &[*const u8], to: *mut u8, pitch: usize, quant: Option<Quant>) {
        let mut stage: Stage = [MaybeUninit::uninit(); MAX_PIXELS];
        for (at, stage) in at.chunks_exact(2).zip(stage.chunks_exact_mut(2)) {
            let mut sums = [start(panel); 2];
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
        unsafe { finish(panel, &stage, at.len(), to, pitch, quant) };
    }

    /// # Safety
    /// As [`super::Tile::run`], with as many pixels as a multiple of 8.
    #[target_feature(enable = "avx2,avx512f,avx512vnni")]
    pub unsafe fn vnni(panel: &Panel, at: &[*const u8], to: *mut u8, pitch: usize, quant: Option<Quant>) {
        let mut stage: Stage = [MaybeUninit::uninit(); MAX_PIXELS];
        for (at, stage) in at.chunks_exact(8).zip(stage.chunks_exact_mut(8)) {
            // SAFETY: the start has one such vector; pixels as the caller promises.
            let sums = unsafe {
                let mut sums = [_mm512_loadu_si512(panel.start.as_ptr().cast()); 8];
                for (&offset, step) in panel.offsets.iter().zip(&panel.steps) {
                    let w = _mm512_load_si512(step.0.as_ptr().cast());
                    for (sum, at) in sums.iter_mut().zip(at) {
                        let x = _mm512_set1_epi32(at.add(offset as usize).cast::<i32>().read_unaligned());
                        *sum = _mm512_dpbusd_epi32(*sum, x, w);
                    }
                }
                sums
            };
            for (stage, sum) in stage.iter_mut().zip(sums) {
                stage.write([_mm512_castsi512_si256(sum), _mm512_extracti64x4_epi64::<1>(sum)]);
            }
        }
        // SAFETY: as many sums as pixels were written.
        unsafe { finish(panel, &stage, at.len(), to, pitch, quant) };
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn start(panel: &Panel) -> Sums {
        let from = panel.start.as_ptr().cast::<__m256i>();
        // SAFETY: the start has two vectors.
        unsafe { [_mm256_loadu_si256(from), _mm256_loadu_si256(from.add(1))] }
    }

    /// # Safety
    /// The first `count` sums are initialized, and the [`LANES`] results of as many pixels are writable.
    #[target_feature(enable = "avx2")]
    unsafe fn finish(panel: &Panel, stage: &Stage, count: usize, to: *mut u8, pitch: usize, quant: Option<Quant>) {
        // SAFETY: scales and biases have two vectors; sums and results as the caller promises.
        unsafe {
            let both = |from: &[f32; LANES]| [_mm256_loadu_ps(from.as_ptr()), _mm256_loadu_ps(from.as_ptr().add(8))];
            let (scales, bias) = (both(&panel.scales), both(&panel.bias));
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

    /// Makes bytes of reals as [`super::to_byte`] does.
    #[derive(Clone, Copy)]
    pub struct Rounding {
        inverse_scale: __m256,
        high: __m256,
        zero: __m256i,
    }

    impl Rounding {
        #[target_feature(enable = "avx2")]
        #[inline]
        pub fn new(quant: Quant) -> Self {
            Self {
                inverse_scale: _mm256_set1_ps(quant.inverse_scale),
                high: _mm256_set1_ps(f32::from(255 - quant.zero)),
                zero: _mm256_set1_epi16(i16::from(quant.zero)),
            }
        }

        /// The rounded reals plus the zero point, as 16 bits that saturate to bytes; the halves of `a` and `b` take turns.
        #[target_feature(enable = "avx2")]
        #[inline]
        pub fn shorts(self, a: __m256, b: __m256) -> __m256i {
            // A minimum is its second operand where one is NaN. What is below the range of 32 bits and NaN become the least of
            // 32 bits, hence 0.
            let round = |v: __m256| _mm256_cvtps_epi32(_mm256_min_ps(self.high, _mm256_mul_ps(v, self.inverse_scale)));
            _mm256_adds_epi16(_mm256_packs_epi32(round(a), round(b)), self.zero)
        }
    }
}
