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

/// A table of bytes to look pixels up in.
pub struct Lookup {
    level: Level,
    table: Box<Table>,
    /// Each 16 entries twice, for the halves of a vector.
    #[cfg(target_arch = "x86_64")]
    doubled: Box<[x86::Doubled; 16]>,
}

#[repr(align(64))]
struct Table([u8; 256]);

/// Pixels of bytes: how many, of how many bytes each, and from each to the next in bytes, where they are read and where they are written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pixels {
    pub count: usize,
    pub bytes: usize,
    pub from: usize,
    pub to: usize,
}

impl Pixels {
    /// Pixels without gaps are one long pixel.
    fn joined(self) -> Self {
        let Self { count, bytes, from, to } = self;
        if bytes == from && bytes == to { Self { count: count.min(1), bytes: count * bytes, from: 0, to: 0 } } else { self }
    }
}

impl Lookup {
    /// Vectors of 64 bytes where the level and the machine have their permutations, of 32 with AVX2.
    pub fn new(level: Level, table: &[u8; 256]) -> Self {
        #[cfg(target_arch = "x86_64")]
        let level = if level == Level::Avx512 && !x86::has_vbmi() { Level::Avx2 } else { level };
        Self {
            level,
            table: Box::new(Table(*table)),
            #[cfg(target_arch = "x86_64")]
            doubled: Box::new(std::array::from_fn(|i| x86::Doubled(std::array::from_fn(|j| table[i * 16 + j % 16])))),
        }
    }

    /// `to[p · pixels.to + i] = table[from[p · pixels.from + i]]` for `p < pixels.count` and `i < pixels.bytes`; what lies between the pixels
    /// stays.
    ///
    /// # Safety
    /// The pixels are valid at both places, which do not overlap.
    pub unsafe fn apply(&self, pixels: Pixels, from: *const u8, to: *mut u8) {
        let pixels = pixels.joined();
        // SAFETY: the caller's promise; the level was detected.
        unsafe {
            match self.level {
                #[cfg(target_arch = "x86_64")]
                Level::Avx512 => x86::look_up_wide(&self.table.0, pixels, from, to),
                #[cfg(target_arch = "x86_64")]
                Level::Avx2 => x86::look_up(&self.doubled, pixels, from, to),
                _ => {
                    for p in 0..pixels.count {
                        for i in 0..pixels.bytes {
                            *to.add(p * pixels.to + i) = self.table.0[usize::from(*from.add(p * pixels.from + i))];
                        }
                    }
                }
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
pub use x86::has_vbmi;

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::super::quant::{Quant, Rounding};
    use super::{Pixels, copy_bytes};
    use std::arch::x86_64::*;

    #[repr(C, align(32))]
    pub struct Doubled(pub [u8; 32]);

    /// Permutations of bytes by bytes of two vectors.
    pub fn has_vbmi() -> bool {
        is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512vbmi")
    }

    /// # Safety
    /// As [`super::Lookup::apply`].
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    pub unsafe fn look_up_wide(table: &[u8; 256], pixels: Pixels, from: *const u8, to: *mut u8) {
        // SAFETY: four vectors of the table; bytes of pixels, others are masked.
        unsafe {
            let part = |i: usize| _mm512_loadu_si512(table.as_ptr().add(64 * i).cast());
            let (a, b, c, d) = (part(0), part(1), part(2), part(3));
            // Seven bits select in two vectors, the eighth between the two results.
            let found = |x| {
                let (low, high) = (_mm512_permutex2var_epi8(a, x, b), _mm512_permutex2var_epi8(c, x, d));
                _mm512_mask_blend_epi8(_mm512_movepi8_mask(x), low, high)
            };
            let whole = pixels.bytes / 64 * 64;
            let rest: __mmask64 = (1 << (pixels.bytes - whole)) - 1;
            for p in 0..pixels.count {
                let (from, to) = (from.add(p * pixels.from), to.add(p * pixels.to));
                for i in (0..whole).step_by(64) {
                    _mm512_storeu_si512(to.add(i).cast(), found(_mm512_loadu_si512(from.add(i).cast())));
                }
                if rest != 0 {
                    let x = _mm512_maskz_loadu_epi8(rest, from.add(whole).cast());
                    _mm512_mask_storeu_epi8(to.add(whole).cast(), rest, found(x));
                }
            }
        }
    }

    /// # Safety
    /// As [`super::Lookup::apply`].
    #[target_feature(enable = "avx2")]
    pub unsafe fn look_up(table: &[Doubled; 16], pixels: Pixels, from: *const u8, to: *mut u8) {
        let mut first = 0;
        // SAFETY: pixels at both places.
        unsafe {
            // Two pixels of half a vector at a time.
            while pixels.bytes == 16 && first + 2 <= pixels.count {
                let x = |p: usize| _mm_loadu_si128(from.add(p * pixels.from).cast());
                let [y] = look_up_vectors(table, [_mm256_set_m128i(x(first + 1), x(first))]);
                _mm_storeu_si128(to.add(first * pixels.to).cast(), _mm256_castsi256_si128(y));
                _mm_storeu_si128(to.add((first + 1) * pixels.to).cast(), _mm256_extracti128_si256::<1>(y));
                first += 2;
            }
            for p in first..pixels.count {
                look_up_row(table, from.add(p * pixels.from), pixels.bytes, to.add(p * pixels.to));
            }
        }
    }

    /// # Safety
    /// Both rows have `n` bytes.
    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn look_up_row(table: &[Doubled; 16], from: *const u8, n: usize, to: *mut u8) {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// All levels of the machine, pixels with and without gaps; what lies between them stays.
    #[test]
    fn bytes_are_looked_up_in_place() {
        let table: [u8; 256] = std::array::from_fn(|i| (i * 167 + 13) as u8);
        let levels = [Level::Portable, Level::Avx2, Level::Avx512].into_iter().filter(|l| l.check().is_ok());
        for lookup in levels.map(|l| Lookup::new(l, &table)) {
            for bytes in (0..70).chain([127, 128, 129, 200]) {
                for (count, gaps) in [(1, [0, 0]), (7, [0, 0]), (8, [5, 0]), (5, [0, 32]), (3, [16, 1]), (200, [0, 8]), (150, [8, 0])] {
                    let pixels = Pixels { count, bytes, from: bytes + gaps[0], to: bytes + gaps[1] };
                    let from: Vec<u8> = (0..count * pixels.from).map(|i| (i * 31 + i / 256) as u8).collect();
                    let mut to = vec![77u8; count * pixels.to];
                    let mut wanted = to.clone();
                    for p in 0..count {
                        (0..bytes).for_each(|i| wanted[p * pixels.to + i] = table[usize::from(from[p * pixels.from + i])]);
                    }
                    // SAFETY: both have all pixels.
                    unsafe { lookup.apply(pixels, from.as_ptr(), to.as_mut_ptr()) };
                    assert!(to == wanted, "{pixels:?} with {:?}", lookup.level);
                }
            }
        }
    }
}
