//! 8-bit kernels on layers of YOLOv8n at 640 px, one thread. Throughput is in operations, two per product: "Gelem/s" reads
//! as GOP/s; for what moves bytes, in elements.

use compresso_base::error::Result;
use compresso_kernels::Window2;
use compresso_kernels::activation::Activation;
use compresso_kernels::channels_last::int8::{
    AveragePool, Bytes, Found, Int8Add, Int8Conv, MOST_RANGES, Store, add, average_pool, binary, conv, conv_wide, copy, dequantize,
    max_pool, quantize, quantize_measured, ranges, resize_nearest, scale as scale_of, sum as int8_sum, table,
};
use compresso_kernels::channels_last::program::{Buffer, Program, Slot, Step};
use compresso_kernels::channels_last::{Job, Scalar, View, run_alone};
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime};
use std::hint::black_box;
use std::time::Duration;

/// Input channels, output channels, input size, kernel, stride, groups.
const LAYERS: &[[usize; 6]] = &[
    [3, 16, 640, 3, 2, 1],
    [16, 32, 320, 3, 2, 1],
    [32, 32, 160, 1, 1, 1],
    [16, 16, 160, 3, 1, 1],
    [48, 32, 160, 1, 1, 1],
    [32, 64, 160, 3, 2, 1],
    [64, 64, 80, 1, 1, 1],
    [32, 32, 80, 3, 1, 1],
    [128, 64, 80, 1, 1, 1],
    [64, 64, 80, 3, 1, 1],
    [64, 128, 80, 3, 2, 1],
    [128, 128, 40, 1, 1, 1],
    [64, 64, 40, 3, 1, 1],
    [256, 128, 40, 1, 1, 1],
    [128, 256, 40, 3, 2, 1],
    [256, 256, 20, 1, 1, 1],
    [128, 128, 20, 3, 1, 1],
    [384, 256, 20, 1, 1, 1],
    [512, 256, 20, 1, 1, 1],
    [64, 80, 80, 3, 1, 1],
    [80, 80, 80, 3, 1, 1],
    [80, 80, 80, 1, 1, 1],
    [256, 64, 20, 3, 1, 1],
    [64, 64, 80, 3, 1, 64],
];

/// Bell-shaped weights: sums of uniform ones, the largest of a channel being 64.
fn weights(outs: usize, depth: usize) -> Vec<i8> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    let channel = |_| {
        let sums: Vec<f32> = (0..depth).map(|_| (0..6).map(|_| next()).sum()).collect();
        let largest = sums.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        sums.into_iter().map(move |v| (v / largest * 64.0).round() as i8).collect::<Vec<_>>()
    };
    (0..outs).flat_map(channel).collect()
}

fn pixels(n: usize) -> Vec<u8> {
    (0..n).map(|i| (i * 37 % 251) as u8).collect()
}

fn measure<I: Scalar, O: Scalar + Default>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    job: Result<Box<dyn Job>>,
    inputs: &[&[I]],
    outputs: usize,
) {
    let job = job.expect("sizes that fit");
    let mut y = vec![O::default(); outputs];
    group.bench_function(name, |b| b.iter(|| run_alone(&*job, black_box(inputs), &mut [&mut y]).expect("slices that fit")));
}

