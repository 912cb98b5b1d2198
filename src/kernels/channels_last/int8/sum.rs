//! Sums of functions of bytes, and of an image of floats.

use super::super::job::{Args, Job, cut, share};
use super::super::operand::{Element, Operand, Operands};
use super::super::view::View;
use super::curve::Curve;
use super::spec::{Store, byte_input};
use super::store::Sink;
use crate::activation::{Activation, wide};
use crate::level::Level;
use compresso_base::error::{Error, Result};

/// A job with an input of bytes for each table, then one of float32 of any strides if there are `floats`, and the outputs of its store:
/// `real = act(tables[0][q0] + tables[1][q1] + … + x)`, added from the left.
///
/// # Errors
/// `Shape` when there is no table or not as many inputs, sizes differ, or an input of bytes is not channels last.
pub fn sum(
    tables: Vec<Box<[f32; 256]>>,
    inputs: Vec<View>,
    floats: Option<View>,
    act: Option<Activation>,
    store: &Store,
    threads: usize,
) -> Result<Box<dyn Job>> {
    let first = inputs.first().filter(|_| tables.len() == inputs.len());
    let first = first.ok_or_else(|| Error::shape(format!("a sum of {} tables and {} inputs", tables.len(), inputs.len())))?;
    if inputs.iter().chain(&floats).any(|v| v.size() != first.size()) {
        return Err(Error::shape(format!("a sum of images of different sizes: {inputs:?} {floats:?}")));
    }
    let mut reads = inputs.iter().map(byte_input).collect::<Result<Vec<_>>>()?;
    if let Some(view) = &floats {
        reads.push(Operand::image(Element::F32, view)?);
    }
    let operands = Operands::new(reads, store.outputs(first.height, first.width, first.channels)?)?;
    let chunk = (STAGE / first.channels.max(1)).clamp(1, first.width.max(1));
    let numbers = floats.is_none() && tables.iter().all(|t| t.iter().all(|v| v.is_finite()));
    let (sink, act) = Sink::new(Level::best(), store, act, numbers);
    let terms = tables.into_iter().map(Term::new).collect();
    Ok(Box::new(Sum { terms, operands, inputs, floats, act, sink, chunk, threads }))
}

/// Values that are staged at a time, unless a pixel has more.
const STAGE: usize = 1024;

/// On machines that look bytes up in vectors, a sum of two curves takes less time than the table of all pairs of bytes that [`super::binary`]
/// reads.
pub fn sums_of_curves_are_fast() -> bool {
    #[cfg(target_arch = "x86_64")]
    return super::bytes::has_vbmi();
    #[cfg(not(target_arch = "x86_64"))]
    return false;
}

/// A function of a byte.
pub(super) enum Term {
    Curve(Curve),
    /// `(q − zero) · scale`, to the bit.
    Affine {
        zero: i32,
        scale: f32,
    },
}

impl Term {
    pub fn new(table: Box<[f32; 256]>) -> Self {
        let zero = table.iter().position(|&v| v == 0.0).unwrap_or(0);
        let scale = if zero < 255 { table[zero + 1] } else { -table[254] };
        let affine = |q: usize| (q as i32 - zero as i32) as f32 * scale;
        match table.iter().enumerate().all(|(q, v)| v.to_bits() == affine(q).to_bits()) {
            true => Self::Affine { zero: zero as i32, scale },
            false => Self::Curve(Curve::new(table)),
        }
    }

    /// Writes a term of `count` pixels of a view, all channels of which lie together in `to`; adds it unless it is the `first`. `stage` holds
    /// bytes meanwhile.
    ///
    /// # Safety
    /// The pixels are readable; for each of their channels a float is writable, and initialized if it is added to, and a byte of the
    /// stage.
    unsafe fn add(&self, first: bool, from: *const u8, view: &View, count: usize, to: *mut f32, stage: *mut u8) {
        let (channels, pitch) = (view.channels, view.pixel);
        match self {
            // SAFETY: the caller's promise.
            Self::Curve(curve) => unsafe { curve.add(first, from, [count, channels, pitch], to, stage) },
            &Self::Affine { zero, scale } => {
                let (count, channels, pitch) = if pitch == channels { (1, count * channels, 0) } else { (count, channels, pitch) };
                wide(
                    #[inline(always)]
                    || {
                        for p in 0..count {
                            // SAFETY: the caller's promise: bytes of a pixel and its floats.
                            let (from, to) = unsafe {
                                let to = std::slice::from_raw_parts_mut(to.add(p * channels), channels);
                                (std::slice::from_raw_parts(from.add(p * pitch), channels), to)
                            };
                            line(first, from, zero, scale, to);
                        }
                    },
                );
            }
        }
    }
}

