//! Scale and zero point of a tensor that are known only when it is there, as
//! [DynamicQuantizeLinear](https://onnx.ai/onnx/operators/onnx__DynamicQuantizeLinear.html) defines them: bytes from 0 to 255
//! for the range from the least to the largest value, with 0 in it.
//!
//! Two jobs find them, [`ranges`] on parts of the tensor and [`scale`] on what these have found; those that work with them
//! read them as two more inputs ([`super::quantize_measured`], [`super::Int8Conv::input_zero`]). A convolution can find the
//! ranges of what it makes while it is at hand ([`super::Int8Conv::ranges`]), which saves reading all of it again.

use super::super::job::{Args, Job, cut, share};
use super::super::operand::{Element, Operand, Operands};
use super::pack::LANES;
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
    // Short rows beside each other are looked at channel by channel, like pixels.
    let across = match (row, outer.first()) {
        ((n, 1), Some(&(count, stride))) if n <= SHORT => {
            outer.remove(0);
            (count, stride)
        }
        _ => (1, 0),
    };
    let each = if across.0 > 1 { (CHUNK / row.0).max(1) } else { CHUNK };
    let chunks = (if across.0 > 1 { across.0 } else { row.0 }).div_ceil(each);
    let pieces = outer.iter().fold(if empty { 0 } else { chunks }, |p, (n, _)| p * n);
    let parts = cut(pieces, pieces.saturating_mul(4 * CHUNK.min(row.0.saturating_mul(across.0))), threads).min(MOST_RANGES);
    let operands = Operands::new(vec![input], vec![Operand::strided(Element::F32, &[parts, 2], &[2, 1])?])?;
    Ok(Box::new(Ranges { operands, row, across, outer, each, chunks, pieces, parts }))
}

/// Most elements of a row that is short.
const SHORT: usize = 256;

struct Ranges {
    operands: Operands,
    /// Elements of a row and the stride from one to the next.
    row: (usize, usize),
    /// Short rows that lie evenly apart, and how far; else one.
    across: (usize, usize),
    /// The other axes, the fastest first.
    outer: Vec<(usize, usize)>,
    /// Elements, or short rows, of a piece.
    each: usize,
    /// Pieces of a row, or of rows that lie evenly apart.
    chunks: usize,
    pieces: usize,
    parts: usize,
}

impl Ranges {
    /// The least and the largest of a piece, from its `first` element or short row on, and of `range`.
    ///
    /// # Safety
    /// `from` is where its row, or the first of its rows, begins; all of them are readable.
    unsafe fn extend(&self, range: [f32; 2], from: *const f32, first: usize) -> [f32; 2] {
        let (n, step) = self.row;
        // SAFETY: the caller's promise.
        unsafe {
            if self.across.0 > 1 {
                let (count, apart) = self.across;
                let mut found = [[0.0; SHORT]; 2];
                let [low, high] = &mut found;
                widen(&mut low[..n], &mut high[..n], from.add(first * apart), apart, self.each.min(count - first));
                return extend(extend(range, &low[..n]), &high[..n]);
            }
            let (from, n) = (from.add(first * step), self.each.min(n - first));
            match step {
                1 => extend(range, std::slice::from_raw_parts(from, n)),
                _ => (0..n).fold(range, |range, i| one(range, *from.add(i * step))),
            }
        }
    }
}

/// The range with one more value in it; NaN is passed over.
#[inline(always)]
fn one([low, high]: [f32; 2], x: f32) -> [f32; 2] {
    [if x < low { x } else { low }, if x > high { x } else { high }]
}

/// The range, which has 0 in it, with the values.
fn extend(range: [f32; 2], values: &[f32]) -> [f32; 2] {
    let (blocks, rest) = values.as_chunks::<32>();
    let mut lanes = [[0.0f32; 32]; 2];
    wide(
        #[inline(always)]
        || {
            for block in blocks {
                for (i, &x) in block.iter().enumerate() {
                    [lanes[0][i], lanes[1][i]] = one([lanes[0][i], lanes[1][i]], x);
                }
            }
        },
    );
    rest.iter().chain(lanes.as_flattened()).fold(range, |range, &x| one(range, x))
}