fn convolutions(c: &mut Criterion) {
    let mut group = c.benchmark_group("int8 conv");
    group.sample_size(100).warm_up_time(Duration::from_millis(50)).measurement_time(Duration::from_millis(500));
    for &[channels, outs, size, kernel, stride, groups] in LAYERS {
        let out = size / stride;
        let window = Window2 {
            input: [size; 2],
            kernel: [kernel; 2],
            stride: [stride; 2],
            dilation: [1; 2],
            pad: [kernel / 2; 2],
            output: [out; 2],
        };
        // The image has a fourth byte per pixel.
        let input = View { row: size * channels.max(4), pixel: channels.max(4), ..View::dense(size, size, channels) };
        let silu = Box::new(std::array::from_fn(|q| (q / 2) as u8));
        let outputs = vec![Bytes { view: View::dense(out, out, outs), first: 0, table: Some(silu) }];
        let depth = channels / groups * kernel * kernel;
        let spec = Int8Conv {
            window,
            groups,
            input,
            input_zero: Some(7),
            scales: vec![0.001; outs],
            bias: vec![0.1; outs],
            act: None,
            store: Store::Bytes { inverse_scale: 20.0, zero: 99, outputs },
            ranges: false,
            threads: 1,
        };
        let weights = weights(outs, depth);
        let x = pixels(size * size * channels.max(4));
        group.throughput(Throughput::Elements(2 * (out * out * outs * depth) as u64));
        let depthwise = if groups > 1 { " depthwise" } else { "" };
        let name = format!("{kernel}x{kernel}/{stride} {channels}→{outs} {size}{depthwise}");
        measure::<u8, u8>(&mut group, &name, conv(&spec, &weights), &[&x], out * out * outs);
        if [channels, outs, size, kernel] == [64, 64, 80, 3] && groups == 1 {
            let activated = Int8Conv { act: Some(Activation::Swish { alpha: 1.0 }), ..spec.clone() };
            measure::<u8, u8>(&mut group, &format!("{name} silu in float"), conv(&activated, &weights), &[&x], out * out * outs);
            let floats = Int8Conv { store: Store::Floats { output: View::dense(out, out, outs) }, ..spec };
            measure::<u8, f32>(&mut group, &format!("{name} to float"), conv(&floats, &weights), &[&x], out * out * outs);
        }
    }
    group.finish();
}

fn others(c: &mut Criterion) {
    let mut group = c.benchmark_group("int8 other");
    group.sample_size(100).warm_up_time(Duration::from_millis(50)).measurement_time(Duration::from_millis(500));
    let image = View::planes(640, 640, 3);
    let four = View { row: 640 * 4, pixel: 4, ..View::dense(640, 640, 3) };
    let x: Vec<f32> = (0..image.reach()).map(|i| (i % 256) as f32 / 255.0).collect();
    group.throughput(Throughput::Elements(image.reach() as u64));
    let job = quantize(255.0, 0, image, vec![Bytes::whole(four)], 1);
    measure::<f32, u8>(&mut group, "quantize an image of planes", job, &[&x], four.reach());

    let view = View::dense(40, 40, 128);
    let n = view.reach();
    let (x, reals) = (pixels(n), vec![0.3f32; n]);
    group.throughput(Throughput::Elements(n as u64));
    let silu: Box<[u8; 256]> = Box::new(std::array::from_fn(|q| (q / 2) as u8));
    let real: Box<[f32; 256]> = Box::new(std::array::from_fn(|q| q as f32 * 0.1));
    measure::<f32, u8>(&mut group, "quantize", quantize(20.0, 7, view, vec![Bytes::whole(view)], 1), &[&reals], n);
    measure::<u8, f32>(&mut group, "dequantize", dequantize(real.clone(), view, view, 1), &[&x], n);
    measure::<u8, f32>(&mut group, "dequantize to planes", dequantize(real.clone(), view, View::planes(40, 40, 128), 1), &[&x], n);
    let outputs = vec![Bytes { view, first: 0, table: Some(silu) }];
    measure::<u8, u8>(&mut group, "table", table(view, outputs, 1), &[&x], n);
    let wide = View { row: 40 * 256, pixel: 256, ..view };
    measure::<u8, u8>(&mut group, "copy into channels", copy(view, wide, 1), &[&x], wide.reach());
    let sums = Box::new(std::array::from_fn(|i| ((i / 256 + i % 256) / 2) as u8));
    let store = Store::Bytes { inverse_scale: 20.0, zero: 7, outputs: vec![Bytes::whole(view)] };
    let sum = Int8Add { inputs: [view; 2], scales: [0.1, 0.2], zeros: [7, 3], act: None, store, threads: 1 };
    measure::<u8, u8>(&mut group, "add", add(&sum), &[&x, &x], n);
    let curve: Box<[f32; 256]> = Box::new(std::array::from_fn(|q| (q * q) as f32));
    let store = Store::Bytes { inverse_scale: 20.0, zero: 7, outputs: vec![Bytes::whole(view)] };
    let job = int8_sum(vec![curve, real], vec![view; 2], None, None, &store, 1);
    measure::<u8, u8>(&mut group, "sum of a table and a line", job, &[&x, &x], n);
    measure::<u8, u8>(&mut group, "add by table", binary(sums, view, view, view, 1), &[&x, &x], n);
    measure::<u8, u8>(&mut group, "nearest 2x", resize_nearest([2, 2], view, View::dense(80, 80, 128), 1), &[&x], 4 * n);
    let pool = Window2 { input: [40; 2], kernel: [5; 2], stride: [1; 2], dilation: [1; 2], pad: [2; 2], output: [40; 2] };
    measure::<u8, u8>(&mut group, "max pool 5x5", max_pool(pool, view, view, 1), &[&x], n);
    let global = Window2 { input: [40; 2], kernel: [40; 2], stride: [1; 2], dilation: [1; 2], pad: [0; 2], output: [1; 2] };
    let store = Store::Floats { output: View::dense(1, 1, 128) };
    let spec = AveragePool { window: global, input: view, input_zero: 7, scale: 0.1, padded: None, table: None, store, threads: 1 };
    measure::<u8, f32>(&mut group, "global average pool", average_pool(&spec), &[&x], 128);
    group.finish();
}

