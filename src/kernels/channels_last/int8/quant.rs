//! How reals become bytes.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

/// How reals become bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quant {
    pub inverse_scale: f32,
    pub zero: u8,
}

/// `clamp(round_ties_even(real · inverse_scale) + zero, 0, 255)`; NaN gives 0.
#[inline(always)]
pub fn to_byte(real: f32, inverse_scale: f32, zero: u8) -> u8 {
    nearest_byte(real * inverse_scale, zero)
}

/// `clamp(round_ties_even(t) + zero, 0, 255)`; NaN gives 0.
#[inline(always)]
pub fn nearest_byte(t: f32, zero: u8) -> u8 {
    // Adding 1.5 · 2^23 rounds to an integer, ties to even, which then stands in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let (low, high) = (-f32::from(zero), f32::from(255 - zero));
    let t = if t > low { t } else { low };
    let t = if t < high { t } else { high };
    ((t + ROUND).to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32).wrapping_add(i32::from(zero)) as u8
}

/// Makes bytes of reals as [`to_byte`] does.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub struct Rounding {
    inverse_scale: __m256,
    high: __m256,
    zero: __m256i,
}

#[cfg(target_arch = "x86_64")]
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