/// Widens the ranges of channels, from `low` to `high`, by those of `count` pixels that lie `pitch` floats apart.
///
/// # Safety
/// The channels of the pixels are readable.
pub(super) unsafe fn widen(low: &mut [f32], high: &mut [f32], from: *const f32, pitch: usize, count: usize) {
    let (lows, low) = low.as_chunks_mut::<LANES>();
    let (highs, high) = high.as_chunks_mut::<LANES>();
    let whole = lows.len() * LANES;
    wide(
        #[inline(always)]
        || {
            for (block, (low, high)) in lows.iter_mut().zip(highs).enumerate() {
                let (mut a, mut b) = (*low, *high);
                for pixel in 0..count {
                    // SAFETY: the caller's promise.
                    let x = unsafe { from.add(pixel * pitch + block * LANES).cast::<[f32; LANES]>().read_unaligned() };
                    for i in 0..LANES {
                        [a[i], b[i]] = one([a[i], b[i]], x[i]);
                    }
                }
                (*low, *high) = (a, b);
            }
        },
    );
    for (channel, (low, high)) in low.iter_mut().zip(high).enumerate() {
        // SAFETY: the caller's promise.
        let values = (0..count).map(|pixel| unsafe { *from.add(pixel * pitch + whole + channel) });
        [*low, *high] = values.fold([*low, *high], one);
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
            let (first, mut index, mut at) = (piece % self.chunks * self.each, piece / self.chunks, 0);
            for &(n, stride) in &self.outer {
                at += index % n * stride;
                index /= n;
            }
            // SAFETY: elements of the input, which the caller promises.
            range = unsafe { self.extend(range, args.inputs[0].cast::<f32>().add(at), first) };
        }
        // SAFETY: this part's row of the output.
        unsafe { args.outputs[0].cast::<f32>().add(2 * part).cast::<[f32; 2]>().write(range) };
    }
}

/// What is known of the ranges of a tensor, or of some of its channels: an array `[images, parts, 2, channels]` of least and
/// largest values, those of the channels next to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Images, each with parts of its own.
    pub images: usize,
    /// Parts that an image has been cut into.
    pub parts: usize,
    /// Channels whose ranges are told apart.
    pub channels: usize,
    /// Floats from the ranges of one image to those of the next, from one part to the next, from the least values to the largest.
    pub strides: [usize; 3],
}

impl Found {
    /// What [`ranges`] finds in so many parts.
    pub fn in_parts(parts: usize) -> Self {
        Self { images: 1, parts, channels: 1, strides: [0, 2, 1] }
    }
}

/// A job from what is known of the ranges of a tensor's pieces, an input for each, to the scale, `[1]` of float32, and the zero point,
/// `[1]` of bytes. The scale of zeros alone is 0.
///
/// # Errors
/// `Argument` when there are no pieces, or one without ranges; `Shape` for strides that cannot be.
pub fn scale(pieces: &[Found]) -> Result<Box<dyn Job>> {
    if pieces.is_empty() || pieces.iter().any(|p| [p.images, p.parts, p.channels].contains(&0)) {
        return Err(Error::argument(format!("a scale is found from one range or more, got {pieces:?}")));
    }
    let one = |element| Operand::strided(element, &[1], &[1]);
    let piece = |f: &Found| {
        let [image, part, bound] = f.strides;
        Operand::strided(Element::F32, &[f.images, f.parts, 2, f.channels], &[image, part, bound, 1])
    };
    let read = pieces.iter().map(piece).collect::<Result<Vec<_>>>()?;
    Ok(Box::new(Scale { operands: Operands::new(read, vec![one(Element::F32)?, one(Element::U8)?])?, pieces: pieces.to_vec() }))
}

struct Scale {
    operands: Operands,
    pieces: Vec<Found>,
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
        let mut range = [0.0; 2];
        for (found, from) in self.pieces.iter().zip(args.inputs) {
            for row in 0..found.images * found.parts * 2 {
                let (bound, part, image) = (row % 2, row / 2 % found.parts, row / 2 / found.parts);
                let at = [image, part, bound].iter().zip(found.strides).map(|(i, stride)| i * stride).sum::<usize>();
                // SAFETY: a row of the input, which is aligned for floats.
                range = extend(range, unsafe { std::slice::from_raw_parts(from.cast::<f32>().add(at), found.channels) });
            }
        }
        let (scale, zero) = scale_of(range);
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
            (vec![2, 3, 70, 17], vec![3 * 70 * 40, 70 * 40, 40, 1]),
            (vec![2, 5, 300, 16], vec![9000 * 5, 9000, 24, 1]),
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
        for pieces in [vec![], vec![Found::in_parts(0)]] {
            assert_eq!(scale(&pieces).err().map(|e| e.kind()), Some(compresso_base::ErrorKind::Argument));
        }
    }
}
