//! Means and covariances of rows of numbers that come in pieces.

use candle_core::{Device, Tensor};
use compresso_base::error::{Error, Result};

/// Blocks of columns whose products are taken apart, so that about half of the symmetric ones are not.
const BLOCKS: usize = 6;
/// Least rows that are multiplied at once.
const ROWS: usize = 512;

/// First and second moments of rows of `n` numbers. Rows are kept until there are as many as numbers in a row, so memory is that of a few
/// matrices `[n, n]` however many come.
#[derive(Debug, Clone)]
pub(super) struct Moments {
    n: usize,
    /// `[.., n]`: what is not summed yet.
    rows: Vec<f32>,
    count: f64,
    /// Sums are taken of distances from this, so that large means cost no digits.
    pivot: Vec<f32>,
    sum: Vec<f64>,
    /// `[n, n]`; rows are complete up to the end of the block that the diagonal is in.
    outer: Vec<f64>,
}

impl Moments {
    pub fn new(n: usize) -> Self {
        Self { n, rows: Vec::new(), count: 0.0, pivot: Vec::new(), sum: vec![0.0; n], outer: vec![0.0; n * n] }
    }
    pub fn size(&self) -> usize {
        self.n
    }
    /// Rows that have been summed up.
    pub fn count(&self) -> f64 {
        self.count
    }

    /// Adds rows, `[.., n]`.
    ///
    /// # Errors
    /// `Check` for numbers that are not finite.
    pub fn add(&mut self, rows: &[f32]) -> Result<()> {
        self.rows.extend_from_slice(rows);
        if self.rows.len() >= self.n.max(ROWS) * self.n { self.finish() } else { Ok(()) }
    }

    /// Sums up the rows that wait.
    ///
    /// # Errors
    /// `Check` for numbers that are not finite.
    pub fn finish(&mut self) -> Result<()> {
        let n = self.n;
        if self.rows.is_empty() || n == 0 {
            return Ok(());
        }
        let mut rows = std::mem::take(&mut self.rows);
        let count = rows.len() / n;
        if self.pivot.is_empty() {
            let mut mean = vec![0f64; n];
            rows.chunks_exact(n).for_each(|row| mean.iter_mut().zip(row).for_each(|(m, v)| *m += f64::from(*v)));
            self.pivot = mean.iter().map(|m| (m / count as f64) as f32).collect();
        }
        for row in rows.chunks_exact_mut(n) {
            row.iter_mut().zip(&self.pivot).for_each(|(v, p)| *v -= p);
            self.sum.iter_mut().zip(row).for_each(|(s, v)| *s += f64::from(*v));
        }
        if self.sum.iter().any(|s| !s.is_finite()) {
            let e = Error::check("a value is infinite or not a number on an image");
            return Err(e.hint("the model itself is broken: evaluate it first"));
        }
        let x = Tensor::from_slice(&rows, (count, n), &Device::Cpu)?;
        // What lies beyond is the mirror image.
        let block = n.div_ceil(BLOCKS);
        for start in (0..n).step_by(block) {
            let end = (start + block).min(n);
            let part = x.narrow(1, start, end - start)?.t()?.matmul(&x.narrow(1, 0, end)?)?.flatten_all()?.to_vec1::<f32>()?;
            for (sums, part) in self.outer[start * n..end * n].chunks_exact_mut(n).zip(part.chunks_exact(end)) {
                sums.iter_mut().zip(part).for_each(|(s, v)| *s += f64::from(*v));
            }
        }
        self.count += count as f64;
        rows.clear();
        self.rows = rows;
        Ok(())
    }

    pub fn mean(&self) -> Vec<f64> {
        let count = self.count.max(1.0);
        let pivot = self.pivot.iter().copied().chain(std::iter::repeat(0.0));
        self.sum.iter().zip(pivot).map(|(s, p)| f64::from(p) + s / count).collect()
    }

    /// `[n, n]`, over all rows (not one less).
    pub fn covariance(&self) -> Vec<f64> {
        let count = self.count.max(1.0);
        let mut all = self.outer.clone();
        for i in 0..self.n {
            for j in i + 1..self.n {
                all[i * self.n + j] = all[j * self.n + i];
            }
        }
        for (row, a) in all.chunks_exact_mut(self.n.max(1)).zip(&self.sum) {
            row.iter_mut().zip(&self.sum).for_each(|(v, b)| *v = (*v - a * b / count) / count);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use compresso_test_support::Draw;

    #[test]
    fn pieces_give_what_all_rows_give() {
        let mut draw = Draw(3);
        let rows: Vec<f32> = (0..1500 * 4).map(|i| 100.0 + draw.unit() * (1 + i % 4) as f32).collect();
        let mut all = Moments::new(4);
        all.add(&rows).unwrap();
        all.finish().unwrap();
        let mut both = Moments::new(4);
        rows[..700 * 4].chunks(4).for_each(|r| both.add(r).unwrap());
        rows[700 * 4..].chunks(400).for_each(|r| both.add(r).unwrap());
        both.finish().unwrap();
        let close = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-4);
        assert_eq!((both.count(), both.size()), (1500.0, 4));
        assert!(close(&both.mean(), &all.mean()) && close(&both.covariance(), &all.covariance()));
        // Uniform on an interval of length w: variance w² / 12, and the columns are independent.
        for (i, v) in all.covariance().iter().enumerate() {
            let expected = if i % 5 == 0 { ((i / 5 + 1) as f64).powi(2) / 12.0 } else { 0.0 };
            assert!((v - expected).abs() < 0.1, "{i}: {v}");
        }
        assert!(Moments::new(1).add(&[f32::NAN; 600]).is_err());
    }
}
