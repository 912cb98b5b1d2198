//! Products of matrices whose right factor is not known before: it is packed into panels of [`COLUMNS`] columns, which tiles
//! of rows, read where they lie, are multiplied with.

use crate::level::Level;
use crate::vector::Vector;

/// `$f::<1, …>` to that of the last number of rows, which is there as often as it takes.
macro_rules! by_rows {
    ($f:path, 12, $p:literal) => {{
        use $f as f;
        [
            f::<1, $p>,
            f::<2, $p>,
            f::<3, $p>,
            f::<4, $p>,
            f::<5, $p>,
            f::<6, $p>,
            f::<7, $p>,
            f::<8, $p>,
            f::<9, $p>,
            f::<10, $p>,
            f::<11, $p>,
            f::<12, $p>,
        ]
    }};
    ($f:path, 9, $p:literal) => {{
        use $f as f;
        [
            f::<1, $p>, f::<2, $p>, f::<3, $p>, f::<4, $p>, f::<5, $p>, f::<6, $p>, f::<7, $p>, f::<8, $p>, f::<9, $p>, f::<9, $p>,
            f::<9, $p>, f::<9, $p>,
        ]
    }};
    ($f:path, 6, $p:literal) => {{
        use $f as f;
        [
            f::<1, $p>, f::<2, $p>, f::<3, $p>, f::<4, $p>, f::<5, $p>, f::<6, $p>, f::<6, $p>, f::<6, $p>, f::<6, $p>, f::<6, $p>,
            f::<6, $p>, f::<6, $p>,
        ]
    }};
}
/// Columns of a panel.
pub const COLUMNS: usize = 16;
/// Rows of the tallest tile.
const ROWS: usize = 12;

/// `out[r, c] = Σ_k a[r, k] · panel[k, c]` for as many rows and panels as the kernel has; rows of `a` are `lda` apart, those of `out`
/// `ldo`.
///
/// # Safety
/// The level is there; rows of `a` have `depth` readable values, the panels, each `[depth, COLUMNS]`, follow one another, rows of `out` have
/// `COLUMNS` writable ones for each panel.
type Tile = unsafe fn(a: *const f32, lda: usize, depth: usize, panel: *const f32, out: *mut f32, ldo: usize);

/// The kernels for some panels at a time.
#[derive(Clone, Copy)]
struct Tiles {
    /// Rows of a full tile.
    rows: usize,
    /// By rows less one.
    tiles: [Tile; ROWS],
}

/// The kernels of a level.
#[derive(Clone, Copy)]
pub struct Packed {
    /// By panels less one.
    several: &'static [Tiles],
    /// Rows that had better be multiplied together, or a multiple of them.
    pub rows: usize,
}

/// Tiles that fill 32 registers: a panel at a time takes as many loads as multiplications, of which there are two in a cycle.
#[cfg(target_arch = "x86_64")]
const LARGE: &[Tiles] = &[
    Tiles { rows: 12, tiles: by_rows!(x86::tile512, 12, 1) },
    Tiles { rows: 12, tiles: by_rows!(x86::tile512, 12, 2) },
    Tiles { rows: 9, tiles: by_rows!(x86::tile512, 9, 3) },
    Tiles { rows: 6, tiles: by_rows!(x86::tile512, 6, 4) },
];

/// Floats of a packed matrix.
pub fn room(depth: usize, columns: usize) -> usize {
    columns.next_multiple_of(COLUMNS) * depth
}

/// Packs `[depth, columns]`, whose axes have such strides, panel by panel; columns that there are not are zeros.
///
/// # Safety
/// The matrix is readable, and `to` has [`room`] for it.
pub unsafe fn pack(from: *const f32, [along, across]: [usize; 2], depth: usize, columns: usize, to: *mut f32) {
    for first in (0..columns).step_by(COLUMNS) {
        let n = COLUMNS.min(columns - first);
        // SAFETY: as the caller vouches: rows `..depth` and columns `first..first + n` are of the matrix, and panels lie one
        // after the other.
        unsafe {
            let (from, to) = (from.add(first * across), to.add(first * depth));
            if n == COLUMNS && across == 1 {
                (0..depth).for_each(|k| {
                    to.add(k * COLUMNS).cast::<[f32; COLUMNS]>().write(from.add(k * along).cast::<[f32; COLUMNS]>().read_unaligned())
                });
                continue;
            }
            if n < COLUMNS {
                to.write_bytes(0, depth * COLUMNS);
            }
            // Columns outside, some rows at a time, so that what is read along a column lies together.
            for start in (0..depth).step_by(COLUMNS) {
                for c in 0..n {
                    let column = from.add(c * across);
                    (start..depth.min(start + COLUMNS)).for_each(|k| *to.add(k * COLUMNS + c) = *column.add(k * along));
                }
            }
        }
    }
}

/// Into how many parts, of at most `most`, each of `products` products is cut to keep `threads` threads busy for as long as each other.
/// Parts pack their right factors for themselves, so no more than that.
pub fn cuts(products: usize, most: usize, threads: usize) -> usize {
    let threads = threads.clamp(1, 1 << 16);
    let enough = |cuts: usize| {
        let parts = products.max(1).saturating_mul(cuts);
        parts >= 2 * threads && (parts.is_multiple_of(threads) || parts >= 8 * threads)
    };
    if threads == 1 { 1 } else { (1..most.max(1)).find(|&n| enough(n)).unwrap_or(most.max(1)) }
}

