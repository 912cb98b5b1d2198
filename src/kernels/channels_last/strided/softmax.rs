//! Softmax along an axis.

use super::{Cut, Loops, operands};
use crate::activation::{exp, wide};
use crate::channels_last::job::{Args, Job};
use crate::channels_last::operand::{Element, Operands};
use compresso_base::error::{Error, Result};

/// Softmax along one axis, float32.
///
/// # Errors
/// As [`copy`](super::copy()), and when there is no such axis.
pub fn softmax(sizes: &[usize], axis: usize, x: &[usize], y: &[usize]) -> Result<Box<dyn Job>> {
    let operands = operands(Element::F32, sizes, &[x], y)?;
    if axis >= sizes.len() {
        return Err(Error::shape(format!("no axis {axis} in a tensor of sizes {sizes:?}")));
    }
    let along = (sizes[axis], [x[axis], y[axis]]);
    let rest = |v: &[usize]| -> Vec<usize> { (0..v.len()).filter(|&d| d != axis).map(|d| v[d]).collect() };
    let outer = Loops::new(&rest(sizes), [&rest(x), &rest(y)]);
    Ok(Box::new(Softmax { operands, cut: Cut::new(outer.len(), along.0), outer, along }))
}

struct Softmax {
    operands: Operands,
    outer: Loops<2>,
    along: (usize, [usize; 2]),
    cut: Cut,
}

impl Job for Softmax {
    fn name(&self) -> String {
        "softmax".into()
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
        let range = self.cut.range(part);
        wide(
            #[inline(always)]
            || {
                for row in range {
                    let [i, j] = self.outer.offsets(row);
                    // SAFETY: the offsets are those of elements of the views, and the scratch memory has a row of floats.
                    unsafe {
                        let (x, y) = (x.add(i), y.add(j));
                        let line = if write == 1 { y } else { scratch.cast::<f32>() };
                        if read == 1 {
                            std::ptr::copy_nonoverlapping(x, line, n);
                        } else {
                            (0..n).for_each(|k| line.add(k).write(*x.add(k * read)));
                        }
                        let line = std::slice::from_raw_parts_mut(line, n);
                        normalize(line);
                        if write != 1 {
                            (0..n).for_each(|k| *y.add(k * write) = line[k]);
                        }
                    }
                }
            },
        );
    }
}

/// Softmax of a line in place, in lanes.
#[inline(always)]
pub(super) fn normalize(line: &mut [f32]) {
    let (mut most, mut sums) = ([f32::NEG_INFINITY; 8], [0.0f32; 8]);
    let chunks = line.chunks_exact(8);
    let rest = chunks.remainder();
    for lanes in chunks {
        most.iter_mut().zip(lanes).for_each(|(m, &v)| *m = if *m > v { *m } else { v });
    }
    let most = most.iter().chain(rest).copied().fold(f32::NEG_INFINITY, |m, v| if m > v { m } else { v });
    let mut chunks = line.chunks_exact_mut(8);
    for lanes in &mut chunks {
        for (v, sum) in lanes.iter_mut().zip(&mut sums) {
            *v = exp(*v - most);
            *sum += *v;
        }
    }
    let mut sum: f32 = sums.iter().sum();
    for v in chunks.into_remainder() {
        *v = exp(*v - most);
        sum += *v;
    }
    let scale = 1.0 / sum;
    line.iter_mut().for_each(|v| *v *= scale);
}
