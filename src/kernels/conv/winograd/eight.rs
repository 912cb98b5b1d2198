//! Vectors of floats that can be rearranged, and the one-dimensional transforms on them.

#![expect(clippy::needless_range_loop, reason = "register tiles are read across their rows")]

use crate::vector::Vector;

/// Vectors whose elements can be interleaved.
pub trait Lanes: Vector {
    /// # Safety
    /// See [`Vector::splat`].
    unsafe fn mul(self, b: Self) -> Self;
    /// Writes the first elements of the four, then the second ones, and so on.
    ///
    /// # Safety
    /// `4 · N` floats can be written at `to`; the machine has the instructions of the type, here and below.
    unsafe fn join4(parts: [Self; 4], to: *mut f32);
}

/// Eight floats, in AVX2 registers or in portable arrays.
pub trait Eight: Lanes {
    /// Of 32 floats, those at positions 0, 1, 2 and 3 modulo 4.
    ///
    /// # Safety
    /// 32 floats can be read at `from`.
    unsafe fn split4(from: *const f32) -> [Self; 4];
    /// Of 16 floats, those at even positions.
    ///
    /// # Safety
    /// 16 floats can be read at `from`.
    unsafe fn evens(from: *const f32) -> Self;
    /// Writes the elements of both in turn.
    ///
    /// # Safety
    /// 16 floats can be written at `to`.
    unsafe fn join2(parts: [Self; 2], to: *mut f32);
    /// Writes the transpose of eight rows: row `i` at `to + i * pitch`.
    ///
    /// # Safety
    /// Eight floats can be written at each row.
    unsafe fn transpose(rows: [Self; 8], to: *mut f32, pitch: usize);
}

impl Lanes for [f32; 8] {
    unsafe fn mul(self, b: Self) -> Self {
        std::array::from_fn(|i| self[i] * b[i])
    }
    unsafe fn join4(parts: [Self; 4], to: *mut f32) {
        let all: [f32; 32] = std::array::from_fn(|i| parts[i % 4][i / 4]);
        // SAFETY: the caller's.
        unsafe { to.cast::<[f32; 32]>().write_unaligned(all) }
    }
}

