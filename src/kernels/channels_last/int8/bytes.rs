//! Rows of bytes: copies, tables and rounding.

use super::quant::{Quant, nearest_byte};
use crate::activation::wide;
use crate::level::Level;
use std::mem::MaybeUninit;

/// Copies `n` bytes; inline, for the short rows of pixels.
///
/// # Safety
/// As for [`std::ptr::copy_nonoverlapping`].
#[inline(always)]
pub unsafe fn copy_bytes(from: *const u8, n: usize, to: *mut u8) {
    // SAFETY: the caller's promise; for 4 bytes or more, the last vector may overlap the one before.
    unsafe {
        let vector = |i: usize| to.add(i).cast::<[u8; 16]>().write(from.add(i).cast::<[u8; 16]>().read());
        match n {
            257.. => from.copy_to_nonoverlapping(to, n),
            16.. => {
                for i in (0..n - 16).step_by(16) {
                    vector(i);
                }
                vector(n - 16);
            }
            8.. => {
                for i in [0, n - 8] {
                    to.add(i).cast::<[u8; 8]>().write(from.add(i).cast::<[u8; 8]>().read());
                }
            }
            4.. => {
                for i in [0, n - 4] {
                    to.add(i).cast::<[u8; 4]>().write(from.add(i).cast::<[u8; 4]>().read());
                }
            }
            _ => {
                for i in 0..n {
                    *to.add(i) = *from.add(i);
                }
            }
        }
    }
}

/// Copies `count` pixels of `n` bytes; strides in bytes.
///
/// # Safety
/// As for [`std::ptr::copy_nonoverlapping`], of each pixel.
pub unsafe fn copy_pixels(count: usize, n: usize, from: *const u8, from_stride: usize, to: *mut u8, to_stride: usize) {
    #[inline(always)]
    unsafe fn fixed<const N: usize>(count: usize, from: *const u8, from_stride: usize, to: *mut u8, to_stride: usize) {
        for i in 0..count {
            // SAFETY: a pixel, as the caller promises.
            unsafe { to.add(i * to_stride).cast::<[u8; N]>().write(from.add(i * from_stride).cast::<[u8; N]>().read()) };
        }
    }
    // SAFETY: the caller's promise.
    unsafe {
        match n {
            _ if n == from_stride && n == to_stride => from.copy_to_nonoverlapping(to, n * count),
            3 => fixed::<3>(count, from, from_stride, to, to_stride),
            16 => fixed::<16>(count, from, from_stride, to, to_stride),
            32 => fixed::<32>(count, from, from_stride, to, to_stride),
            64 => fixed::<64>(count, from, from_stride, to, to_stride),
            _ => {
                for i in 0..count {
                    copy_bytes(from.add(i * from_stride), n, to.add(i * to_stride));
                }
            }
        }
    }
}

/// A table of bytes to look rows up in.
pub struct Lookup {
    vectors: bool,
    table: Box<[u8; 256]>,
    /// Each 16 entries twice, for the halves of a vector.
    #[cfg(target_arch = "x86_64")]
    doubled: Box<[x86::Doubled; 16]>,
}

impl Lookup {
    pub fn new(level: Level, table: &[u8; 256]) -> Self {
        Self {
            vectors: level != Level::Portable,
            table: Box::new(*table),
            #[cfg(target_arch = "x86_64")]
            doubled: Box::new(std::array::from_fn(|i| x86::Doubled(std::array::from_fn(|j| table[i * 16 + j % 16])))),
        }
    }

    /// `to[i] = table[from[i]]` for `i < n`.
    ///
    /// # Safety
    /// Both are valid and do not overlap.
    pub unsafe fn apply(&self, from: *const u8, n: usize, to: *mut u8) {
        // SAFETY: the caller's promise; the level was detected.
        unsafe {
            #[cfg(target_arch = "x86_64")]
            if self.vectors {
                return x86::look_up(&self.doubled, from, n, to);
            }
            let _ = self.vectors;
            for i in 0..n {
                *to.add(i) = self.table[usize::from(*from.add(i))];
            }
        }
    }
}

/// `to[i]` is the byte of `from[i]`, for `i < n`.
///
/// # Safety
/// Both are valid, and the machine has the level.
pub unsafe fn round_row(level: Level, q: Quant, from: *const f32, n: usize, to: *mut u8) {
    let mut done = 0;
    #[cfg(target_arch = "x86_64")]
    if level != Level::Portable {
        done = n / 16 * 16;
        // SAFETY: the caller's promise.
        unsafe { x86::round_row(q, from, done, to) };
    }
    let _ = level;
    for i in done..n {
        // SAFETY: the caller's promise.
        unsafe { *to.add(i) = q.byte(*from.add(i)) };
    }
}

/// `to[i]` is `clamp(round_ties_even(from[i] / scale) + zero, 0, 255)`, for `i < n`; a scale of 0, that of zeros alone, counts
/// as 1.
///
/// # Safety
/// Both are valid and do not overlap.
pub unsafe fn divide_row(scale: f32, zero: u8, from: *const f32, n: usize, to: *mut u8) {
    let divisor = if scale == 0.0 { 1.0 } else { scale };
    // SAFETY: the caller's promise.
    let (from, to) = unsafe { (std::slice::from_raw_parts(from, n), std::slice::from_raw_parts_mut(to.cast::<MaybeUninit<u8>>(), n)) };
    wide(
        #[inline(always)]
        || {
            to.iter_mut().zip(from).for_each(|(to, x)| {
                to.write(nearest_byte(x / divisor, zero));
            })
        },
    );
}

