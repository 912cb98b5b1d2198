//! Functions of one number and of two.

use super::{Cut, Loops, operands};
use crate::activation::{Activation, wide};
use crate::channels_last::job::{Args, Job};
use crate::channels_last::operand::{Element, Operands};
use compresso_base::error::Result;

/// Arithmetic of two numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binary {
    /// `a + b`
    Add,
    /// `a - b`
    Sub,
    /// `a · b`
    Mul,
    /// `a / b`
    Div,
    /// The greater one; NaN where one is.
    Max,
    /// The lesser one; NaN where one is.
    Min,
}

impl Binary {
    /// The result for one pair of numbers.
    #[inline(always)]
    pub fn apply(self, a: f32, b: f32) -> f32 {
        match self {
            Self::Add => a + b,
            Self::Sub => a - b,
            Self::Mul => a * b,
            Self::Div => a / b,
            // A NaN on either side stays.
            Self::Max => {
                if a > b || a.is_nan() {
                    a
                } else {
                    b
                }
            }
            Self::Min => {
                if a < b || a.is_nan() {
                    a
                } else {
                    b
                }
            }
        }
    }
}

/// `y = op(a, b)`, float32. A stride of 0 repeats an operand along an axis.
///
/// # Errors
/// As [`copy`](super::copy()).
pub fn binary(op: Binary, sizes: &[usize], a: &[usize], b: &[usize], y: &[usize]) -> Result<Box<dyn Job>> {
    let operands = operands(Element::F32, sizes, &[a, b], y)?;
    let mut outer = Loops::new(sizes, [a, b, y]);
    let inner = outer.inner();
    Ok(Box::new(Arithmetic { op, operands, cut: Cut::new(outer.len(), inner.0), outer, inner }))
}

struct Arithmetic {
    op: Binary,
    operands: Operands,
    outer: Loops<3>,
    inner: (usize, [usize; 3]),
    cut: Cut,
}

impl Job for Arithmetic {
    fn name(&self) -> String {
        format!("{:?}", self.op).to_lowercase()
    }
    fn operands(&self) -> &Operands {
        &self.operands
    }
    fn parts(&self) -> usize {
        self.cut.parts()
    }
    unsafe fn run(&self, part: usize, args: Args<'_>, _: *mut u8) {
        let (a, b, y) = (args.inputs[0].cast::<f32>(), args.inputs[1].cast::<f32>(), args.outputs[0].cast::<f32>());
        for [i, j, k] in self.outer.walk(self.cut.range(part)) {
            // SAFETY: the offsets are those of elements of the views.
            let (a, b, y) = unsafe { (a.add(i), b.add(j), y.add(k)) };
            match self.op {
                // SAFETY: as above, for the elements of the row.
                Binary::Add => unsafe { self.row(a, b, y, |a, b| a + b) },
                // SAFETY: as above.
                Binary::Sub => unsafe { self.row(a, b, y, |a, b| a - b) },
                // SAFETY: as above.
                Binary::Mul => unsafe { self.row(a, b, y, |a, b| a * b) },
                // SAFETY: as above.
                Binary::Div => unsafe { self.row(a, b, y, |a, b| a / b) },
                // SAFETY: as above.
                Binary::Max => unsafe { self.row(a, b, y, |a, b| Binary::Max.apply(a, b)) },
                // SAFETY: as above.
                Binary::Min => unsafe { self.row(a, b, y, |a, b| Binary::Min.apply(a, b)) },
            }
        }
    }
}

impl Arithmetic {
    /// # Safety
    /// The row's elements of all three are there.
    #[inline(always)]
    unsafe fn row(&self, a: *const f32, b: *const f32, y: *mut f32, f: impl Fn(f32, f32) -> f32) {
        let (n, [sa, sb, sy]) = self.inner;
        // SAFETY: by contract.
        wide(
            #[inline(always)]
            || unsafe {
                match (sa, sb, sy) {
                    (1, 1, 1) => (0..n).for_each(|i| *y.add(i) = f(*a.add(i), *b.add(i))),
                    (1, 0, 1) => {
                        let b = *b;
                        (0..n).for_each(|i| *y.add(i) = f(*a.add(i), b));
                    }
                    (0, 1, 1) => {
                        let a = *a;
                        (0..n).for_each(|i| *y.add(i) = f(a, *b.add(i)));
                    }
                    _ => (0..n).for_each(|i| *y.add(i * sy) = f(*a.add(i * sa), *b.add(i * sb))),
                }
            },
        );
    }
}

/// `y = act(x)`, float32.
///
/// # Errors
/// As [`copy`](super::copy()).
pub fn unary(act: Activation, sizes: &[usize], x: &[usize], y: &[usize]) -> Result<Box<dyn Job>> {
    let operands = operands(Element::F32, sizes, &[x], y)?;
    let mut outer = Loops::new(sizes, [x, y]);
    let inner = outer.inner();
    Ok(Box::new(Unary { act, operands, cut: Cut::new(outer.len(), inner.0), outer, inner }))
}

struct Unary {
    act: Activation,
    operands: Operands,
    outer: Loops<2>,
    inner: (usize, [usize; 2]),
    cut: Cut,
}

/// Elements of a row that are worked on at a time.
const CHUNK: usize = 256;

impl Job for Unary {
    fn name(&self) -> String {
        format!("{:?}", self.act).to_lowercase()
    }
    fn operands(&self) -> &Operands {
        &self.operands
    }
    fn parts(&self) -> usize {
        self.cut.parts()
    }
    unsafe fn run(&self, part: usize, args: Args<'_>, _: *mut u8) {
        let (x, y) = (args.inputs[0].cast::<f32>(), args.outputs[0].cast::<f32>());
        let (n, [read, write]) = self.inner;
        let (mut from, mut to) = ([0.0f32; CHUNK], [0.0f32; CHUNK]);
        for [i, j] in self.outer.walk(self.cut.range(part)) {
            for at in (0..n).step_by(CHUNK) {
                let len = CHUNK.min(n - at);
                if read == 1 && write == 1 {
                    // SAFETY: as below; the two views are different tensors.
                    unsafe {
                        let x = std::slice::from_raw_parts(x.add(i + at), len);
                        self.act.forward(x, std::slice::from_raw_parts_mut(y.add(j + at), len));
                    }
                    continue;
                }
                // SAFETY: the offsets are those of elements of the views; this part alone writes its elements, and a slice
                // of them exists only while no other is made.
                unsafe {
                    let (x, y) = (x.add(i + at * read), y.add(j + at * write));
                    (0..len).for_each(|k| from[k] = *x.add(k * read));
                    self.act.forward(&from[..len], &mut to[..len]);
                    (0..len).for_each(|k| *y.add(k * write) = to[k]);
                }
            }
        }
    }
}
