//! Convolution passes on layers of YOLOv8 at 160 px (batch 16) and 640 px (batch 1). Throughput is in floating-point
//! operations: "Gelem/s" reads as GFLOP/s.

use compresso_kernels::kernels::{ConvShape, Window, conv};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;

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
        group.bench_function("forward", |b| b.iter(|| conv::forward(&s, black_box(&x), &w, None, &mut y)));
        group.bench_function("data", |b| b.iter(|| conv::backward_data(&s, black_box(&w), &gy, &mut gx)));
        group.bench_function("weight", |b| b.iter(|| conv::backward_weight(&s, black_box(&x), &gy, &mut gw)));
        group.finish();
    }
}

criterion_group!(benches, convolutions);
criterion_main!(benches);
