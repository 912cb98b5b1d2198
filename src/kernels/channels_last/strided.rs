//! Operations on tensors of any strides: copies, arithmetic of two tensors, softmax.

use super::job::{Args, Job};
use super::operand::{Element, Operand, Operands};
use crate::activation::{Activation, exp, wide};
use compresso_base::error::{Error, Result};

/// Loops over a tensor's indices with `N` strides each, the fastest last. Axes that all strides allow are merged.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Loops<const N: usize> {
    sizes: Vec<usize>,
    strides: Vec<[usize; N]>,
}

impl<const N: usize> Loops<N> {
    /// Ordered so that the last of the strides falls.
    fn new(sizes: &[usize], strides: [&[usize]; N]) -> Self {
        let mut axes: Vec<(usize, [usize; N])> =
            sizes.iter().enumerate().filter(|(_, n)| **n != 1).map(|(d, &n)| (n, std::array::from_fn(|i| strides[i][d]))).collect();
        axes.sort_by_key(|(_, s)| std::cmp::Reverse(s[N - 1]));
        let mut merged: Vec<(usize, [usize; N])> = Vec::new();
        for (n, s) in axes {
            match merged.last_mut() {
                Some((outer, t)) if (0..N).all(|i| t[i] == s[i].saturating_mul(n)) => (*outer, *t) = (*outer * n, s),
                _ => merged.push((n, s)),
            }
        }
        let (sizes, strides) = merged.into_iter().unzip();
        Self { sizes, strides }
    }
    /// Splits off the fastest axis.
    fn inner(&mut self) -> (usize, [usize; N]) {
        match (self.sizes.pop(), self.strides.pop()) {
            (Some(n), Some(s)) => (n, s),
            _ => (1, [1; N]),
        }
    }
    fn take(&mut self, axis: usize) -> (usize, [usize; N]) {
        (self.sizes.remove(axis), self.strides.remove(axis))
    }
    fn len(&self) -> usize {
        self.sizes.iter().product()
    }
    /// Offsets of the index with number `at`.
    fn offsets(&self, mut at: usize) -> [usize; N] {
        let mut sums = [0; N];
        for (&n, s) in self.sizes.iter().zip(&self.strides).rev() {
            let i = at % n;
            at /= n;
            (0..N).for_each(|k| sums[k] += i * s[k]);
        }
        sums
    }
}

/// Work of a part: about so many elements.
const GRAIN: usize = 1 << 14;

/// Cuts `count` rows of `width` elements into parts.
#[derive(Debug, Clone, Copy)]
struct Cut {
    count: usize,
    rows: usize,
}

impl Cut {
    fn new(count: usize, width: usize) -> Self {
        Self { count, rows: (GRAIN / width.max(1)).clamp(1, count.max(1)) }
    }
    fn parts(self) -> usize {
        self.count.div_ceil(self.rows)
    }
    fn range(self, part: usize) -> std::ops::Range<usize> {
        part * self.rows..((part + 1) * self.rows).min(self.count)
    }
}

/// The operands of a job from tensors of such strides to one.
///
/// # Errors
/// `Shape` when there are not as many strides as sizes, or an element of the result is several.
fn operands(element: Element, sizes: &[usize], reads: &[&[usize]], write: &[usize]) -> Result<Operands> {
    let inputs = reads.iter().map(|strides| Operand::strided(element, sizes, strides)).collect::<Result<_>>()?;
    Operands::new(inputs, vec![Operand::strided(element, sizes, write)?])
}

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

/// Arithmetic of two numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binary {
    Add,
    Sub,
    Mul,
    Div,
    Max,
    Min,
}

