//! Convolution of bytes with 8-bit weights.

use super::super::job::{Args, Job, about, share};
use super::super::operand::{Element, MAX_ELEMENTS, Operand, Operands};
use super::super::spec::{fits, product};
use super::super::view::View;
use super::measure::{MOST_RANGES, widen};
use super::pack::{self, Ends, LANES, Panel};
use super::source::{Band, Strides, unpadded};
use super::spec::{Bytes, Int8Conv, MAX_DEPTH, MAX_WIDE_DEPTH, Store, byte_input};
use super::store::{Sink, runs};
use super::tile::{MAX_PIXELS, MOST_PANELS, TileKernel};
use crate::activation::Activation;
use crate::level::Level;
use crate::window::Window2;
use compresso_base::error::{Error, Result};

/// A job with one input of bytes (and a scale and a zero point where they are measured) and the outputs of its store, then the
/// ranges where they are asked for. `weights: [out, in / groups, kh, kw]`.
///
/// # Errors
/// `Shape` when sizes do not agree; `Argument` when ranges are asked for of results that are stored as bytes; `Unsupported` when sums are longer than [`MAX_DEPTH`] or a window spans 4 GiB.
pub fn conv(spec: &Int8Conv, weights: &[i8]) -> Result<Box<dyn Job>> {
    conv_with(Level::best(), spec, weights)
}

/// [`conv`] with given instructions.
///
/// # Errors
/// As [`conv`]; `Unavailable` when the machine lacks the instructions.
pub fn conv_with(level: Level, spec: &Int8Conv, weights: &[i8]) -> Result<Box<dyn Job>> {
    let weights: Vec<i16> = weights.iter().map(|&w| i16::from(w)).collect();
    build(level, spec, &weights, MAX_DEPTH)
}

/// [`conv`] with weights of at most 255 either way: bytes less a zero point.
///
/// # Errors
/// As [`conv`], with [`MAX_WIDE_DEPTH`]; `Argument` for a larger weight.
pub fn conv_wide(spec: &Int8Conv, weights: &[i16]) -> Result<Box<dyn Job>> {
    conv_wide_with(Level::best(), spec, weights)
}

/// [`conv_wide`] with given instructions.
///
/// # Errors
/// As [`conv_wide`]; `Unavailable` when the machine lacks the instructions.
pub fn conv_wide_with(level: Level, spec: &Int8Conv, weights: &[i16]) -> Result<Box<dyn Job>> {
    match weights.iter().find(|w| w.unsigned_abs() > 255) {
        Some(w) => Err(Error::argument(format!("weights of bytes less a zero point are at most 255 either way, got {w}"))),
        None => build(level, spec, weights, MAX_WIDE_DEPTH),
    }
}

