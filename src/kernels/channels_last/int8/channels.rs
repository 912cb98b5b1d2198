//! Functions of images channel by channel: a batch normalization, or what a gate multiplies, of bytes that stand for numbers.

use super::super::job::{Args, Job, cut, share};
use super::super::operand::{Element, Operand, Operands};
use super::super::view::View;
use super::spec::{Store, byte_input};
use super::store::Sink;
use super::sum::Term;
use crate::activation::{Activation, wide};
use crate::level::Level;
use compresso_base::error::{Error, Result};

/// Channels that follow those of the image before.
#[derive(Debug, Clone)]
pub struct Channels {
    /// Where the image lies; channels last where it has bytes.
    pub view: View,
    /// The number of each byte; `None`: the image has floats, of any strides.
    pub table: Option<Box<[f32; 256]>>,
}

/// What the numbers of each channel are multiplied with.
#[derive(Debug, Clone, PartialEq)]
pub enum Factors {
    /// `x · scale[c] + shift[c]`
    Constants {
        /// One factor for each channel of all images.
        scale: Vec<f32>,
        /// One summand for each.
        shift: Vec<f32>,
    },
    /// `x · factor[c]`, with factors that are one more input: an image of one pixel of float32, of any strides.
    Read(View),
}

/// `real = act(f(x))` of the channels of all images, then stored.
#[derive(Debug, Clone)]
pub struct ChannelMap {
    /// At least one, all of one height and width; the channels of each follow those of the image before.
    pub images: Vec<Channels>,
    /// A factor for each channel of all images; constants come with a summand.
    pub by: Factors,
    /// Applied then; `None`: results are stored as they are.
    pub act: Option<Activation>,
    /// Where results go, and as what.
    pub store: Store,
    /// Threads that the job is cut into parts for.
    pub threads: usize,
}

/// A job from images of one height and width, and the factors where they are read, to the outputs of its store.
///
/// # Errors
/// `Shape` when there is no image, sizes differ, or bytes are not channels last.
pub fn channel_map(spec: ChannelMap) -> Result<Box<dyn Job>> {
    channel_map_with(Level::best(), spec)
}

/// [`channel_map`] with given instructions.
///
/// # Errors
/// As [`channel_map`]; `Unavailable` when the machine lacks the instructions.
pub fn channel_map_with(level: Level, spec: ChannelMap) -> Result<Box<dyn Job>> {
    level.check()?;
    let ChannelMap { images, by, act, store, threads } = spec;
    let size = images.first().map(|i| [i.view.height, i.view.width]).ok_or_else(|| Error::shape("a map of no channels"))?;
    let channels = images.iter().try_fold(0usize, |n, i| n.checked_add(i.view.channels));
    let given = match &by {
        Factors::Constants { scale, shift } if scale.len() == shift.len() => Some(scale.len()),
        Factors::Constants { .. } => None,
        Factors::Read(view) => (view.height == 1 && view.width == 1).then_some(view.channels),
    };
    let Some(channels) = channels.filter(|n| given == Some(*n) && images.iter().all(|i| [i.view.height, i.view.width] == size)) else {
        return Err(Error::shape(format!("a map of {images:?} by {given:?} factors")));
    };
    let mut reads = Vec::new();
    for image in &images {
        reads.push(if image.table.is_some() { byte_input(&image.view)? } else { Operand::image(Element::F32, &image.view)? });
    }
    if let Factors::Read(view) = &by {
        reads.push(Operand::image(Element::F32, view)?);
    }
    let operands = Operands::new(reads, store.outputs(size[0], size[1], channels)?)?;
    let finite = |v: &[f32]| v.iter().all(|v| v.is_finite());
    let numbers = match &by {
        Factors::Constants { scale, shift } => {
            finite(scale) && finite(shift) && images.iter().all(|i| i.table.as_ref().is_some_and(|t| finite(&t[..])))
        }
        Factors::Read(_) => false,
    };
    let (sink, act) = Sink::new(level, &store, act, numbers);
    let chunk = (STAGE / channels.max(1)).clamp(1, size[1].max(1));
    let images = images.into_iter().map(|i| Image { view: i.view, term: i.table.map(Term::new) }).collect();
    Ok(Box::new(Map { operands, images, by, act, sink, size, channels, chunk, threads }))
}

/// Values that are staged at a time, unless a pixel has more.
const STAGE: usize = 2048;

struct Image {
    view: View,
    /// `None`: floats.
    term: Option<Term>,
}

struct Map {
    operands: Operands,
    images: Vec<Image>,
    by: Factors,
    act: Option<Activation>,
    sink: Sink,
    size: [usize; 2],
    channels: usize,
    /// Pixels of a row that are staged at a time.
    chunk: usize,
    threads: usize,
}