/// `to[i] = (from[i] − zero) · scale`, added to what is there unless it is the `first` term.
#[inline(always)]
fn line(first: bool, from: &[u8], zero: i32, scale: f32, to: &mut [f32]) {
    let value = |q: u8| (i32::from(q) - zero) as f32 * scale;
    match first {
        true => to.iter_mut().zip(from).for_each(|(to, &q)| *to = value(q)),
        false => to.iter_mut().zip(from).for_each(|(to, &q)| *to += value(q)),
    }
}

/// Adds `count` pixels of a view to floats that lie together.
///
/// # Safety
/// The pixels are readable, and for each of their channels there is a float.
unsafe fn add_floats(view: &View, count: usize, from: *const f32, to: *mut f32) {
    let (pixel, channel, channels) = (view.pixel, view.channel, view.channels);
    wide(
        #[inline(always)]
        || {
            for p in 0..count {
                // SAFETY: the caller's promise.
                unsafe {
                    let (from, to) = (from.add(p * pixel), std::slice::from_raw_parts_mut(to.add(p * channels), channels));
                    if channel == 1 {
                        let from = std::slice::from_raw_parts(from, channels);
                        to.iter_mut().zip(from).for_each(|(to, v)| *to += v);
                    } else {
                        to.iter_mut().enumerate().for_each(|(c, to)| *to += *from.add(c * channel));
                    }
                }
            }
        },
    );
}

struct Sum {
    terms: Vec<Term>,
    operands: Operands,
    inputs: Vec<View>,
    floats: Option<View>,
    act: Option<Activation>,
    sink: Sink,
    /// Pixels of a row that are staged at a time.
    chunk: usize,
    threads: usize,
}

impl Sum {
    fn staged(&self) -> usize {
        (self.chunk * self.inputs[0].channels).next_multiple_of(64)
    }
}

