//! Rounding to the numbers that integers stand for, and the gradients of learned step size quantization.

use super::activation::wide;
use super::out::Out;
use rayon::prelude::*;
use std::mem::MaybeUninit;
use std::ops::Range;

/// The numbers `(q - zero) · scale` for whole `q` from `low` to `high`. Element `i` of a tensor has the scale and the zero point number
/// `i / inner % scales.len()`.
#[derive(Debug, Clone, Copy)]
pub struct Steps<'a> {
    /// Distance from one number to the next, for each channel or one for all.
    pub scales: &'a [f32],
    /// As many as scales.
    pub zeros: &'a [f32],
    /// Neighbouring elements that have one scale: those of the axes after the channels' one.
    pub inner: usize,
    /// Least `q`.
    pub low: f32,
    /// Greatest `q`.
    pub high: f32,
}

/// Elements that one task works on.
const CHUNK: usize = 1 << 15;
/// Partial sums kept apart, so that they can be added in vectors.
const LANES: usize = 16;
/// Elements whose terms are added in float32.
const PART: usize = 4096;

impl Steps<'_> {
    /// `y = (clamp(round(x / scale) + zero, low, high) - zero) · scale`, halves rounded to even; gives `y`. What is no number becomes the
    /// lowest.
    ///
    /// # Panics
    /// When the lengths differ, or there are not as many zero points as scales.
    pub fn round<'a>(&self, x: &[f32], y: impl Into<Out<'a>>) -> &'a mut [f32] {
        let mut y = y.into();
        self.check(&[x.len(), y.len()]);
        let run = |start: usize, y: &mut [MaybeUninit<f32>]| {
            for (step, at) in self.runs(start, y.len()) {
                let (from, to) = (&x[start + at.start..start + at.end], &mut y[at]);
                wide(
                    #[inline(always)]
                    || {
                        to.iter_mut().zip(from).for_each(|(y, &x)| {
                            y.write((step.whole(x).max(step.low).min(step.high) - step.zero) * step.scale);
                        })
                    },
                );
            }
        };
        y.cells().par_chunks_mut(CHUNK).enumerate().for_each(|(i, y)| run(i * CHUNK, y));
        // SAFETY: the runs of a chunk cover it.
        unsafe { y.written() }
    }

    /// Gradient of [`Steps::round`] with respect to `x`, from that of its result: it passes where nothing is clipped and stops elsewhere (Bengio
    /// et al. 2013). Gives `gx`, and the gradients of the scales where they are asked for: the sum of `gy` times
    /// `round(x / scale) - x / scale` inside, times the limit outside (Esser et al. 2020).
    ///
    /// # Panics
    /// As [`Steps::round`].
    pub fn backward<'a>(&self, x: &[f32], gy: &[f32], gx: impl Into<Out<'a>>, scales: bool) -> (&'a mut [f32], Option<Vec<f32>>) {
        let mut gx = gx.into();
        self.check(&[x.len(), gy.len(), gx.len()]);
        let run = |start: usize, gx: &mut [MaybeUninit<f32>]| -> Vec<(usize, f64)> {
            let mut sums = Vec::new();
            for (step, at) in self.runs(start, gx.len()) {
                let of = start + at.start..start + at.end;
                let (x, gy, gx) = (&x[of.clone()], &gy[of], &mut gx[at]);
                wide(
                    #[inline(always)]
                    || {
                        gx.iter_mut().zip(x).zip(gy).for_each(|((gx, &x), &gy)| {
                            gx.write(if step.holds(step.whole(x)) { gy } else { 0.0 });
                        })
                    },
                );
                if scales {
                    sums.push((step.at, step.scale_gradient(x, gy)));
                }
            }
            sums
        };
        let parts: Vec<Vec<(usize, f64)>> = gx.cells().par_chunks_mut(CHUNK).enumerate().map(|(i, gx)| run(i * CHUNK, gx)).collect();
        let sums = scales.then(|| {
            let mut sums = vec![0f64; self.scales.len()];
            parts.into_iter().flatten().for_each(|(at, s)| sums[at] += s);
            sums.into_iter().map(|s| s as f32).collect()
        });
        // SAFETY: the runs of a chunk cover it.
        (unsafe { gx.written() }, sums)
    }

    fn check(&self, lengths: &[usize]) {
        assert!(lengths.windows(2).all(|w| w[0] == w[1]), "lengths of what is rounded");
        assert!(self.inner > 0 && !self.scales.is_empty() && self.scales.len() == self.zeros.len(), "scales and zero points");
    }

    /// What has one scale of the `len` elements from `start` on: places relative to `start`, in order and without gaps.
    fn runs(&self, start: usize, len: usize) -> impl Iterator<Item = (Step, Range<usize>)> {
        let mut done = 0;
        std::iter::from_fn(move || {
            let left = len - done;
            if left == 0 {
                return None;
            }
            let place = start + done;
            let run = if self.scales.len() == 1 { left } else { left.min(self.inner - place % self.inner) };
            let at = place / self.inner % self.scales.len();
            let step = Step { at, scale: self.scales[at], zero: self.zeros[at], low: self.low, high: self.high };
            done += run;
            Some((step, done - run..done))
        })
    }
}

