use super::tile::Pixels;
use super::*;
use crate::tests::values;
use crate::window::Window;
use proptest::prelude::*;

fn close(what: &str, got: &[f32], expected: &[f32]) {
    let largest = expected.iter().fold(1.0f32, |m, v| m.max(v.abs()));
    for (i, (g, e)) in got.iter().zip(expected).enumerate() {
        assert!((g - e).abs() <= 2e-5 * largest, "{what}[{i}]: got {g}, expected {e}");
    }
}

fn compare(s: &ConvShape) {
    let (x, w, gy) = (values(s.x_len(), 1), values(s.w_len(), 2), values(s.y_len(), 3));
    let bias = values(s.out_channels, 4);
    // The results start as NaN: everything must be written.
    let (mut y, mut gx, mut gw) = (vec![f32::NAN; s.y_len()], vec![f32::NAN; s.x_len()], vec![f32::NAN; s.w_len()]);
    let (mut y2, mut gx2, mut gw2) = (vec![0.0; s.y_len()], vec![0.0; s.x_len()], vec![0.0; s.w_len()]);
    forward(s, &x, &w, Some(&bias), &mut y);
    reference::conv(s, &x, &w, Some(&bias), &mut y2);
    close("y", &y, &y2);
    backward_data(s, &w, &gy, &mut gx);
    reference::conv_backward_data(s, &w, &gy, &mut gx2);
    close("gx", &gx, &gx2);
    backward_weight(s, &x, &gy, &mut gw);
    reference::conv_backward_weight(s, &x, &gy, &mut gw2);
    close("gw", &gw, &gw2);
}

/// A small number, now and then one far beyond any image.
fn far(least: usize) -> impl Strategy<Value = usize> {
    prop_oneof![4 => least..4, 1 => Just(70usize), 1 => Just(100_003), 1 => Just(1 << 30)]
}

prop_compose! {
    /// Sizes of zero, strides, dilations and paddings far beyond the image.
    fn odd_shapes()(
        batch in 0usize..3,
        groups in 1usize..3,
        cg in 0usize..20,
        mg in 0usize..20,
        kernel in [1usize..4, 1usize..4],
        stride in [far(1), far(1)],
        dilation in [far(1), far(1)],
        pad in [far(0), far(0)],
        input in [0usize..9, 0usize..9],
        output in [0usize..9, 0usize..9],
    ) -> ConvShape {
        let window = Window {
            input: input.to_vec(),
            kernel: kernel.to_vec(),
            stride: stride.to_vec(),
            dilation: dilation.to_vec(),
            pad_begin: pad.to_vec(),
            pad_end: vec![0, 0],
            output: output.to_vec(),
        };
        ConvShape { batch, in_channels: cg * groups, out_channels: mg * groups, groups, window }
    }
}