fn build(level: Level, spec: &Int8Conv, weights: &[i16], most: usize) -> Result<Box<dyn Job>> {
    level.check()?;
    let (w, outs, input) = (&spec.window, spec.scales.len(), &spec.input);
    fits(w, input, w.output[0], w.output[1])?;
    if spec.groups == 0 || !input.channels.is_multiple_of(spec.groups) || !outs.is_multiple_of(spec.groups) || outs == 0 {
        return Err(Error::shape(format!("{} groups of {} input and {outs} output channels", spec.groups, input.channels)));
    }
    let per_in = input.channels / spec.groups;
    let depth = product(&[per_in, w.kernel[0], w.kernel[1]]).filter(|depth| *depth <= most);
    let depth = depth.ok_or_else(|| Error::unsupported(format!("sums of more than {most} products: {per_in} channels under {w:?}")))?;
    if product(&[outs, depth]) != Some(weights.len()) || spec.bias.len() != outs {
        let (found, bias) = (weights.len(), spec.bias.len());
        return Err(Error::shape(format!("{found} weights and a bias of {bias} for {outs} output channels, each of {depth} products")));
    }

    let depthwise = per_in == 1 && outs == spec.groups && outs > 1;
    let tile = if depthwise { TileKernel::depthwise(level) } else { TileKernel::dense(level) };
    // A depthwise tile reads a byte of each of its channels, other tiles four bytes of each group.
    let (groups, span) = if depthwise { (1, outs.next_multiple_of(LANES)) } else { (spec.groups, per_in.next_multiple_of(4)) };
    let direct = unpadded(w) && groups * span == input.channels;
    let band = (!direct).then_some(Band { window: *w, input: *input, groups, span });
    let (bytes, taps) = match &band {
        None => (Some(0), [w.dilation[0].checked_mul(input.row), w.dilation[1].checked_mul(input.pixel)]),
        Some(band) => (band.least(), band.taps()),
    };
    let last = |d: usize| taps[d].and_then(|tap| tap.checked_mul(w.kernel[d] - 1));
    let furthest = last(0).and_then(|y| last(1)?.checked_add(y)).and_then(|at| at.checked_add(groups * span));
    let (Some(taps), true, true) =
        (taps[0].zip(taps[1]), bytes.is_some_and(|n| n <= MAX_ELEMENTS), furthest.is_some_and(|at| at <= u32::MAX as usize))
    else {
        return Err(Error::unsupported(format!("a window that spans more than 4 GiB: {w:?} over {input:?}")));
    };
    let read = byte_input(input)?;
    let read = if band.is_some_and(|b| b.reads_gaps()) { read.whole() } else { read };
    let measured = match spec.input_zero {
        Some(_) => Vec::new(),
        None => vec![Operand::strided(Element::F32, &[1], &[1])?, Operand::strided(Element::U8, &[1], &[1])?],
    };
    let panels = match depthwise {
        true => pack::depthwise(spec, weights, [taps.0, taps.1]),
        false => pack::dense(spec, weights, [taps.0, taps.1, span], tile.grouped),
    };
    let bytes = panels.iter().map(|p| p.steps.len()).sum::<usize>() * LANES * 4;
    let pixels = about(&w.output);
    let image = about(&[w.input[0], w.input[1], groups * span]);
    let macs = about(&[w.output[0], w.output[1], weights.len()]);
    let most = if spec.ranges { MOST_RANGES } else { usize::MAX };
    let [rows, columns] = cut_up(spec.threads, most, [w.output[0], panels.len()], macs, [bytes, image]);
    let mut written = spec.store.outputs(w.output[0], w.output[1], outs)?;
    if spec.ranges {
        if matches!(spec.store, Store::Bytes { .. }) {
            return Err(Error::argument("ranges are those of real results: bytes have theirs by their scale"));
        }
        written.push(Operand::strided(Element::F32, &[rows * columns, 2, outs], &[2 * outs, outs, 1])?);
    }
    let operands = Operands::new([vec![read], measured].concat(), written)?;
    let finite = |v: &[f32]| v.iter().all(|v| v.is_finite());
    // A sum of a finite number and a product of finite numbers may be infinite, but is a number.
    let numbers = spec.input_zero.is_some() && finite(&spec.scales) && finite(&spec.bias);
    let (sink, act) = Sink::new(level, &spec.store, spec.act, numbers);
    // Whole panels that go to one place as they are, need no stage.
    let direct = match &spec.store {
        Store::Bytes { outputs, .. } if act.is_none() && panels.iter().all(|p| p.end - p.first == LANES) => match outputs.as_slice() {
            [Bytes { view, table: None, .. }] if view.channels == outs && (view.height == 1 || view.row == view.width * view.pixel) => {
                Some(*view)
            }
            _ => None,
        },
        _ => None,
    };
    // Bytes that go where they belong at once, weights that are read less often, and few pixels.
    let long = direct.is_some() || pixels <= MAX_PIXELS || bytes > LARGE_WEIGHTS && act.is_none();
    Ok(Box::new(Conv {
        direct,
        name: format!("int8 conv {}x{} {}→{outs} {}", w.kernel[0], w.kernel[1], input.channels, tile.name),
        operands,
        chunk: if long { MAX_PIXELS } else { MAX_PIXELS / 2 },
        pitch: panels.last().map_or(0, |p| p.first + LANES),
        window: *w,
        strides: band.map_or(Strides { row: w.stride[0] * input.row, pixel: w.stride[1] * input.pixel }, |b| b.strides()),
        act,
        tile,
        zero: spec.input_zero,
        band,
        alike: panels.windows(2).all(|p| p[0].offsets == p[1].offsets),
        panels,
        sink,
        rows,
        columns,
        ranges: spec.ranges.then_some(outs),
    }))
}

/// Parts along output rows and along panels, `limit` at most. A part reads the weights of its panels and the image under its rows: of the ways to
/// give each thread a few parts, the one that takes least by an estimate of arithmetic, with what is left over at the end,
/// and of reading, in bytes that take as long.
fn cut_up(threads: usize, limit: usize, most: [usize; 2], macs: usize, [weights, image]: [usize; 2]) -> [usize; 2] {
    /// Multiplications while a byte is read from the second-level cache or beyond.
    const MACS_PER_BYTE: f64 = 6.0;
    /// Bytes that take as long as the start of a part.
    const START: f64 = 16_384.0;
    let threads = threads.clamp(1, 1 << 10);
    if threads == 1 {
        return [1, 1];
    }
    let wanted = (threads * 4).min(limit / 2);
    let least = wanted.min(most[0].saturating_mul(most[1])).min(threads + macs / (1 << 18));
    let each = |most: usize| 1..=most.min(2 * wanted);
    let ways = each(most[0]).flat_map(|r| each(most[1]).map(move |c| [r, c]));
    let fits = |[r, c]: &[usize; 2]| (least..=2 * wanted).contains(&(r * c));
    let cost = |[r, c]: [usize; 2]| {
        let share = most[0].div_ceil(r) as f64 / most[0] as f64 * most[1].div_ceil(c) as f64 / most[1] as f64;
        let arithmetic = macs as f64 / MACS_PER_BYTE * share * (r * c).div_ceil(threads) as f64;
        arithmetic + (r as f64 * weights as f64 + c as f64 * 2.0 * image as f64 + START * (r * c) as f64) / threads as f64
    };
    ways.filter(fits).min_by(|&a, &b| cost(a).total_cmp(&cost(b))).unwrap_or([1, 1])
}

