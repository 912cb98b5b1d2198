//! Every kernel against its plain definition: bit for bit.

use super::super::{Args, Job, View};
use super::*;
use crate::Window2;
use crate::activation::Activation;
use crate::level::Level;
use proptest::prelude::*;

/// Bytes from a fixed sequence.
fn bytes(n: usize, seed: u32) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12345);
    (0..n)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .collect()
}

fn floats(n: usize, seed: u32, scale: f32) -> Vec<f32> {
    bytes(n, seed).into_iter().map(|b| (f32::from(b) - 127.3) / 128.0 * scale).collect()
}

fn levels() -> impl Iterator<Item = Level> {
    [Level::Portable, Level::Avx2, Level::Avx512].into_iter().filter(|l| l.available())
}

/// Runs the parts of a job in a shuffled order; the scratch memory starts as noise.
pub(super) fn run(job: &dyn Job, inputs: &[*const u8], outputs: &[*mut u8]) {
    let mut scratch: Vec<[u64; 8]> = vec![[0xa5c3_7e81_55aa_9d3b; 8]; job.scratch().div_ceil(64) + 2];
    let room = scratch.len() * 64;
    let start = scratch.as_mut_ptr().cast::<u8>();
    // SAFETY: inside the allocation, which is longer than asked for.
    let at = unsafe { start.add(start.align_offset(64)) };
    let parts = job.parts();
    let stride = (1..parts.max(2)).rev().find(|s| gcd(*s, parts) == 1).unwrap_or(1);
    for i in 0..parts {
        // SAFETY: the tests hand over views that their buffers cover.
        unsafe { job.run((i * stride + 1) % parts, Args { inputs, outputs }, at) };
    }
    let used = start.align_offset(64) + job.scratch();
    // SAFETY: the rest of the allocation.
    let rest = unsafe { std::slice::from_raw_parts(start.add(used), room - used) };
    let noise = 0xa5c3_7e81_55aa_9d3b_u64.to_ne_bytes();
    assert!(rest.iter().enumerate().all(|(i, &b)| b == noise[(used + i) % 8]), "{} leaves its scratch memory", job.name());
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// A view inside a larger buffer: gaps after pixels and rows.
fn view(height: usize, width: usize, channels: usize, gap: usize) -> View {
    let pixel = channels + gap;
    View { height, width, channels, row: width * pixel + gap, pixel, channel: 1 }
}

const GUARD: u8 = 0xa7;

/// A buffer that ends where the view does, filled with a guard value, and its values where `scatter` puts them.
fn expected<T: Copy>(view: &View, values: &[T], guard: T) -> Vec<T> {
    let mut buffer = vec![guard; view.reach()];
    reference::scatter(view, values, &mut buffer);
    buffer
}

#[derive(Debug, Clone)]
struct Case {
    spec: Int8Conv,
    weights: Vec<i8>,
    x: Vec<u8>,
}

/// Several outputs of bytes: all channels, and a range of them through a table.
fn two_outputs(height: usize, width: usize, channels: usize, gap: usize) -> Vec<Bytes> {
    let (first, taken) = (channels / 3, channels.div_ceil(2));
    let table: Box<[u8; 256]> = Box::new(std::array::from_fn(|q| (q * 91 + 17) as u8));
    vec![Bytes::whole(view(height, width, channels, gap)), Bytes { view: view(height, width, taken, 2 * gap), first, table: Some(table) }]
}

fn axis() -> impl Strategy<Value = [usize; 6]> {
    // Input, kernel, stride, dilation, padding before and after.
    (1usize..14, 1usize..5, 1usize..4, 1usize..3, 0usize..4, 0usize..3)
        .prop_filter_map("the window does not fit", |(i, k, s, d, a, b)| ((k - 1) * d < i + a + b).then_some([i, k, s, d, a, b]))
}

fn window(y: [usize; 6], x: [usize; 6]) -> Window2 {
    let pick = |i: usize| [y[i], x[i]];
    let out = |v: [usize; 6]| (v[0] + v[4] + v[5] - (v[1] - 1) * v[3] - 1) / v[2] + 1;
    Window2 { input: pick(0), kernel: pick(1), stride: pick(2), dilation: pick(3), pad: pick(4), output: [out(y), out(x)] }
}

fn cases() -> impl Strategy<Value = Case> {
    let channels = prop_oneof![
        // Groups, input channels and output channels of each.
        (Just(1usize), prop_oneof![Just(1usize), Just(3), Just(5), Just(8), Just(16), Just(37)], 1usize..40),
        (2usize..4, 1usize..9, 1usize..20),
        (prop_oneof![Just(3usize), Just(16), Just(17), Just(37)], Just(1usize), Just(1usize)),
    ];
    let style = (0usize..3, 0usize..7, 0usize..3, 1usize..4, any::<bool>(), any::<u8>(), any::<u32>());
    (axis(), axis(), channels, style).prop_map(|(y, x, (groups, cg, mg), (gap, act, kind, threads, to_floats, zero, seed))| {
        let window = window(y, x);
        let (channels, outs, depth) = (groups * cg, groups * mg, cg * y[1] * x[1]);
        let input = view(window.input[0], window.input[1], channels, if channels == 3 { 1 } else { gap });
        let weights: Vec<i8> = bytes(outs * depth, seed).into_iter().map(|b| b as i8).collect();
        let weights = match kind {
            0 => weights,
            1 => weights.into_iter().map(|w| w / 2).collect(),
            // Where saturation would show.
            _ => weights.into_iter().map(|w| if w % 8 == 0 { w } else { w.signum() * 127 }).collect(),
        };
        let mut pixels = bytes(window.input[0] * window.input[1] * channels, seed ^ 1);
        if kind == 2 {
            pixels.iter_mut().for_each(|q| *q = if *q < 32 { *q } else { 255 });
        }
        let mut buffer = vec![GUARD; input.reach()];
        reference::scatter(&input, &pixels, &mut buffer);
        let [height, width] = window.output;
        let store = match (to_floats, gap) {
            (true, 0) => Store::Floats { output: View::planes(height, width, outs) },
            (true, gap) => Store::Floats { output: view(height, width, outs, gap - 1) },
            (false, gap) => Store::Bytes { inverse_scale: 11.3, zero, outputs: two_outputs(height, width, outs, gap) },
        };
        let clip = Activation::Clip { min: -2.0, max: 6.0 };
        let swish = Activation::Swish { alpha: 1.0 };
        let act = [None, None, Some(Activation::Relu), Some(Activation::Relu), Some(clip), Some(swish), Some(Activation::HardSwish)][act];
        let scale = 8.0 / (depth as f32 * 3000.0);
        let scales = floats(outs, seed ^ 2, scale);
        let spec = Int8Conv {
            window,
            groups,
            input,
            input_zero: Some(zero ^ 0x5a),
            scales,
            bias: floats(outs, seed ^ 3, 9.0),
            act,
            store,
            ranges: false,
            threads,
        };
        Case { spec, weights, x: buffer }
    })
}

/// Runs a job of one input and compares all its outputs, gaps included.
fn compare(job: &dyn Job, x: &[u8], store: &Store, channels: usize, reals: &[f32]) {
    compare_inputs(job, &[x.as_ptr()], store, channels, reals);
}

fn compare_floats(job: &dyn Job, x: &[f32], store: &Store, channels: usize, reals: &[f32]) {
    compare_inputs(job, &[x.as_ptr().cast()], store, channels, reals);
}

fn compare_inputs(job: &dyn Job, inputs: &[*const u8], store: &Store, channels: usize, reals: &[f32]) {
    let (all, each) = reference::store(store, channels, reals);
    match store {
        Store::Floats { output } => {
            let mut y = vec![-77.0f32; output.reach()];
            run(job, inputs, &[y.as_mut_ptr().cast()]);
            let bits = |v: &[f32]| v.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&y), bits(&expected(output, &all, -77.0)), "{}", job.name());
        }
        Store::Bytes { outputs, .. } => {
            let mut ys: Vec<Vec<u8>> = outputs.iter().map(|o| vec![GUARD; o.view.reach()]).collect();
            let to: Vec<*mut u8> = ys.iter_mut().map(|y| y.as_mut_ptr()).collect();
            run(job, inputs, &to);
            for ((o, y), values) in outputs.iter().zip(&ys).zip(&each) {
                assert_eq!(y, &expected(&o.view, values, GUARD), "{} output {:?}", job.name(), o.view);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn convolutions_equal_their_definition(case in cases()) {
        let Case { spec, weights, x } = &case;
        let reals = reference::conv(spec, weights, &reference::gather(&spec.input, x));
        for level in levels() {
            compare(&*conv_with(level, spec, weights).unwrap(), x, &spec.store, spec.scales.len(), &reals);
        }
    }

    #[test]
    fn measured_inputs_and_wide_weights_equal_their_definition(case in cases(), scale in 0.01f32..2.0) {
        let Case { spec, weights, x } = &case;
        let (zero, dense) = (spec.input_zero.unwrap_or(0), reference::gather(&spec.input, x));
        let wide: Vec<i16> = weights.iter().enumerate().map(|(i, &w)| (i16::from(w) * 2 + (i % 2) as i16).max(-255)).collect();
        let known = Int8Conv { scales: spec.scales.iter().map(|s| s * scale).collect(), ..spec.clone() };
        let measured = Int8Conv { input_zero: None, ..spec.clone() };
        let (narrow, broad) = (reference::conv(&known, weights, &dense), reference::conv(&known, &wide, &dense));
        let inputs = [x.as_ptr(), (&raw const scale).cast(), &raw const zero];
        for level in levels() {
            compare_inputs(&*conv_with(level, &measured, weights).unwrap(), &inputs, &spec.store, spec.scales.len(), &narrow);
            compare_inputs(&*conv_wide_with(level, &measured, &wide).unwrap(), &inputs, &spec.store, spec.scales.len(), &broad);
            compare(&*conv_wide_with(level, &known, &wide).unwrap(), x, &spec.store, spec.scales.len(), &broad);
        }
    }

    #[test]
    fn ranges_of_results_are_those_of_each_channel(case in cases(), scale in 0.01f32..2.0) {
        let Case { spec, weights, x } = &case;
        let Store::Floats { output } = &spec.store else {
            let kind = conv_with(Level::Portable, &Int8Conv { ranges: true, ..spec.clone() }, weights).err().map(|e| e.kind());
            prop_assert_eq!(kind, Some(compresso_base::ErrorKind::Argument));
            return Ok(());
        };
        let (zero, channels) = (spec.input_zero.unwrap_or(0), spec.scales.len());
        let known = Int8Conv { scales: spec.scales.iter().map(|s| s * scale).collect(), ..spec.clone() };
        let reals = reference::conv(&known, weights, &reference::gather(&spec.input, x));
        let threads = spec.threads * if spec.threads == 3 { 40 } else { 1 };
        let spec = Int8Conv { input_zero: None, ranges: true, threads, ..spec.clone() };
        for level in levels() {
            let job = conv_with(level, &spec, weights).unwrap();
            prop_assert!(job.parts() <= MOST_RANGES);
            let mut y = vec![-77.0f32; output.reach()];
            let mut found = vec![f32::NAN; job.parts() * 2 * channels];
            let inputs = [x.as_ptr(), (&raw const scale).cast(), &raw const zero];
            run(&*job, &inputs, &[y.as_mut_ptr().cast(), found.as_mut_ptr().cast()]);
            prop_assert_eq!(&y, &expected(output, &reals, -77.0));
            let mut whole = [0.0f32; 2];
            for c in 0..channels {
                let of = |values: &mut dyn Iterator<Item = f32>| values.fold([0.0f32; 2], |[low, high], v| [low.min(v), high.max(v)]);
                let want = of(&mut reals.iter().copied().skip(c).step_by(channels));
                prop_assert_eq!(of(&mut found.iter().copied().skip(c).step_by(channels)), want, "channel {} of {}", c, job.name());
                whole = [whole[0].min(want[0]), whole[1].max(want[1])];
            }
            // Half of the channels and then the others are all of them.
            let parts = job.parts();
            let piece = |channels| Found { images: 1, parts, channels, strides: [0, 2 * spec.scales.len(), spec.scales.len()] };
            let half = channels / 2;
            let pieces: Vec<_> = [(half, 0), (channels - half, half)].into_iter().filter(|(n, _)| *n > 0).collect();
            let both = super::scale(&pieces.iter().map(|&(n, _)| piece(n)).collect::<Vec<_>>()).unwrap();
            let (mut step, mut zero) = (f32::NAN, 0);
            let inputs: Vec<*const u8> = pieces.iter().map(|&(_, first)| found[first..].as_ptr().cast()).collect();
            run(&*both, &inputs, &[(&raw mut step).cast(), &raw mut zero]);
            prop_assert_eq!(step, (whole[1] - whole[0]) / 255.0);
        }
    }

    #[test]
    fn measured_bytes_equal_their_definition(size in [1usize..9, 1usize..20, 1usize..40], gap in 0usize..3, planes: bool, scale in 0.0f32..0.1, zero: u8, threads in 1usize..4, seed: u32) {
        let [height, width, channels] = size;
        let input = if planes { View::planes(height, width, channels) } else { view(height, width, channels, gap) };
        let output = view(height, width, channels, if channels == 3 { 1 } else { gap });
        let x = floats(input.reach(), seed, 9.0);
        let divisor = if scale < 0.001 { 0.0 } else { scale };
        let by = if divisor == 0.0 { 1.0 } else { divisor };
        let byte = |x: f32| ((x / by).round_ties_even() + f32::from(zero)).clamp(0.0, 255.0) as u8;
        let values: Vec<u8> = reference::gather(&input, &x).into_iter().map(byte).collect();
        let mut y = vec![GUARD; output.reach()];
        let job = quantize_measured(input, &[Bytes::whole(output)], threads).unwrap();
        run(&*job, &[x.as_ptr().cast(), (&raw const divisor).cast(), &raw const zero], &[y.as_mut_ptr()]);
        prop_assert_eq!(&y, &expected(&output, &values, GUARD));
    }

    #[test]
    fn pools_equal_their_definition(y in axis(), x in axis(), channels in 1usize..40, gap in 0usize..3, threads in 1usize..4, counted: bool, seed: u32) {
        let window = window(y, x);
        let input = view(y[0], x[0], channels, gap);
        let values = bytes(input.reach(), seed);
        let dense = reference::gather(&input, &values);
        let output = view(window.output[0], window.output[1], channels, gap);
        let mut largest = vec![GUARD; output.reach()];
        run(&*max_pool(window, input, output, threads).unwrap(), &[values.as_ptr()], &[largest.as_mut_ptr()]);
        prop_assert_eq!(&largest, &expected(&output, &reference::max_pool(&window, channels, &dense), GUARD));

        let outputs = two_outputs(output.height, output.width, channels, gap);
        for store in [Store::Floats { output }, Store::Bytes { inverse_scale: 1.7, zero: 9, outputs }] {
            let padded = counted.then_some([y[5], x[5]]);
            let curve: Box<[f32; 256]> = Box::new(std::array::from_fn(|q| ((q * 37) % 101) as f32 * 0.07 - 2.0));
            for table in [None, Some(curve)] {
                let spec = AveragePool { window, input, input_zero: seed as u8, scale: 0.37, table, padded, store: store.clone(), threads };
                let reals = reference::average_pool(&spec, &dense);
                for level in levels() {
                    compare(&*average_pool_with(level, &spec).unwrap(), &values, &spec.store, channels, &reals);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn bytes_move_as_defined(
        size in [1usize..6, 1usize..40], channels in prop_oneof![Just(1usize), Just(3), Just(4), Just(5), Just(16), Just(17), Just(37), Just(64), Just(300)],
        gap in 0usize..3, threads in 1usize..4, planes: bool, zero: u8, seed: u32,
    ) {
        let [height, width] = size;
        let input = view(height, width, channels, gap);
        let reals_view = if planes { View::planes(height, width, channels) } else { input };
        let outputs = two_outputs(height, width, channels, gap);
        let store = Store::Bytes { inverse_scale: 60.0, zero, outputs: outputs.clone() };
        let reals = floats(reals_view.reach(), seed, 3.0);
        let values = bytes(input.reach(), seed);
        let dense = reference::gather(&input, &values);
        let numbers: Vec<f32> = reference::gather(&reals_view, &reals);
        for level in levels() {
            let job = quantize_with(level, 60.0, zero, reals_view, &outputs, threads).unwrap();
            compare_floats(&*job, &reals, &store, channels, &numbers);
            let mut ys: Vec<Vec<u8>> = outputs.iter().map(|o| vec![GUARD; o.view.reach()]).collect();
            let to: Vec<*mut u8> = ys.iter_mut().map(|y| y.as_mut_ptr()).collect();
            run(&*table_with(level, input, &outputs, threads).unwrap(), &[values.as_ptr()], &to);
            for (o, y) in outputs.iter().zip(&ys) {
                prop_assert_eq!(y, &expected(&o.view, &reference::through(&dense, channels, o), GUARD));
            }
        }

        let real: Box<[f32; 256]> = Box::new(std::array::from_fn(|q| q as f32 * 0.3 - 9.0));
        let mut y = vec![-77.0f32; reals_view.reach()];
        run(&*dequantize(real.clone(), input, reals_view, threads).unwrap(), &[values.as_ptr()], &[y.as_mut_ptr().cast()]);
        let numbers: Vec<f32> = dense.iter().map(|&q| real[usize::from(q)]).collect();
        prop_assert_eq!(&y, &expected(&reals_view, &numbers, -77.0));

        let to = view(height, width, channels, 2 - gap);
        let mut y = vec![GUARD; to.reach()];
        run(&*copy(input, to, threads).unwrap(), &[values.as_ptr()], &[y.as_mut_ptr()]);
        prop_assert_eq!(&y, &expected(&to, &dense, GUARD));

        for factors in [[1, 2], [2, 2], [3, 1]] {
            let to = view(height * factors[0], width * factors[1], channels, gap);
            let mut y = vec![GUARD; to.reach()];
            run(&*resize_nearest(factors, input, to, threads).unwrap(), &[values.as_ptr()], &[y.as_mut_ptr()]);
            prop_assert_eq!(&y, &expected(&to, &reference::resize_nearest(factors, [height, width, channels], &dense), GUARD));
        }
    }

    #[test]
    fn sums_equal_their_definition(
        size in [1usize..6, 1usize..40], channels in prop_oneof![Just(1usize), Just(3), Just(5), Just(16), Just(37), Just(2100)],
        gap in 0usize..3, act in 0usize..4, threads in 1usize..4, seed: u32,
    ) {
        let [height, width] = size;
        let views = [view(height, width, channels, gap), view(height, width, channels, 2 - gap)];
        let inputs: Vec<Vec<u8>> = views.iter().zip(1..).map(|(v, i)| bytes(v.reach(), seed ^ i)).collect();
        let from = [inputs[0].as_ptr(), inputs[1].as_ptr()];
        let (a, b) = (reference::gather(&views[0], &inputs[0]), reference::gather(&views[1], &inputs[1]));
        let outputs = two_outputs(height, width, channels, gap);
        let act = [None, Some(Activation::Relu), Some(Activation::Swish { alpha: 1.0 }), Some(Activation::Clip { min: -0.5, max: 1.2 })][act];
        for store in [Store::Floats { output: views[1] }, Store::Bytes { inverse_scale: 31.0, zero: 100, outputs }] {
            let spec = Int8Add { inputs: views, scales: [0.013, 0.031], zeros: [128, seed as u8], act, store, threads };
            let reals = reference::add(&spec, &a, &b);
            for level in levels() {
                compare_inputs(&*add_with(level, &spec).unwrap(), &from, &spec.store, channels, &reals);
            }
        }

        let pairs: Box<[u8; 65536]> = (0..65536).map(|i| (i / 256 * 3 + i * 7) as u8).collect::<Vec<u8>>().try_into().expect("all pairs");
        let mut y = vec![GUARD; views[0].reach()];
        run(&*binary(pairs.clone(), views[0], views[1], views[0], threads).unwrap(), &from, &[y.as_mut_ptr()]);
        let values: Vec<u8> = a.iter().zip(&b).map(|(&a, &b)| pairs[usize::from(a) * 256 + usize::from(b)]).collect();
        prop_assert_eq!(&y, &expected(&views[0], &values, GUARD));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn channel_maps_equal_their_definition(
        size in [1usize..6, 1usize..20], parts in prop::collection::vec((1usize..70, 0usize..3, 0usize..3), 1..5), read: bool,
        act in 0usize..4, threads in 1usize..4, seed: u32,
    ) {
        let [height, width] = size;
        let channels: usize = parts.iter().map(|p| p.0).sum();
        // Bytes on a line, bytes on a curve, and floats; where those are planes, of any gap.
        let line: Box<[f32; 256]> = Box::new(std::array::from_fn(|q| (q as i32 - 77) as f32 * 0.031));
        let curve: Box<[f32; 256]> = Box::new(std::array::from_fn(|q| ((q * 37) % 101) as f32 * 0.07 - 2.0));
        let mut images = Vec::new();
        let (mut memory, mut numbers) = (Vec::new(), vec![0.0; height * width * channels]);
        let mut first = 0;
        for (i, &(n, gap, kind)) in parts.iter().enumerate() {
            let view = if kind == 2 && gap == 0 { View::planes(height, width, n) } else { view(height, width, n, gap) };
            let table = [Some(line.clone()), Some(curve.clone()), None][kind].clone();
            let (q, v) = (bytes(view.reach(), seed ^ i as u32), floats(view.reach(), seed ^ i as u32, 3.0));
            let real: Vec<f32> = match &table {
                Some(t) => reference::gather(&view, &q).into_iter().map(|q| t[usize::from(q)]).collect(),
                None => reference::gather(&view, &v),
            };
            real.chunks_exact(n).enumerate().for_each(|(p, x)| numbers[p * channels + first..][..n].copy_from_slice(x));
            memory.push(if table.is_some() { q } else { v.iter().flat_map(|v| v.to_ne_bytes()).collect() });
            images.push(Channels { view, table });
            first += n;
        }
        // Floats are aligned.
        let aligned: Vec<Vec<f32>> = memory.iter().map(|m| {
            let whole = m.chunks(4).map(|c| f32::from_ne_bytes(std::array::from_fn(|i| c.get(i).copied().unwrap_or(0))));
            whole.collect()
        }).collect();
        let factor = floats(channels, seed ^ 9, 2.0);
        let by = match read {
            true => Factors::Read(View::planes(1, 1, channels)),
            false => Factors::Constants { scale: factor.clone(), shift: floats(channels, seed ^ 8, 1.0) },
        };
        let mut from: Vec<*const u8> = aligned.iter().map(|m| m.as_ptr().cast()).collect();
        if read {
            from.push(factor.as_ptr().cast());
        }
        let act = [None, Some(Activation::Relu), Some(Activation::Clip { min: -0.5, max: 1.2 }), Some(Activation::HardSwish)][act];
        let outputs = two_outputs(height, width, channels, 1);
        for store in [Store::Floats { output: view(height, width, channels, 2) }, Store::Bytes { inverse_scale: 31.0, zero: 100, outputs }] {
            let spec = ChannelMap { images: images.clone(), by: by.clone(), act, store, threads };
            let reals = reference::channel_map(&spec, &factor, &numbers);
            for level in levels() {
                compare_inputs(&*channel_map_with(level, spec.clone()).unwrap(), &from, &spec.store, channels, &reals);
            }
        }
    }
}

/// Whole panels of one output, which tiles write themselves, and images of all numbers of pixels left over.
#[test]
fn convolutions_into_one_place_equal_their_definition() {
    for (i, [height, width, channels, outs, kernel, gap]) in [
        [1, 1, 8, 16, 1, 0],
        [1, 5, 20, 32, 1, 3],
        [7, 7, 64, 48, 3, 0],
        [13, 11, 16, 16, 3, 5],
        [5, 8, 3, 32, 2, 0],
        [23, 9, 600, 64, 1, 0],
    ]
    .into_iter()
    .enumerate()
    {
        let pad = kernel / 2;
        let out = |n: usize| n + 2 * pad + 1 - kernel;
        let window = window([height, kernel, 1, 1, pad, pad], [width, kernel, 1, 1, pad, pad]);
        let input = View::dense(height, width, channels);
        let pixel = outs + gap;
        let output = View { height: out(height), width: out(width), channels: outs, row: out(width) * pixel, pixel, channel: 1 };
        for (groups, threads, act) in [(1, 1, None), (1, 3, Some(Activation::Relu)), (1, 2, Some(Activation::HardSwish))] {
            let seed = i as u32;
            let store = Store::Bytes { inverse_scale: 20.0, zero: 31, outputs: vec![Bytes::whole(output)] };
            let (scales, bias) = (floats(outs, seed, 2e-4), floats(outs, seed ^ 1, 2.0));
            let spec = Int8Conv { window, groups, input, input_zero: Some(7), scales, bias, act, store, ranges: false, threads };
            let weights: Vec<i8> = bytes(outs * channels * kernel * kernel, seed ^ 2).into_iter().map(|b| b as i8 / 2).collect();
            let x = bytes(input.reach(), seed ^ 3);
            let reals = reference::conv(&spec, &weights, &x);
            for level in levels() {
                compare(&*conv_with(level, &spec, &weights).unwrap(), &x, &spec.store, outs, &reals);
            }
        }
    }
}

/// Images of several bands, and weights that are read for more pixels at a time.
#[test]
fn large_convolutions_equal_their_definition() {
    for [size, channels, outs] in [[70, 48, 9], [11, 64, 240]] {
        let window = window([size, 3, 1, 1, 1, 1], [size - 1, 3, 1, 1, 1, 1]);
        let input = View::dense(size, size - 1, channels);
        let spec = Int8Conv {
            window,
            groups: 1,
            input,
            input_zero: Some(77),
            scales: floats(outs, 1, 1e-4),
            bias: floats(outs, 2, 1.0),
            act: None,
            store: Store::Bytes { inverse_scale: 30.0, zero: 99, outputs: two_outputs(size, size - 1, outs, 0) },
            ranges: false,
            threads: 2,
        };
        let weights: Vec<i8> = bytes(outs * channels * 9, 3).into_iter().map(|b| b as i8 / 2).collect();
        let x = bytes(input.reach(), 4);
        let reals = reference::conv(&spec, &weights, &x);
        for level in levels() {
            compare(&*conv_with(level, &spec, &weights).unwrap(), &x, &spec.store, outs, &reals);
        }
    }
}

#[test]
fn rounding_is_to_even_and_saturates() {
    let reals =
        [0.5, 1.5, 2.5, -0.5, -1.5, 0.499_999_97, 126.5, 127.5, 1e30, -1e30, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, -0.0, 3e9, -3e9];
    let bytes = [100, 102, 102, 100, 98, 100, 226, 228, 255, 0, 255, 0, 0, 100, 255, 0];
    for (&real, byte) in reals.iter().zip(bytes) {
        assert_eq!(reference::to_byte(real, 1.0, 100), byte, "{real}");
    }
    let view = View::dense(1, 1, 16);
    for level in levels() {
        let mut y = [GUARD; 16];
        let job = quantize_with(level, 1.0, 100, view, &[Bytes::whole(view)], 1).unwrap();
        run(&*job, &[reals.as_ptr().cast()], &[y.as_mut_ptr()]);
        assert_eq!(y, bytes, "{level:?}");
    }
}