impl Job for Sum {
    fn name(&self) -> String {
        format!("int8 sum of {}{}", self.terms.len(), if self.floats.is_some() { " and floats" } else { "" })
    }
    fn operands(&self) -> &Operands {
        &self.operands
    }
    fn parts(&self) -> usize {
        let v = &self.inputs[0];
        cut(v.height, v.height * v.width * v.channels, self.threads)
    }
    fn scratch(&self) -> usize {
        // Reals before and after the activation, and bytes.
        self.staged() * 9
    }
    unsafe fn run(&self, part: usize, args: Args<'_>, scratch: *mut u8) {
        let (size, staged) = (&self.inputs[0], self.staged());
        let channels = size.channels;
        // SAFETY: parts of the scratch memory; rows of the inputs; a chunk of pixels of the outputs.
        unsafe {
            let (reals, after, bytes) = (scratch.cast::<f32>(), scratch.add(4 * staged).cast::<f32>(), scratch.add(8 * staged));
            for y in share(size.height, part, self.parts()) {
                for x in (0..size.width).step_by(self.chunk) {
                    let n = self.chunk.min(size.width - x);
                    for (i, (term, view)) in self.terms.iter().zip(&self.inputs).enumerate() {
                        term.add(i == 0, args.inputs[i].add(y * view.row + x * view.pixel), view, n, reals, bytes);
                    }
                    if let (Some(view), Some(from)) = (&self.floats, args.inputs.get(self.terms.len())) {
                        add_floats(view, n, from.cast::<f32>().add(y * view.row + x * view.pixel), reals);
                    }
                    let mut results = reals.cast_const();
                    if let Some(act) = self.act {
                        let count = n * channels;
                        act.forward(std::slice::from_raw_parts(reals, count), std::slice::from_raw_parts_mut(after, count));
                        results = after;
                    }
                    self.sink.write_reals(results, channels, 0..channels, y * size.width + x, n, bytes, args);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::reference;
    use super::*;
    use crate::channels_last::run_alone;

    #[test]
    fn sums_of_tables_as_floats_and_as_bytes() {
        for (count, channels, pitch) in [(1, 3, 5), (2, 17, 17), (3, 40, 64), (5, 1, 1)] {
            let view = View { height: 5, width: 7, channels, row: 7 * pitch, pixel: pitch, channel: 1 };
            // Curves and lines, the first a curve for an even count.
            let curve = |t: usize, q: usize| ((q * (t + 3)) % 97) as f32 * 0.1 - 4.0;
            let line = |t: usize, q: usize| (q as i32 - t as i32 * 100) as f32 * 0.07;
            let value = |t: usize, q: usize| if (t + count).is_multiple_of(2) { curve(t, q) } else { line(t, q) };
            let tables: Vec<Box<[f32; 256]>> = (0..count).map(|t| Box::new(std::array::from_fn(|q| value(t, q)))).collect();
            let images: Vec<Vec<u8>> = (0..count).map(|t| (0..view.reach()).map(|i| (i * 31 + t * 77) as u8).collect()).collect();
            let inputs: Vec<&[u8]> = images.iter().map(Vec::as_slice).collect();
            let gathered: Vec<Vec<u8>> = images.iter().map(|i| reference::gather(&view, i)).collect();
            let expected: Vec<f32> = (0..35 * channels)
                .map(|i| (1..count).fold(tables[0][usize::from(gathered[0][i])], |s, t| s + tables[t][usize::from(gathered[t][i])]))
                .collect();
            let dense = View::dense(5, 7, channels);
            let mut floats = vec![f32::NAN; 35 * channels];
            let job = sum(tables.clone(), vec![view; count], None, None, &Store::Floats { output: dense }, 2).unwrap();
            run_alone(&*job, &inputs, &mut [&mut floats]).unwrap();
            assert_eq!(floats, expected);
            let bytes = super::super::Bytes::whole(view);
            let store = Store::Bytes { inverse_scale: 8.0, zero: 100, outputs: vec![bytes] };
            let mut out = vec![7u8; view.reach()];
            run_alone(&*sum(tables.clone(), vec![view; count], None, None, &store, 2).unwrap(), &inputs, &mut [&mut out]).unwrap();
            let exact: Vec<u8> = expected.iter().map(|&r| reference::to_byte(r, 8.0, 100)).collect();
            assert_eq!(reference::gather(&view, &out), exact);
            let gaps = (0..view.reach()).filter(|i| i % pitch >= channels);
            assert!(gaps.map(|i| out[i]).all(|b| b == 7), "bytes between pixels stay");
            for act in [Activation::Relu, Activation::Clip { min: -1.0, max: 2.5 }, Activation::HardSwish] {
                let mut after = vec![0.0; expected.len()];
                act.forward(&expected, &mut after);
                run_alone(&*sum(tables.clone(), vec![view; count], None, Some(act), &store, 2).unwrap(), &inputs, &mut [&mut out]).unwrap();
                let exact: Vec<u8> = after.iter().map(|&r| reference::to_byte(r, 8.0, 100)).collect();
                assert_eq!(reference::gather(&view, &out), exact, "{act:?}");
            }
            for more in [View { row: 7 * (channels + 3), pixel: channels + 3, ..dense }, View::planes(5, 7, channels)] {
                let x: Vec<f32> = (0..more.reach()).map(|i| (i % 53) as f32 * 0.11 - 3.0).collect();
                let both: Vec<f32> = expected.iter().zip(reference::gather(&more, &x)).map(|(a, b)| (a + b).max(0.0)).collect();
                let act = Some(Activation::Relu);
                let from: Vec<*const u8> = inputs.iter().map(|i| i.as_ptr()).chain([x.as_ptr().cast()]).collect();
                let job = sum(tables.clone(), vec![view; count], Some(more), act, &Store::Floats { output: dense }, 2).unwrap();
                super::super::tests::run(&*job, &from, &[floats.as_mut_ptr().cast()]);
                assert_eq!(floats, both);
                let job = sum(tables.clone(), vec![view; count], Some(more), act, &store, 2).unwrap();
                super::super::tests::run(&*job, &from, &[out.as_mut_ptr()]);
                let exact: Vec<u8> = both.iter().map(|&r| reference::to_byte(r, 8.0, 100)).collect();
                assert_eq!(reference::gather(&view, &out), exact);
            }
        }
    }
}
