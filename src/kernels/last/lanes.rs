//! Vectors of float32, so that one source serves every level.

/// Some floats side by side. The methods of vectors of an instruction set are for functions compiled for it.
pub trait Lanes: Copy {
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
    /// See [`Lanes::splat`].
    unsafe fn add(self, other: Self) -> Self;
    /// # Safety
    /// See [`Lanes::splat`].
    unsafe fn sub(self, other: Self) -> Self;
    /// `self · by + plus`
    ///
    /// # Safety
    /// See [`Lanes::splat`].
    unsafe fn fma(self, by: Self, plus: Self) -> Self;
}

impl Lanes for [f32; 8] {
    const N: usize = 8;
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
        [v; 8]
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
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Lanes;
    use std::arch::x86_64::*;

    macro_rules! lanes {
        ($type:ident, $n:literal, $load:ident, $store:ident, $all:ident, $add:ident, $sub:ident, $fma:ident) => {
            impl Lanes for $type {
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
            }
        };
    }

    lanes!(__m256, 8, _mm256_loadu_ps, _mm256_storeu_ps, _mm256_set1_ps, _mm256_add_ps, _mm256_sub_ps, _mm256_fmadd_ps);
    lanes!(__m512, 16, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_set1_ps, _mm512_add_ps, _mm512_sub_ps, _mm512_fmadd_ps);
}