/// Weights of more bytes are read less often, for more pixels at a time.
const LARGE_WEIGHTS: usize = 1 << 17;

struct Conv {
    name: String,
    operands: Operands,
    window: Window2,
    tile: TileKernel,
    /// `None`: it is measured.
    zero: Option<u8>,
    /// `None`: windows read the input itself.
    band: Option<Band>,
    strides: Strides,
    panels: Vec<Panel>,
    /// All panels have the same offsets.
    alike: bool,
    act: Option<Activation>,
    sink: Sink,
    /// An output of bytes that tiles write themselves.
    direct: Option<View>,
    /// Pixels that the panels take turns on.
    chunk: usize,
    /// Most staged results of a pixel: all output channels, and what tiles write beyond.
    pitch: usize,
    /// Parts along output rows and along panels.
    rows: usize,
    columns: usize,
    /// The channels whose ranges are found.
    ranges: Option<usize>,
}

/// Offsets in the scratch memory.
struct Scratch {
    /// float32 results before and after the activation.
    reals: usize,
    after: usize,
    bytes: usize,
    end: usize,
}

impl Conv {
    fn staged_floats(&self) -> bool {
        self.act.is_some() || self.sink.quant.is_none()
    }
    fn band_rows(&self) -> usize {
        let most = self.window.output[0].div_ceil(self.rows);
        self.band.map_or(most, |b| b.outputs().min(most))
    }
    #[inline]
    fn scratch_parts(&self) -> Scratch {
        let results = self.chunk * self.pitch;
        let reals = self.band.map_or(0, |b| b.len(self.band_rows())).next_multiple_of(64);
        let after = reals + if self.staged_floats() { (results * 4).next_multiple_of(64) } else { 0 };
        let bytes = after + if self.act.is_some() { (results * 4).next_multiple_of(64) } else { 0 };
        let end = bytes + if self.sink.quant.is_some() { results } else { 0 };
        Scratch { reals, after, bytes, end }
    }

    /// The least and the largest results of each channel that a part has found, where it looks for them.
    ///
    /// # Safety
    /// As [`Job::run`]; no other reference to the part's ranges is held.
    unsafe fn ranges_of<'a>(&self, part: usize, args: Args<'a>) -> Option<[&'a mut [f32]; 2]> {
        let (channels, to) = (self.ranges?, args.outputs.last()?);
        // SAFETY: the part's rows of the last output, which is aligned for floats.
        let both = unsafe { std::slice::from_raw_parts_mut(to.cast::<f32>().add(part * 2 * channels), 2 * channels) };
        let (low, high) = both.split_at_mut(channels);
        Some([low, high])
    }

    /// Finishes `count` staged pixels, `pitch` results apart, the first being pixel `first` of the output.
    ///
    /// # Safety
    /// As [`Job::run`]; the panels `panels` have written all results of `count` pixels.
    unsafe fn finish(
        &self,
        panels: &[Panel],
        pitch: usize,
        (first, count): (usize, usize),
        args: Args<'_>,
        scratch: *mut u8,
        ranges: Option<&mut [&mut [f32]; 2]>,
    ) {
        let at = self.scratch_parts();
        let (Some(from), Some(to)) = (panels.first(), panels.last()) else { return };
        let channels = from.first..to.end;
        // SAFETY: parts of the scratch memory, initialized by the panels or before them.
        unsafe {
            let mut reals = scratch.add(at.reals).cast::<f32>();
            if let Some(act) = self.act {
                let n = count * pitch;
                let after = scratch.add(at.after).cast::<f32>();
                act.forward(std::slice::from_raw_parts(reals, n), std::slice::from_raw_parts_mut(after, n));
                reals = after;
            }
            if let Some([low, high]) = ranges {
                widen(&mut low[channels.clone()], &mut high[channels.clone()], reals, pitch, count);
            }
            let bytes = scratch.add(at.bytes);
            if self.staged_floats() {
                self.sink.write_reals(reals, pitch, channels, first, count, bytes, args);
            } else {
                self.sink.write_bytes(bytes, pitch, channels, first, count, args);
            }
        }
    }
}

