use super::*;
use crate::tests::values;
use crate::{Window, reference};
use proptest::prelude::*;

fn close(what: &str, got: &[f32], expected: &[f32]) {
    let largest = expected.iter().fold(1.0f32, |m, v| m.max(v.abs()));
    for (i, (g, e)) in got.iter().zip(expected).enumerate() {
        assert!((g - e).abs() <= 2e-5 * largest, "{what}[{i}]: got {g}, expected {e}");
    }
}

fn shape(batch: usize, channels: [usize; 2], size: [usize; 2], pad: [[usize; 2]; 2]) -> ConvShape {
    let window = Window {
        input: size.to_vec(),
        kernel: vec![3, 3],
        stride: vec![1, 1],
        dilation: vec![1, 1],
        pad_begin: pad[0].to_vec(),
        pad_end: pad[1].to_vec(),
        output: (0..2).map(|d| size[d] + pad[0][d] + pad[1][d] - 2).collect(),
    };
    ConvShape { batch, in_channels: channels[0], out_channels: channels[1], groups: 1, window }
}

fn compare(s: &ConvShape) {
    let win = s.window.as_2d().unwrap();
    let (x, w, gy) = (values(s.x_len(), 1), values(s.w_len(), 2), values(s.y_len(), 3));
    let bias = values(s.out_channels, 4);
    let (mut y2, mut gx2, mut gw2) = (vec![0.0; s.y_len()], vec![0.0; s.x_len()], vec![0.0; s.w_len()]);
    reference::conv(s, &x, &w, Some(&bias), &mut y2);
    reference::conv_backward_data(s, &w, &gy, &mut gx2);
    reference::conv_backward_weight(s, &x, &gy, &mut gw2);
    for level in [Level::Portable, Level::Avx2, Level::Avx512].into_iter().filter(|l| l.available()) {
        // The results start as NaN: everything must be written.
        let (mut y, mut gx, mut gw) = (vec![f32::NAN; s.y_len()], vec![f32::NAN; s.x_len()], vec![f32::NAN; s.w_len()]);
        Pass::forward(level, s, &win, &w).run(&x, Some(&bias), &mut y);
        close("y", &y, &y2);
        Pass::backward(level, s, &win, &w).run(&gy, None, &mut gx);
        close("gx", &gx, &gx2);
        backward_weight(level, s, &win, &x, &gy, &mut gw);
        close("gw", &gw, &gw2);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn all_passes_agree_with_the_reference(
        batch in 1usize..5,
        channels in [1usize..28, 1usize..28],
        size in [3usize..24, 3usize..36],
        pad in [[0usize..3, 0usize..3], [0usize..3, 0usize..3]],
    ) {
        compare(&shape(batch, channels, size, pad));
    }
}

#[test]
fn deep_sums_stay_exact() {
    compare(&shape(2, [128, 64], [10, 10], [[1, 1], [1, 1]]));
}

#[test]
fn detectors_take_this_way_and_strided_windows_do_not() {
    let s = shape(1, [16, 16], [40, 40], [[1, 1], [1, 1]]);
    assert!(suits(&s, &s.window.as_2d().unwrap()));
    let mut strided = s;
    strided.window = Window::square([40, 40], 3, 2, 1, 1);
    assert!(!suits(&strided, &strided.window.as_2d().unwrap()));
}
