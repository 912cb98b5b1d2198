//! Normalization along an axis.

use super::{Cut, Loops, fold, operands};
use crate::activation::wide;
use crate::channels_last::job::{Args, Job};
use crate::channels_last::operand::{Element, Operands};
use compresso_base::error::{Error, Result};

/// What is done to each line of values: `(x − mean) / √(mean square + ε) · scale + bias`.
#[derive(Debug, Clone, Copy)]
pub struct NormSpec<'a> {
    /// ε, added to the mean square.
    pub epsilon: f32,
    /// The mean is taken out first, as LayerNormalization does and RMSNormalization does not.
    pub centred: bool,
    /// One for each value of a line.
    pub scale: Option<&'a [f32]>,
    /// One for each value of a line.
    pub bias: Option<&'a [f32]>,
}

/// Normalization along one axis, float32.
///
/// # Errors
/// As [`copy`](super::copy()), and when there is no such axis, or scale or bias is not as long as it.
pub fn norm(sizes: &[usize], axis: usize, x: &[usize], y: &[usize], spec: &NormSpec<'_>) -> Result<Box<dyn Job>> {
    let operands = operands(Element::F32, sizes, &[x], y)?;
    let vectors = [spec.scale, spec.bias];
    let Some(&n) = sizes.get(axis).filter(|&&n| vectors.iter().flatten().all(|v| v.len() == n)) else {
        return Err(Error::shape(format!(
            "a normalization along axis {axis} of sizes {sizes:?} by {:?}",
            vectors.map(|v| v.map(<[f32]>::len))
        )));
    };
    let rest = |v: &[usize]| -> Vec<usize> { (0..v.len()).filter(|&d| d != axis).map(|d| v[d]).collect() };
    let outer = Loops::new(&rest(sizes), [&rest(x), &rest(y)]);
    let [scale, bias] = vectors.map(|v| v.map(<[f32]>::to_vec));
    let along = (n, [x[axis], y[axis]]);
    Ok(Box::new(Norm { operands, cut: Cut::new(outer.len(), n), outer, along, epsilon: spec.epsilon, centred: spec.centred, scale, bias }))
}

struct Norm {
    operands: Operands,
    outer: Loops<2>,
    along: (usize, [usize; 2]),
    cut: Cut,
    epsilon: f32,
    centred: bool,
    scale: Option<Vec<f32>>,
    bias: Option<Vec<f32>>,
}

impl Job for Norm {
    fn name(&self) -> String {
        if self.centred { "layer norm".into() } else { "rms norm".into() }
    }
    fn operands(&self) -> &Operands {
        &self.operands
    }
    fn parts(&self) -> usize {
        self.cut.parts()
    }
    fn scratch(&self) -> usize {
        self.along.0 * 4
    }
    unsafe fn run(&self, part: usize, args: Args<'_>, scratch: *mut u8) {
        let (x, y) = (args.inputs[0].cast::<f32>(), args.outputs[0].cast::<f32>());
        let (n, [read, write]) = self.along;
        let rows = self.outer.walk(self.cut.range(part));
        wide(
            #[inline(always)]
            || {
                for [i, j] in rows {
                    // SAFETY: the offsets are those of elements of the views, which are different tensors, and the scratch memory
                    // has a row of floats.
                    unsafe {
                        let (x, y) = (x.add(i), y.add(j));
                        let from = if read == 1 {
                            x
                        } else {
                            (0..n).for_each(|k| *scratch.cast::<f32>().add(k) = *x.add(k * read));
                            scratch.cast_const().cast()
                        };
                        let from = std::slice::from_raw_parts(from, n);
                        let (mean, factor) = self.moments(from);
                        if write == 1 {
                            let to = std::slice::from_raw_parts_mut(y, n);
                            self.write(from, mean, factor, |k, v| to[k] = v);
                        } else {
                            self.write(from, mean, factor, |k, v| *y.add(k * write) = v);
                        }
                    }
                }
            },
        );
    }
}

impl Norm {
    /// What is taken out of a line, and what the rest is multiplied by.
    #[inline(always)]
    fn moments(&self, line: &[f32]) -> (f32, f32) {
        let n = line.len() as f32;
        let mean = if self.centred { sum(line, |v| v) / n } else { 0.0 };
        let square = sum(line, |v| (v - mean) * (v - mean)) / n;
        (mean, 1.0 / (square + self.epsilon).sqrt())
    }

    #[inline(always)]
    fn write(&self, from: &[f32], mean: f32, factor: f32, mut to: impl FnMut(usize, f32)) {
        let n = from.len();
        match (self.scale.as_deref(), self.bias.as_deref()) {
            (Some(scale), Some(bias)) => {
                let (scale, bias) = (&scale[..n], &bias[..n]);
                (0..n).for_each(|k| to(k, (from[k] - mean) * factor * scale[k] + bias[k]));
            }
            (Some(scale), None) => {
                let scale = &scale[..n];
                (0..n).for_each(|k| to(k, (from[k] - mean) * factor * scale[k]));
            }
            (None, Some(bias)) => {
                let bias = &bias[..n];
                (0..n).for_each(|k| to(k, (from[k] - mean) * factor + bias[k]));
            }
            (None, None) => (0..n).for_each(|k| to(k, (from[k] - mean) * factor)),
        }
    }
}

/// The sum of a function of all values, in lanes.
#[inline(always)]
fn sum(line: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut sums = [0.0f32; 32];
    let chunks = line.chunks_exact(32);
    let rest: f32 = chunks.remainder().iter().map(|&v| f(v)).sum();
    for lanes in chunks {
        sums.iter_mut().zip(lanes).for_each(|(s, &v)| *s += f(v));
    }
    fold(sums, |a, b| a + b) + rest
}
