//! Register tiles of float32 products: rows are pixels, columns output channels.
//!
//! Weights come in panels of 8 or 16 columns, `[depth, columns]`. The left factor is read in place, one value for a whole
//! row of the tile: by [`Taps`] in runs of consecutive values, by [`Offsets`] in any pattern that all rows share.

use crate::level::Level;

/// Columns of the widest panel.
pub const COLUMNS: usize = 16;
/// Rows of the tallest tile.
pub const ROWS: usize = 12;

/// `out[r, c] = bias[c] + Σ_t Σ_k<depth table[t, r][k] · packed[t · depth + k, c]` for `table: [taps, rows]`; rows of `out`
/// are `ld` apart.
///
/// # Safety
/// The level is there, each pointer of the table has `depth` readable values, the panel is as deep as all taps together,
/// `bias` is as wide as the panel, and `out` is writable.
pub type Taps = unsafe fn(table: &[*const f32], depth: usize, packed: *const f32, bias: *const f32, out: *mut f32, ld: usize);

/// `out[r, c] = bias[c] + Σ_k from[r][offsets[k]] · packed[k, c]`.
///
/// # Safety
/// As [`Taps`]; `from` has a pointer per row, with readable values at all offsets.
pub type Offsets = unsafe fn(from: &[*const f32], offsets: &[u32], packed: *const f32, bias: *const f32, out: *mut f32, ld: usize);

/// Rows of a full tile.
pub fn rows(level: Level) -> usize {
    if level == Level::Avx512 { 12 } else { 6 }
}

/// Columns of the panel that `left` columns start with.
pub fn columns(level: Level, left: usize) -> usize {
    if left <= 8 && level != Level::Avx512 { 8 } else { COLUMNS }
}

/// The kernels of one panel width, by rows less one.
#[derive(Clone, Copy)]
pub struct Kernels {
    pub taps: [Taps; ROWS],
    pub offsets: [Offsets; ROWS],
}

/// `$f::<1, $v>` to `$f::<6, $v>`, then `$g::<7, $v>` to `$g::<12, $v>`.
macro_rules! by_rows {
    ($f:path, $v:literal) => {{
        use $f as f;
        [
            f::<1, $v>, f::<2, $v>, f::<3, $v>, f::<4, $v>, f::<5, $v>, f::<6, $v>, f::<6, $v>, f::<6, $v>, f::<6, $v>, f::<6, $v>,
            f::<6, $v>, f::<6, $v>,
        ]
    }};
    (tall $f:path, $v:literal) => {{
        use $f as f;
        [
            f::<1, $v>,
            f::<2, $v>,
            f::<3, $v>,
            f::<4, $v>,
            f::<5, $v>,
            f::<6, $v>,
            f::<7, $v>,
            f::<8, $v>,
            f::<9, $v>,
            f::<10, $v>,
            f::<11, $v>,
            f::<12, $v>,
        ]
    }};
}

/// The kernels for panels of `columns` columns.
pub fn kernels(level: Level, columns: usize) -> Kernels {
    match (level, columns) {
        #[cfg(target_arch = "x86_64")]
        (Level::Avx512, _) => Kernels { taps: by_rows!(tall x86::taps512, 1), offsets: by_rows!(tall x86::offsets512, 1) },
        #[cfg(target_arch = "x86_64")]
        (Level::Avx2, 8) => Kernels { taps: by_rows!(x86::taps256, 1), offsets: by_rows!(x86::offsets256, 1) },
        #[cfg(target_arch = "x86_64")]
        (Level::Avx2, _) => Kernels { taps: by_rows!(x86::taps256, 2), offsets: by_rows!(x86::offsets256, 2) },
        (_, 8) => Kernels { taps: by_rows!(portable::taps, 1), offsets: by_rows!(portable::offsets, 1) },
        _ => Kernels { taps: by_rows!(portable::taps, 2), offsets: by_rows!(portable::offsets, 2) },
    }
}

mod portable {
    /// One step: a column of the left factor times a row of the panel.
    ///
    /// # Safety
    /// `packed` has `8 · V` readable values.
    #[inline(always)]
    unsafe fn step<const R: usize, const V: usize>(sums: &mut [[[f32; 8]; V]; R], x: [f32; R], packed: *const f32) {
        // SAFETY: as the caller vouches.
        let weights = unsafe { packed.cast::<[[f32; 8]; V]>().read_unaligned() };
        for (sum, x) in sums.iter_mut().zip(x) {
            sum.as_flattened_mut().iter_mut().zip(weights.as_flattened()).for_each(|(s, w)| *s += x * w);
        }
    }

