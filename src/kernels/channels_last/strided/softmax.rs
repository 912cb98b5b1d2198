//! Softmax along an axis.

use super::{Cut, Loops, fold, operands};
use crate::activation::exp2;
use crate::channels_last::job::{Args, Job};
use crate::channels_last::operand::{Element, Operands};
use crate::level::Level;
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
    Ok(Box::new(Softmax { operands, cut: Cut::new(outer.len(), along.0), outer, along, normalize: kernel(Level::best()) }))
}

struct Softmax {
    operands: Operands,
    outer: Loops<2>,
    along: (usize, [usize; 2]),
    cut: Cut,
    normalize: Normalize,
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
        for row in range {
            let [i, j] = self.outer.offsets(row);
            // SAFETY: the offsets are those of elements of the views, the scratch memory has a row of floats, and the level is
            // the machine's.
            unsafe {
                let (x, y) = (x.add(i), y.add(j));
                let line = if write == 1 { y } else { scratch.cast::<f32>() };
                if read == 1 {
                    std::ptr::copy_nonoverlapping(x, line, n);
                } else {
                    (0..n).for_each(|k| line.add(k).write(*x.add(k * read)));
                }
                let line = std::slice::from_raw_parts_mut(line, n);
                (self.normalize)(line, 1.0);
                if write != 1 {
                    (0..n).for_each(|k| *y.add(k * write) = line[k]);
                }
            }
        }
    }
}

/// Makes parts of 1 of a line: `e^(factor · v)`, each divided by their sum. The factor is not negative.
///
/// # Safety
/// The level is there.
pub type Normalize = unsafe fn(line: &mut [f32], factor: f32);

/// The kernel of a level.
pub fn kernel(level: Level) -> Normalize {
    match level {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => x86::normalize512,
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => x86::normalize256,
        _ => normalize::<false>,
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    #[target_feature(enable = "avx2,fma")]
    pub fn normalize256(line: &mut [f32], factor: f32) {
        super::normalize::<true>(line, factor);
    }

    #[target_feature(enable = "avx512f")]
    pub fn normalize512(line: &mut [f32], factor: f32) {
        super::normalize::<true>(line, factor);
    }
}

/// Values that are worked on at once.
const LANES: usize = 32;
/// The same for what is left of a line.
const FEW: usize = 8;

#[inline(always)]
fn normalize<const FUSED: bool>(line: &mut [f32], factor: f32) {
    let larger = |m: f32, v: f32| if m > v { m } else { v };
    let mut most = [f32::NEG_INFINITY; LANES];
    let chunks = line.chunks_exact(LANES);
    let rest = chunks.remainder().chunks_exact(FEW);
    for lanes in chunks {
        most.iter_mut().zip(lanes).for_each(|(m, &v)| *m = larger(*m, v));
    }
    let last = rest.remainder();
    for lanes in rest {
        most.iter_mut().zip(lanes).for_each(|(m, &v)| *m = larger(*m, v));
    }
    let most = last.iter().copied().fold(fold(most, larger), larger);
    let factor = factor * std::f32::consts::LOG2_E;
    let shift = -most * factor;
    let part = |v: f32| {
        let z = if FUSED { v.mul_add(factor, shift) } else { v * factor + shift };
        exp2::<FUSED>(if z < -126.0 { -126.0 } else { z })
    };
    let mut sums = [0.0f32; LANES];
    let mut chunks = line.chunks_exact_mut(LANES);
    for lanes in &mut chunks {
        for (v, sum) in lanes.iter_mut().zip(&mut sums) {
            *v = part(*v);
            *sum += *v;
        }
    }
    let mut chunks = chunks.into_remainder().chunks_exact_mut(FEW);
    for lanes in &mut chunks {
        for (v, sum) in lanes.iter_mut().zip(&mut sums) {
            *v = part(*v);
            *sum += *v;
        }
    }
    let mut sum = fold(sums, |a, b| a + b);
    for v in chunks.into_remainder() {
        *v = part(*v);
        sum += *v;
    }
    let scale = 1.0 / sum;
    line.iter_mut().for_each(|v| *v *= scale);
}