prop_compose! {
    fn shapes()(
        batch in 1usize..4,
        groups in prop_oneof![Just(1usize), Just(1), Just(2), Just(3)],
        cg in 1usize..7,
        mg in 1usize..19,
        kernel in [1usize..5, 1usize..5],
        stride in [1usize..4, 1usize..4],
        dilation in [1usize..3, 1usize..3],
        pad in [0usize..4, 0usize..4],
        pad_end in [0usize..4, 0usize..4],
        extra in [0usize..30, 0usize..30],
    ) -> ConvShape {
        let axis = |d: usize| {
            let reach = (kernel[d] - 1) * dilation[d] + 1;
            let input = (reach + extra[d]).saturating_sub(pad[d] + pad_end[d]).max(1);
            let output = (input + pad[d] + pad_end[d]).max(reach) - reach;
            (input, output / stride[d] + 1)
        };
        let (y, x) = (axis(0), axis(1));
        let window = Window {
            input: vec![y.0, x.0],
            kernel: kernel.to_vec(),
            stride: stride.to_vec(),
            dilation: dilation.to_vec(),
            pad_begin: pad.to_vec(),
            pad_end: pad_end.to_vec(),
            output: vec![y.1, x.1],
        };
        ConvShape { batch, in_channels: cg * groups, out_channels: mg * groups, groups, window }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn all_passes_agree_with_the_reference(s in shapes()) {
        compare(&s);
    }

    #[test]
    fn sizes_of_zero_and_steps_beyond_the_image_agree_with_the_reference(s in odd_shapes()) {
        prop_assume!(s.check().is_ok());
        compare(&s);
    }
}

#[test]
fn shapes_of_detectors_agree_with_the_reference() {
    for (c, m, groups, size, k, stride) in [
        (3, 16, 1, 33, 3, 2),
        (16, 16, 1, 20, 3, 1),
        (32, 8, 1, 12, 1, 1),
        (40, 40, 1, 5, 3, 1),
        (24, 24, 24, 17, 5, 2),
        (8, 16, 8, 9, 3, 1),
        // Small planes of many channels.
        (48, 50, 1, 7, 3, 1),
        (130, 140, 1, 9, 1, 1),
        (40, 60, 1, 13, 3, 2),
        (96, 180, 1, 6, 1, 2),
    ] {
        let window = Window::square([size, size + 3], k, stride, k / 2, 1);
        for batch in [2, 0] {
            compare(&ConvShape { batch, in_channels: c, out_channels: m, groups, window: window.clone() });
        }
    }
}

#[test]
fn every_instruction_set_gives_the_same_tiles() {
    for level in [Level::Portable, Level::Avx2, Level::Avx512].into_iter().filter(|l| l.available()) {
        let (lanes, taps) = (level.lanes(), level.taps());
        let (src, offsets) = (values(600, 5), [0u32, 3, 40, 7, 100, 1, 22, 9]);
        for (len, rows) in [(1, 1), (7, 2), (8, 3), (17, 5), (24, 8), (49, 11), (90, 16), (33, 26)] {
            let heights = level.heights(rows);
            let made: usize = heights.iter().sum();
            assert!((rows..rows + 4).contains(&made), "{level:?} covers {rows} rows with {heights:?}");
            let packed = values(made * offsets.len(), 6);
            let ld = len + 64;
            let mut out = vec![f32::NAN; made * ld];
            tile::multiply(level, &heights, &offsets, &packed, &src, len, Out::from(&mut out).cells(), ld);
            let mut first = 0;
            for height in heights {
                for r in 0..height {
                    let weight = |k: usize| packed[first * offsets.len() + k * height + r];
                    let expected: Vec<f32> =
                        (0..len).map(|p| offsets.iter().enumerate().map(|(k, &o)| weight(k) * src[o as usize + p]).sum()).collect();
                    close("multiply", &out[(first + r) * ld..][..len], &expected);
                }
                first += height;
            }
        }
        for vectors in [1, 2] {
            let (pixels, wide) = (Pixels { images: 2, apart: 31, rows: 3, width: 5, pitch: 9 }, vectors * lanes);
            let gy = values(30 * wide, 7);
            let offsets: Vec<u32> = (0..2 * taps as u32).map(|k| k * 11 % 70).collect();
            let mut out = vec![1.0; offsets.len() * wide];
            tile::accumulate(level, vectors, &offsets, &src, pixels, &gy, &mut out, wide);
            let expected: Vec<f32> = (0..offsets.len() * wide)
                .map(|i| {
                    let (k, m) = (i / wide, i % wide);
                    let at = |p: usize| src[offsets[k] as usize + p / 15 * 31 + p % 15 / 5 * 9 + p % 5];
                    1.0 + (0..30).map(|p| at(p) * gy[p * wide + m]).sum::<f32>()
                })
                .collect();
            close("accumulate", &out, &expected);
        }
    }
}

#[test]
fn weights_over_small_planes_are_summed_the_same_by_any_number_of_threads() {
    for (k, stride) in [(1, 1), (3, 1), (3, 2)] {
        let window = Window::square([7, 8], k, stride, k / 2, 1);
        let channels = if k == 1 { 130 } else { 44 };
        let s = ConvShape { batch: 39, in_channels: channels, out_channels: channels + 3, groups: 1, window };
        let win = s.window.as_2d().unwrap();
        assert!(small::suits(&s, &win));
        let (x, gy) = (values(s.x_len(), 1), values(s.y_len(), 2));
        let mut expected = vec![0.0; s.w_len()];
        reference::conv_backward_weight(&s, &x, &gy, &mut expected);
        for level in [Level::Portable, Level::Avx2, Level::Avx512].into_iter().filter(|l| l.available()) {
            let run = |threads: usize| {
                let mut gw = vec![f32::NAN; s.w_len()];
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| small::backward_weight(level, &s, &win, &x, &gy, &mut gw));
                gw
            };
            let one = run(1);
            close("gw", &one, &expected);
            assert_eq!(one, run(3), "{level:?}");
        }
    }
}
