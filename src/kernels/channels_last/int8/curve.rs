//! Numbers that are looked up by bytes.

use super::bytes::copy_pixels;

/// A number for each byte.
pub struct Curve {
    numbers: Box<[f32; 256]>,
    /// The four bytes of the numbers apart, where the machine looks bytes up in vectors.
    #[cfg(target_arch = "x86_64")]
    planes: Option<Box<[[u8; 256]; 4]>>,
}

impl Curve {
    pub fn new(numbers: Box<[f32; 256]>) -> Self {
        #[cfg(target_arch = "x86_64")]
        let planes = super::bytes::has_vbmi().then(|| Box::new(std::array::from_fn(|p| numbers.each_ref().map(|v| v.to_le_bytes()[p]))));
        Self {
            #[cfg(target_arch = "x86_64")]
            planes,
            numbers,
        }
    }

    /// The same on any machine, a number at a time.
    #[cfg(test)]
    fn portable(numbers: Box<[f32; 256]>) -> Self {
        Self {
            #[cfg(target_arch = "x86_64")]
            planes: None,
            numbers,
        }
    }

    /// For `count` pixels of `channels` bytes, `pitch` bytes apart: `to[i] = numbers[byte]`, all channels together, added to what is there
    /// unless it is the `first` term. `stage` holds the bytes meanwhile.
    ///
    /// # Safety
    /// The pixels are readable; `count · channels` floats are writable, and initialized if they are added to; as many bytes of the
    /// stage are writable.
    pub unsafe fn add(&self, first: bool, from: *const u8, [count, channels, pitch]: [usize; 3], to: *mut f32, stage: *mut u8) {
        // SAFETY: the caller's promise; the planes are there on machines that have the instructions.
        unsafe {
            #[cfg(target_arch = "x86_64")]
            if let Some(planes) = &self.planes {
                let mut from = from;
                if pitch != channels {
                    copy_pixels(count, channels, from, pitch, stage, channels);
                    from = stage;
                }
                return x86::look_up(planes, first, from, count * channels, to);
            }
            let _ = stage;
            for p in 0..count {
                for c in 0..channels {
                    let (v, to) = (self.numbers[usize::from(*from.add(p * pitch + c))], to.add(p * channels + c));
                    to.write(if first { v } else { *to + v });
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    /// # Safety
    /// `n` bytes are readable and as many floats writable, and initialized unless they are `first`.
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    pub unsafe fn look_up(planes: &[[u8; 256]; 4], first: bool, from: *const u8, n: usize, to: *mut f32) {
        // SAFETY: four vectors of each plane; bytes and floats of the rows, others are masked.
        unsafe {
            let part = |p: usize, i: usize| _mm512_loadu_si512(planes[p].as_ptr().add(64 * i).cast());
            let tables: [[__m512i; 4]; 4] = std::array::from_fn(|p| std::array::from_fn(|i| part(p, i)));
            // Four bytes at a time, so that interleaving within quarters of a vector leaves the numbers in their order.
            let order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
            for i in (0..n).step_by(64) {
                let mask = if n - i < 64 { (1u64 << (n - i)) - 1 } else { u64::MAX };
                let x = _mm512_permutexvar_epi32(order, _mm512_maskz_loadu_epi8(mask, from.add(i).cast()));
                let high = _mm512_movepi8_mask(x);
                let plane = |p: usize| {
                    let [a, b, c, d] = tables[p];
                    _mm512_mask_blend_epi8(high, _mm512_permutex2var_epi8(a, x, b), _mm512_permutex2var_epi8(c, x, d))
                };
                let (p0, p1, p2, p3) = (plane(0), plane(1), plane(2), plane(3));
                let (a, b) = (_mm512_unpacklo_epi8(p0, p1), _mm512_unpacklo_epi8(p2, p3));
                let (c, d) = (_mm512_unpackhi_epi8(p0, p1), _mm512_unpackhi_epi8(p2, p3));
                let numbers =
                    [_mm512_unpacklo_epi16(a, b), _mm512_unpackhi_epi16(a, b), _mm512_unpacklo_epi16(c, d), _mm512_unpackhi_epi16(c, d)];
                for (k, v) in numbers.into_iter().enumerate() {
                    let (v, mask, to) = (_mm512_castsi512_ps(v), (mask >> (16 * k)) as __mmask16, to.wrapping_add(i + 16 * k));
                    let v = if first { v } else { _mm512_add_ps(_mm512_maskz_loadu_ps(mask, to), v) };
                    _mm512_mask_storeu_ps(to, mask, v);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_bytes_with_all_bits() {
        let numbers: Box<[f32; 256]> = Box::new(std::array::from_fn(|q| f32::from_bits((q as u32).wrapping_mul(0x9e37_79b1) >> 2)));
        for curve in [Curve::new(numbers.clone()), Curve::portable(numbers.clone())] {
            for (count, channels, pitch) in [(1, 1, 1), (3, 5, 9), (2, 32, 64), (1, 64, 64), (7, 65, 70), (4, 100, 100)] {
                let from: Vec<u8> = (0..count * pitch).map(|i| (i * 31 + i / 256) as u8).collect();
                let exact = |i: usize| numbers[usize::from(from[i / channels * pitch + i % channels])];
                let mut to = vec![f32::NAN; count * channels + 1];
                let mut stage = vec![0u8; count * channels];
                for (first, times) in [(true, 1.0), (false, 2.0)] {
                    // SAFETY: memory for all pixels.
                    unsafe { curve.add(first, from.as_ptr(), [count, channels, pitch], to.as_mut_ptr(), stage.as_mut_ptr()) };
                    assert!((0..count * channels).all(|i| to[i].to_bits() == (exact(i) * times).to_bits()), "{count} {channels} {pitch}");
                    assert!(to[count * channels].is_nan(), "nothing is written behind the end");
                }
            }
        }
    }
}