/// One scale.
#[derive(Clone, Copy)]
struct Step {
    at: usize,
    scale: f32,
    zero: f32,
    low: f32,
    high: f32,
}

impl Step {
    #[inline(always)]
    fn whole(self, x: f32) -> f32 {
        (x / self.scale).round_ties_even() + self.zero
    }
    #[inline(always)]
    fn holds(self, whole: f32) -> bool {
        (whole >= self.low) & (whole <= self.high)
    }
    #[inline(always)]
    fn term(self, x: f32, gy: f32) -> f32 {
        let whole = self.whole(x);
        let clipped = whole.max(self.low).min(self.high) - self.zero;
        gy * if self.holds(whole) { clipped - x / self.scale } else { clipped }
    }
    fn scale_gradient(self, x: &[f32], gy: &[f32]) -> f64 {
        let part = |x: &[f32], gy: &[f32]| {
            let mut sums = [0f32; LANES];
            wide(
                #[inline(always)]
                || {
                    let ((x, more), (gy, rest)) = (x.as_chunks::<LANES>(), gy.as_chunks::<LANES>());
                    for (x, gy) in x.iter().zip(gy) {
                        for i in 0..LANES {
                            sums[i] += self.term(x[i], gy[i]);
                        }
                    }
                    more.iter().zip(rest).for_each(|(&x, &gy)| sums[0] += self.term(x, gy));
                },
            );
            f64::from(sums.iter().sum::<f32>())
        };
        x.chunks(PART).zip(gy.chunks(PART)).map(|(x, gy)| part(x, gy)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::out::fresh;
    use proptest::prelude::*;

    /// The definition, element by element in float64 sums.
    fn reference(s: &Steps<'_>, x: &[f32], gy: &[f32]) -> (Vec<f32>, Vec<f32>, Vec<f64>) {
        let (mut y, mut gx, mut gs) = (Vec::new(), Vec::new(), vec![0f64; s.scales.len()]);
        for (i, (&x, &gy)) in x.iter().zip(gy).enumerate() {
            let at = i / s.inner % s.scales.len();
            let (scale, zero) = (s.scales[at], s.zeros[at]);
            let whole = (x / scale).round_ties_even() + zero;
            let kept = whole.clamp(s.low, s.high);
            let inside = whole == kept;
            y.push((kept - zero) * scale);
            gx.push(if inside { gy } else { 0.0 });
            gs[at] += f64::from(gy) * (f64::from(kept - zero) - if inside { f64::from(x / scale) } else { 0.0 });
        }
        (y, gx, gs)
    }

    proptest! {
        #[test]
        fn rounding_and_its_gradients_are_their_definition(
            outer in 1usize..4, size in 1usize..5, inner in prop_oneof![1usize..40, Just(40_000usize)],
            seed in 0u32..1000, signed in any::<bool>(),
        ) {
            let n = outer * size * inner;
            let mut state = seed;
            let mut draw = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / (1 << 24) as f32 * 2.0 - 1.0
            };
            let x: Vec<f32> = (0..n).map(|_| 3.0 * draw()).collect();
            let gy: Vec<f32> = (0..n).map(|_| draw()).collect();
            let scales: Vec<f32> = (0..size).map(|_| 0.011 + 0.01 * draw()).collect();
            let zeros: Vec<f32> = (0..size).map(|_| if signed { 0.0 } else { (100.0 + 50.0 * draw()).round() }).collect();
            let (low, high) = if signed { (-128.0, 127.0) } else { (0.0, 255.0) };
            let steps = Steps { scales: &scales, zeros: &zeros, inner, low, high };
            let (y, gx, gs) = reference(&steps, &x, &gy);
            prop_assert_eq!(fresh(n, |out| steps.round(&x, out)), y);
            let mut sums = None;
            let found = fresh(n, |out| {
                let (gx, own) = steps.backward(&x, &gy, out, true);
                sums = own;
                gx
            });
            prop_assert_eq!(found, gx);
            for (a, b) in sums.unwrap().into_iter().zip(gs) {
                prop_assert!((f64::from(a) - b).abs() <= 1e-4 * (1.0 + b.abs() + n as f64 * 0.1), "{} and {}", a, b);
            }
        }
    }

    #[test]
    fn what_is_no_number_becomes_the_lowest() {
        let steps = Steps { scales: &[0.5], zeros: &[2.0], inner: 1, low: 0.0, high: 255.0 };
        let mut y = [0.0; 4];
        assert_eq!(steps.round(&[f32::NAN, 0.75, f32::INFINITY, 1.25], &mut y), [-1.0, 1.0, 126.5, 1.0]);
        let mut gx = [0.0; 2];
        let (gx, sums) = steps.backward(&[f32::INFINITY, 0.25], &[1.0, 1.0], &mut gx, false);
        assert!(gx == [0.0, 1.0] && sums.is_none());
    }
}