impl Job for Conv {
    fn name(&self) -> String {
        self.name.clone()
    }
    fn operands(&self) -> &Operands {
        &self.operands
    }
    fn parts(&self) -> usize {
        self.rows * self.columns
    }
    fn scratch(&self) -> usize {
        self.scratch_parts().end
    }
    unsafe fn run(&self, part: usize, args: Args<'_>, scratch: *mut u8) {
        let at = self.scratch_parts();
        let panels = &self.panels[share(self.panels.len(), part % self.columns, self.columns)];
        let rows = share(self.window.output[0], part / self.columns, self.rows);
        let width = self.window.output[1];
        let (stage, wide, quant) = if self.staged_floats() { (at.reals, 4, None) } else { (at.bytes, 1, self.sink.quant) };
        // Stages hold what the panels of this part write, from the first channel to beyond the last.
        let (Some(lowest), Some(last)) = (panels.first().map(|p| p.first), panels.last()) else { return };
        let staged = last.first + LANES - lowest;
        let measured = match self.zero {
            Some(_) => None,
            // SAFETY: the scale and the zero point, which the job declares after the image.
            None => Some(unsafe { (*args.inputs[1].cast::<f32>(), *args.inputs[2]) }),
        };
        let zero = self.zero.or(measured.map(|m| m.1)).unwrap_or(0);
        // SAFETY: this part's, of which there is no other reference.
        let mut ranges = unsafe { self.ranges_of(part, args) };
        ranges.iter_mut().flatten().for_each(|bounds| bounds.fill(0.0));
        let mut bases = [std::ptr::null::<u8>(); MAX_PIXELS];
        for y in rows.clone().step_by(self.band_rows().max(1)) {
            let height = self.band_rows().min(rows.end - y);
            // SAFETY: the caller's promise about the input; the scratch memory begins with the band.
            let base = unsafe {
                match &self.band {
                    Some(band) => {
                        band.fill(zero, y, height, args.inputs[0], scratch);
                        scratch.cast_const()
                    }
                    None => args.inputs[0].add(y * self.strides.row),
                }
            };
            let mut first = 0;
            while first < height * width {
                let mut count = self.chunk.min(height * width - first);
                // Tiles write whole pixels only: what is left of them goes through the stage.
                let direct = self.direct.filter(|_| count >= self.tile.pixels);
                if direct.is_some() {
                    count -= count % self.tile.pixels;
                }
                let padded = count.next_multiple_of(self.tile.pixels);
                for i in runs(width, first, count) {
                    let row =
                        base.wrapping_add((first + i.start) / width * self.strides.row + (first + i.start) % width * self.strides.pixel);
                    let at = bases[i].iter_mut().enumerate();
                    at.for_each(|(x, to)| *to = row.wrapping_add(x * self.strides.pixel));
                }
                let last = bases[count - 1];
                bases[count..padded].fill(last);
                let (start, pitch) = match direct {
                    Some(view) => (args.outputs[0].wrapping_add((y * width + first) * view.pixel + lowest), view.pixel),
                    None => (scratch.wrapping_add(stage), staged * wide),
                };
                let to = |panel: &Panel| start.wrapping_add((panel.first - lowest) * wide);
                let at = &bases[..padded];
                let mut left = panels;
                // SAFETY: the level was detected; windows lie in the band or the input; the stage has a pitch per pixel of a chunk,
                // which tiles divide; the output has all channels of all panels for each pixel.
                unsafe {
                    while !left.is_empty() {
                        let (count, run) = self.tile.next(if self.alike { left.len() } else { 1 });
                        let some = &left[..count];
                        let panels: [&Panel; MOST_PANELS] = std::array::from_fn(|i| &some[i.min(count - 1)]);
                        let own: [Option<Ends>; MOST_PANELS] =
                            std::array::from_fn(|i| measured.filter(|_| i < count).map(|(scale, zero)| panels[i].measured(scale, zero)));
                        let ends: [&Ends; MOST_PANELS] = std::array::from_fn(|i| own[i].as_ref().unwrap_or(&panels[i].ends));
                        let to = panels.map(to);
                        run(&panels[..count], &ends[..count], at, &to[..count], pitch, quant);
                        left = &left[count..];
                    }
                }
                if direct.is_none() {
                    // SAFETY: as above.
                    unsafe { self.finish(panels, staged, (y * width + first, count), args, scratch, ranges.as_mut()) };
                }
                first += count;
            }
        }
    }
}