/// Layers whose input is measured: its range, its bytes, and the convolution to floats with a scale that is read.
fn measured(c: &mut Criterion) {
    let mut group = c.benchmark_group("int8 measured");
    group.sample_size(100).warm_up_time(Duration::from_millis(50)).measurement_time(Duration::from_millis(500));
    for [channels, outs, size] in [[16, 16, 160], [64, 64, 80], [128, 128, 40], [256, 256, 20]] {
        let (view, output) = (View::dense(size, size, channels), View::dense(size, size, outs));
        let n = view.reach();
        let mut end = 0;
        let mut place = |bytes: usize| {
            let at = end;
            end = (end + bytes).next_multiple_of(64);
            at
        };
        let [floats, bytes, results, found, scale, zero] = [4 * n, n, 4 * output.reach(), 8 * MOST_RANGES, 4, 1].map(&mut place);
        let slot = |offset: usize, reach: usize| Slot { buffer: Buffer::Arena, offset, image: 0, reach };
        let window = Window2 { input: [size; 2], kernel: [3; 2], stride: [1; 2], dilation: [1; 2], pad: [1; 2], output: [size; 2] };
        let store = Store::Floats { output };
        let spec = Int8Conv {
            window,
            groups: 1,
            input: view,
            input_zero: None,
            scales: vec![0.001; outs],
            bias: vec![0.1; outs],
            act: Some(Activation::Swish { alpha: 1.0 }),
            store,
            ranges: false,
            threads: 1,
        };
        let weights = weights(outs, channels * 9);
        let wide: Vec<i16> = weights.iter().map(|&w| i16::from(w) * 2).collect();
        let mut program = Program::new(end, &[], Vec::new(), 1).expect("memory");
        let (x, one) = (slot(floats, 4 * n), [slot(scale, 4), slot(zero, 1)]);
        let layer = |job: Result<Box<dyn Job>>| Step {
            job: job.expect("sizes that fit"),
            images: 1,
            inputs: vec![slot(bytes, n), one[0], one[1]],
            outputs: vec![slot(results, 4 * output.reach())],
        };
        let range = ranges(&[size, size, channels], &[size * channels, channels, 1], 1).expect("sizes that fit");
        let found = slot(found, 8 * range.parts());
        let parts = range.parts();
        let steps = [
            ("range", Step { job: range, images: 1, inputs: vec![x], outputs: vec![found] }, n),
            (
                "scale",
                Step { job: scale_of(&[Found::in_parts(parts)]).expect("a part"), images: 1, inputs: vec![found], outputs: one.to_vec() },
                1,
            ),
            (
                "bytes",
                Step {
                    job: quantize_measured(view, &[Bytes::whole(view)], 1).expect("sizes that fit"),
                    images: 1,
                    inputs: vec![x, one[0], one[1]],
                    outputs: vec![slot(bytes, n)],
                },
                n,
            ),
            ("3x3 silu to floats", layer(conv(&spec, &weights)), 2 * size * size * outs * channels * 9),
            ("3x3 silu to floats, weights of 9 bits", layer(conv_wide(&spec, &wide)), 2 * size * size * outs * channels * 9),
        ];
        for (name, step, work) in steps {
            let step = program.push(step).expect("slots that fit");
            group.throughput(Throughput::Elements(work as u64));
            group.bench_function(format!("{name} {channels}→{outs} {size}"), |b| b.iter(|| program.run(step, &[]).expect("a step")));
        }
    }
    group.finish();
}

criterion_group!(benches, convolutions, others, measured);
criterion_main!(benches);
