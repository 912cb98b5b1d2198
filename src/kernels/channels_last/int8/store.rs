//! Where results go: real numbers as they are, or as bytes of one or several views.

use super::super::job::Args;
use super::super::view::View;
use super::bytes::{Lookup, Pixels, copy_pixels, round_row};
use super::pack::LANES;
use super::quant::Quant;
use super::spec::{Bytes, Store};
use crate::activation::Activation;
use crate::level::Level;
use std::ops::Range;

/// Writes staged bytes to outputs.
pub(super) struct Writer {
    outputs: Vec<(View, usize, Option<Lookup>)>,
}

impl Writer {
    pub fn new(level: Level, outputs: &[Bytes]) -> Self {
        let ready = |o: &Bytes| (o.view, o.first, o.table.as_ref().map(|t| Lookup::new(level, t)));
        Self { outputs: outputs.iter().map(ready).collect() }
    }

    /// Writes the channels `channels` of `count` pixels, of which the first is pixel `first` of the image. At `from` is the
    /// first of these channels of the first; the other pixels follow `pitch` bytes apart.
    ///
    /// # Safety
    /// The staged bytes are readable, the outputs of `args` are writable over their views.
    pub unsafe fn write(&self, from: *const u8, pitch: usize, channels: Range<usize>, first: usize, count: usize, args: Args<'_>) {
        for ((view, at, lookup), to) in self.outputs.iter().zip(args.outputs) {
            let (start, end) = ((*at).max(channels.start), (at + view.channels).min(channels.end));
            if start >= end {
                continue;
            }
            for (run, place) in runs_of(view, first, count) {
                // SAFETY: pixels of the stage and of the view.
                unsafe {
                    let from = from.add(run.start * pitch + start - channels.start);
                    let to = to.add(place + start - at);
                    let (n, run) = (end - start, run.len());
                    match lookup {
                        None => copy_pixels(run, n, from, pitch, to, view.pixel),
                        Some(lookup) => lookup.apply(Pixels { count: run, bytes: n, from: pitch, to: view.pixel }, from, to),
                    }
                }
            }
        }
    }
}

/// A [`Store`] made ready: writes staged results to the outputs.
pub(super) struct Sink {
    level: Level,
    pub quant: Option<Quant>,
    writer: Writer,
    floats: Option<View>,
}

impl Sink {
    /// The sink for what an activation makes of reals, and the activation where it is left to do: bounds of reals none of which
    /// is NaN become bounds of bytes.
    pub fn new(level: Level, store: &Store, act: Option<Activation>, numbers: bool) -> (Self, Option<Activation>) {
        match store {
            Store::Floats { output } => (Self { level, quant: None, writer: Writer::new(level, &[]), floats: Some(*output) }, act),
            Store::Bytes { inverse_scale, zero, outputs } => {
                let plain = Quant::new(*inverse_scale, *zero);
                let bounded = act.filter(|_| numbers).and_then(|act| plain.after(act));
                let quant = Some(bounded.unwrap_or(plain));
                (Self { level, quant, writer: Writer::new(level, outputs), floats: None }, act.filter(|_| bounded.is_none()))
            }
        }
    }

    /// Writes bytes; arguments as for [`Writer::write`].
    ///
    /// # Safety
    /// As [`Writer::write`]; the store has bytes.
    pub unsafe fn write_bytes(&self, from: *const u8, pitch: usize, channels: Range<usize>, first: usize, count: usize, args: Args<'_>) {
        // SAFETY: the caller's promise.
        unsafe { self.writer.write(from, pitch, channels, first, count, args) };
    }

    /// Writes reals of a pixel or more; arguments as for [`Writer::write`], `pitch` in floats. `stage` holds their bytes meanwhile.
    ///
    /// # Safety
    /// The reals are initialized. `stage` is writable for `count · pitch` bytes if the store has bytes. The outputs of `args`
    /// are writable over their views.
    pub unsafe fn write_reals(
        &self,
        from: *const f32,
        pitch: usize,
        channels: Range<usize>,
        first: usize,
        count: usize,
        stage: *mut u8,
        args: Args<'_>,
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            if let Some(view) = &self.floats {
                write_floats(view, from, pitch, channels, first, count, args.outputs[0].cast());
            } else if let Some(quant) = self.quant {
                round_row(self.level, quant, from, (count - 1) * pitch + channels.len(), stage);
                self.writer.write(stage, pitch, channels, first, count, args);
            }
        }
    }
}

/// The pixels `first..first + count` of an image of so many columns, as ranges of `0..count` that lie in one row.
pub(super) fn runs(width: usize, first: usize, count: usize) -> impl Iterator<Item = Range<usize>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = at;
        at += (count - at).min(width - (first + at) % width);
        (start < count).then_some(start..at)
    })
}

/// As [`runs`], or one run if the view has no gaps between rows; with the elements from its first to that of each run.
fn runs_of(view: &View, first: usize, count: usize) -> impl Iterator<Item = (Range<usize>, usize)> {
    let gapless = view.row == view.width * view.pixel;
    let (width, row, pixel) = (if gapless { usize::MAX } else { view.width }, view.row, view.pixel);
    let at = move |p: usize| if gapless { p * pixel } else { p / width * row + p % width * pixel };
    runs(width, first, count).map(move |run| (run.clone(), at(first + run.start)))
}

/// Writes staged floats to an output of any strides; arguments as for [`Writer::write`], `pitch` in floats.
///
/// # Safety
/// The staged floats are readable and `to` is writable over the view.
unsafe fn write_floats(view: &View, from: *const f32, pitch: usize, channels: Range<usize>, first: usize, count: usize, to: *mut f32) {
    let n = channels.len();
    for (run, place) in runs_of(view, first, count) {
        // SAFETY: pixels of the stage and of the view.
        unsafe {
            let from = from.add(run.start * pitch);
            let to = to.add(place + channels.start * view.channel);
            let run = run.len();
            if view.channel == 1 {
                for i in 0..run {
                    copy(from.add(i * pitch), to.add(i * view.pixel), n);
                }
            } else {
                for c in 0..n {
                    for i in 0..run {
                        *to.add(i * view.pixel + c * view.channel) = *from.add(i * pitch + c);
                    }
                }
            }
        }
    }
}

/// Copies `n` floats, many at a time: a call costs more than the few that a pixel mostly has.
///
/// # Safety
/// They are readable and writable, and lie apart.
#[inline(always)]
unsafe fn copy(from: *const f32, to: *mut f32, n: usize) {
    let mut at = 0;
    // SAFETY: the caller's promise.
    unsafe {
        while at + LANES <= n {
            to.add(at).cast::<[f32; LANES]>().write_unaligned(from.add(at).cast::<[f32; LANES]>().read_unaligned());
            at += LANES;
        }
        from.add(at).copy_to_nonoverlapping(to.add(at), n - at);
    }
}
