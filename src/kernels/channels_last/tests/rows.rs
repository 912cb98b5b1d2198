//! Jobs that work on rows: over copies with their padding, and channel by channel.

use super::*;
use crate::channels_last::affine::Affine;
use crate::channels_last::mean::Mean;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn few_channels_agree_with_plain_sums(
        case in cases(windows(7, 4, 3).boxed(), (1usize..5).boxed(), false), planes in any::<bool>(), ins in 1usize..6
    ) {
        let mut case = Case { channels: [ins, case.channels[1]], ..case };
        case.window.dilation[1] = 1;
        case.margins[0].planes = planes;
        compare(&case, &[Algorithm::Runs, Algorithm::Auto]);
    }

    #[test]
    fn groups_of_channels_agree_with_plain_sums(
        case in cases(windows(3, 2, 2).boxed(), (2usize..5).boxed(), false), width in prop_oneof![Just(4usize), Just(8), Just(16), Just(24)]
    ) {
        let mut case = Case { channels: [width, width], ..case };
        case.window.dilation[1] = 1;
        compare(&case, &[Algorithm::Runs, Algorithm::Auto]);
    }

    #[test]
    fn channels_apart_agree_with_plain_sums(
        case in cases(windows(8, 4, 3).boxed(), prop_oneof![Just(8), Just(16), Just(24), 1usize..70].boxed(), false)
    ) {
        compare(&Case { channels: [1, 1], ..case }, &[Algorithm::Depthwise]);
    }

    #[test]
    fn products_and_sums_per_channel_agree_with_plain_ones(
        size in [1usize..9, 1usize..9, 1usize..600], at in [margins(), margins()], act in acts(), threads in 1usize..4, in_place in any::<bool>()
    ) {
        let x = Image::new(size, at[0], Some(1));
        let (scale, shift) = (values(size[2], 2), values(size[2], 3));
        for level in LEVELS.into_iter().filter(|l| l.available()) {
            let mut y = if in_place { x.clone() } else { Image::new(size, at[1], None) };
            let job = Affine::new(level, &scale, &shift, act, if in_place { y.view } else { x.view }, y.view, threads).unwrap();
            let held = y.data.as_mut_ptr().wrapping_add(y.start);
            let from: [*const u8; 1] = [if in_place { held.cast_const().cast() } else { x.data[x.start..].as_ptr().cast() }];
            for part in (0..job.parts()).rev() {
                // SAFETY: the images hold their views.
                unsafe { job.run(part, Args { inputs: &from, outputs: &[held.cast()] }, std::ptr::null_mut()) };
            }
            y.check_of(&job.name(), 2e-6, 1.0, |py, px, c| apply(act, x.get(py, px, c) * f64::from(scale[c]) + f64::from(shift[c])));
        }
    }

    #[test]
    fn means_of_images_agree_with_plain_ones(size in [1usize..20, 1usize..30, 1usize..200], at in [margins(), margins()]) {
        let x = Image::new(size, at[0], Some(1));
        let [height, width, channels] = size;
        let window = Window2 { input: [height, width], kernel: [height, width], stride: [3, 1], dilation: [1, 1], pad: [0, 0], output: [1, 1] };
        for level in LEVELS.into_iter().filter(|l| l.available()) {
            let mut y = Image::new([1, 1, channels], at[1], None);
            assert!(Mean::fits(&window, &x.view, &y.view));
            run(&Mean::new(level, &window, x.view, y.view).unwrap(), &[&x], &mut y);
            let sum = |c: usize| (0..height * width).map(|i| x.get(i / width, i % width, c)).sum::<f64>();
            y.check_of("mean", 1e-6, 1.0, |_, _, c| sum(c) / (height * width) as f64);
        }
    }
}

#[test]
fn rows_are_cut_into_parts_that_agree() {
    use Algorithm::{Depthwise, Runs};
    let margin = Margins { before: 3, after: 1, row_end: 2, planes: false };
    let epilogue = Epilogue { act: Some(Activation::Relu), residual: true, then: Some(Activation::HardSwish) };
    for (algorithm, groups, channels, size, kernel, stride) in [
        (Runs, 1, [3, 40], [90, 91], 7, 2),
        (Runs, 20, [16, 16], [20, 21], 3, 1),
        (Runs, 3, [8, 24], [70, 30], 3, 1),
        (Depthwise, 40, [1, 1], [90, 80], 3, 2),
        (Depthwise, 20, [1, 1], [70, 70], 7, 1),
        (Depthwise, 600, [1, 1], [30, 31], 5, 1),
    ] {
        let pad = kernel / 2;
        let output = size.map(|n: usize| (n + 2 * pad - kernel) / stride + 1);
        let window = Window2 { input: size, kernel: [kernel; 2], stride: [stride; 2], dilation: [1, 1], pad: [pad; 2], output };
        let case = Case { window, groups, channels, margins: [margin; 3], bias: true, epilogue, threads: 3 };
        assert!(compare(&case, &[algorithm]) > 1, "{case:?} is one part");
    }
}

#[test]
fn a_not_a_number_stays() {
    let margin = Margins { before: 0, after: 0, row_end: 0, planes: false };
    let mut x = Image::new([1, 2, 21], margin, Some(1));
    for at in [3, 20, 30] {
        x.data[at] = f32::NAN;
    }
    for level in LEVELS.into_iter().filter(|l| l.available()) {
        let mut y = Image::new([1, 2, 21], margin, None);
        let job = Affine::new(level, &[1.5; 21], &[0.5; 21], Some(Activation::Relu), x.view, y.view, 1).unwrap();
        run(&job, &[&x], &mut y);
        y.check("relu", 1e-6, |py, px, c| {
            let v = x.get(py, px, c) * 1.5 + 0.5;
            if v < 0.0 { 0.0 } else { v }
        });
    }
}