    /// # Safety
    /// `R` rows of `8 · V` values are writable.
    #[inline(always)]
    unsafe fn store<const R: usize, const V: usize>(sums: &[[[f32; 8]; V]; R], out: *mut f32, ld: usize) {
        for (r, sum) in sums.iter().enumerate() {
            // SAFETY: as the caller vouches.
            unsafe { out.add(r * ld).cast::<[[f32; 8]; V]>().write_unaligned(*sum) };
        }
    }

    /// # Safety
    /// See [`super::Taps`].
    pub unsafe fn taps<const R: usize, const V: usize>(
        table: &[*const f32],
        depth: usize,
        mut packed: *const f32,
        bias: *const f32,
        out: *mut f32,
        ld: usize,
    ) {
        // SAFETY: as the caller vouches.
        unsafe {
            let mut sums = [bias.cast::<[[f32; 8]; V]>().read_unaligned(); R];
            for from in table.chunks_exact(R) {
                for k in 0..depth {
                    step(&mut sums, std::array::from_fn(|r| *from[r].add(k)), packed);
                    packed = packed.add(8 * V);
                }
            }
            store(&sums, out, ld);
        }
    }

    /// # Safety
    /// See [`super::Offsets`].
    pub unsafe fn offsets<const R: usize, const V: usize>(
        from: &[*const f32],
        offsets: &[u32],
        mut packed: *const f32,
        bias: *const f32,
        out: *mut f32,
        ld: usize,
    ) {
        // SAFETY: as the caller vouches.
        unsafe {
            let mut sums = [bias.cast::<[[f32; 8]; V]>().read_unaligned(); R];
            for &offset in offsets {
                step(&mut sums, std::array::from_fn(|r| *from[r].add(offset as usize)), packed);
                packed = packed.add(8 * V);
            }
            store(&sums, out, ld);
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    /// Defines the tiles for one vector width. Their safety is that of [`super::Taps`] and [`super::Offsets`].
    macro_rules! tiles {
        ($taps:ident, $offsets:ident, $features:literal, $lanes:literal, $load:ident, $store:ident, $all:ident, $fma:ident) => {
            #[target_feature(enable = $features)]
            pub unsafe fn $taps<const R: usize, const V: usize>(
                table: &[*const f32],
                depth: usize,
                mut packed: *const f32,
                bias: *const f32,
                out: *mut f32,
                ld: usize,
            ) {
                // SAFETY: see the macro.
                unsafe {
                    let mut sums = [[$all(0.0); V]; R];
                    for r in 0..R {
                        for v in 0..V {
                            sums[r][v] = $load(bias.add(v * $lanes));
                        }
                    }
                    for from in table.chunks_exact(R) {
                        let mut row = [std::ptr::null(); R];
                        row.copy_from_slice(from);
                        for k in 0..depth {
                            let mut weights = [$all(0.0); V];
                            for v in 0..V {
                                weights[v] = $load(packed.add(v * $lanes));
                            }
                            packed = packed.add(V * $lanes);
                            for r in 0..R {
                                let x = $all(*row[r].add(k));
                                for v in 0..V {
                                    sums[r][v] = $fma(x, weights[v], sums[r][v]);
                                }
                            }
                        }
                    }
                    for r in 0..R {
                        for v in 0..V {
                            $store(out.add(r * ld + v * $lanes), sums[r][v]);
                        }
                    }
                }
            }

            #[target_feature(enable = $features)]
            pub unsafe fn $offsets<const R: usize, const V: usize>(
                from: &[*const f32],
                offsets: &[u32],
                mut packed: *const f32,
                bias: *const f32,
                out: *mut f32,
                ld: usize,
            ) {
                // SAFETY: see the macro.
                unsafe {
                    let mut sums = [[$all(0.0); V]; R];
                    for r in 0..R {
                        for v in 0..V {
                            sums[r][v] = $load(bias.add(v * $lanes));
                        }
                    }
                    let mut row = [std::ptr::null(); R];
                    row.copy_from_slice(&from[..R]);
                    for &offset in offsets {
                        let mut weights = [$all(0.0); V];
                        for v in 0..V {
                            weights[v] = $load(packed.add(v * $lanes));
                        }
                        packed = packed.add(V * $lanes);
                        for r in 0..R {
                            let x = $all(*row[r].add(offset as usize));
                            for v in 0..V {
                                sums[r][v] = $fma(x, weights[v], sums[r][v]);
                            }
                        }
                    }
                    for r in 0..R {
                        for v in 0..V {
                            $store(out.add(r * ld + v * $lanes), sums[r][v]);
                        }
                    }
                }
            }
        };
    }

    tiles!(taps256, offsets256, "avx2,fma", 8, _mm256_loadu_ps, _mm256_storeu_ps, _mm256_set1_ps, _mm256_fmadd_ps);
    tiles!(taps512, offsets512, "avx512f", 16, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_set1_ps, _mm512_fmadd_ps);
}
