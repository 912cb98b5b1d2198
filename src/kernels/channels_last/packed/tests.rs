use super::*;
use crate::channels_last::{Epilogue, View};
use crate::tests::values;
use crate::window::Window2;

/// Runs all parts.
fn run(job: &Packed, input: &[f32], residual: &[f32], output: &mut [f32]) {
    let mut scratch = vec![[f32::NAN; 16]; job.scratch().div_ceil(64) + 1];
    let at = scratch.as_mut_ptr().cast::<u8>();
    let at = at.wrapping_add(at.align_offset(64));
    for part in 0..job.parts() {
        let inputs = [input.as_ptr().cast(), residual.as_ptr().cast()];
        // SAFETY: the buffers hold their views, and the scratch is as large as asked for.
        unsafe { job.run(part, Args { inputs: &inputs, outputs: &[output.as_mut_ptr().cast()] }, at) };
    }
}

#[test]
fn the_widest_tiles_agree_with_others() {
    for (size, ins, outs, kernel, stride, act, residual) in [
        (9, 40, 33, 3, 2, Some(Activation::Relu), true),
        (7, 300, 70, 1, 1, None, false),
        (8, 20, 64, 3, 1, Some(Activation::Swish { alpha: 1.0 }), true),
        (5, 290, 50, 3, 1, Some(Activation::Clip { min: -0.5, max: 0.5 }), false),
        (21, 8, 16, 1, 1, Some(Activation::HardSwish), false),
        (1, 700, 17, 1, 1, None, true),
        // Panels of several widths.
        (6, 40, 112, 1, 1, Some(Activation::Swish { alpha: 1.0 }), true),
        (5, 24, 80, 3, 1, Some(Activation::Relu), false),
        (4, 300, 290, 1, 1, Some(Activation::Gelu), false),
    ] {
        let out = (size + 2 * (kernel / 2) - kernel) / stride + 1;
        let window = Window2 {
            input: [size; 2],
            kernel: [kernel; 2],
            stride: [stride; 2],
            dilation: [1, 1],
            pad: [kernel / 2; 2],
            output: [out; 2],
        };
        let (x, y) = (View::dense(size, size, ins), View::dense(out, out, outs));
        let spec = ConvSpec {
            window,
            groups: 1,
            input: x,
            output: y,
            residual: residual.then_some(y),
            epilogue: Epilogue { act, residual, then: residual.then_some(Activation::Relu) },
        };
        let (weights, bias) = (values(outs * ins * kernel * kernel, 1), values(outs, 2));
        let (input, more) = (values(x.reach(), 3), values(y.reach(), 4));
        let made = [(Shape::widest(), 3), (Shape::of(Level::Portable), 1)].map(|(shape, threads)| {
            let operands = spec.operands(&weights, Some(&bias)).unwrap();
            let job = Packed::shaped(shape, finish::kernel(Level::Portable), &spec, operands, &weights, Some(&bias), threads);
            let mut output = vec![f32::NAN; y.reach()];
            run(&job, &input, &more, &mut output);
            output
        });
        let most = made[1].iter().fold(1.0f32, |m, v| m.max(v.abs()));
        for (i, (a, b)) in made[0].iter().zip(&made[1]).enumerate() {
            assert!((a - b).abs() <= 1e-5 * most, "{i} of {spec:?}: {a}, not {b}");
        }
    }
}

#[test]
fn the_depth_is_cut_without_gaps() {
    for (taps, ins, together) in
        [(1, 8, 1), (1, 256, 1), (1, 257, 1), (9, 64, 3), (9, 85, 3), (9, 86, 1), (9, 300, 1), (49, 3, 7), (25, 1000, 1)]
    {
        let mut at = 0;
        for s in slices(taps, ins, together, DEPTH) {
            let (tap, value) = (at / ins, at % ins);
            assert_eq!((s.before, s.taps.start, s.values.start), (at, tap, value), "{taps} taps of {ins}");
            let length = s.taps.len() * s.values.len();
            assert!(length > 0 && length <= DEPTH && (s.values.len() == ins || s.taps.len() == 1));
            assert!(s.values.len() < ins || s.taps.len().is_multiple_of(together));
            at += length;
        }
        assert_eq!(at, taps * ins);
    }
}

#[test]
fn panels_are_all_columns_and_fill_the_machine() {
    for shape in [Shape::widest(), Shape::of(Level::Portable)] {
        for columns in 1..400 {
            for rows in [1, 3, 7, 49, 196, 10_000] {
                let cut = shape.cut(rows, columns);
                assert_eq!(cut.panels.iter().sum::<usize>(), columns.div_ceil(shape.lanes), "{columns} columns");
                assert!(cut.panels.is_sorted_by(|a, b| a >= b) && (1..=kernel::ROWS).contains(&cut.rows));
                assert!(cut.panels.iter().all(|&v| (1..=kernel::VECTORS).contains(&v)));
            }
        }
    }
    let wide = Shape::widest();
    let of = |columns: usize| wide.cut(6400, columns).panels;
    assert_eq!((of(64), of(96), of(80), of(16)), (vec![4], vec![3, 3], vec![3, 2], vec![1]));
}
