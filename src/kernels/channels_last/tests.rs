mod rows;

use super::conv::{Algorithm, conv_after_with, conv_with};
use super::*;
use crate::activation::Activation;
use crate::level::Level;
use crate::tests::values;
use crate::window::Window2;
use proptest::prelude::*;

/// What lies around the pixels of a view.
const GUARD: f32 = -1e30;

/// Where a view lies among other tensors: channels before and after it, pixels after each row.
#[derive(Debug, Clone, Copy)]
struct Margins {
    before: usize,
    after: usize,
    row_end: usize,
    planes: bool,
}

fn margins() -> impl Strategy<Value = Margins> {
    let some = || prop_oneof![Just(0usize), 1usize..10];
    (some(), some(), some()).prop_map(|(before, after, row_end)| Margins { before, after, row_end, planes: false })
}

/// A buffer with an image in it.
#[derive(Debug, Clone)]
struct Image {
    view: View,
    start: usize,
    data: Vec<f32>,
}

impl Image {
    fn new([height, width, channels]: [usize; 3], p: Margins, seed: Option<u32>) -> Self {
        let view = if p.planes {
            let row = width + p.row_end;
            View { height, width, channels, row, pixel: 1, channel: (height + p.after) * row }
        } else {
            let pixel = p.before + channels + p.after;
            View { height, width, channels, row: (width + p.row_end) * pixel, pixel, channel: 1 }
        };
        // The buffer ends with the view when nothing comes after.
        let mut image = Self { view, start: p.before, data: vec![GUARD; p.before + view.reach() + p.after] };
        if let Some(seed) = seed {
            let values = values(height * width * channels, seed);
            for (i, v) in values.into_iter().enumerate() {
                let at = image.at(i / channels / width, i / channels % width, i % channels);
                image.data[at] = v;
            }
        }
        image
    }
    fn at(&self, y: usize, x: usize, c: usize) -> usize {
        self.start + y * self.view.row + x * self.view.pixel + c * self.view.channel
    }
    fn get(&self, y: usize, x: usize, c: usize) -> f64 {
        f64::from(self.data[self.at(y, x, c)])
    }
    fn positions(&self) -> impl Iterator<Item = (usize, usize, usize)> + use<> {
        let v = self.view;
        (0..v.height * v.width * v.channels).map(move |i| (i / v.channels / v.width, i / v.channels % v.width, i % v.channels))
    }
    /// Compares with `expected`, and what is around the image with what was there.
    fn check(&self, what: &str, tolerance: f64, expected: impl Fn(usize, usize, usize) -> f64) {
        self.check_of(what, tolerance, 1e-3, expected);
    }
    /// [`Image::check`] where `largest` went into the results.
    fn check_of(&self, what: &str, tolerance: f64, largest: f64, expected: impl Fn(usize, usize, usize) -> f64) {
        let mut rest = self.data.clone();
        let wanted: Vec<f64> = self.positions().map(|(y, x, c)| expected(y, x, c)).collect();
        let largest = wanted.iter().fold(largest, |m, v| if v.is_finite() { m.max(v.abs()) } else { m });
        for ((y, x, c), want) in self.positions().zip(wanted) {
            let got = self.get(y, x, c);
            let near = got == want || (got - want).abs() <= tolerance * largest || (got.is_nan() && want.is_nan());
            assert!(near, "{what} at {y},{x},{c} of {:?}: {got} instead of {want}", self.view);
            rest[self.at(y, x, c)] = GUARD;
        }
        assert!(rest.iter().all(|&v| v == GUARD), "{what} wrote outside {:?}", self.view);
    }
}

