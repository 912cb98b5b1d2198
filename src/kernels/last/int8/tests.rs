//! Every kernel against its plain definition: bit for bit.

use super::super::{View, run_alone};
use super::*;
use crate::kernels::Window2;
use crate::kernels::activation::Activation;
use crate::kernels::conv::tile::Level;

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

#[test]
fn a_convolution_equals_its_definition() {
    let window = Window2 { input: [5, 6], kernel: [3, 3], stride: [1, 1], dilation: [1, 1], pad: [1, 1], output: [5, 6] };
    let output = View::dense(5, 6, 5);
    let outputs = vec![Bytes::whole(output)];
    let spec = Int8Conv {
        window,
        groups: 1,
        input: View::dense(5, 6, 3),
        input_zero: 7,
        scales: vec![0.01; 5],
        bias: vec![0.5; 5],
        act: Some(Activation::Relu),
        store: Store::Bytes { inverse_scale: 2.0, zero: 3, outputs },
        threads: 1,
    };
    let (x, weights): (_, Vec<i8>) = (bytes(90, 1), bytes(135, 2).into_iter().map(|b| b as i8).collect());
    let mut y = vec![0u8; 150];
    run_alone(&*conv_with(Level::Portable, &spec, &weights), &[(&x, 90)], &mut [(&mut y, 150)]);
    let (_, expected) = reference::store(&spec.store, 5, &reference::conv(&spec, &weights, &x));
    assert_eq!(y, expected[0]);
}
