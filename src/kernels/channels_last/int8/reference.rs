//! The plain definitions. Results are dense channels-last vectors `[height, width, channels]`.

use super::super::view::View;
use super::channels::{ChannelMap, Factors};
use super::spec::{AveragePool, Bytes, Int8Add, Int8Conv, Store};
use crate::activation::Activation;
use crate::window::Window2;

/// The values of a view, dense.
pub fn gather<T: Copy>(view: &View, from: &[T]) -> Vec<T> {
    let mut values = Vec::with_capacity(view.height * view.width * view.channels);
    for y in 0..view.height {
        for x in 0..view.width {
            values.extend((0..view.channels).map(|c| from[y * view.row + x * view.pixel + c * view.channel]));
        }
    }
    values
}

/// Writes dense values where a view says.
pub fn scatter<T: Copy>(view: &View, values: &[T], to: &mut [T]) {
    for y in 0..view.height {
        for x in 0..view.width {
            for c in 0..view.channels {
                to[y * view.row + x * view.pixel + c * view.channel] = values[(y * view.width + x) * view.channels + c];
            }
        }
    }
}

/// `clamp(round_ties_even(real · inverse_scale) + zero, 0, 255)`; NaN gives 0.
pub fn to_byte(real: f32, inverse_scale: f32, zero: u8) -> u8 {
    let t = real * inverse_scale;
    if t.is_nan() { 0 } else { (f64::from(t).round_ties_even() + f64::from(zero)).clamp(0.0, 255.0) as u8 }
}

/// The real results of a convolution of the dense bytes `x`; `weights: [out, in / groups, kh, kw]`. Of a measured input: those
/// for a scale of 1 and a zero point of 0.
pub fn conv<W: Copy + Into<i64>>(spec: &Int8Conv, weights: &[W], x: &[u8]) -> Vec<f32> {
    let (w, channels, outs) = (&spec.window, spec.input.channels, spec.scales.len());
    let (per_in, per_out, taps) = (channels / spec.groups, outs / spec.groups, w.kernel[0] * w.kernel[1]);
    let mut reals = Vec::with_capacity(w.output[0] * w.output[1] * outs);
    for oy in 0..w.output[0] {
        for ox in 0..w.output[1] {
            let mut sums = vec![0i64; outs];
            for ky in 0..w.kernel[0] {
                for kx in 0..w.kernel[1] {
                    let Some((y, x_at)) = read(w, [oy, ox], [ky, kx]) else { continue };
                    let pixel = &x[(y * w.input[1] + x_at) * channels..][..channels];
                    for (o, sum) in sums.iter_mut().enumerate() {
                        for c in 0..per_in {
                            let q = i64::from(pixel[o / per_out * per_in + c]) - i64::from(spec.input_zero.unwrap_or(0));
                            *sum += q * weights[(o * per_in + c) * taps + ky * w.kernel[1] + kx].into();
                        }
                    }
                }
            }
            reals.extend(sums.iter().enumerate().map(|(o, &sum)| sum as i32 as f32 * spec.scales[o] + spec.bias[o]));
        }
    }
    activate(spec.act, reals)
}

/// The input position under a tap, if it is not in the padding.
fn read(w: &Window2, out: [usize; 2], tap: [usize; 2]) -> Option<(usize, usize)> {
    let at = |d: usize| (out[d] * w.stride[d] + tap[d] * w.dilation[d]).checked_sub(w.pad[d]).filter(|&i| i < w.input[d]);
    Some((at(0)?, at(1)?))
}

/// Bytes of dense reals of `channels` for one output.
pub fn bytes(reals: &[f32], channels: usize, inverse_scale: f32, zero: u8, output: &Bytes) -> Vec<u8> {
    let all: Vec<u8> = reals.iter().map(|&r| to_byte(r, inverse_scale, zero)).collect();
    through(&all, channels, output)
}

/// The channels that an output takes of dense bytes, through its table.
pub fn through(all: &[u8], channels: usize, output: &Bytes) -> Vec<u8> {
    let taken = all.chunks_exact(channels).flat_map(|pixel| &pixel[output.first..][..output.view.channels]);
    taken.map(|&q| output.table.as_ref().map_or(q, |t| t[usize::from(q)])).collect()
}

/// Largest byte under the window of each channel; 0 where the window holds nothing.
pub fn max_pool(w: &Window2, channels: usize, x: &[u8]) -> Vec<u8> {
    pooled(w, channels, |c, under| under.iter().map(|at| x[at * channels + c]).max().unwrap_or(0))
}

