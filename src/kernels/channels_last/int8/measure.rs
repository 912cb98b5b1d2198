//! Scale and zero point of a tensor that are known only when it is there, as
//! [DynamicQuantizeLinear](https://onnx.ai/onnx/operators/onnx__DynamicQuantizeLinear.html) defines them: bytes from 0 to 255
//! for the range from the least to the largest value, with 0 in it.
//!
//! Two jobs find them, [`ranges`] on parts of the tensor and [`scale`] on what these have found; those that work with them
//! read them as two more inputs ([`super::quantize_measured`], [`super::Int8Conv::input_zero`]).

use super::super::job::{Args, Job, cut, share};
use super::super::operand::{Element, Operand, Operands};
use crate::activation::wide;
use compresso_base::error::{Error, Result};

/// Most parts that a tensor is cut into.
pub const MOST_RANGES: usize = 64;

/// Elements of a row that are looked at in one go.
const CHUNK: usize = 4096;

/// A job from one input of float32 of any sizes and strides to one output `[parts, 2]` of float32, [`Job::parts`] being at most
/// [`MOST_RANGES`]: the least and the largest value of each part, 0 included. NaN is passed over.
///
/// # Errors
/// `Shape` when there are not as many strides as sizes.
pub fn ranges(sizes: &[usize], strides: &[usize], threads: usize) -> Result<Box<dyn Job>> {
    let input = Operand::strided(Element::F32, sizes, strides)?;
    let empty = sizes.contains(&0);
    // Neither one index nor a repetition has anything to add.
    let steps = |(n, stride): &(usize, usize)| !empty && *n != 1 && *stride != 0;
    let mut axes: Vec<(usize, usize)> = sizes.iter().copied().zip(strides.iter().copied()).filter(steps).collect();
    axes.sort_by_key(|(_, stride)| std::cmp::Reverse(*stride));
    let (length, step) = if empty { (0, 1) } else { axes.pop().unwrap_or((1, 1)) };
    let (mut row, mut outer): (_, Vec<(usize, usize)>) = ((length, step), Vec::new());
    while let Some((n, stride)) = axes.pop() {
        match outer.last_mut() {
            None if stride == row.0 * row.1 => row.0 *= n,
            Some(last) if stride == last.0 * last.1 => last.0 *= n,
            _ => outer.push((n, stride)),
        }
    }
    let chunks = row.0.div_ceil(CHUNK);
    let pieces = outer.iter().fold(if empty { 0 } else { chunks }, |p, (n, _)| p * n);
    let parts = cut(pieces, pieces.saturating_mul(4 * CHUNK.min(row.0)), threads).min(MOST_RANGES);
    let operands = Operands::new(vec![input], vec![Operand::strided(Element::F32, &[parts, 2], &[2, 1])?])?;
    Ok(Box::new(Ranges { operands, row, outer, chunks, pieces, parts }))
}

struct Ranges {
    operands: Operands,
    /// Elements of a row and the stride from one to the next.
    row: (usize, usize),
    /// The other axes, the fastest first.
    outer: Vec<(usize, usize)>,
    /// Pieces of a row.
    chunks: usize,
    pieces: usize,
    parts: usize,
}

impl Ranges {
    /// The least and the largest of `n` values `step` apart, and of `range`.
    ///
    /// # Safety
    /// They are readable.
    unsafe fn extend(&self, range: [f32; 2], from: *const f32, n: usize, step: usize) -> [f32; 2] {
        let [mut low, mut high] = range;
        let mut one = |x: f32| {
            low = if x < low { x } else { low };
            high = if x > high { x } else { high };
        };
        if step != 1 {
            // SAFETY: the caller's promise.
            (0..n).for_each(|i| one(unsafe { *from.add(i * step) }));
            return [low, high];
        }
        // SAFETY: the caller's promise.
        let values = unsafe { std::slice::from_raw_parts(from, n) };
        let (blocks, rest) = values.as_chunks::<32>();
        let mut lanes = [[0.0f32; 32]; 2];
        wide(
            #[inline(always)]
            || {
                for block in blocks {
                    for (i, &x) in block.iter().enumerate() {
                        lanes[0][i] = if x < lanes[0][i] { x } else { lanes[0][i] };
                        lanes[1][i] = if x > lanes[1][i] { x } else { lanes[1][i] };
                    }
                }
            },
        );
        rest.iter().chain(lanes.as_flattened()).for_each(|&x| one(x));
        [low, high]
    }
}

impl Job for Ranges {
    fn name(&self) -> String {
        "range".into()
    }
    fn operands(&self) -> &Operands {
        &self.operands
    }
    fn parts(&self) -> usize {
        self.parts
    }
    unsafe fn run(&self, part: usize, args: Args<'_>, _scratch: *mut u8) {
        let mut range = [0.0; 2];
        for piece in share(self.pieces, part, self.parts) {
            let first = piece % self.chunks * CHUNK;
            let (mut index, mut at) = (piece / self.chunks, first * self.row.1);
            for &(n, stride) in &self.outer {
                at += index % n * stride;
                index /= n;
            }
            // SAFETY: elements of the input, which the caller promises.
            range = unsafe { self.extend(range, args.inputs[0].cast::<f32>().add(at), CHUNK.min(self.row.0 - first), self.row.1) };
        }
        // SAFETY: this part's row of the output.
        unsafe { args.outputs[0].cast::<f32>().add(2 * part).cast::<[f32; 2]>().write(range) };
    }
}