impl Eight for [f32; 8] {
    unsafe fn split4(from: *const f32) -> [Self; 4] {
        // SAFETY: the caller's.
        let all = unsafe { from.cast::<[f32; 32]>().read_unaligned() };
        std::array::from_fn(|j| std::array::from_fn(|t| all[4 * t + j]))
    }
    unsafe fn evens(from: *const f32) -> Self {
        // SAFETY: the caller's.
        let all = unsafe { from.cast::<[f32; 16]>().read_unaligned() };
        std::array::from_fn(|t| all[2 * t])
    }
    unsafe fn join2(parts: [Self; 2], to: *mut f32) {
        let all: [f32; 16] = std::array::from_fn(|i| parts[i % 2][i / 2]);
        // SAFETY: the caller's.
        unsafe { to.cast::<[f32; 16]>().write_unaligned(all) }
    }
    unsafe fn transpose(rows: [Self; 8], to: *mut f32, pitch: usize) {
        for i in 0..8 {
            let column: [f32; 8] = std::array::from_fn(|r| rows[r][i]);
            // SAFETY: the caller's.
            unsafe { to.add(i * pitch).cast::<[f32; 8]>().write_unaligned(column) }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Eight, Lanes};
    use std::arch::x86_64::*;

    impl Lanes for __m512 {
        #[inline(always)]
        unsafe fn mul(self, b: Self) -> Self {
            // SAFETY: the caller's.
            unsafe { _mm512_mul_ps(self, b) }
        }
        #[inline(always)]
        unsafe fn join4(parts: [Self; 4], to: *mut f32) {
            // SAFETY: the caller's; halves are joined by themselves.
            unsafe {
                let low = parts.map(|p| _mm512_castps512_ps256(p));
                let high = parts.map(|p| _mm256_castpd_ps(_mm512_extractf64x4_pd::<1>(_mm512_castps_pd(p))));
                __m256::join4(low, to);
                __m256::join4(high, to.add(32));
            }
        }
    }

    impl Lanes for __m256 {
        #[inline(always)]
        unsafe fn mul(self, b: Self) -> Self {
            // SAFETY: the caller's.
            unsafe { _mm256_mul_ps(self, b) }
        }
        #[inline(always)]
        unsafe fn join4(parts: [Self; 4], to: *mut f32) {
            // SAFETY: the caller's; all halves lie within 32 floats.
            unsafe {
                let [a, b, c, d] = turn4(parts);
                _mm256_storeu2_m128(to.add(16), to, a);
                _mm256_storeu2_m128(to.add(20), to.add(4), b);
                _mm256_storeu2_m128(to.add(24), to.add(8), c);
                _mm256_storeu2_m128(to.add(28), to.add(12), d);
            }
        }
    }

    impl Eight for __m256 {
        #[inline(always)]
        unsafe fn split4(from: *const f32) -> [Self; 4] {
            // SAFETY: the caller's; all halves lie within 32 floats.
            unsafe {
                turn4([
                    _mm256_loadu2_m128(from.add(16), from),
                    _mm256_loadu2_m128(from.add(20), from.add(4)),
                    _mm256_loadu2_m128(from.add(24), from.add(8)),
                    _mm256_loadu2_m128(from.add(28), from.add(12)),
                ])
            }
        }
        #[inline(always)]
        unsafe fn evens(from: *const f32) -> Self {
            // SAFETY: the caller's; all halves lie within 16 floats.
            unsafe {
                let (a, b) = (_mm256_loadu2_m128(from.add(8), from), _mm256_loadu2_m128(from.add(12), from.add(4)));
                _mm256_shuffle_ps::<0x88>(a, b)
            }
        }
        #[inline(always)]
        unsafe fn join2([a, b]: [Self; 2], to: *mut f32) {
            // SAFETY: the caller's; all halves lie within 16 floats.
            unsafe {
                let (low, high) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
                _mm256_storeu_ps(to, _mm256_permute2f128_ps::<0x20>(low, high));
                _mm256_storeu_ps(to.add(8), _mm256_permute2f128_ps::<0x31>(low, high));
            }
        }
        #[inline(always)]
        unsafe fn transpose(rows: [Self; 8], to: *mut f32, pitch: usize) {
            // SAFETY: the caller's.
            unsafe {
                let [a, b, c, d, e, f, g, h] = rows;
                let (low, high) = (turn4([a, b, c, d]), turn4([e, f, g, h]));
                for i in 0..4 {
                    _mm256_storeu_ps(to.add(i * pitch), _mm256_permute2f128_ps::<0x20>(low[i], high[i]));
                    _mm256_storeu_ps(to.add((i + 4) * pitch), _mm256_permute2f128_ps::<0x31>(low[i], high[i]));
                }
            }
        }
    }

    /// Transposes both 4 x 4 halves.
    #[inline(always)]
    unsafe fn turn4([a, b, c, d]: [__m256; 4]) -> [__m256; 4] {
        // SAFETY: the caller's.
        unsafe {
            let (ab, cd) = (_mm256_unpacklo_ps(a, b), _mm256_unpacklo_ps(c, d));
            let (ef, gh) = (_mm256_unpackhi_ps(a, b), _mm256_unpackhi_ps(c, d));
            [
                _mm256_shuffle_ps::<0x44>(ab, cd),
                _mm256_shuffle_ps::<0xee>(ab, cd),
                _mm256_shuffle_ps::<0x44>(ef, gh),
                _mm256_shuffle_ps::<0xee>(ef, gh),
            ]
        }
    }
}

/// Values of a signal of six at the points 0, ±1, ±2 and infinity: the matrix Bᵀ.
///
/// # Safety
/// See [`Vector::splat`], here and below.
#[inline(always)]
pub unsafe fn signal<V: Lanes>(d: [V; 6]) -> [V; 6] {
    // SAFETY: the caller's.
    unsafe {
        let (two, four, minus_two, minus_four, minus_five) = (V::splat(2.0), V::splat(4.0), V::splat(-2.0), V::splat(-4.0), V::splat(-5.0));
        let (a, b) = (d[2].fma(minus_four, d[4]), d[1].fma(minus_four, d[3]));
        let (c, e) = (d[4].sub(d[2]), d[3].sub(d[1]));
        [
            d[0].fma(four, d[2].fma(minus_five, d[4])),
            a.add(b),
            a.sub(b),
            e.fma(two, c),
            e.fma(minus_two, c),
            d[1].fma(four, d[3].fma(minus_five, d[5])),
        ]
    }
}

/// Values of a filter of three at the same points: the matrix G.
///
/// # Safety
/// See [`signal`].
#[inline(always)]
pub unsafe fn filter3<V: Lanes>(g: [V; 3]) -> [V; 6] {
    // SAFETY: the caller's.
    unsafe {
        let (quarter, sixth, part, two, four) = (V::splat(0.25), V::splat(-1.0 / 6.0), V::splat(1.0 / 24.0), V::splat(2.0), V::splat(4.0));
        let (even, odd) = (g[0].add(g[2]), g[1]);
        let (even2, odd2) = (g[2].fma(four, g[0]), g[1].mul(two));
        [g[0].mul(quarter), even.add(odd).mul(sixth), even.sub(odd).mul(sixth), even2.add(odd2).mul(part), even2.sub(odd2).mul(part), g[2]]
    }
}

/// Values of a filter of four at the same points.
///
/// # Safety
/// See [`signal`].
#[inline(always)]
pub unsafe fn filter4<V: Lanes>(g: [V; 4]) -> [V; 6] {
    // SAFETY: the caller's.
    unsafe {
        let (quarter, sixth, part, two, four) = (V::splat(0.25), V::splat(-1.0 / 6.0), V::splat(1.0 / 24.0), V::splat(2.0), V::splat(4.0));
        let (even, odd) = (g[0].add(g[2]), g[1].add(g[3]));
        let (even2, odd2) = (g[2].fma(four, g[0]), g[3].fma(four, g[1]).mul(two));
        [g[0].mul(quarter), even.add(odd).mul(sixth), even.sub(odd).mul(sixth), even2.add(odd2).mul(part), even2.sub(odd2).mul(part), g[3]]
    }
}

/// Four results from products at the six points: the matrix Aᵀ.
///
/// # Safety
/// See [`signal`].
#[inline(always)]
pub unsafe fn results4<V: Lanes>(m: [V; 6]) -> [V; 4] {
    // SAFETY: the caller's.
    unsafe {
        let (two, four, eight) = (V::splat(2.0), V::splat(4.0), V::splat(8.0));
        let (s, d) = (m[1].add(m[2]), m[1].sub(m[2]));
        let (s2, d2) = (m[3].add(m[4]), m[3].sub(m[4]));
        [m[0].add(s).add(s2), d2.fma(two, d), s2.fma(four, s), d2.fma(eight, d).add(m[5])]
    }
}

/// Three results from products at the six points.
///
/// # Safety
/// See [`signal`].
#[inline(always)]
pub unsafe fn results3<V: Lanes>(m: [V; 6]) -> [V; 3] {
    // SAFETY: the caller's.
    unsafe {
        let (two, four) = (V::splat(2.0), V::splat(4.0));
        let (s, d) = (m[1].add(m[2]), m[1].sub(m[2]));
        let (s2, d2) = (m[3].add(m[4]), m[3].sub(m[4]));
        [m[0].add(s).add(s2), d2.fma(two, d), s2.fma(four, s).add(m[5])]
    }
}
