//! Copies between arrangements.

use super::{Cut, Loops, operands};
use crate::channels_last::job::{Args, Job};
use crate::channels_last::operand::{Element, Operands};
use compresso_base::error::Result;

/// Copies elements from one arrangement to another.
///
/// # Errors
/// `Shape` when there are not as many strides as sizes, or an element of the result is several.
pub fn copy(element: Element, sizes: &[usize], from: &[usize], to: &[usize]) -> Result<Box<dyn Job>> {
    let operands = operands(element, sizes, &[from], to)?;
    Ok(match element {
        Element::U8 => Box::new(Move::<u8>::new(operands, sizes, from, to)),
        Element::F32 => Box::new(Move::<u32>::new(operands, sizes, from, to)),
    })
}

/// Rows, or tiles where reading and writing run along different axes.
struct Move<T> {
    operands: Operands,
    outer: Loops<2>,
    inner: (usize, [usize; 2]),
    /// The axis along which reading is contiguous, when that is not the inner one.
    cross: Option<(usize, [usize; 2])>,
    cut: Cut,
    element: std::marker::PhantomData<T>,
}

/// Side of a tile of a transposing copy.
const SIDE: usize = 16;

impl<T> Move<T> {
    fn new(operands: Operands, sizes: &[usize], from: &[usize], to: &[usize]) -> Self {
        let mut outer = Loops::new(sizes, [from, to]);
        let inner = outer.inner();
        let cross = (inner.1[0] > 1).then(|| outer.strides.iter().position(|s| s[0] == 1)).flatten().map(|axis| outer.take(axis));
        let width = inner.0 * cross.map_or(1, |(_, _)| SIDE);
        let count = outer.len() * cross.map_or(1, |(n, _)| n.div_ceil(SIDE));
        Self { operands, cut: Cut::new(count, width), outer, inner, cross, element: std::marker::PhantomData }
    }
}

impl<T: Copy + Send + Sync> Job for Move<T> {
    fn name(&self) -> String {
        if self.cross.is_some() { "transpose".into() } else { "copy".into() }
    }
    fn operands(&self) -> &Operands {
        &self.operands
    }
    fn parts(&self) -> usize {
        self.cut.parts()
    }
    unsafe fn run(&self, part: usize, args: Args<'_>, _: *mut u8) {
        let (from, to) = (args.inputs[0].cast::<T>(), args.outputs[0].cast::<T>());
        let (n, [read, write]) = self.inner;
        for row in self.cut.range(part) {
            // SAFETY: the offsets are those of elements of the two views, which the caller lets this part read and write.
            unsafe {
                match self.cross {
                    None => {
                        let [a, b] = self.outer.offsets(row);
                        let (from, to) = (from.add(a), to.add(b));
                        if read == 1 && write == 1 {
                            std::ptr::copy_nonoverlapping(from, to, n);
                        } else {
                            (0..n).for_each(|i| *to.add(i * write) = *from.add(i * read));
                        }
                    }
                    Some((m, [cross_read, cross_write])) => {
                        let tiles = m.div_ceil(SIDE);
                        let [a, b] = self.outer.offsets(row / tiles);
                        let first = row % tiles * SIDE;
                        let last = (first + SIDE).min(m);
                        let (from, to) = (from.add(a), to.add(b));
                        for i0 in (0..n).step_by(SIDE) {
                            for j in first..last {
                                for i in i0..(i0 + SIDE).min(n) {
                                    *to.add(i * write + j * cross_write) = *from.add(i * read + j * cross_read);
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}
