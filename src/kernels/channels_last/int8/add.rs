//! Operations on two byte images: sums, and anything else by a table of all pairs.

use super::super::job::{Args, Job, cut, share};
use super::super::operand::{Operand, Operands};
use super::super::view::View;
use super::quant::Quant;
use super::spec::{Bytes, Int8Add, Store, byte_input, byte_outputs};
use super::store::Sink;
use crate::activation::{Activation, wide};
use crate::level::Level;
use compresso_base::error::{Error, Result};

/// A job with two inputs of bytes and the outputs of its store.
///
/// # Errors
/// `Shape` when sizes differ or an input is not channels last.
pub fn add(spec: &Int8Add) -> Result<Box<dyn Job>> {
    add_with(Level::best(), spec)
}

/// [`add`] with given instructions.
///
/// # Errors
/// As [`add`]; `Unavailable` when the machine lacks the instructions.
pub fn add_with(level: Level, spec: &Int8Add) -> Result<Box<dyn Job>> {
    level.check()?;
    let [a, b] = &spec.inputs;
    let operands = Operands::new(inputs(a, b)?, spec.store.outputs(a.height, a.width, a.channels)?)?;
    let chunk = (STAGE / a.channels.max(1)).clamp(1, a.width.max(1));
    let finite = spec.scales.iter().all(|s| s.is_finite());
    let (sink, act) = Sink::new(level, &spec.store, spec.act, finite);
    // All channels as bytes in one place, without a table, need no stage.
    let direct = match (&spec.store, act, sink.quant) {
        (Store::Bytes { outputs, .. }, None, Some(quant)) if level != Level::Portable => match outputs.as_slice() {
            [Bytes { view, table: None, .. }] if view.channels == a.channels => Some((*view, quant)),
            _ => None,
        },
        _ => None,
    };
    Ok(Box::new(Add { operands, sink, act, direct, spec: spec.clone(), chunk }))
}

/// Values that are staged at a time, unless a pixel has more.
const STAGE: usize = 2048;

struct Add {
    operands: Operands,
    spec: Int8Add,
    /// What the sink does not do.
    act: Option<Activation>,
    /// Where bytes go without a stage, and how they are made; the machine has vectors.
    direct: Option<(View, Quant)>,
    sink: Sink,
    /// Pixels of a row that are staged at a time.
    chunk: usize,
}

impl Add {
    fn staged(&self) -> usize {
        (self.chunk * self.spec.inputs[0].channels).next_multiple_of(64)
    }
    /// # Safety
    /// `n` bytes are readable at each of `from`, and as many floats writable at `to`.
    #[inline(always)]
    unsafe fn sum(&self, from: [*const u8; 2], n: usize, to: *mut f32) {
        let ([sa, sb], [za, zb]) = (self.spec.scales, self.spec.zeros.map(i32::from));
        for i in 0..n {
            // SAFETY: the caller's promise.
            unsafe {
                let (a, b) = (i32::from(*from[0].add(i)) - za, i32::from(*from[1].add(i)) - zb);
                *to.add(i) = a as f32 * sa + b as f32 * sb;
            }
        }
    }
}

impl Job for Add {
    fn name(&self) -> String {
        format!("int8 add {}", self.spec.inputs[0].channels)
    }
    fn operands(&self) -> &Operands {
        &self.operands
    }
    fn parts(&self) -> usize {
        let a = &self.spec.inputs[0];
        cut(a.height, a.height * a.width * a.channels, self.spec.threads)
    }
    fn scratch(&self) -> usize {
        // Reals before and after the activation, and bytes.
        self.staged() * 9
    }
    unsafe fn run(&self, part: usize, args: Args<'_>, scratch: *mut u8) {
        #[cfg(target_arch = "x86_64")]
        if let Some((view, quant)) = &self.direct {
            let [a, b] = &self.spec.inputs;
            let one = |v: &View| v.pixel == v.channels;
            let (count, n) = if one(a) && one(b) && one(view) { (1, a.width * a.channels) } else { (a.width, a.channels) };
            for y in share(a.height, part, self.parts()) {
                for x in 0..count {
                    // SAFETY: a row, or a pixel, of the three views.
                    unsafe {
                        let from = [args.inputs[0].add(y * a.row + x * a.pixel), args.inputs[1].add(y * b.row + x * b.pixel)];
                        let to = args.outputs[0].add(y * view.row + x * view.pixel);
                        x86::sum_row(&self.spec, *quant, from, n, to);
                    }
                }
            }
            return;
        }
        let _ = &self.direct;
        let ([a, b], staged) = (&self.spec.inputs, self.staged());
        let channels = a.channels;
        // SAFETY: parts of the scratch memory; rows of the inputs; a chunk of pixels of the outputs.
        unsafe {
            let (reals, after, bytes) = (scratch.cast::<f32>(), scratch.add(4 * staged).cast::<f32>(), scratch.add(8 * staged));
            for y in share(a.height, part, self.parts()) {
                for x in (0..a.width).step_by(self.chunk) {
                    let n = self.chunk.min(a.width - x);
                    let from = [args.inputs[0].add(y * a.row + x * a.pixel), args.inputs[1].add(y * b.row + x * b.pixel)];
                    wide(
                        #[inline(always)]
                        || {
                            if a.pixel == channels && b.pixel == channels {
                                return self.sum(from, n * channels, reals);
                            }
                            for i in 0..n {
                                self.sum([from[0].add(i * a.pixel), from[1].add(i * b.pixel)], channels, reals.add(i * channels));
                            }
                        },
                    );
                    let mut results = reals.cast_const();
                    if let Some(act) = self.act {
                        let results_of = std::slice::from_raw_parts_mut(after, n * channels);
                        act.forward(std::slice::from_raw_parts(reals, n * channels), results_of);
                        results = after;
                    }
                    self.sink.write_reals(results, channels, 0..channels, y * a.width + x, n, bytes, args);
                }
            }
        }
    }
}