/// Runs the parts of a job out of order.
fn run(job: &dyn Job, inputs: &[&Image], output: &mut Image) {
    let mut scratch = vec![[f32::NAN; 16]; job.scratch().div_ceil(64) + 1];
    let at = scratch.as_mut_ptr().cast::<u8>();
    let at = at.wrapping_add(at.align_offset(64));
    let from: Vec<*const u8> = inputs.iter().map(|i| i.data[i.start..].as_ptr().cast()).collect();
    let to = [output.data[output.start..].as_mut_ptr().cast()];
    let mut parts: Vec<usize> = (0..job.parts()).rev().collect();
    let half = parts.len() / 2;
    parts.rotate_left(half);
    for part in parts {
        // SAFETY: the images hold their views, and the scratch is as large as asked for.
        unsafe { job.run(part, Args { inputs: &from, outputs: &to }, at) };
    }
}

fn apply(act: Option<Activation>, v: f64) -> f64 {
    match act {
        None => v,
        Some(Activation::Relu) => v.max(0.0),
        Some(Activation::Swish { alpha }) => v / (1.0 + (-f64::from(alpha) * v).exp()),
        Some(act) => {
            let mut out = [0.0];
            act.forward(&[v as f32], &mut out);
            f64::from(out[0])
        }
    }
}

#[derive(Debug, Clone)]
struct Case {
    window: Window2,
    groups: usize,
    channels: [usize; 2],
    margins: [Margins; 3],
    bias: bool,
    epilogue: Epilogue,
    threads: usize,
}

const LEVELS: [Level; 3] = [Level::Portable, Level::Avx2, Level::Avx512];

/// Compares a convolution at all levels with plain sums; the fewest parts that a job had.
fn compare(case: &Case, algorithms: &[Algorithm]) -> usize {
    let mut parts = usize::MAX;
    let (w, [per_in, per_out]) = (&case.window, case.channels);
    let [ins, outs] = case.channels.map(|c| c * case.groups);
    let x = Image::new([w.input[0], w.input[1], ins], case.margins[0], Some(1));
    let residual = Image::new([w.output[0], w.output[1], outs], case.margins[2], Some(2));
    let taps = w.kernel[0] * w.kernel[1];
    let (weights, bias) = (values(outs * per_in * taps, 3), values(outs, 4));
    let bias = case.bias.then_some(&bias[..]);
    let sums = {
        let mut sums = vec![0.0f64; w.output[0] * w.output[1] * outs];
        for (i, sum) in sums.iter_mut().enumerate() {
            let (y, x0, m) = (i / outs / w.output[1], i / outs % w.output[1], i % outs);
            *sum = bias.map_or(0.0, |b| f64::from(b[m]));
            for k in 0..taps {
                let at = [(0, y, k / w.kernel[1]), (1, x0, k % w.kernel[1])];
                let [Some(iy), Some(ix)] =
                    at.map(|(d, o, k)| (o * w.stride[d] + k * w.dilation[d]).checked_sub(w.pad[d]).filter(|&i| i < w.input[d]))
                else {
                    continue;
                };
                for c in 0..per_in {
                    *sum += x.get(iy, ix, m / per_out * per_in + c) * f64::from(weights[(m * per_in + c) * taps + k]);
                }
            }
        }
        sums
    };
    let largest = sums.iter().fold(1e-3f64, |m, v| m.max(v.abs()));
    for level in LEVELS.into_iter().filter(|l| l.available()) {
        for &algorithm in algorithms {
            let mut y = Image::new([w.output[0], w.output[1], outs], case.margins[1], None);
            let spec = ConvSpec {
                window: *w,
                groups: case.groups,
                input: x.view,
                output: y.view,
                residual: case.epilogue.residual.then_some(residual.view),
                epilogue: case.epilogue,
            };
            let job = conv_with(level, algorithm, &spec, &weights, bias, case.threads).unwrap();
            parts = parts.min(job.parts());
            let inputs = [&x, &residual];
            run(&*job, &inputs[..1 + usize::from(case.epilogue.residual)], &mut y);
            let what = format!("{level:?} {algorithm:?} {} {case:?}", job.name());
            y.check_of(&what, 2e-5, largest, |py, px, m| {
                let v = apply(case.epilogue.act, sums[(py * w.output[1] + px) * outs + m]);
                apply(case.epilogue.then, if case.epilogue.residual { v + residual.get(py, px, m) } else { v })
            });
        }
    }
    parts
}

