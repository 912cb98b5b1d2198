//! Products of matrices.

use super::Loops;
use crate::channels_last::job::{Args, Job};
use crate::channels_last::operand::{Element, Operand, Operands};
use compresso_base::error::Result;

/// `y[…, i, j] = Σ_k a[…, i, k] · b[…, k, j]`, float32, over any leading axes: one product per part.
///
/// Sizes are `[leading…, rows, inner, columns]`; strides of each operand are those of its own axes after the leading ones.
///
/// # Errors
/// As [`copy`](super::copy()).
pub fn matmul(leading: &[usize], [rows, inner, columns]: [usize; 3], a: &[usize], b: &[usize], y: &[usize]) -> Result<Box<dyn Job>> {
    let n = leading.len();
    let matrix = |size: [usize; 2], strides: &[usize]| Operand::strided(Element::F32, &[leading, &size].concat(), strides);
    let operands = Operands::new(vec![matrix([rows, inner], a)?, matrix([inner, columns], b)?], vec![matrix([rows, columns], y)?])?;
    let outer = Loops::new(leading, [&a[..n], &b[..n], &y[..n]]);
    let pair = |s: &[usize]| [s[n], s[n + 1]];
    Ok(Box::new(Product { operands, outer, rows, inner, columns, a: pair(a), b: pair(b), y: pair(y) }))
}

struct Product {
    operands: Operands,
    outer: Loops<3>,
    rows: usize,
    inner: usize,
    columns: usize,
    a: [usize; 2],
    b: [usize; 2],
    y: [usize; 2],
}

/// Rows of a product that a part makes.
const BAND: usize = 64;

impl Job for Product {
    fn name(&self) -> String {
        format!("matmul {}x{}x{}", self.rows, self.inner, self.columns)
    }
    fn operands(&self) -> &Operands {
        &self.operands
    }
    fn parts(&self) -> usize {
        self.outer.len() * self.rows.div_ceil(BAND)
    }
    unsafe fn run(&self, part: usize, args: Args<'_>, _: *mut u8) {
        let bands = self.rows.div_ceil(BAND);
        let first = part % bands * BAND;
        let rows = BAND.min(self.rows - first);
        let [i, j, k] = self.outer.offsets(part / bands);
        let [a, b, y] = [self.a, self.b, self.y].map(|s| s.map(|v| v as isize));
        // SAFETY: the operands are matrices inside their views, and the result's rows are this part's alone.
        unsafe {
            // An empty factor has no elements: its addresses are not followed.
            let from = args.inputs[0].cast::<f32>().wrapping_add(i + first * self.a[0]);
            let with = args.inputs[1].cast::<f32>().wrapping_add(j);
            let to = args.outputs[0].cast::<f32>().add(k + first * self.y[0]);
            gemm::gemm(
                rows,
                self.columns,
                self.inner,
                to,
                y[1],
                y[0],
                false,
                from,
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
