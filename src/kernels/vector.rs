//! Vectors of float32, so that one source serves every level.

/// Some floats side by side. The methods of vectors of an instruction set are for functions compiled for it.
pub trait Vector: Copy {
    const N: usize;
    /// # Safety
    /// `N` values can be read, and the machine has the instructions.
    unsafe fn load(from: *const f32) -> Self;
    /// # Safety
    /// `N` values can be written, and the machine has the instructions.
    unsafe fn store(self, to: *mut f32);
    /// # Safety
    /// The machine has the instructions; so for all others.
    unsafe fn splat(v: f32) -> Self;
    /// # Safety
    /// See [`Vector::splat`].
    unsafe fn add(self, other: Self) -> Self;
    /// # Safety
    /// See [`Vector::splat`].
    unsafe fn sub(self, other: Self) -> Self;
    /// `self · by + plus`
    ///
    /// # Safety
    /// See [`Vector::splat`].
    unsafe fn fma(self, by: Self, plus: Self) -> Self;
    /// The larger of each two; a NaN is largest.
    ///
    /// # Safety
    /// See [`Vector::splat`].
    unsafe fn max(self, other: Self) -> Self;
    /// `bound` where a value is less; a NaN stays.
    ///
    /// # Safety
    /// See [`Vector::splat`].
    unsafe fn at_least(self, bound: Self) -> Self;
    /// `bound` where a value is greater; a NaN stays.
    ///
    /// # Safety
    /// See [`Vector::splat`].
    unsafe fn at_most(self, bound: Self) -> Self;
    /// Asks for the line of memory at an address, which need not be readable.
    fn prefetch(_: *const f32) {}
}

impl Vector for f32 {
    const N: usize = 1;
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: as the caller vouches.
        unsafe { *from }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: as the caller vouches.
        unsafe { *to = self };
    }
    #[inline(always)]
    unsafe fn splat(v: f32) -> Self {
        v
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        self + other
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        self - other
    }
    #[inline(always)]
    unsafe fn fma(self, by: Self, plus: Self) -> Self {
        self * by + plus
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        if (other > self) | other.is_nan() { other } else { self }
    }
    #[inline(always)]
    unsafe fn at_least(self, bound: Self) -> Self {
        if self < bound { bound } else { self }
    }
    #[inline(always)]
    unsafe fn at_most(self, bound: Self) -> Self {
        if self > bound { bound } else { self }
    }
}

impl<const W: usize> Vector for [f32; W] {
    const N: usize = W;
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: as the caller vouches.
        unsafe { from.cast::<Self>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: as the caller vouches.
        unsafe { to.cast::<Self>().write_unaligned(self) }
    }
    #[inline(always)]
    unsafe fn splat(v: f32) -> Self {
        [v; W]
    }
    #[inline(always)]
    unsafe fn add(mut self, other: Self) -> Self {
        self.iter_mut().zip(other).for_each(|(a, b)| *a += b);
        self
    }
    #[inline(always)]
    unsafe fn sub(mut self, other: Self) -> Self {
        self.iter_mut().zip(other).for_each(|(a, b)| *a -= b);
        self
    }
    #[inline(always)]
    unsafe fn fma(mut self, by: Self, plus: Self) -> Self {
        self.iter_mut().zip(by).zip(plus).for_each(|((a, b), c)| *a = *a * b + c);
        self
    }
    #[inline(always)]
    unsafe fn max(mut self, other: Self) -> Self {
        self.iter_mut().zip(other).for_each(|(a, b)| *a = if (b > *a) | b.is_nan() { b } else { *a });
        self
    }
    #[inline(always)]
    unsafe fn at_least(mut self, bound: Self) -> Self {
        self.iter_mut().zip(bound).for_each(|(a, b)| *a = if *a < b { b } else { *a });
        self
    }
    #[inline(always)]
    unsafe fn at_most(mut self, bound: Self) -> Self {
        self.iter_mut().zip(bound).for_each(|(a, b)| *a = if *a > b { b } else { *a });
        self
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Vector;
    use std::arch::x86_64::*;

    macro_rules! lanes {
        ($type:ident, $n:literal, $load:ident, $store:ident, $all:ident, $add:ident, $sub:ident, $fma:ident, $low:ident, $high:ident, $v:ident, $max:expr) => {
            impl Vector for $type {
                const N: usize = $n;
                #[inline(always)]
                unsafe fn load(from: *const f32) -> Self {
                    // SAFETY: as the caller vouches.
                    unsafe { $load(from) }
                }
                #[inline(always)]
                unsafe fn store(self, to: *mut f32) {
                    // SAFETY: as the caller vouches.
                    unsafe { $store(to, self) }
                }
                #[inline(always)]
                unsafe fn splat(v: f32) -> Self {
                    // SAFETY: as the caller vouches.
                    unsafe { $all(v) }
                }
                #[inline(always)]
                unsafe fn add(self, other: Self) -> Self {
                    // SAFETY: as the caller vouches.
                    unsafe { $add(self, other) }
                }
                #[inline(always)]
                unsafe fn sub(self, other: Self) -> Self {
                    // SAFETY: as the caller vouches.
                    unsafe { $sub(self, other) }
                }
                #[inline(always)]
                unsafe fn fma(self, by: Self, plus: Self) -> Self {
                    // SAFETY: as the caller vouches.
                    unsafe { $fma(self, by, plus) }
                }
                #[inline(always)]
                unsafe fn max(self, other: Self) -> Self {
                    // SAFETY: as the caller vouches. The instruction gives its second operand when one is a NaN.
                    unsafe {
                        let $v = (self, other);
                        $max
                    }
                }
                #[inline(always)]
                unsafe fn at_least(self, bound: Self) -> Self {
                    // SAFETY: as the caller vouches. The instruction gives its second operand when one is a NaN.
                    unsafe { $high(bound, self) }
                }
                #[inline(always)]
                unsafe fn at_most(self, bound: Self) -> Self {
                    // SAFETY: as above.
                    unsafe { $low(bound, self) }
                }
                #[inline(always)]
                fn prefetch(from: *const f32) {
                    // SAFETY: an instruction of every x86-64 that follows no address.
                    unsafe { _mm_prefetch::<_MM_HINT_T1>(from.cast()) }
                }
            }
        };
    }

    lanes!(
        __m256,
        8,
        _mm256_loadu_ps,
        _mm256_storeu_ps,
        _mm256_set1_ps,
        _mm256_add_ps,
        _mm256_sub_ps,
        _mm256_fmadd_ps,
        _mm256_min_ps,
        _mm256_max_ps,
        v,
        {
            let nan = _mm256_cmp_ps::<_CMP_UNORD_Q>(v.0, v.0);
            _mm256_blendv_ps(_mm256_max_ps(v.0, v.1), v.0, nan)
        }
    );
    lanes!(
        __m512,
        16,
        _mm512_loadu_ps,
        _mm512_storeu_ps,
        _mm512_set1_ps,
        _mm512_add_ps,
        _mm512_sub_ps,
        _mm512_fmadd_ps,
        _mm512_min_ps,
        _mm512_max_ps,
        v,
        {
            let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(v.0, v.0);
            _mm512_mask_mov_ps(_mm512_max_ps(v.0, v.1), nan, v.0)
        }
    );
}
