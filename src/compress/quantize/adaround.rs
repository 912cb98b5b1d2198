//! Rounding of weights that keeps a layer's output (Nagel et al. 2020, "Up or Down? Adaptive Rounding for Post-Training
//! Quantization").
//!
//! A layer's output is linear in its weight, so the squared error of an output over all rows of the input is a quadratic form
//! of what rounding changes. With `x` the rows of the exact input, `x̂` those that the rounded layer reads, `w` an output's
//! exact weight and `w + δ` its rounded one,
//!
//! `mean (x w − x̂ (w + δ))² = δᵀ H δ − 2 δᵀ G w + mean ((x − x̂) w)²`, `H = mean x̂ᵀ x̂`, `G = mean x̂ᵀ (x − x̂)`,
//!
//! so one pass over the images serves any number of steps. The paper's relaxation (rectified sigmoid, a regularizer whose
//! exponent falls) is minimised by Adam; what it gives, and nearest rounding, are then improved weight by weight while a step up
//! or down lowers the error, and the better of the two is kept for each output.

use candle_core::{Device, Tensor};
use compresso_base::context::Context;
use compresso_base::error::Result;
use compresso_target::Grid;
use rayon::prelude::*;

/// Where the rectified sigmoid is stretched to.
const STRETCH: (f32, f32) = (-0.1, 1.1);
/// Steps of the optimizer.
pub(super) const STEPS: usize = 250;
const LEARNING_RATE: f32 = 0.05;
/// The share of the steps before the regularizer counts, and its exponent at that time and at the end.
const WARM_UP: f64 = 0.2;
const EXPONENTS: (f64, f64) = (20.0, 2.0);
/// The regularizer's weight, in what one step of one weight costs.
const WEIGHT: f64 = 0.5;
/// Most passes over a row's weights.
const SWEEPS: usize = 10;

/// The rounding of the weights of outputs that read the same rows.
pub(super) struct Problem {
    /// `[outputs, length]`.
    pub weights: Vec<f32>,
    /// A step of the grid for each output.
    pub scales: Vec<f32>,
    pub grid: Grid,
    pub length: usize,
    /// `H`, `[length, length]`.
    pub second_moment: Tensor,
    /// `G wᵀ` of each output, `[outputs, length]`.
    pub pull: Vec<f32>,
    /// `mean ((x − x̂) w)²`, the sum over the outputs.
    pub constant: f64,
}

/// The relaxed objective at a point.
pub(super) struct Objective {
    /// The mean over the rows of the squared error, the sum over the outputs, and the weighted regularizer `Σ 1 − |2h − 1|^β`.
    pub value: f64,
    /// Of it by the variables.
    pub gradient: Vec<f32>,
}

/// What a row of weights is worked out into: changes, slopes, gradient.
type Row<'a> = (&'a mut [f32], &'a mut [f32], &'a mut [f32]);
/// Variables, weights and scale of a row.
type Given<'a> = (&'a [f32], &'a [f32], &'a f32);