/// Planes of `n` bytes each as `n` pixels of `channels`, `pitch` bytes apart. A pitch of 4 for 3 channels is fast.
///
/// # Safety
/// The planes are readable and the pixels writable, whole pitches in the case of 3 channels.
pub unsafe fn transpose_pixels(planes: *const u8, channels: usize, n: usize, to: *mut u8, pitch: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        if channels == 3 && pitch == 4 {
            let plane = |c: usize| std::slice::from_raw_parts(planes.add(c * n), n);
            let pixels = std::slice::from_raw_parts_mut(to.cast::<MaybeUninit<[u8; 4]>>(), n);
            wide(
                #[inline(always)]
                || {
                    for (((pixel, &a), &b), &c) in pixels.iter_mut().zip(plane(0)).zip(plane(1)).zip(plane(2)) {
                        pixel.write((u32::from(a) | u32::from(b) << 8 | u32::from(c) << 16).to_le_bytes());
                    }
                },
            );
            return;
        }
        for i in 0..n {
            for c in 0..channels {
                *to.add(i * pitch + c) = *planes.add(c * n + i);
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::super::quant::{Quant, Rounding};
    use super::copy_bytes;
    use std::arch::x86_64::*;

    #[repr(C, align(32))]
    pub struct Doubled(pub [u8; 32]);

    /// # Safety
    /// As [`super::Lookup::apply`].
    #[target_feature(enable = "avx2")]
    pub unsafe fn look_up(table: &[Doubled; 16], from: *const u8, n: usize, to: *mut u8) {
        // SAFETY: whole vectors inside both rows, the last of which may overlap the one before; shorter rows in a buffer.
        unsafe {
            if n < 32 {
                let mut row = [0u8; 32];
                copy_bytes(from, n, row.as_mut_ptr());
                let [y] = look_up_vectors(table, [_mm256_loadu_si256(row.as_ptr().cast())]);
                _mm256_storeu_si256(row.as_mut_ptr().cast(), y);
                return copy_bytes(row.as_ptr(), n, to);
            }
            let mut i = 0;
            while i + 64 <= n {
                let x = [_mm256_loadu_si256(from.add(i).cast()), _mm256_loadu_si256(from.add(i + 32).cast())];
                let y = look_up_vectors(table, x);
                _mm256_storeu_si256(to.add(i).cast(), y[0]);
                _mm256_storeu_si256(to.add(i + 32).cast(), y[1]);
                i += 64;
            }
            while i < n {
                let at = i.min(n - 32);
                let [y] = look_up_vectors(table, [_mm256_loadu_si256(from.add(at).cast())]);
                _mm256_storeu_si256(to.add(at).cast(), y);
                i += 32;
            }
        }
    }

    /// The low four bits select in each 16 entries, the high four among the 16 results, a bit at a time.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn look_up_vectors<const N: usize>(table: &[Doubled; 16], x: [__m256i; N]) -> [__m256i; N] {
        let low = x.map(|x| _mm256_and_si256(x, _mm256_set1_epi8(15)));
        let bits = [x.map(|x| _mm256_slli_epi16::<3>(x)), x.map(|x| _mm256_slli_epi16::<2>(x)), x.map(|x| _mm256_slli_epi16::<1>(x)), x];
        let mut eighths = [[_mm256_setzero_si256(); N]; 2];
        let mut quarters = [[_mm256_setzero_si256(); N]; 2];
        let mut halves = [[_mm256_setzero_si256(); N]; 2];
        for i in 0..8 {
            for n in 0..N {
                let entry = |j: usize| {
                    // SAFETY: a table's part has the size of a vector.
                    let part = unsafe { _mm256_load_si256(table[j].0.as_ptr().cast()) };
                    _mm256_shuffle_epi8(part, low[n])
                };
                eighths[i % 2][n] = _mm256_blendv_epi8(entry(2 * i), entry(2 * i + 1), bits[0][n]);
                if i % 2 == 1 {
                    quarters[i / 2 % 2][n] = _mm256_blendv_epi8(eighths[0][n], eighths[1][n], bits[1][n]);
                }
                if i % 4 == 3 {
                    halves[i / 4][n] = _mm256_blendv_epi8(quarters[0][n], quarters[1][n], bits[2][n]);
                }
            }
        }
        std::array::from_fn(|n| _mm256_blendv_epi8(halves[0][n], halves[1][n], bits[3][n]))
    }

    /// # Safety
    /// As [`super::round_row`], with a multiple of 16.
    #[target_feature(enable = "avx2")]
    pub unsafe fn round_row(q: Quant, from: *const f32, n: usize, to: *mut u8) {
        let rounding = Rounding::new(q);
        for i in (0..n).step_by(16) {
            // SAFETY: inside both rows.
            unsafe {
                let (a, b) = (_mm256_loadu_ps(from.add(i)), _mm256_loadu_ps(from.add(i + 8)));
                let shorts = _mm256_permute4x64_epi64::<0xd8>(rounding.shorts(a, b));
                let bytes = _mm_packus_epi16(_mm256_castsi256_si128(shorts), _mm256_extracti128_si256::<1>(shorts));
                _mm_storeu_si128(to.add(i).cast(), bytes);
            }
        }
    }
}