/// A job from `[parts, 2]` least and largest values to the scale, `[1]` of float32, and the zero point, `[1]` of bytes. The scale
/// of zeros alone is 0.
///
/// # Errors
/// `Argument` when there are no parts.
pub fn scale(parts: usize) -> Result<Box<dyn Job>> {
    if parts == 0 {
        return Err(Error::argument("a scale is found from one range or more, got none"));
    }
    let one = |element| Operand::strided(element, &[1], &[1]);
    let operands = Operands::new(vec![Operand::strided(Element::F32, &[parts, 2], &[2, 1])?], vec![one(Element::F32)?, one(Element::U8)?])?;
    Ok(Box::new(Scale { operands, parts }))
}

struct Scale {
    operands: Operands,
    parts: usize,
}

/// Scale and zero point for the values from `low` to `high`, of which neither is beyond 0.
fn scale_of([low, high]: [f32; 2]) -> (f32, u8) {
    let scale = (high - low) / 255.0;
    let divisor = if scale == 0.0 { 1.0 } else { scale };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 255, or NaN, which becomes 0")]
    let zero = (-low / divisor).clamp(0.0, 255.0).round_ties_even() as u8;
    (scale, zero)
}

impl Job for Scale {
    fn name(&self) -> String {
        "scale".into()
    }
    fn operands(&self) -> &Operands {
        &self.operands
    }
    fn parts(&self) -> usize {
        1
    }
    unsafe fn run(&self, _part: usize, args: Args<'_>, _scratch: *mut u8) {
        // SAFETY: the input, which is aligned for floats.
        let ranges = unsafe { std::slice::from_raw_parts(args.inputs[0].cast::<[f32; 2]>(), self.parts) };
        let (scale, zero) = scale_of(ranges.iter().fold([0.0; 2], |[low, high], r| [low.min(r[0]), high.max(r[1])]));
        // SAFETY: the two outputs.
        unsafe {
            args.outputs[0].cast::<f32>().write(scale);
            args.outputs[1].write(zero);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::run_alone;
    use super::*;

    #[test]
    fn ranges_of_any_layout_hold_every_value_and_nothing_else() {
        for (sizes, strides) in [
            (vec![7], vec![1]),
            (vec![3, 5, 11], vec![55, 11, 1]),
            (vec![2, 3, 40, 41], vec![3 * 40 * 41, 1, 41 * 3, 3]),
            (vec![2, 5, 9, 7], vec![9 * 7 * 8, 1, 7 * 8, 8]),
            (vec![3, 1, 9000], vec![9001, 5, 1]),
            (vec![2, 2, 2, 2, 33], vec![2000, 900, 300, 100, 2]),
            (vec![], vec![]),
        ] {
            let input = Operand::strided(Element::F32, &sizes, &strides).unwrap();
            for threads in [1, 3] {
                let job = ranges(&sizes, &strides, threads).unwrap();
                assert!((1..=MOST_RANGES).contains(&job.parts()));
                // Each element in turn is the largest, and what is no element would be larger.
                let mut index = vec![0; sizes.len()];
                let count: usize = sizes.iter().product();
                let mut inside = vec![false; input.reach()];
                for _ in 0..count {
                    inside[index.iter().zip(&strides).map(|(i, s)| i * s).sum::<usize>()] = true;
                    for (i, n) in index.iter_mut().zip(&sizes).rev() {
                        *i = (*i + 1) % n;
                        if *i != 0 {
                            break;
                        }
                    }
                }
                let mut x: Vec<f32> = inside.iter().map(|&i| if i { 1.5 } else { 99.0 }).collect();
                let places: Vec<usize> = (0..x.len()).filter(|&i| inside[i]).collect();
                for &at in places.iter().step_by(places.len().div_ceil(300)) {
                    x[at] = 7.0;
                    let mut found = vec![f32::NAN; 2 * job.parts()];
                    run_alone(&*job, &[&x], &mut [&mut found]).unwrap();
                    assert_eq!(found.chunks(2).map(|r| r[1]).fold(0.0, f32::max), 7.0, "{sizes:?} {strides:?} at {at}");
                    assert!(found.chunks(2).all(|r| r[0] == 0.0));
                    x[at] = -3.0;
                    run_alone(&*job, &[&x], &mut [&mut found]).unwrap();
                    assert_eq!(found.chunks(2).map(|r| r[0]).fold(0.0, f32::min), -3.0);
                    x[at] = 1.5;
                }
            }
        }
    }

    #[test]
    fn scales_of_zeros_of_one_sign_and_of_no_numbers() {
        let of = |x: &[f32]| {
            let job = ranges(&[x.len()], &[1], 1).unwrap();
            let mut found = vec![f32::NAN; 2];
            run_alone(&*job, &[x], &mut [&mut found]).unwrap();
            scale_of([found[0], found[1]])
        };
        assert_eq!(of(&[0.0; 40]), (0.0, 0));
        assert_eq!(of(&[63.75; 3]), (0.25, 0));
        assert_eq!(of(&[-63.75, -0.1]), (0.25, 255));
        assert_eq!(of(&[-16.0, 47.75]), (0.25, 64));
        assert_eq!(of(&[f32::NAN, 63.75, f32::NAN]), (0.25, 0));
        assert_eq!(of(&[f32::INFINITY, 1.0]), (f32::INFINITY, 0));
        assert_eq!(of(&[f32::NEG_INFINITY, 1.0]), (f32::INFINITY, 0));
    }

    #[test]
    fn empty_tensors_and_no_parts() {
        let mut found = [f32::NAN; 2];
        run_alone(&*ranges(&[3, 0], &[1, 1], 2).unwrap(), &[&[0.0f32; 0]], &mut [&mut found]).unwrap();
        assert_eq!(found, [0.0; 2]);
        assert_eq!(scale(0).err().map(|e| e.kind()), Some(compresso_base::ErrorKind::Argument));
    }
}