impl Binary {
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
/// As [`copy`].
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
        for row in self.cut.range(part) {
            let [i, j, k] = self.outer.offsets(row);
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
                op => unsafe { self.row(a, b, y, move |a, b| op.apply(a, b)) },
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
/// As [`copy`].
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
        for row in self.cut.range(part) {
            let [i, j] = self.outer.offsets(row);
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

/// Softmax along one axis, float32.
///
/// # Errors
/// As [`copy`], and when there is no such axis.
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
fn normalize(line: &mut [f32]) {
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

/// `y[…, i, j] = Σ_k a[…, i, k] · b[…, k, j]`, float32, over any leading axes: one product per part.
///
/// Sizes are `[leading…, rows, inner, columns]`; strides of each operand are those of its own axes after the leading ones.
///
/// # Errors
/// As [`copy`].
pub fn matmul(leading: &[usize], [rows, inner, columns]: [usize; 3], a: &[usize], b: &[usize], y: &[usize]) -> Result<Box<dyn Job>> {
    let n = leading.len();
    let matrix = |size: [usize; 2], strides: &[usize]| Operand::strided(Element::F32, &[leading, &size].concat(), strides);
    let operands = Operands::new(vec![matrix([rows, inner], a)?, matrix([inner, columns], b)?], vec![matrix([rows, columns], y)?])?;
    let outer = Loops::new(leading, [&a[..n], &b[..n], &y[..n]]);
    let pair = |s: &[usize]| [s[n], s[n + 1]];
    Ok(Box::new(Product { operands, outer, rows, inner, columns, a: pair(a), b: pair(b), y: pair(y) }))
}

struct Product {
    operands: Operands,
    outer: Loops<3>,
    rows: usize,
    inner: usize,
    columns: usize,
    a: [usize; 2],
    b: [usize; 2],
    y: [usize; 2],
}

/// Rows of a product that a part makes.
const BAND: usize = 64;

impl Job for Product {
    fn name(&self) -> String {
        format!("matmul {}x{}x{}", self.rows, self.inner, self.columns)
    }
    fn operands(&self) -> &Operands {
        &self.operands
    }
    fn parts(&self) -> usize {
        self.outer.len() * self.rows.div_ceil(BAND)
    }
    unsafe fn run(&self, part: usize, args: Args<'_>, _: *mut u8) {
        let bands = self.rows.div_ceil(BAND);
        let first = part % bands * BAND;
        let rows = BAND.min(self.rows - first);
        let [i, j, k] = self.outer.offsets(part / bands);
        let [a, b, y] = [self.a, self.b, self.y].map(|s| s.map(|v| v as isize));
        // SAFETY: the operands are matrices inside their views, and the result's rows are this part's alone.
        unsafe {
            // An empty factor has no elements: its addresses are not followed.
            let from = args.inputs[0].cast::<f32>().wrapping_add(i + first * self.a[0]);
            let with = args.inputs[1].cast::<f32>().wrapping_add(j);
            let to = args.outputs[0].cast::<f32>().add(k + first * self.y[0]);
            gemm::gemm(
                rows,
                self.columns,
                self.inner,
                to,
                y[1],
                y[0],
                false,
                from,
                a[1],
                a[0],
                with,
                b[1],
                b[0],
                0.0,
                1.0,
                false,
                false,
                false,
                gemm::Parallelism::None,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channels_last::run_alone;

    fn index(sizes: &[usize], strides: &[usize], f: &mut dyn FnMut(usize, usize)) {
        let n: usize = sizes.iter().product();
        for at in 0..n {
            let (mut left, mut offset) = (at, 0);
            for d in (0..sizes.len()).rev() {
                offset += left % sizes[d] * strides[d];
                left /= sizes[d];
            }
            f(at, offset);
        }
    }

    fn dense(sizes: &[usize], order: &[usize]) -> Vec<usize> {
        let mut strides = vec![0; sizes.len()];
        let mut step = 1;
        for &d in order.iter().rev() {
            strides[d] = step;
            step *= sizes[d];
        }
        strides
    }

    fn noise(n: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 7919 + 13) % 1009) as f32 / 100.0 - 5.0).collect()
    }

    #[test]
    fn copies_between_all_orders() {
        let sizes = [2, 5, 33, 19];
        let n: usize = sizes.iter().product();
        for from in [[0, 1, 2, 3], [0, 2, 3, 1], [3, 1, 0, 2]] {
            for to in [[0, 1, 2, 3], [0, 2, 3, 1], [1, 0, 3, 2]] {
                let (a, b) = (dense(&sizes, &from), dense(&sizes, &to));
                let x = noise(n);
                let mut y = vec![f32::NAN; n];
                run_alone(&*copy(Element::F32, &sizes, &a, &b).unwrap(), &[&x], &mut [&mut y]).unwrap();
                let (mut reads, mut writes) = (vec![0; n], vec![0; n]);
                index(&sizes, &a, &mut |i, o| reads[i] = o);
                index(&sizes, &b, &mut |i, o| writes[i] = o);
                (0..n).for_each(|i| assert_eq!(y[writes[i]], x[reads[i]]));
                let bytes: Vec<u8> = (0..n).map(|i| (i % 251) as u8).collect();
                let mut copied = vec![0u8; n];
                run_alone(&*copy(Element::U8, &sizes, &a, &b).unwrap(), &[&bytes], &mut [&mut copied]).unwrap();
                (0..n).for_each(|i| assert_eq!(copied[writes[i]], bytes[reads[i]]));
            }
        }
    }

    #[test]
    fn arithmetic_broadcasts() {
        let sizes = [3, 4, 17];
        let n = 3 * 4 * 17;
        let (x, w) = (noise(n), noise(17));
        for op in [Binary::Add, Binary::Sub, Binary::Mul, Binary::Div, Binary::Max, Binary::Min] {
            for (strides, small) in [([0, 0, 1], 17), ([0, 1, 0], 4), ([0, 0, 0], 1)] {
                let w = &w[..small];
                for order in [[0, 1, 2], [2, 0, 1]] {
                    let (a, y) = (dense(&sizes, &order), dense(&sizes, &[0, 1, 2]));
                    let mut out = vec![f32::NAN; n];
                    run_alone(&*binary(op, &sizes, &a, &strides, &y).unwrap(), &[&x, w], &mut [&mut out]).unwrap();
                    let mut expected = vec![0.0; n];
                    index(&sizes, &a, &mut |i, o| expected[i] = x[o]);
                    index(&sizes, &strides, &mut |i, o| expected[i] = op.apply(expected[i], w[o]));
                    assert_eq!(out, expected, "{op:?}");
                    run_alone(&*binary(op, &sizes, &strides, &a, &y).unwrap(), &[w, &x], &mut [&mut out]).unwrap();
                    index(&sizes, &strides, &mut |i, o| expected[i] = w[o]);
                    index(&sizes, &a, &mut |i, o| expected[i] = op.apply(expected[i], x[o]));
                    assert_eq!(out, expected, "{op:?}");
                }
            }
        }
    }

    #[test]
    fn softmax_and_functions_of_one_value_along_any_axis() {
        let sizes = [2, 6, 33];
        let n = 2 * 6 * 33;
        let x = noise(n);
        for order in [[0, 1, 2], [0, 2, 1]] {
            let (a, y) = (dense(&sizes, &order), dense(&sizes, &[0, 1, 2]));
            let mut plain = vec![0.0; n];
            index(&sizes, &a, &mut |i, o| plain[i] = x[o]);
            let mut out = vec![f32::NAN; n];
            run_alone(&*unary(Activation::Swish { alpha: 1.0 }, &sizes, &a, &y).unwrap(), &[&x], &mut [&mut out]).unwrap();
            let mut expected = vec![0.0; n];
            Activation::Swish { alpha: 1.0 }.forward(&plain, &mut expected);
            assert_eq!(out, expected);
            for axis in 0..3 {
                run_alone(&*softmax(&sizes, axis, &a, &y).unwrap(), &[&x], &mut [&mut out]).unwrap();
                let stride = y[axis];
                for i in 0..n {
                    let first = i - i / stride % sizes[axis] * stride;
                    let line: Vec<f64> = (0..sizes[axis]).map(|k| f64::from(plain[first + k * stride]).exp()).collect();
                    let exact = f64::from(plain[i]).exp() / line.iter().sum::<f64>();
                    assert!((f64::from(out[i]) - exact).abs() < 1e-6, "axis {axis}: {} {exact}", out[i]);
                }
            }
        }
    }

    #[test]
    fn products_of_transposed_matrices() {
        let (batch, rows, inner, columns) = (3, 70, 9, 13);
        let (a, b) = (noise(batch * rows * inner), noise(batch * inner * columns));
        let mut y = vec![f32::NAN; batch * rows * columns];
        // a is stored [batch, inner, rows].
        let job = matmul(
            &[batch],
            [rows, inner, columns],
            &[rows * inner, 1, rows],
            &[inner * columns, columns, 1],
            &[rows * columns, columns, 1],
        )
        .unwrap();
        run_alone(&*job, &[&a, &b], &mut [&mut y]).unwrap();
        for n in 0..batch {
            for i in 0..rows {
                for j in 0..columns {
                    let exact: f64 = (0..inner)
                        .map(|k| f64::from(a[n * rows * inner + k * rows + i]) * f64::from(b[(n * inner + k) * columns + j]))
                        .sum();
                    assert!((f64::from(y[(n * rows + i) * columns + j]) - exact).abs() < 1e-3);
                }
            }
        }
    }
}
