//! Products of matrices.

use super::Loops;
use super::packed::{self, Packed, pack, room};
use crate::channels_last::job::{Args, Job, share};
use crate::channels_last::operand::{Element, Operand, Operands};
use crate::level::Level;
use compresso_base::error::Result;

/// `y[…, i, j] = Σ_k a[…, i, k] · b[…, k, j]`, float32, over any leading axes. The job is cut so that `threads` threads are
/// busy.
///
/// Sizes are `[leading…, rows, inner, columns]`; strides of each operand are those of its own axes after the leading ones.
///
/// # Errors
/// As [`copy`](super::copy()).
pub fn matmul(
    leading: &[usize],
    [rows, inner, columns]: [usize; 3],
    a: &[usize],
    b: &[usize],
    y: &[usize],
    threads: usize,
) -> Result<Box<dyn Job>> {
    matmul_with(Level::best(), leading, [rows, inner, columns], [a, b, y], threads)
}

/// [`matmul`] with the kernels of a level.
///
/// # Errors
/// As [`matmul`]; `Unavailable` when the machine lacks the instructions.
pub fn matmul_with(
    level: Level,
    leading: &[usize],
    [rows, inner, columns]: [usize; 3],
    [a, b, y]: [&[usize]; 3],
    threads: usize,
) -> Result<Box<dyn Job>> {
    level.check()?;
    let n = leading.len();
    let matrix = |size: [usize; 2], strides: &[usize]| Operand::strided(Element::F32, &[leading, &size].concat(), strides);
    let operands = Operands::new(vec![matrix([rows, inner], a)?, matrix([inner, columns], b)?], vec![matrix([rows, columns], y)?])?;
    let outer = Loops::new(leading, [&a[..n], &b[..n], &y[..n]]);
    let pair = |s: &[usize]| [s[n], s[n + 1]];
    let (a, b, y) = (pair(a), pair(b), pair(y));
    let near = room(inner, columns) <= PACKED && rows >= FEW_ROWS;
    let kernels = near.then(|| Packed::new(level));
    let height = kernels.map_or(BAND, |p| p.rows);
    let bands = rows.div_ceil(height).max(1);
    let cuts = if near { packed::cuts(outer.len(), bands, threads) } else { bands };
    Ok(Box::new(Product { operands, outer, rows, inner, columns, a, b, y, packed: kernels, height, bands, cuts }))
}

/// Floats of a right factor that is packed as a whole.
const PACKED: usize = 1 << 18;
/// Rows below which packing is more work than the product.
const FEW_ROWS: usize = 8;
/// Rows of a part that is not packed.
const BAND: usize = 64;

struct Product {
    operands: Operands,
    outer: Loops<3>,
    rows: usize,
    inner: usize,
    columns: usize,
    a: [usize; 2],
    b: [usize; 2],
    y: [usize; 2],
    packed: Option<Packed>,
    /// Rows that parts are made of, the number of such bands, and the parts that they make.
    height: usize,
    bands: usize,
    cuts: usize,
}

impl Product {
    /// Floats of a copied band of the left factor, which is read along its rows.
    fn copied(&self) -> usize {
        if self.a[1] == 1 { 0 } else { self.height * self.inner }
    }
}

impl Job for Product {
    fn name(&self) -> String {
        format!("matmul {}x{}x{}", self.rows, self.inner, self.columns)
    }
    fn operands(&self) -> &Operands {
        &self.operands
    }
    fn parts(&self) -> usize {
        self.outer.len() * self.cuts
    }
    fn scratch(&self) -> usize {
        if self.packed.is_some() { 4 * (room(self.inner, self.columns) + self.copied()) } else { 0 }
    }
    unsafe fn run(&self, part: usize, args: Args<'_>, scratch: *mut u8) {
        let bands = share(self.bands, part % self.cuts, self.cuts);
        let (first, last) = (bands.start * self.height, self.rows.min(bands.end * self.height));
        let [i, j, k] = self.outer.offsets(part / self.cuts);
        // An empty factor has no elements: its addresses are not followed.
        let from = args.inputs[0].cast::<f32>().wrapping_add(i);
        let with = args.inputs[1].cast::<f32>().wrapping_add(j);
        let to = args.outputs[0].cast::<f32>().wrapping_add(k);
        let Some(packed) = self.packed else {
            // SAFETY: the operands are matrices inside their views, and the result's rows are this part's alone.
            unsafe { self.plain(first..last, from, with, to) };
            return;
        };
        let right = scratch.cast::<f32>();
        let copy = right.wrapping_add(room(self.inner, self.columns));
        // SAFETY: as above; the scratch memory has room for the packed factor and a copied band, and the level was checked.
        unsafe {
            pack(with, self.b, self.inner, self.columns, right);
            if self.a[1] == 1 {
                let left = (from.wrapping_add(first * self.a[0]), self.a[0]);
                packed.multiply(left, [last - first, self.inner, self.columns], right, (to.wrapping_add(first * self.y[0]), self.y, false));
                return;
            }
            for row in (first..last).step_by(self.height) {
                let n = self.height.min(last - row);
                let band = from.wrapping_add(row * self.a[0]);
                for k in 0..self.inner {
                    (0..n).for_each(|r| *copy.add(r * self.inner + k) = *band.add(r * self.a[0] + k * self.a[1]));
                }
                let sizes = [n, self.inner, self.columns];
                packed.multiply((copy, self.inner), sizes, right, (to.wrapping_add(row * self.y[0]), self.y, false));
            }
        }
    }
}

impl Product {
    /// Some rows by the `gemm` crate.
    ///
    /// # Safety
    /// The three matrices are readable and, the last, writable.
    unsafe fn plain(&self, rows: std::ops::Range<usize>, from: *const f32, with: *const f32, to: *mut f32) {
        let [a, b, y] = [self.a, self.b, self.y].map(|s| s.map(|v| v as isize));
        // SAFETY: as the caller vouches.
        unsafe {
            gemm::gemm(
                rows.len(),
                self.columns,
                self.inner,
                to.wrapping_add(rows.start * self.y[0]),
                y[1],
                y[0],
                false,
                from.wrapping_add(rows.start * self.a[0]),
                a[1],
                a[0],
                with,
                b[1],
                b[0],
                0.0,
                1.0,
                false,
                false,
                false,
                gemm::Parallelism::None,
            );
        }
    }
}
