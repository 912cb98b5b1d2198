//! Sums, means, norms and largest values over some axes.

use super::{Cut, Loops, fold};
use crate::activation::wide;
use crate::channels_last::job::{Args, Job};
use crate::channels_last::operand::{Element, Operand, Operands};
use compresso_base::error::{Error, Result};

/// What is made of the values along the axes that go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reduce {
    /// Their sum.
    Sum,
    /// Their sum over their number.
    Mean,
    /// The root of the sum of squares.
    L2,
    /// A NaN is largest.
    Max,
}

impl Reduce {
    fn start(self) -> f32 {
        if self == Self::Max { f32::NEG_INFINITY } else { 0.0 }
    }
    #[inline(always)]
    fn join(self, sum: f32, v: f32) -> f32 {
        match self {
            Self::Sum | Self::Mean => sum + v,
            Self::L2 => sum + v * v,
            Self::Max => {
                if v > sum || v.is_nan() {
                    v
                } else {
                    sum
                }
            }
        }
    }
    fn end(self, sum: f32, count: usize) -> f32 {
        match self {
            Self::Sum | Self::Max => sum,
            Self::Mean => sum / count as f32,
            Self::L2 => sum.sqrt(),
        }
    }
}

/// Reduces over the axes where `gone` says so; `y` has the strides of the result, any along those axes. Float32.
///
/// # Errors
/// As [`copy`](super::copy()), and when `gone` is not as long as `sizes`.
pub fn reduce(kind: Reduce, sizes: &[usize], gone: &[bool], x: &[usize], y: &[usize]) -> Result<Box<dyn Job>> {
    if gone.len() != sizes.len() || y.len() != sizes.len() {
        return Err(Error::shape(format!("a reduction of {sizes:?} over {gone:?} to strides {y:?}")));
    }
    let some = |v: &[usize], which: bool| -> Vec<usize> { v.iter().zip(gone).filter(|(_, g)| **g == which).map(|(v, _)| *v).collect() };
    let (kept, over) = (some(sizes, false), some(sizes, true));
    let input = Operand::strided(Element::F32, sizes, x)?;
    let output = Operand::strided(Element::F32, &kept, &some(y, false))?;
    let mut outer = Loops::new(&kept, [&some(x, false), &some(y, false)]);
    let mut along = Loops::new(&over, [&some(x, true)]);
    let count: usize = along.len();
    let row = outer.inner();
    let line = along.inner();
    // Values side by side in memory are worked on together: of the axis that stays, or of one that goes.
    let across = row.1[0] == 1 || line.1[0] != 1;
    let width = if across { WIDTH.min(row.0.max(1)) } else { 1 };
    let chunks = row.0.div_ceil(width);
    let cut = Cut::new(outer.len() * chunks, width.saturating_mul(count));
    Ok(Box::new(Reduction {
        kind,
        operands: Operands::new(vec![input], vec![output])?,
        outer,
        along,
        row,
        line,
        count,
        width,
        chunks,
        cut,
    }))
}

/// Values of a row that are worked on together.
const WIDTH: usize = 32;

struct Reduction {
    kind: Reduce,
    operands: Operands,
    outer: Loops<2>,
    along: Loops<1>,
    /// The fastest axis that stays, and the fastest that goes.
    row: (usize, [usize; 2]),
    line: (usize, [usize; 1]),
    /// Values that one is made of.
    count: usize,
    width: usize,
    /// Pieces of a row of the result.
    chunks: usize,
    cut: Cut,
}

impl Job for Reduction {
    fn name(&self) -> String {
        format!("reduce {:?}", self.kind).to_lowercase()
    }
    fn operands(&self) -> &Operands {
        &self.operands
    }
    fn parts(&self) -> usize {
        self.cut.parts()
    }
    unsafe fn run(&self, part: usize, args: Args<'_>, _: *mut u8) {
        let (x, y) = (args.inputs[0].cast::<f32>(), args.outputs[0].cast::<f32>());
        let (n, [read, write]) = self.row;
        for piece in self.cut.range(part) {
            let [i, j] = self.outer.offsets(piece / self.chunks);
            let first = piece % self.chunks * self.width;
            let len = self.width.min(n - first);
            let from = x.wrapping_add(i + first * read);
            let mut sums = [self.kind.start(); WIDTH];
            wide(
                #[inline(always)]
                // SAFETY: the offsets are those of elements of the view.
                || unsafe { self.add_up(from, &mut sums[..len]) },
            );
            for (c, sum) in sums[..len].iter().enumerate() {
                // SAFETY: as above, of the result, which this part alone writes here.
                unsafe { *y.add(j + (first + c) * write) = self.kind.end(*sum, self.count) };
            }
        }
    }
}

impl Reduction {
    /// # Safety
    /// `from` is the first of the values of each sum.
    #[inline(always)]
    unsafe fn add_up(&self, from: *const f32, sums: &mut [f32]) {
        let (kind, step, (n, [along])) = (self.kind, self.row.1[0], self.line);
        for at in 0..if n == 0 { 0 } else { self.along.len() } {
            let from = from.wrapping_add(self.along.offsets(at)[0]);
            if sums.len() == 1 && along == 1 {
                // SAFETY: as the caller vouches.
                let line = unsafe { std::slice::from_raw_parts(from, n) };
                let mut lanes = [kind.start(); WIDTH];
                let chunks = line.chunks_exact(WIDTH);
                let rest = chunks.remainder().iter().fold(sums[0], |s, &v| kind.join(s, v));
                for chunk in chunks {
                    lanes.iter_mut().zip(chunk).for_each(|(s, &v)| *s = kind.join(*s, v));
                }
                sums[0] = match kind {
                    Reduce::Max => kind.join(rest, fold(lanes, |a, b| kind.join(a, b))),
                    _ => rest + fold(lanes, |a, b| a + b),
                };
                continue;
            }
            for k in 0..n {
                let from = from.wrapping_add(k * along);
                // SAFETY: as the caller vouches.
                unsafe {
                    if let (1, Ok(sums)) = (step, <&mut [f32; WIDTH]>::try_from(&mut *sums)) {
                        let row = from.cast::<[f32; WIDTH]>().read_unaligned();
                        sums.iter_mut().zip(row).for_each(|(s, v)| *s = kind.join(*s, v));
                    } else {
                        sums.iter_mut().enumerate().for_each(|(c, s)| *s = kind.join(*s, *from.add(c * step)));
                    }
                }
            }
        }
    }
}
