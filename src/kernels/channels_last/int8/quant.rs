//! How reals become bytes.

use crate::activation::Activation;
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

/// How reals become bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quant {
    pub inverse_scale: f32,
    pub zero: u8,
    /// The least and the largest byte, `low <= high`.
    pub low: u8,
    pub high: u8,
}

impl Quant {
    /// With all bytes.
    pub fn new(inverse_scale: f32, zero: u8) -> Self {
        Self { inverse_scale, zero, low: 0, high: 255 }
    }

    /// What makes the same bytes of reals, none of them NaN, as this does after the activation: rounding keeps order, so that
    /// bounds of reals are bounds of bytes. `None` for other activations.
    pub fn after(self, act: Activation) -> Option<Self> {
        let (min, max) = match act {
            Activation::Relu => (0.0, f32::INFINITY),
            Activation::Clip { min, max } if min <= max => (min, max),
            _ => return None,
        };
        if !(self.inverse_scale > 0.0 && self.inverse_scale.is_finite()) {
            return None;
        }
        Some(Self { low: self.byte(min), high: self.byte(max), ..self })
    }

    /// The byte of a real; `low` of NaN.
    #[inline(always)]
    pub fn byte(self, real: f32) -> u8 {
        to_byte(real, self.inverse_scale, self.zero).max(self.low).min(self.high)
    }
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

/// Makes bytes of reals as [`Quant::byte`] does.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub struct Rounding {
    inverse_scale: __m256,
    high: __m256,
    zero: __m256i,
    low: __m256i,
}

#[cfg(target_arch = "x86_64")]
impl Rounding {
    #[target_feature(enable = "avx2")]
    #[inline]
    pub fn new(quant: Quant) -> Self {
        Self {
            inverse_scale: _mm256_set1_ps(quant.inverse_scale),
            high: _mm256_set1_ps(f32::from(quant.high) - f32::from(quant.zero)),
            zero: _mm256_set1_epi16(i16::from(quant.zero)),
            low: _mm256_set1_epi16(i16::from(quant.low)),
        }
    }

    /// The rounded reals plus the zero point, as 16 bits that saturate to bytes; the halves of `a` and `b` take turns.
    #[target_feature(enable = "avx2")]
    #[inline]
    pub fn shorts(self, a: __m256, b: __m256) -> __m256i {
        // A minimum is its second operand where one is NaN. What is below the range of 32 bits and NaN become the least of
        // 32 bits, hence 0.
        let round = |v: __m256| _mm256_cvtps_epi32(_mm256_min_ps(self.high, _mm256_mul_ps(v, self.inverse_scale)));
        _mm256_max_epi16(_mm256_adds_epi16(_mm256_packs_epi32(round(a), round(b)), self.zero), self.low)
    }
}