impl Packed {
    pub fn new(level: Level) -> Self {
        match level {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => Self { several: LARGE, rows: 12 },
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => Self { several: const { &[Tiles { rows: 6, tiles: by_rows!(x86::tile256, 6, 1) }] }, rows: 6 },
            _ => Self { several: const { &[Tiles { rows: 6, tiles: by_rows!(portable, 6, 1) }] }, rows: 6 },
        }
    }

    /// `out = a · b` for `rows` rows: `a` is `[rows, depth]` with rows `lda` apart, `b` is packed with [`pack`], and `out` is
    /// `[rows, columns]` with strides `step`.
    ///
    /// # Safety
    /// All are readable or writable, the level is there. `whole`: rows of `out` have room for the columns of whole panels.
    pub unsafe fn multiply(
        &self,
        (a, lda): (*const f32, usize),
        [rows, depth, columns]: [usize; 3],
        packed: *const f32,
        (out, step, whole): (*mut f32, [usize; 2], bool),
    ) {
        let mut spare = [0.0f32; ROWS * COLUMNS];
        let panels = columns.div_ceil(COLUMNS);
        // Panels whose results go where they belong at once.
        let straight = if step[1] != 1 {
            0
        } else if whole {
            panels
        } else {
            columns / COLUMNS
        };
        let mut panel = 0;
        while panel < panels {
            let direct = panel < straight;
            let count = if direct { self.next(straight - panel) } else { 1 };
            let (first, n) = (panel * COLUMNS, COLUMNS.min(columns - panel * COLUMNS));
            let Tiles { rows: most, tiles } = &self.several[count - 1];
            for row in (0..rows).step_by(*most) {
                let height = (*most).min(rows - row);
                let tile = tiles[height - 1];
                // SAFETY: as the caller vouches for these rows and columns; the spare tile has room for a whole one.
                unsafe {
                    let (a, panel, to) = (a.add(row * lda), packed.add(first * depth), out.add(row * step[0] + first * step[1]));
                    if direct {
                        tile(a, lda, depth, panel, to, step[0]);
                    } else {
                        tile(a, lda, depth, panel, spare.as_mut_ptr(), COLUMNS);
                        for (r, values) in spare.chunks_exact(COLUMNS).take(height).enumerate() {
                            values.iter().take(n).enumerate().for_each(|(c, &v)| *to.add(r * step[0] + c * step[1]) = v);
                        }
                    }
                }
            }
            panel += count;
        }
    }

    /// How many of so many panels are multiplied next: rather twice three than four and two, rather three and two than four and one.
    fn next(&self, left: usize) -> usize {
        let most = self.several.len();
        if most > 3 && matches!(left, 5 | 6 | 9) { 3 } else { left.clamp(1, most) }
    }
}

/// `W` vectors make a panel, of which there are `P`.
///
/// # Safety
/// See [`Tile`].
#[inline(always)]
unsafe fn tile<V: Vector, const R: usize, const W: usize, const P: usize>(
    a: *const f32,
    lda: usize,
    depth: usize,
    panel: *const f32,
    out: *mut f32,
    ldo: usize,
) {
    // SAFETY: as the caller vouches.
    unsafe {
        let rows: [*const f32; R] = std::array::from_fn(|r| a.wrapping_add(r * lda));
        let panels: [*const f32; P] = std::array::from_fn(|p| panel.wrapping_add(p * depth * COLUMNS));
        let mut sums = [[[V::splat(0.0); W]; P]; R];
        for k in 0..depth {
            let mut weights = [[V::splat(0.0); W]; P];
            for (weights, panel) in weights.iter_mut().zip(&panels) {
                for (v, w) in weights.iter_mut().enumerate() {
                    *w = V::load(panel.add(k * COLUMNS + v * V::N));
                }
            }
            for (sums, row) in sums.iter_mut().zip(&rows) {
                let x = V::splat(*row.add(k));
                for (sums, weights) in sums.iter_mut().zip(&weights) {
                    for (s, &w) in sums.iter_mut().zip(weights) {
                        *s = x.fma(w, *s);
                    }
                }
            }
        }
        for (r, row) in sums.iter().enumerate() {
            for (p, panel) in row.iter().enumerate() {
                for (v, sum) in panel.iter().enumerate() {
                    sum.store(out.add(r * ldo + p * COLUMNS + v * V::N));
                }
            }
        }
    }
}

/// # Safety
/// See [`Tile`].
unsafe fn portable<const R: usize, const P: usize>(a: *const f32, lda: usize, depth: usize, panel: *const f32, out: *mut f32, ldo: usize) {
    // SAFETY: as the caller vouches.
    unsafe { tile::<[f32; 8], R, 2, P>(a, lda, depth, panel, out, ldo) };
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::tile;
    use std::arch::x86_64::{__m256, __m512};

    /// # Safety
    /// See [`super::Tile`].
    #[target_feature(enable = "avx2,fma")]
    pub unsafe fn tile256<const R: usize, const P: usize>(
        a: *const f32,
        lda: usize,
        depth: usize,
        panel: *const f32,
        out: *mut f32,
        ldo: usize,
    ) {
        // SAFETY: as the caller vouches.
        unsafe { tile::<__m256, R, 2, P>(a, lda, depth, panel, out, ldo) };
    }

    /// # Safety
    /// See [`super::Tile`].
    #[target_feature(enable = "avx512f")]
    pub unsafe fn tile512<const R: usize, const P: usize>(
        a: *const f32,
        lda: usize,
        depth: usize,
        panel: *const f32,
        out: *mut f32,
        ldo: usize,
    ) {
        // SAFETY: as the caller vouches.
        unsafe { tile::<__m512, R, 1, P>(a, lda, depth, panel, out, ldo) };
    }
}