impl Problem {
    fn outputs(&self) -> usize {
        self.scales.len()
    }
    fn limits(&self) -> (f32, f32) {
        (self.grid.low as f32, self.grid.high as f32)
    }
    /// `δ H` for each output.
    fn curved(&self, delta: &[f32]) -> Result<Vec<f32>> {
        let delta = Tensor::from_slice(delta, (self.outputs(), self.length), &Device::Cpu)?;
        Ok(delta.matmul(&self.second_moment)?.flatten_all()?.to_vec1()?)
    }
    /// What integers change in the weights.
    fn delta(&self, integers: &[f32]) -> Vec<f32> {
        let one = |(i, (q, w)): (usize, (&f32, &f32))| q * self.scales[i / self.length] - w;
        integers.iter().zip(&self.weights).enumerate().map(one).collect()
    }
    /// The squared error of each output under integers, without its constant.
    fn errors(&self, integers: &[f32]) -> Result<Vec<f64>> {
        let delta = self.delta(integers);
        let curved = self.curved(&delta)?;
        let rows = delta.chunks(self.length).zip(curved.chunks(self.length)).zip(self.pull.chunks(self.length));
        Ok(rows.map(|((d, c), p)| d.iter().zip(c).zip(p).map(|((d, c), p)| f64::from(*d) * f64::from(c - 2.0 * p)).sum()).collect())
    }
    /// The squared error of all outputs under integers.
    #[cfg(test)]
    pub fn error(&self, integers: &[f32]) -> Result<f64> {
        Ok(self.constant + self.errors(integers)?.iter().sum::<f64>())
    }
    /// The integers nearest to the weights.
    pub fn nearest(&self) -> Vec<f32> {
        let (low, high) = self.limits();
        let one = |(i, w): (usize, &f32)| (w / self.scales[i / self.length]).round_ties_even().clamp(low, high);
        self.weights.iter().enumerate().map(one).collect()
    }
    /// The variables at which the relaxed weights are the exact ones.
    pub fn start(&self) -> Vec<f32> {
        let one = |(i, w): (usize, &f32)| {
            let ratio = w / self.scales[i / self.length];
            let share = (ratio - ratio.floor() - STRETCH.0) / (STRETCH.1 - STRETCH.0);
            (share / (1.0 - share)).ln()
        };
        self.weights.iter().enumerate().map(one).collect()
    }
    /// The relaxed objective of the paper (its equations 21 to 25, without an activation): weights are
    /// `scale · clamp(⌊w / scale⌋ + h(v))` with `h` the rectified sigmoid.
    pub fn objective(&self, variables: &[f32], exponent: f64, weight: f64) -> Result<Objective> {
        let (low, high) = self.limits();
        let mut delta = vec![0f32; variables.len()];
        let mut slopes = vec![0f32; variables.len()];
        let mut gradient = vec![0f32; variables.len()];
        let rows = (delta.par_chunks_mut(self.length), slopes.par_chunks_mut(self.length), gradient.par_chunks_mut(self.length));
        let given = (variables.par_chunks(self.length), self.weights.par_chunks(self.length), &self.scales);
        let regularizer = |((delta, slopes, gradient), (variables, weights, &scale)): (Row<'_>, Given<'_>)| {
            let mut sum = 0.0;
            for (i, (v, w)) in variables.iter().zip(weights).enumerate() {
                let (h, slope) = rectified(*v);
                let q = (w / scale).floor() + h;
                delta[i] = q.clamp(low, high) * scale - w;
                slopes[i] = if (low..=high).contains(&q) { slope * scale } else { 0.0 };
                if weight > 0.0 {
                    let off = 2.0 * h - 1.0;
                    let power = off.abs().powf(exponent as f32 - 1.0);
                    sum += f64::from(1.0 - power * off.abs());
                    gradient[i] = (weight * exponent) as f32 * -2.0 * power * off.signum() * slope;
                }
            }
            sum
        };
        // Sums in the order of the rows: the same bits on any number of threads.
        let sums: Vec<f64> = rows.into_par_iter().zip(given.into_par_iter()).map(regularizer).collect();
        let mut value = self.constant + weight * sums.into_iter().sum::<f64>();
        let curved = self.curved(&delta)?;
        for (i, g) in gradient.iter_mut().enumerate() {
            value += f64::from(delta[i]) * f64::from(curved[i] - 2.0 * self.pull[i]);
            *g += 2.0 * (curved[i] - self.pull[i]) * slopes[i];
        }
        Ok(Objective { value, gradient })
    }
    /// What a step of one weight costs by itself, in the mean.
    fn unit(&self, diagonal: &[f32]) -> f64 {
        let squares: f64 = self.scales.iter().map(|s| f64::from(*s).powi(2)).sum::<f64>() / self.outputs().max(1) as f64;
        squares * diagonal.iter().map(|h| f64::from(*h)).sum::<f64>() / self.length.max(1) as f64
    }
    /// Integers `[outputs, length]` with a small error, never a larger one than [`Problem::nearest`].
    ///
    /// # Errors
    /// `Cancelled`; whatever candle reports.
    pub fn solve(&self, steps: usize, ctx: &Context) -> Result<Vec<f32>> {
        let matrix: Vec<Vec<f32>> = self.second_moment.to_vec2()?;
        let diagonal: Vec<f32> = (0..self.length).map(|i| matrix[i][i]).collect();
        let mut nearest = self.nearest();
        let unit = self.unit(&diagonal);
        if !unit.is_normal() {
            return Ok(nearest);
        }
        let mut relaxed = self.relax(steps, unit, ctx)?;
        self.descend(&mut nearest, &matrix)?;
        self.descend(&mut relaxed, &matrix)?;
        let (a, b) = (self.errors(&nearest)?, self.errors(&relaxed)?);
        for (row, _) in a.iter().zip(&b).enumerate().filter(|(_, (a, b))| b < a) {
            let span = row * self.length..(row + 1) * self.length;
            nearest[span.clone()].copy_from_slice(&relaxed[span]);
        }
        Ok(nearest)
    }
    /// Minimises the relaxed objective and rounds what it gives.
    fn relax(&self, steps: usize, unit: f64, ctx: &Context) -> Result<Vec<f32>> {
        let mut v = self.start();
        let (mut first, mut second) = (vec![0f32; v.len()], vec![0f32; v.len()]);
        let tiny = (unit * 1e-6) as f32;
        for step in 0..steps {
            ctx.check()?;
            let done = (step as f64 / steps as f64 - WARM_UP) / (1.0 - WARM_UP);
            let (exponent, weight) = if done < 0.0 {
                (EXPONENTS.0, 0.0)
            } else {
                (EXPONENTS.1 + (EXPONENTS.0 - EXPONENTS.1) * 0.5 * (1.0 + (std::f64::consts::PI * done).cos()), WEIGHT * unit)
            };
            let Objective { value, gradient } = self.objective(&v, exponent, weight)?;
            if !value.is_finite() {
                return Ok(self.nearest());
            }
            let n = i32::try_from(step + 1).unwrap_or(i32::MAX);
            let (bias, bias2) = (1.0 - 0.9f32.powi(n), 1.0 - 0.999f32.powi(n));
            for (i, g) in gradient.into_iter().enumerate() {
                first[i] = 0.9 * first[i] + 0.1 * g;
                second[i] = 0.999 * second[i] + 0.001 * g * g;
                v[i] -= LEARNING_RATE * (first[i] / bias) / ((second[i] / bias2).sqrt() + tiny);
            }
        }
        let (low, high) = self.limits();
        let one = |(i, v): (usize, &f32)| {
            let up = f32::from(u8::from(rectified(*v).0 >= 0.5));
            ((self.weights[i] / self.scales[i / self.length]).floor() + up).clamp(low, high)
        };
        Ok(v.iter().enumerate().map(one).collect())
    }
    /// Moves one weight after the other by a step while that lowers its output's error.
    fn descend(&self, integers: &mut [f32], matrix: &[Vec<f32>]) -> Result<()> {
        let mut slopes = self.curved(&self.delta(integers))?;
        slopes.iter_mut().zip(&self.pull).for_each(|(c, p)| *c -= p);
        let (low, high) = self.limits();
        let rows = integers.par_chunks_mut(self.length).zip(slopes.par_chunks_mut(self.length)).zip(&self.scales);
        rows.for_each(|((q, slopes), &scale)| {
            for _ in 0..SWEEPS {
                let mut moved = false;
                for i in 0..q.len() {
                    // The error changes by 2 · step · slope + step² · H.
                    let step = if slopes[i] > 0.0 { -scale } else { scale };
                    let to = q[i] + step.signum();
                    let gain = 2.0 * slopes[i].abs() - scale * matrix[i][i];
                    if gain > 1e-6 * scale * matrix[i][i] && (low..=high).contains(&to) {
                        q[i] = to;
                        slopes.iter_mut().zip(&matrix[i]).for_each(|(s, h)| *s += step * h);
                        moved = true;
                    }
                }
                if !moved {
                    break;
                }
            }
        });
        Ok(())
    }
}

/// The rectified sigmoid and its slope.
fn rectified(v: f32) -> (f32, f32) {
    let s = 1.0 / (1.0 + (-v).exp());
    let h = s * (STRETCH.1 - STRETCH.0) + STRETCH.0;
    if (0.0..=1.0).contains(&h) { (h, s * (1.0 - s) * (STRETCH.1 - STRETCH.0)) } else { (h.clamp(0.0, 1.0), 0.0) }
}