fn acts() -> impl Strategy<Value = Option<Activation>> {
    prop_oneof![
        Just(None),
        Just(Some(Activation::Relu)),
        Just(Some(Activation::Swish { alpha: 1.0 })),
        Just(Some(Activation::LeakyRelu { alpha: 0.1 })),
        Just(Some(Activation::HardSwish)),
        Just(Some(Activation::Clip { min: -0.5, max: 0.5 })),
        Just(Some(Activation::Tanh)),
    ]
}

fn epilogues() -> impl Strategy<Value = Epilogue> {
    (acts(), any::<bool>(), acts()).prop_map(|(act, residual, then)| Epilogue { act, residual, then })
}

fn channel_counts() -> impl Strategy<Value = usize> {
    prop_oneof![Just(1usize), Just(3), Just(5), Just(8), Just(16), Just(17), Just(24), Just(37), 1usize..50]
}

prop_compose! {
    /// Windows of given largest kernel, stride and dilation; the output's size is free within what the input allows.
    fn windows(kernel: usize, stride: usize, dilation: usize)(
        kernel in [1..=kernel, 1..=kernel],
        stride in [1..=stride, 1..=stride],
        dilation in [1..=dilation, 1..=dilation],
        pad in [0usize..4, 0usize..4],
        pad_end in [0usize..4, 0usize..4],
        extra in [0usize..16, 0usize..30],
    ) -> Window2 {
        let axis = |d: usize| {
            let reach = (kernel[d] - 1) * dilation[d] + 1;
            let input = (reach + extra[d]).saturating_sub(pad[d] + pad_end[d]).max(1);
            (input, ((input + pad[d] + pad_end[d]).max(reach) - reach) / stride[d] + 1)
        };
        let (y, x) = (axis(0), axis(1));
        Window2 { input: [y.0, x.0], kernel, stride, dilation, pad, output: [y.1, x.1] }
    }
}

