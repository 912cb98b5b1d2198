//! Windows over planes: pools, depthwise convolutions, resizing.

use super::super::plans::{self, Depthwise};
use super::expect;
use crate::conv::ConvShape;
use crate::resize::{self, AxisMap};
use crate::tests::values;
use crate::window::Window;
use crate::{pool, reference};
use proptest::prelude::*;

prop_compose! {
    fn windows()(
        kernel in [1usize..5, 1usize..5],
        stride in [1usize..4, 1usize..4],
        dilation in [1usize..3, 1usize..3],
        pad in [0usize..4, 0usize..4],
        pad_end in [0usize..4, 0usize..4],
        extra in [0usize..14, 0usize..14],
        flat in any::<bool>(),
    ) -> Window {
        let axis = |d: usize| {
            let reach = (kernel[d] - 1) * dilation[d] + 1;
            let input = (reach + extra[d]).saturating_sub(pad[d] + pad_end[d]).max(1);
            (input, ((input + pad[d] + pad_end[d]).max(reach) - reach) / stride[d] + 1)
        };
        let of = |v: &[usize]| if flat { v[1..].to_vec() } else { v.to_vec() };
        let (y, x) = (axis(0), axis(1));
        Window {
            input: of(&[y.0, x.0]),
            kernel: of(&kernel),
            stride: of(&stride),
            dilation: of(&dilation),
            pad_begin: of(&pad),
            pad_end: of(&pad_end),
            output: of(&[y.1, x.1]),
        }
    }
}

/// A few levels, so that windows hold equal values.
fn levels(n: usize, seed: u32) -> Vec<f32> {
    values(n, seed).into_iter().map(|v| (v * 3.0).round()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn pools(w in windows(), planes in 1usize..5, seed in 0u32..1000, count_padding in any::<bool>()) {
        let (ins, outs) = (planes * w.input_len(), planes * w.output_len());
        let mut x = levels(ins, seed);
        if seed % 3 == 0 {
            x[seed as usize % ins] = f32::NAN;
        }
        let gy = values(outs, seed + 1);
        let (mut y, mut gx) = (vec![0.0; outs], vec![0.0; ins]);
        pool::max_forward(&w, planes, &x, &mut y);
        pool::max_backward(&w, planes, &x, &y, &gy, &mut gx);
        expect("max", &plans::max_pool(&w, planes).unwrap(), &[&x], &[&y], 0.0);
        expect("max, gradient", &plans::max_pool_backward(&w, planes).unwrap(), &[&x, &gy], &[&gx], 1e-6);
        let x = values(ins, seed);
        gx.fill(0.0);
        reference::average_pool(&w, planes, count_padding, &x, &mut y);
        reference::average_pool_backward(&w, planes, count_padding, &gy, &mut gx);
        expect("mean", &plans::average_pool(&w, planes, count_padding).unwrap(), &[&x], &[&y], 1e-6);
        expect("mean, gradient", &plans::average_pool_backward(&w, planes, count_padding).unwrap(), &[&gy], &[&gx], 1e-6);
    }

    #[test]
    fn depthwise_convolutions(window in windows(), batch in 1usize..3, channels in 1usize..5, multiplier in 1usize..3, seed in 0u32..1000) {
        let s = ConvShape { batch, in_channels: channels, out_channels: channels * multiplier, groups: channels, window };
        let d = Depthwise::of(&s).unwrap().unwrap();
        let (x, w) = (values(s.x_len(), seed), values(s.w_len(), seed + 1));
        let (bias, gy) = (values(s.out_channels, seed + 2), values(s.y_len(), seed + 3));
        let (mut y, mut gx, mut gw) = (vec![0.0; s.y_len()], vec![0.0; s.x_len()], vec![0.0; s.w_len()]);
        reference::conv(&s, &x, &w, None, &mut y);
        expect("y", &plans::depthwise(&d, false).unwrap(), &[&x, &w], &[&y], 1e-5);
        y.fill(0.0);
        reference::conv(&s, &x, &w, Some(&bias), &mut y);
        expect("y with bias", &plans::depthwise(&d, true).unwrap(), &[&x, &w, &bias], &[&y], 1e-5);
        reference::conv_backward_data(&s, &w, &gy, &mut gx);
        reference::conv_backward_weight(&s, &x, &gy, &mut gw);
        expect("gradients", &plans::depthwise_backward(&d).unwrap(), &[&x, &w, &gy], &[&gx, &gw], 1e-5);
    }

    #[test]
    fn resized_axes(outer in 1usize..4, input in 1usize..9, output in 1usize..13, taps in 1usize..5, inner in 1usize..6, seed in 0u32..1000) {
        let at = values(output * taps, seed).into_iter();
        let index = at.map(|v| ((v.abs() * 1000.0) as usize % input) as u32).collect();
        let map = AxisMap { input, output, taps, index, weight: values(output * taps, seed + 1) };
        let (x, gy) = (values(outer * input * inner, seed + 2), values(outer * output * inner, seed + 3));
        let (mut y, mut gx) = (vec![0.0; gy.len()], vec![0.0; x.len()]);
        resize::forward(&map, inner, &x, &mut y);
        resize::backward(&map, inner, &gy, &mut gx);
        expect("y", &plans::resize_axis(&map, outer, inner).unwrap(), &[&x], &[&y], 1e-6);
        expect("gx", &plans::resize_axis_backward(&map, outer, inner).unwrap(), &[&gy], &[&gx], 1e-6);
    }
}

#[test]
fn other_convolutions_are_not_depthwise() {
    let shape = |groups, window| ConvShape { batch: 1, in_channels: 4, out_channels: 4, groups, window };
    assert!(Depthwise::of(&shape(2, Window::square([5, 5], 3, 1, 1, 1))).unwrap().is_none());
    let mut cube = Window::square([5, 5], 3, 1, 1, 1);
    for list in
        [&mut cube.input, &mut cube.kernel, &mut cube.stride, &mut cube.dilation, &mut cube.pad_begin, &mut cube.pad_end, &mut cube.output]
    {
        list.push(1);
    }
    assert!(Depthwise::of(&shape(4, cube.clone())).unwrap().is_none());
    assert!(plans::max_pool(&cube, 1).unwrap_err().to_string().contains("three axes"));
}
