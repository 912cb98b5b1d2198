//! Convolution passes on layers of YOLOv8 at 160 px (batch 16) and 640 px (batch 1), and the channels-last layers of
//! inference at 640 px on one thread. Throughput is in floating-point operations: "Gelem/s" reads as GFLOP/s.

use compresso_kernels::activation::Activation;
use compresso_kernels::channels_last::conv::{Algorithm, conv_with};
use compresso_kernels::channels_last::{ConvSpec, Epilogue, View, run_alone};
use compresso_kernels::norm::{self, Normalized, Then};
use compresso_kernels::{ConvShape, Level, Window, conv};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use std::time::Duration;

/// Batch, input channels, output channels, input size, kernel, stride, groups.
const LAYERS: &[(&str, [usize; 7])] = &[
    ("stem 3x3/2", [16, 3, 16, 160, 3, 2, 1]),
    ("3x3/2 80", [16, 16, 32, 80, 3, 2, 1]),
    ("3x3 80", [16, 16, 16, 80, 3, 1, 1]),
    ("3x3 40", [16, 32, 32, 40, 3, 1, 1]),
    ("3x3 20", [16, 64, 64, 20, 3, 1, 1]),
    ("3x3 10", [16, 128, 128, 10, 3, 1, 1]),
    ("1x1 40", [16, 32, 32, 40, 1, 1, 1]),
    ("1x1 20", [16, 128, 64, 20, 1, 1, 1]),
    ("3x3 80, batch 1", [1, 64, 64, 80, 3, 1, 1]),
    ("depthwise 3x3 40", [16, 64, 64, 40, 3, 1, 64]),
];

fn convolutions(c: &mut Criterion) {
    for (name, [batch, in_channels, out_channels, size, kernel, stride, groups]) in LAYERS {
        let window = Window::square([*size; 2], *kernel, *stride, kernel / 2, 1);
        let s = ConvShape { batch: *batch, in_channels: *in_channels, out_channels: *out_channels, groups: *groups, window };
        let fill = |n: usize| (0..n).map(|i| (i * 37 % 101) as f32 / 50.0 - 1.0).collect::<Vec<f32>>();
        let (x, w, gy) = (fill(s.x_len()), fill(s.w_len()), fill(s.y_len()));
        let (mut y, mut gx, mut gw) = (gy.clone(), x.clone(), w.clone());
        let mut group = c.benchmark_group(*name);
        group.throughput(Throughput::Elements(2 * s.macs() as u64)).sample_size(20);
        group.bench_function("forward", |b| b.iter(|| conv::forward(&s, black_box(&x), &w, None, &mut y).len()));
        group.bench_function("data", |b| b.iter(|| conv::backward_data(&s, black_box(&w), &gy, &mut gx).len()));
        group.bench_function("weight", |b| b.iter(|| conv::backward_weight(&s, black_box(&x), &gy, &mut gw).len()));
        group.finish();
    }
}

/// Batch normalization with an activation, as training has it, on batches of 16: channels, height and width.
const NORMS: &[[usize; 2]] = &[[16, 160], [32, 80], [64, 40], [128, 20]];

fn norms(c: &mut Criterion) {
    let mut group = c.benchmark_group("batch norm and SiLU");
    for &[channels, size] in NORMS {
        let (plane, len) = (size * size, 16 * channels * size * size);
        let fill = |n: usize| (0..n).map(|i| (i * 37 % 101) as f32 / 50.0 - 1.0).collect::<Vec<f32>>();
        let (x, gy, scale, bias) = (fill(len), fill(len), fill(channels), fill(channels));
        let mut y = x.clone();
        group.throughput(Throughput::Elements(len as u64)).sample_size(20);
        let (mean, var, _) = norm::batch_norm(plane, (&scale, &bias), 1e-3, Then::Silu, &x, &mut y[..]);
        let inv: Vec<f32> = var.iter().map(|&v| norm::inverse(v, 1e-3)).collect();
        group.bench_function(format!("forward {channels} {size}"), |b| {
            b.iter(|| norm::batch_norm(plane, (&scale, &bias), 1e-3, Then::Silu, black_box(&x), &mut y[..]).0.len());
        });
        group.bench_function(format!("backward {channels} {size}"), |b| {
            let n = Normalized { mean: &mean, inv: &inv, scale: &scale, bias: &bias };
            b.iter(|| norm::batch_norm_backward(plane, n, Then::Silu, black_box(&x), &gy, &mut y[..]).0.len());
        });
    }
    group.finish();
}

/// Input channels, output channels, input size, kernel, stride, groups.
const INFERENCE: &[[usize; 6]] = &[
    [3, 16, 640, 3, 2, 1],
    [3, 32, 640, 6, 2, 1],
    [16, 32, 320, 3, 2, 1],
    [32, 64, 160, 3, 2, 1],
    [64, 128, 80, 3, 2, 1],
    [128, 256, 40, 3, 2, 1],
    [16, 16, 160, 3, 1, 1],
    [32, 32, 80, 3, 1, 1],
    [64, 64, 80, 3, 1, 1],
    [80, 80, 80, 3, 1, 1],
    [64, 64, 40, 3, 1, 1],
    [128, 64, 40, 3, 1, 1],
    [128, 128, 20, 3, 1, 1],
    [256, 64, 20, 3, 1, 1],
    [48, 32, 160, 1, 1, 1],
    [128, 64, 80, 1, 1, 1],
    [192, 128, 40, 1, 1, 1],
    [384, 256, 20, 1, 1, 1],
    [64, 64, 80, 3, 1, 64],
];

fn inference(c: &mut Criterion) {
    let mut group = c.benchmark_group("inference");
    for &[ins, outs, size, kernel, stride, groups] in INFERENCE {
        let window = Window::square([size; 2], kernel, stride, (kernel - 1) / 2, 1).as_2d().expect("two axes");
        let [height, width] = window.output;
        let input = if ins == 3 { View::planes(size, size, ins) } else { View::dense(size, size, ins) };
        let epilogue = Epilogue { act: Some(Activation::Swish { alpha: 1.0 }), residual: false, then: None };
        let spec = ConvSpec { window, groups, input, output: View::dense(height, width, outs), residual: None, epilogue };
        let fill = |n: usize| (0..n).map(|i| (i * 37 % 101) as f32 / 500.0 - 0.1).collect::<Vec<f32>>();
        let (x, w, bias) = (fill(input.reach()), fill(outs * ins / groups * kernel * kernel), fill(outs));
        let mut y = vec![0.0f32; spec.output.reach()];
        let work = 2 * height * width * w.len();
        group.throughput(Throughput::Elements(work as u64)).sample_size(20).measurement_time(Duration::from_millis(500));
        group.warm_up_time(Duration::from_millis(100));
        let mut algorithms = vec![("direct", Algorithm::Direct)];
        if kernel == 3 && stride == 1 && groups == 1 {
            algorithms.push(("winograd", Algorithm::Winograd));
        }
        if groups > 1 {
            algorithms = vec![("depthwise", Algorithm::Depthwise)];
        }
        for (name, algorithm) in algorithms {
            let job = conv_with(Level::best(), algorithm, &spec, &w, Some(&bias), 1).expect("sizes that fit");
            group.bench_function(format!("{kernel}x{kernel}s{stride} {ins}-{outs} {height} {name}"), |b| {
                b.iter(|| run_alone(&*job, &[black_box(&x[..])], &mut [&mut y[..]]).expect("slices that fit"));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, convolutions, norms, inference);
criterion_main!(benches);