prop_compose! {
    fn cases(window: BoxedStrategy<Window2>, groups: BoxedStrategy<usize>, planes: bool)(
        window in window,
        groups in groups,
        channels in [channel_counts(), channel_counts()],
        margins in [margins(), margins(), margins()],
        bias in any::<bool>(),
        epilogue in epilogues(),
        threads in 1usize..4,
    ) -> Case {
        let channels = if groups > 1 { channels.map(|c| c % 20 + 1) } else { channels };
        let mut margins = margins;
        margins[0].planes = planes;
        Case { window, groups, channels, margins, bias, epilogue, threads }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn convolutions_agree_with_plain_sums(case in cases(windows(4, 3, 2).boxed(), Just(1).boxed(), false)) {
        compare(&case, &[Algorithm::Auto, Algorithm::Direct]);
        if case.channels[0] >= 8 {
            compare(&case, &[Algorithm::Packed]);
        }
    }

    #[test]
    fn minimal_filtering_agrees_with_plain_sums(
        case in cases(windows(1, 1, 1).boxed(), Just(1).boxed(), false),
        pad in [0usize..3, 0usize..3], pad_end in [0usize..3, 0usize..3], input in [3usize..20, 3usize..40],
    ) {
        let output = [0, 1].map(|d| input[d] + pad[d] + pad_end[d] - 2);
        let window = Window2 { input, kernel: [3, 3], pad, output, ..case.window };
        compare(&Case { window, ..case }, &[Algorithm::Winograd]);
    }

    #[test]
    fn convolutions_of_planes_agree_with_plain_sums(case in cases(windows(6, 2, 2).boxed(), Just(1).boxed(), true)) {
        compare(&case, &[Algorithm::Auto]);
    }

    #[test]
    fn grouped_convolutions_agree_with_plain_sums(case in cases(windows(3, 2, 2).boxed(), (2usize..4).boxed(), false)) {
        compare(&case, &[Algorithm::Auto, Algorithm::Direct]);
    }

    #[test]
    fn depthwise_convolutions_agree_with_plain_sums(
        case in cases(windows(5, 2, 2).boxed(), prop_oneof![Just(8), Just(16), 1usize..70].boxed(), false)
    ) {
        compare(&Case { channels: [1, 1], ..case }, &[Algorithm::Auto, Algorithm::Depthwise, Algorithm::Direct]);
    }

    #[test]
    fn pointwise_convolutions_agree_with_plain_sums(case in cases(windows(1, 1, 1).boxed(), Just(1).boxed(), false)) {
        compare(&case, &[Algorithm::Auto, Algorithm::Direct]);
    }
}

proptest! {
    #[test]
    fn convolutions_that_work_values_out_agree_with_those_on_worked_out_values(
        size in [1usize..9, 1usize..9], channels in [8usize..50, 1usize..40], stride in 1usize..3, margins in [margins(), margins(), margins()],
        given in [any::<bool>(), any::<bool>(), any::<bool>()], clipped in any::<bool>(), threads in 1usize..4,
    ) {
        let output = size.map(|n| (n - 1) / stride + 1);
        let window = Window2 { input: size, kernel: [1, 1], stride: [stride; 2], dilation: [1, 1], pad: [0, 0], output };
        let [ins, outs] = channels;
        let mut x = Image::new([size[0], size[1], ins], margins[0], Some(1));
        let factor = Image::new([1, 1, ins], margins[1], Some(2));
        let (scale, shift) = (values(ins, 3), values(ins, 4));
        let (weights, bias) = (values(outs * ins, 5), values(outs, 6));
        let act = clipped.then_some(Activation::Clip { min: -0.3, max: 0.4 });
        let epilogue = Epilogue { act: Some(Activation::Relu), ..Epilogue::default() };
        let y = Image::new([output[0], output[1], outs], margins[2], None);
        let spec = ConvSpec { window, groups: 1, input: x.view, output: y.view, residual: None, epilogue };
        let before = Before {
            scale: given[0].then_some(&scale[..]),
            shift: given[1].then_some(&shift[..]),
            factor: given[2].then_some(factor.view),
            act,
        };
        let jobs: Vec<_> = LEVELS
            .into_iter()
            .filter(|level| level.available())
            .map(|level| conv_after_with(level, &before, &spec, &weights, Some(&bias), threads).unwrap())
            .collect();
        let raw = x.clone();
        for (r, c, i) in x.positions() {
            let mut v = x.get(r, c, i);
            v *= if given[0] { f64::from(scale[i]) } else { 1.0 };
            v *= if given[2] { factor.get(0, 0, i) } else { 1.0 };
            v += if given[1] { f64::from(shift[i]) } else { 0.0 };
            let at = x.at(r, c, i);
            x.data[at] = apply(act, v) as f32;
        }
        for job in jobs {
            let mut made = y.clone();
            let inputs = [&raw, &factor];
            run(&*job, &inputs[..1 + usize::from(given[2])], &mut made);
            made.check("prepared", 1e-5, |r, c, m| {
                let sum: f64 = (0..ins).map(|i| x.get(r * stride, c * stride, i) * f64::from(weights[m * ins + i])).sum();
                (sum + f64::from(bias[m])).max(0.0)
            });
        }
    }
}

#[test]
fn a_wide_kernel_over_planes_makes_few_channels() {
    let window = Window2 { input: [6, 30], kernel: [5, 5], stride: [1, 1], dilation: [1, 1], pad: [0, 0], output: [2, 29] };
    let margin = |planes: bool| Margins { before: 0, after: 0, row_end: 0, planes };
    let then = Some(Activation::Clip { min: -0.5, max: 0.5 });
    let epilogue = Epilogue { act: Some(Activation::LeakyRelu { alpha: 0.1 }), residual: false, then };
    let margins = [margin(true), margin(false), margin(false)];
    compare(&Case { window, groups: 1, channels: [37, 3], margins, bias: false, epilogue, threads: 1 }, &[Algorithm::Auto]);
}

#[test]
fn large_convolutions_are_cut_into_parts_that_agree() {
    use Algorithm::{Depthwise, Direct, Packed, Winograd};
    let margin = Margins { before: 3, after: 1, row_end: 2, planes: false };
    let epilogue = Epilogue { act: Some(Activation::Swish { alpha: 1.0 }), residual: true, then: None };
    for (algorithm, groups, channels, size, kernel, stride) in [
        (Direct, 1, [37, 41], [30, 33], 3, 2),
        (Direct, 1, [300, 290], [5, 6], 1, 1),
        (Direct, 1, [80, 150], [9, 9], 3, 1),
        (Direct, 2, [40, 40], [20, 20], 3, 1),
        (Packed, 1, [37, 41], [30, 33], 3, 2),
        (Packed, 1, [300, 290], [5, 6], 1, 1),
        (Packed, 1, [600, 24], [9, 8], 3, 1),
        (Packed, 1, [80, 150], [9, 9], 3, 1),
        (Packed, 1, [16, 72], [60, 60], 1, 1),
        (Winograd, 1, [24, 20], [50, 50], 3, 1),
        (Winograd, 1, [40, 100], [9, 13], 3, 1),
        (Depthwise, 200, [1, 1], [30, 30], 3, 1),
        (Depthwise, 700, [1, 1], [4, 4], 5, 1),
    ] {
        let pad = kernel / 2;
        let output = size.map(|n: usize| (n + 2 * pad - kernel) / stride + 1);
        let window = Window2 { input: size, kernel: [kernel; 2], stride: [stride; 2], dilation: [1, 1], pad: [pad; 2], output };
        let case = Case { window, groups, channels, margins: [margin; 3], bias: true, epilogue, threads: 3 };
        assert!(compare(&case, &[algorithm]) > 1, "{case:?} is one part");
    }
    let window = Window2 { input: [90, 91], kernel: [3, 3], stride: [2, 2], dilation: [1, 1], pad: [1, 1], output: [45, 46] };
    let margins = [Margins { planes: true, ..margin }, margin, margin];
    let case = Case { window, groups: 1, channels: [3, 40], margins, bias: true, epilogue, threads: 3 };
    assert!(compare(&case, &[Direct]) > 1, "{case:?} is one part");
}

prop_compose! {
    fn pooled()(window in windows(5, 3, 2), channels in prop_oneof![channel_counts(), 60usize..140], margins in [margins(), margins()])
        -> (Window2, usize, [Margins; 2]) {
        (window, channels, margins)
    }
}

/// The values under the window at an output position.
fn under(w: &Window2, x: &Image, y: usize, x0: usize, c: usize) -> Vec<f64> {
    let inside = |d: usize, o: usize, k: usize| (o * w.stride[d] + k * w.dilation[d]).checked_sub(w.pad[d]).filter(|&i| i < w.input[d]);
    let taps = (0..w.kernel[0]).flat_map(|ky| (0..w.kernel[1]).map(move |kx| (ky, kx)));
    taps.filter_map(|(ky, kx)| Some(x.get(inside(0, y, ky)?, inside(1, x0, kx)?, c))).collect()
}

proptest! {
    #[test]
    fn max_pools_agree_with_plain_ones((w, channels, margins) in pooled(), nan in any::<bool>()) {
        let mut x = Image::new([w.input[0], w.input[1], channels], margins[0], Some(1));
        if nan {
            let at = x.at(w.input[0] / 2, w.input[1] / 2, channels / 2);
            x.data[at] = f32::NAN;
        }
        for level in LEVELS.into_iter().filter(|l| l.available()) {
            let mut y = Image::new([w.output[0], w.output[1], channels], margins[1], None);
            run(&pool::Pool::max(level, &w, x.view, y.view).unwrap(), &[&x], &mut y);
            y.check("max pool", 0.0, |py, px, c| {
                let larger = |a: f64, b: f64| if a.is_nan() || a > b { a } else { b };
                under(&w, &x, py, px, c).into_iter().fold(f64::NEG_INFINITY, larger)
            });
        }
    }

    #[test]
    fn average_pools_agree_with_plain_ones((w, channels, margins) in pooled(), count in any::<bool>(), end in [0usize..4, 0usize..4]) {
        let x = Image::new([w.input[0], w.input[1], channels], margins[0], Some(1));
        for level in LEVELS.into_iter().filter(|l| l.available()) {
            let mut y = Image::new([w.output[0], w.output[1], channels], margins[1], None);
            run(&pool::Pool::average(level, &w, x.view, y.view, count, end).unwrap(), &[&x], &mut y);
            y.check("average pool", 1e-6, |py, px, c| {
                let found = under(&w, &x, py, px, c);
                let padded = |d: usize, o: usize| {
                    (0..w.kernel[d]).filter(|k| o * w.stride[d] + k * w.dilation[d] < w.pad[d] + w.input[d] + end[d]).count()
                };
                let n = if count { padded(0, py) * padded(1, px) } else { found.len() };
                found.iter().sum::<f64>() / n.max(1) as f64
            });
        }
    }

    #[test]
    fn resizing_repeats_pixels(size in [1usize..9, 1usize..9, 1usize..40], scale in [1usize..4, 1usize..4], at in [margins(), margins()]) {
        let x = Image::new(size, at[0], Some(1));
        let mut y = Image::new([size[0] * scale[0], size[1] * scale[1], size[2]], at[1], None);
        run(&*resize::nearest(scale, x.view, y.view).unwrap(), &[&x], &mut y);
        y.check("resize", 0.0, |py, px, c| x.get(py / scale[0], px / scale[1], c));
    }

    #[test]
    fn elementwise_jobs_agree_with_plain_functions(
        size in prop_oneof![[1usize..9, 1usize..9, 1usize..600], [1usize..4, 1usize..700, 1usize..9]],
        at in [margins(), margins(), margins()], planes in any::<[bool; 2]>(), act in acts()
    ) {
        let mut at = at;
        (at[0].planes, at[2].planes) = (planes[0], planes[1]);
        let (a, b) = (Image::new(size, at[0], Some(1)), Image::new(size, at[1], Some(2)));
        let mut y = Image::new(size, at[2], None);
        run(&*map::add(a.view, b.view, y.view, act).unwrap(), &[&a, &b], &mut y);
        y.check("add", 1e-6, |py, px, c| apply(act, a.get(py, px, c) + b.get(py, px, c)));
        let job = act.map_or_else(|| map::copy(a.view, y.view), |act| map::map(act, a.view, y.view));
        run(&*job.unwrap(), &[&a], &mut y);
        y.check("map", 1e-6, |py, px, c| apply(act, a.get(py, px, c)));
    }
}

#[test]
fn the_output_may_be_an_input() {
    let margin = Margins { before: 2, after: 3, row_end: 1, planes: false };
    let a = Image::new([5, 7, 37], margin, Some(1));
    let mut y = a.clone();
    let from: [*const u8; 2] = [y.data[y.start..].as_ptr().cast(), a.data[a.start..].as_ptr().cast()];
    let to = [y.data[y.start..].as_mut_ptr().cast()];
    let job = map::add(y.view, a.view, y.view, None).unwrap();
    for part in 0..job.parts() {
        // SAFETY: the images hold their views.
        unsafe { job.run(part, Args { inputs: &from, outputs: &to }, std::ptr::null_mut()) };
    }
    y.check("add in margin", 0.0, |py, px, c| 2.0 * a.get(py, px, c));
}
