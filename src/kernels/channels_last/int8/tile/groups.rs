//! Sums of groups of steps for three pixels.

use super::super::pack::LANES;
use super::sums::Sums;
use std::arch::x86_64::__m256i;

/// Pixels of a dense tile: for each, two vectors of 32-bit and two of 16-bit sums stay in registers.
pub const R: usize = 3;

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
        pub unsafe fn $name(count: usize, step: &mut *const __m256i, offset: &mut *const u32, at: &[*const u8; R], sums: &mut [Sums; R]) {
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
