//! Attention: `softmax(change(q · k)) · v`, without a copy of what lies between the products.

use super::packed::{self, COLUMNS, Packed, pack, room};
use super::softmax::{self, Normalize};
use super::{Binary, Loops};
use crate::activation::wide;
use crate::channels_last::job::{Args, Job, share};
use crate::channels_last::operand::{Element, Operand, Operands};
use crate::level::Level;
use compresso_base::error::{Error, Result};

/// Sizes and strides of an attention. Strides are those of the leading axes, then of the two of a matrix.
#[derive(Debug, Clone)]
pub struct AttentionSpec<'a> {
    /// Sizes of the axes before the two of a matrix, such as batch and heads.
    pub leading: &'a [usize],
    /// Rows of `q` and of the result.
    pub rows: usize,
    /// Columns of `q` and rows of `k`.
    pub depth: usize,
    /// Columns of `k` and rows of `v`: what is summed over.
    pub keys: usize,
    /// Columns of `v` and of the result.
    pub columns: usize,
    /// `[leading…, rows, depth]`
    pub q: &'a [usize],
    /// `[leading…, depth, keys]`
    pub k: &'a [usize],
    /// `[leading…, keys, columns]`
    pub v: &'a [usize],
    /// `[leading…, rows, columns]`
    pub y: &'a [usize],
    /// All products of rows are multiplied by it.
    pub scale: f32,
    /// What happens then, in this order, with values `[leading…, rows, keys]` of such strides: [`Binary::Add`] or [`Binary::Mul`].
    pub changes: &'a [(Binary, Vec<usize>)],
}

/// Most changes of an attention.
pub const MOST_CHANGES: usize = 3;

/// Inputs: `q`, `k`, `v`, and an operand for each change. All float32. The job is cut so that `threads` threads are busy.
///
/// # Errors
/// As [`copy`](super::copy()); `Argument` for more than [`MOST_CHANGES`] changes or others than sums and products.
pub fn attention(spec: &AttentionSpec<'_>, threads: usize) -> Result<Box<dyn Job>> {
    attention_with(Level::best(), spec, threads)
}

/// [`attention`] by the kernels of a level.
///
/// # Errors
/// As [`attention`]; `Unavailable` when the machine lacks the instructions.
pub fn attention_with(level: Level, spec: &AttentionSpec<'_>, threads: usize) -> Result<Box<dyn Job>> {
    level.check()?;
    let &AttentionSpec { leading, rows, depth, keys, columns, .. } = spec;
    if spec.changes.len() > MOST_CHANGES || spec.changes.iter().any(|(op, _)| !matches!(op, Binary::Add | Binary::Mul)) {
        return Err(Error::argument(format!("at most {MOST_CHANGES} sums and products between those of an attention: {spec:?}")));
    }
    let n = leading.len();
    let matrix = |size: [usize; 2], strides: &[usize]| Operand::strided(Element::F32, &[leading, &size].concat(), strides);
    let mut inputs = vec![matrix([rows, depth], spec.q)?, matrix([depth, keys], spec.k)?, matrix([keys, columns], spec.v)?];
    for (_, strides) in spec.changes {
        inputs.push(matrix([rows, keys], strides)?);
    }
    let operands = Operands::new(inputs, vec![matrix([rows, columns], spec.y)?])?;
    let none = vec![0; n];
    let change = |i: usize| spec.changes.get(i).map_or(&none[..], |c| &c.1[..n]);
    let outer = Loops::new(leading, [&spec.q[..n], &spec.k[..n], &spec.v[..n], change(0), change(1), change(2), &spec.y[..n]]);
    let pair = |s: &[usize]| [s[n], s[n + 1]];
    let kernels = Packed::new(level);
    let tiles = rows.div_ceil(kernels.rows).max(1);
    let cuts = packed::cuts(outer.len(), tiles, threads);
    // As many rows at a time as keep their sums near.
    let width = keys.next_multiple_of(COLUMNS).max(COLUMNS);
    let band = (NEAR / width / kernels.rows).clamp(1, 8) * kernels.rows;
    let (q, k, v, y) = (pair(spec.q), pair(spec.k), pair(spec.v), pair(spec.y));
    let changes = spec.changes.iter().map(|(op, s)| (*op, pair(s))).collect();
    let (scale, normalize) = (spec.scale, softmax::kernel(level));
    Ok(Box::new(Attention {
        operands,
        outer,
        rows,
        depth,
        keys,
        columns,
        q,
        k,
        v,
        y,
        scale,
        changes,
        packed: kernels,
        normalize,
        tiles,
        cuts,
        band,
        width,
    }))
}

/// Floats of sums that stay in the first-level cache beside what they are multiplied with.
const NEAR: usize = 1 << 13;