impl Map {
    fn staged(&self) -> usize {
        (self.chunk * self.channels).next_multiple_of(64)
    }

    /// Products of `n` pixels of an image whose channels begin with the `first`-th.
    ///
    /// # Safety
    /// The pixels are readable at `from` and writable at `to`, and all `read` factors are readable, where there are such.
    #[inline(always)]
    unsafe fn fill(&self, image: &Image, from: *const u8, n: usize, first: usize, to: *mut f32, read: *const f32) {
        // SAFETY: the caller's promise; there is a constant for each channel.
        unsafe {
            match &self.by {
                Factors::Constants { scale, shift } => {
                    let (a, b) = (scale.as_ptr().add(first), shift.as_ptr().add(first));
                    image.fill(from, n, |i, v| v * *a.add(i) + *b.add(i), to, self.channels);
                }
                Factors::Read(_) => {
                    let a = read.add(first);
                    image.fill(from, n, |i, v| v * *a.add(i), to, self.channels);
                }
            }
        }
    }
}

impl Image {
    /// `to[p, i] = f(i, x[p, i])` for `n` pixels, `pitch` floats apart.
    ///
    /// # Safety
    /// The pixels are readable at `from`, and writable.
    #[inline(always)]
    unsafe fn fill(&self, from: *const u8, n: usize, f: impl Fn(usize, f32) -> f32, to: *mut f32, pitch: usize) {
        let View { pixel, channel, channels, .. } = self.view;
        for p in 0..n {
            // SAFETY: a pixel of both.
            unsafe {
                let to = to.add(p * pitch);
                match &self.term {
                    None => {
                        let from = from.cast::<f32>().add(p * pixel);
                        if channel == 1 {
                            (0..channels).for_each(|i| to.add(i).write(f(i, *from.add(i))));
                        } else {
                            (0..channels).for_each(|i| to.add(i).write(f(i, *from.add(i * channel))));
                        }
                    }
                    Some(Term::Affine { zero, scale }) => {
                        let from = from.add(p * pixel);
                        (0..channels).for_each(|i| to.add(i).write(f(i, (i32::from(*from.add(i)) - zero) as f32 * scale)));
                    }
                    Some(Term::Curve(curve)) => {
                        // One pixel has no gaps that would need a stage.
                        curve.add(true, from.add(p * pixel), [1, channels, channels], to, std::ptr::null_mut());
                        (0..channels).for_each(|i| to.add(i).write(f(i, *to.add(i))));
                    }
                }
            }
        }
    }
}

impl Job for Map {
    fn name(&self) -> String {
        let what = if matches!(self.by, Factors::Read(_)) { "gate" } else { "scale and shift" };
        format!("int8 {what} {}", self.channels)
    }
    fn operands(&self) -> &Operands {
        &self.operands
    }
    fn parts(&self) -> usize {
        cut(self.size[0], self.size[0] * self.size[1] * self.channels, self.threads)
    }
    fn scratch(&self) -> usize {
        // Reals before and after the activation, factors, and bytes.
        self.staged() * 9 + (self.channels * 4).next_multiple_of(64)
    }
    unsafe fn run(&self, part: usize, args: Args<'_>, scratch: *mut u8) {
        let ([height, width], staged) = (self.size, self.staged());
        // SAFETY: parts of the scratch memory, each initialized before it is read; rows of the inputs; a chunk of pixels of the
        // outputs.
        unsafe {
            let (reals, after) = (scratch.cast::<f32>(), scratch.add(4 * staged).cast::<f32>());
            let (bytes, factors) = (scratch.add(8 * staged), scratch.add(9 * staged).cast::<f32>());
            if let Factors::Read(view) = &self.by {
                let from = args.inputs[self.images.len()].cast::<f32>();
                (0..self.channels).for_each(|c| factors.add(c).write(*from.add(c * view.channel)));
            }
            for y in share(height, part, self.parts()) {
                for x in (0..width).step_by(self.chunk) {
                    let n = self.chunk.min(width - x);
                    let mut first = 0;
                    for (image, from) in self.images.iter().zip(args.inputs) {
                        let view = &image.view;
                        let size = if image.term.is_some() { 1 } else { 4 };
                        let from = from.add((y * view.row + x * view.pixel) * size);
                        let to = reals.add(first);
                        wide(
                            #[inline(always)]
                            || self.fill(image, from, n, first, to, factors),
                        );
                        first += view.channels;
                    }
                    let count = n * self.channels;
                    let mut results = reals.cast_const();
                    if let Some(act) = self.act {
                        act.forward(std::slice::from_raw_parts(reals, count), std::slice::from_raw_parts_mut(after, count));
                        results = after;
                    }
                    self.sink.write_reals(results, self.channels, 0..self.channels, y * width + x, n, bytes, args);
                }
            }
        }
    }
}