/// The real results of an average pool of the dense bytes `x`.
pub fn average_pool(spec: &AveragePool, x: &[u8]) -> Vec<f32> {
    let (w, channels) = (&spec.window, spec.input.channels);
    let mut reals = Vec::new();
    if let Some(table) = &spec.table {
        let sum = |c: usize, under: &[usize]| -> f32 {
            let mut columns: Vec<(usize, f32)> = Vec::new();
            for at in under {
                let (column, number) = (at % w.input[1], table[usize::from(x[at * channels + c])]);
                match columns.iter_mut().find(|c| c.0 == column) {
                    Some(sum) => sum.1 += number,
                    None => columns.push((column, number)),
                }
            }
            columns.iter().fold(0.0, |sum, column| sum + column.1)
        };
        let sums = pooled(w, channels, sum).into_iter().enumerate();
        let count = |i: usize| spec.count([i / channels / w.output[1], i / channels % w.output[1]]) as f32;
        return sums.map(|(i, sum)| sum / count(i)).collect();
    }
    let sum =
        |c: usize, under: &[usize]| -> i32 { under.iter().map(|at| i32::from(x[at * channels + c]) - i32::from(spec.input_zero)).sum() };
    for (i, sum) in pooled(w, channels, sum).into_iter().enumerate() {
        let pixel = i / channels;
        let count = spec.count([pixel / w.output[1], pixel % w.output[1]]);
        reals.push(sum as f32 * (spec.scale / count as f32));
    }
    reals
}

/// `f(channel, input pixels under the window)` for each result.
fn pooled<T>(w: &Window2, channels: usize, f: impl Fn(usize, &[usize]) -> T) -> Vec<T> {
    let mut values = Vec::new();
    for oy in 0..w.output[0] {
        for ox in 0..w.output[1] {
            let taps = (0..w.kernel[0]).flat_map(|ky| (0..w.kernel[1]).map(move |kx| [ky, kx]));
            let under: Vec<usize> = taps.filter_map(|tap| read(w, [oy, ox], tap)).map(|(y, x)| y * w.input[1] + x).collect();
            values.extend((0..channels).map(|c| f(c, &under)));
        }
    }
    values
}

/// Each pixel of the dense `x: [height, width, channels]` as a rectangle of `factors` pixels.
pub fn resize_nearest<T: Copy>(factors: [usize; 2], [height, width, channels]: [usize; 3], x: &[T]) -> Vec<T> {
    let mut values = Vec::new();
    for y in 0..height * factors[0] {
        for at in 0..width * factors[1] {
            values.extend_from_slice(&x[(y / factors[0] * width + at / factors[1]) * channels..][..channels]);
        }
    }
    values
}

/// The real results of an addition of the dense bytes `a` and `b`.
pub fn add(spec: &Int8Add, a: &[u8], b: &[u8]) -> Vec<f32> {
    let real = |q: u8, i: usize| (i32::from(q) - i32::from(spec.zeros[i])) as f32 * spec.scales[i];
    let sums: Vec<f32> = a.iter().zip(b).map(|(&a, &b)| real(a, 0) + real(b, 1)).collect();
    activate(spec.act, sums)
}

/// The real results of a [`ChannelMap`] of dense numbers `[height, width, channels]`, whose factors are constants or these.
pub fn channel_map(spec: &ChannelMap, read: &[f32], x: &[f32]) -> Vec<f32> {
    let mapped = |(i, &x): (usize, &f32)| match &spec.by {
        Factors::Constants { scale, shift } => x * scale[i % scale.len()] + shift[i % scale.len()],
        Factors::Read(_) => x * read[i % read.len()],
    };
    activate(spec.act, x.iter().enumerate().map(mapped).collect())
}

fn activate(act: Option<Activation>, reals: Vec<f32>) -> Vec<f32> {
    let Some(act) = act else { return reals };
    let mut out = vec![0.0; reals.len()];
    act.forward(&reals, &mut out);
    out
}

/// What a store makes of dense reals: the floats, or the bytes of each output.
pub fn store(store: &Store, channels: usize, reals: &[f32]) -> (Vec<f32>, Vec<Vec<u8>>) {
    match store {
        Store::Floats { .. } => (reals.to_vec(), Vec::new()),
        Store::Bytes { inverse_scale, zero, outputs } => {
            (Vec::new(), outputs.iter().map(|o| bytes(reals, channels, *inverse_scale, *zero, o)).collect())
        }
    }
}