struct Attention {
    operands: Operands,
    outer: Loops<7>,
    rows: usize,
    depth: usize,
    keys: usize,
    columns: usize,
    q: [usize; 2],
    k: [usize; 2],
    v: [usize; 2],
    y: [usize; 2],
    scale: f32,
    changes: Vec<(Binary, [usize; 2])>,
    packed: Packed,
    normalize: Normalize,
    /// Tiles of rows of a matrix, and the parts that they are cut into.
    tiles: usize,
    cuts: usize,
    /// Rows that are worked on at a time, and the floats of one.
    band: usize,
    width: usize,
}

impl Attention {
    /// Floats of a copied band of `q`, which is read along its rows.
    fn copied(&self) -> usize {
        if self.q[1] == 1 { 0 } else { self.band * self.depth }
    }
}

impl Job for Attention {
    fn name(&self) -> String {
        format!("attention {}x{}x{}x{}", self.rows, self.depth, self.keys, self.columns)
    }
    fn operands(&self) -> &Operands {
        &self.operands
    }
    fn parts(&self) -> usize {
        self.outer.len() * self.cuts
    }
    fn scratch(&self) -> usize {
        4 * (room(self.depth, self.keys) + room(self.keys, self.columns) + self.band * self.width + self.copied())
    }
    unsafe fn run(&self, part: usize, args: Args<'_>, scratch: *mut u8) {
        let at = self.outer.offsets(part / self.cuts);
        let input = |i: usize, offset: usize| args.inputs[i].cast::<f32>().wrapping_add(offset);
        let (q, k, v) = (input(0, at[0]), input(1, at[1]), input(2, at[2]));
        let y = args.outputs[0].cast::<f32>().wrapping_add(at[6]);
        let keys = scratch.cast::<f32>();
        let values = keys.wrapping_add(room(self.depth, self.keys));
        let sums = values.wrapping_add(room(self.keys, self.columns));
        let copy = sums.wrapping_add(self.band * self.width);
        let tiles = share(self.tiles, part % self.cuts, self.cuts);
        let (first, last) = (tiles.start * self.packed.rows, self.rows.min(tiles.end * self.packed.rows));
        // SAFETY: the matrices are inside their operands, the scratch memory has room for both packed ones, a band of sums and
        // a copied band, and the level was checked.
        unsafe {
            pack(k, self.k, self.depth, self.keys, keys);
            pack(v, self.v, self.keys, self.columns, values);
            for row in (first..last).step_by(self.band) {
                let n = self.band.min(last - row);
                let mut left = (q.wrapping_add(row * self.q[0]), self.q[0]);
                if self.q[1] != 1 {
                    for r in 0..n {
                        (0..self.depth).for_each(|d| *copy.add(r * self.depth + d) = *left.0.add(r * self.q[0] + d * self.q[1]));
                    }
                    left = (copy, self.depth);
                }
                self.packed.multiply(left, [n, self.depth, self.keys], keys, (sums, [self.width, 1], true));
                for r in 0..n {
                    let line = std::slice::from_raw_parts_mut(sums.add(r * self.width), self.keys);
                    let others: [*const f32; MOST_CHANGES] = std::array::from_fn(|i| match self.changes.get(i) {
                        Some((_, step)) => input(3 + i, at[3 + i] + (row + r) * step[0]),
                        None => std::ptr::null(),
                    });
                    let mut factor = self.scale;
                    if factor < 0.0 || !self.changes.is_empty() {
                        wide(
                            #[inline(always)]
                            || self.change(line, &others),
                        );
                        factor = 1.0;
                    }
                    (self.normalize)(line, factor);
                }
                self.packed.multiply((sums, self.width), [n, self.keys, self.columns], values, (y.add(row * self.y[0]), self.y, false));
            }
        }
    }
}

impl Attention {
    /// Scales and changes the sums of one row.
    ///
    /// # Safety
    /// `others` has an address for each change, from which on its values for the row are readable.
    #[inline(always)]
    unsafe fn change(&self, line: &mut [f32], others: &[*const f32; MOST_CHANGES]) {
        if self.scale != 1.0 {
            line.iter_mut().for_each(|v| *v *= self.scale);
        }
        for ((op, [_, step]), &from) in self.changes.iter().zip(others) {
            let add = *op == Binary::Add;
            // SAFETY: as the caller vouches.
            unsafe {
                match (add, step) {
                    (true, 1) => line.iter_mut().enumerate().for_each(|(i, v)| *v += *from.add(i)),
                    (true, _) => line.iter_mut().enumerate().for_each(|(i, v)| *v += *from.add(i * step)),
                    (false, 1) => line.iter_mut().enumerate().for_each(|(i, v)| *v *= *from.add(i)),
                    (false, _) => line.iter_mut().enumerate().for_each(|(i, v)| *v *= *from.add(i * step)),
                }
            }
        }
    }
}
