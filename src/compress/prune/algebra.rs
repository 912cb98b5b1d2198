//! Dense symmetric systems in float64. Matrices are row-major.

use candle_core::{Device, Tensor};
use compresso_base::error::Result;
use rayon::prelude::*;

/// Columns that are eliminated together; all else is products of matrices.
const BLOCK: usize = 96;

/// `a · b`, or `a · bᵀ` where `b` lies transposed.
///
/// # Shapes
/// `a`: `[m, k]`; `b`: `[k, n]`, transposed `[n, k]`; the result: `[m, n]`.
///
/// # Errors
/// What the tensor library reports.
pub(super) fn product(a: &[f64], b: &[f64], [m, k, n]: [usize; 3], transposed: bool) -> Result<Vec<f64>> {
    if m * k * n == 0 {
        return Ok(vec![0.0; m * n]);
    }
    let a = Tensor::from_slice(a, (m, k), &Device::Cpu)?;
    let b = if transposed { Tensor::from_slice(b, (n, k), &Device::Cpu)?.t()? } else { Tensor::from_slice(b, (k, n), &Device::Cpu)? };
    Ok(a.matmul(&b)?.flatten_all()?.to_vec1()?)
}

/// The factor `L` of a symmetric positive definite matrix `A = L · Lᵀ`.
#[derive(Debug)]
pub(super) struct Cholesky {
    n: usize,
    /// `[n, n]`; above the diagonal lies what is not looked at.
    l: Vec<f64>,
}

impl Cholesky {
    /// Factors `a`, `[n, n]`, of which the lower triangle is read; `None` where it is not positive definite.
    ///
    /// # Errors
    /// As [`product`].
    pub fn new(mut a: Vec<f64>, n: usize) -> Result<Option<Self>> {
        for start in (0..n).step_by(BLOCK) {
            let end = (start + BLOCK).min(n);
            let (above, below) = a.split_at_mut(end * n);
            for i in start..end {
                for j in start..=i {
                    let (ri, rj) = (i * n, j * n);
                    let sum: f64 = (start..j).map(|t| above[ri + t] * above[rj + t]).sum();
                    let rest = above[ri + j] - sum;
                    if i > j {
                        above[ri + j] = rest / above[rj + j];
                    } else if rest > 0.0 && rest.is_finite() {
                        above[ri + i] = rest.sqrt();
                    } else {
                        return Ok(None);
                    }
                }
            }
            let diagonal = &*above;
            below.par_chunks_mut(n).for_each(|row| {
                for j in start..end {
                    let own = &diagonal[j * n..j * n + j];
                    let sum: f64 = (start..j).map(|t| row[t] * own[t]).sum();
                    row[j] = (row[j] - sum) / diagonal[j * n + j];
                }
            });
            let (rest, width) = (n - end, end - start);
            let panel: Vec<f64> = below.chunks_exact(n).flat_map(|row| &row[start..end]).copied().collect();
            let outer = product(&panel, &panel, [rest, width, rest], true)?;
            below.par_chunks_mut(n).zip(outer.par_chunks(rest.max(1))).enumerate().for_each(|(i, (row, outer))| {
                row[end..=end + i].iter_mut().zip(outer).for_each(|(a, o)| *a -= o);
            });
        }
        Ok(Some(Self { n, l: a }))
    }

    /// `A⁻¹ · b` for `b` of `[n, columns]`.
    ///
    /// # Errors
    /// As [`product`].
    pub fn solve(&self, mut b: Vec<f64>, columns: usize) -> Result<Vec<f64>> {
        let n = self.n;
        let row = |i: usize| i * columns..(i + 1) * columns;
        for start in (0..n).step_by(BLOCK) {
            let end = (start + BLOCK).min(n);
            for i in start..end {
                let (before, own) = b.split_at_mut(i * columns);
                let own = &mut own[..columns];
                for t in start..i {
                    axpy(own, -self.l[i * n + t], &before[row(t)]);
                }
                own.iter_mut().for_each(|v| *v /= self.l[i * n + i]);
            }
            let panel: Vec<f64> = (end..n).flat_map(|i| &self.l[i * n + start..i * n + end]).copied().collect();
            let done = product(&panel, &b[start * columns..end * columns], [n - end, end - start, columns], false)?;
            b[end * columns..].iter_mut().zip(&done).for_each(|(v, d)| *v -= d);
        }
        for start in (0..n).step_by(BLOCK).rev() {
            let end = (start + BLOCK).min(n);
            // Rows of the transposed panel below the block.
            let panel: Vec<f64> = (start..end).flat_map(|j| (end..n).map(move |i| self.l[i * n + j])).collect();
            let done = product(&panel, &b[end * columns..], [end - start, n - end, columns], false)?;
            b[start * columns..end * columns].iter_mut().zip(&done).for_each(|(v, d)| *v -= d);
            for i in (start..end).rev() {
                let (before, own) = b.split_at_mut(i * columns);
                let own = &mut own[..columns];
                own.iter_mut().for_each(|v| *v /= self.l[i * n + i]);
                for t in start..i {
                    axpy(&mut before[row(t)], -self.l[i * n + t], own);
                }
            }
        }
        Ok(b)
    }

    /// `A⁻¹`, `[n, n]`.
    ///
    /// # Errors
    /// As [`product`].
    pub fn inverse(&self) -> Result<Vec<f64>> {
        let mut unit = vec![0.0; self.n * self.n];
        unit.iter_mut().step_by(self.n + 1).for_each(|v| *v = 1.0);
        self.solve(unit, self.n)
    }
}

fn axpy(y: &mut [f64], a: f64, x: &[f64]) {
    y.iter_mut().zip(x).for_each(|(y, x)| *y += a * x);
}

#[cfg(test)]
mod tests {
    use super::*;
    use compresso_test_support::Draw;

    #[test]
    fn systems_of_any_size_are_solved() {
        let mut draw = Draw(7);
        for n in [1, 2, 5, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 7] {
            let x: Vec<f64> = (0..2 * n * n).map(|_| f64::from(draw.unit()) - 0.5).collect();
            let mut a = product(&x, &x, [n, 2 * n, n], true).unwrap();
            a.iter_mut().step_by(n + 1).for_each(|v| *v += 0.01);
            let b: Vec<f64> = (0..n * 3).map(|_| f64::from(draw.unit())).collect();
            let factor = Cholesky::new(a.clone(), n).unwrap().unwrap();
            let solved = factor.solve(b.clone(), 3).unwrap();
            let again = product(&a, &solved, [n, n, 3], false).unwrap();
            assert!(again.iter().zip(&b).all(|(g, e)| (g - e).abs() < 1e-8), "{n}");
            let unit = product(&a, &factor.inverse().unwrap(), [n, n, n], false).unwrap();
            let off = unit.iter().enumerate().map(|(i, v)| (v - f64::from(u8::from(i % (n + 1) == 0))).abs());
            assert!(off.fold(0.0, f64::max) < 1e-8, "{n}");
        }
    }

    #[test]
    fn what_is_not_positive_definite_is_told() {
        assert!(Cholesky::new(vec![1.0, 2.0, 2.0, 1.0], 2).unwrap().is_none());
        assert!(Cholesky::new(vec![f64::NAN], 1).unwrap().is_none());
        assert!(Cholesky::new(vec![0.0], 1).unwrap().is_none());
    }
}