/// A job from inputs a and b of bytes to one output of bytes: `y = table[a · 256 + b]`.
///
/// # Errors
/// `Shape` when sizes differ or a view is not channels last.
pub fn binary(table: Box<[u8; 65536]>, a: View, b: View, output: View, threads: usize) -> Result<Box<dyn Job>> {
    if output.channels != a.channels {
        return Err(Error::shape(format!(
            "an operation on two images must keep their channels, got {} and {}",
            a.channels, output.channels
        )));
    }
    let operands = Operands::new(inputs(&a, &b)?, byte_outputs(&[Bytes::whole(output)], a.height, a.width, a.channels)?)?;
    Ok(Box::new(Binary { table, operands, a, b, output, threads }))
}

/// Two images of one size.
fn inputs(a: &View, b: &View) -> Result<Vec<Operand>> {
    if a.size() != b.size() {
        return Err(Error::shape(format!("an operation on two images of different sizes: {a:?} {b:?}")));
    }
    Ok(vec![byte_input(a)?, byte_input(b)?])
}

struct Binary {
    table: Box<[u8; 65536]>,
    operands: Operands,
    a: View,
    b: View,
    output: View,
    threads: usize,
}

impl Job for Binary {
    fn name(&self) -> String {
        format!("int8 binary {}", self.a.channels)
    }
    fn operands(&self) -> &Operands {
        &self.operands
    }
    fn parts(&self) -> usize {
        cut(self.a.height, self.a.height * self.a.width * self.a.channels, self.threads)
    }
    unsafe fn run(&self, part: usize, args: Args<'_>, _scratch: *mut u8) {
        let (from_a, from_b, to) = (args.inputs[0], args.inputs[1], args.outputs[0]);
        for y in share(self.a.height, part, self.parts()) {
            for x in 0..self.a.width {
                for c in 0..self.a.channels {
                    // SAFETY: elements of the views, which the caller promises.
                    unsafe {
                        let a = *from_a.add(y * self.a.row + x * self.a.pixel + c);
                        let b = *from_b.add(y * self.b.row + x * self.b.pixel + c);
                        *to.add(y * self.output.row + x * self.output.pixel + c) = self.table[usize::from(a) * 256 + usize::from(b)];
                    }
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::super::quant::{Quant, Rounding};
    use super::Int8Add;
    use std::arch::x86_64::*;

    /// Sums of `n` bytes of both inputs.
    ///
    /// # Safety
    /// The machine has AVX2; they are readable at `from`, and as many writable at `to`, where nothing is read.
    #[target_feature(enable = "avx2")]
    pub unsafe fn sum_row(spec: &Int8Add, quant: Quant, from: [*const u8; 2], n: usize, to: *mut u8) {
        let rounding = Rounding::new(quant);
        let (scales, zeros) = (spec.scales.map(|s| _mm256_set1_ps(s)), spec.zeros.map(|z| _mm256_set1_epi32(i32::from(z))));
        // SAFETY: eight bytes inside the rows.
        let real = |input: usize, at: usize| unsafe {
            let q = _mm256_cvtepu8_epi32(_mm_loadl_epi64(from[input].add(at).cast()));
            _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_sub_epi32(q, zeros[input])), scales[input])
        };
        let sum = |at: usize| _mm256_add_ps(real(0, at), real(1, at));
        let mut done = 0;
        while n >= 16 && done < n {
            // The last vector may overlap the one before.
            let at = done.min(n - 16);
            let shorts = _mm256_permute4x64_epi64::<0xd8>(rounding.shorts(sum(at), sum(at + 8)));
            let bytes = _mm_packus_epi16(_mm256_castsi256_si128(shorts), _mm256_extracti128_si256::<1>(shorts));
            // SAFETY: 16 bytes inside the row.
            unsafe { _mm_storeu_si128(to.add(at).cast(), bytes) };
            done = at + 16;
        }
        for i in done..n {
            // SAFETY: inside the rows.
            unsafe {
                let real = |input: usize| (i32::from(*from[input].add(i)) - i32::from(spec.zeros[input])) as f32 * spec.scales[input];
                *to.add(i) = quant.byte(real(0) + real(1));
            }
        }
    }
}
