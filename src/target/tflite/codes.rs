//! The operators of TensorFlow Lite that are written, with their options, by the numbers of the schema.

use super::model::{Call, Kind, Scalar};
use Scalar::{Byte, Float, Int};

/// Operators whose options are an empty table or none.
macro_rules! plain {
    ($($name:ident $code:literal $table:literal),* $(,)?) => {
        $(pub(super) fn $name() -> Call {
            Call::new($code, $table, &[])
        })*
    };
}

plain! {
    dequantize 6 38, quantize 114 89, pad 34 22, padv2 60 43, transpose 39 26, reshape 22 17, slice 65 48, tile 69 51, gather_nd 107 83,
    select_v2 123 98, topk_v2 48 34, add 0 11, mul 18 21, sub 41 28, div 42 29, pow 78 56,
    maximum 55 39, minimum 57 39, less 58 41, less_equal 63 46, greater 61 44, greater_equal 62 45, equal 71 53, not_equal 72 54,
    logical_and 86 61, logical_or 84 60, logical_not 87 62, floor_mod 95 72,
    relu 19 0, relu6 21 0, relu_n1 20 0, logistic 14 0, tanh 28 0, exp 47 33, log 73 0, sqrt 75 0, rsqrt 76 0, abs 101 78, neg 59 42,
    floor 8 0, ceil 104 0, round 116 0, sin 66 0, cos 108 84, elu 111 0, hard_swish 117 91, sign 158 123, log_softmax 50 36,
}

/// The version from which on an operator takes int8: most got it with their second.
pub(super) fn int8_version(code: i32) -> i32 {
    const SECOND: &[i32] =
        &[0, 1, 2, 4, 6, 14, 17, 18, 19, 21, 23, 25, 26, 28, 34, 36, 39, 40, 41, 45, 55, 57, 60, 65, 67, 69, 82, 89, 97, 98, 100, 102];
    if SECOND.contains(&code) { 2 } else { 1 }
}

/// The version from which on an operator takes int16: most got it with their third.
pub(super) fn int16_version(code: i32) -> i32 {
    const THIRD: &[i32] = &[0, 2, 6, 14, 17, 25, 28, 34, 40, 60, 114];
    match code {
        9 => 7,
        3 | 18 | 23 | 36 | 65 | 67 | 97 => 4,
        4 | 39 | 41 => 5,
        c if THIRD.contains(&c) => 3,
        c => int8_version(c),
    }
}

/// Windows of a convolution or pool, height first.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    pub same: bool,
    pub strides: [usize; 2],
    pub dilations: [usize; 2],
}

impl Window {
    fn padding(self) -> Scalar {
        Byte(u8::from(!self.same))
    }
}

/// What a layer does with what it made, where that costs nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fused {
    Nothing = 0,
    Relu = 1,
    ReluN1 = 2,
    Relu6 = 3,
}

fn int(v: usize) -> Scalar {
    Int(i32::try_from(v).unwrap_or(i32::MAX))
}

pub(super) fn conv_2d(w: Window, fused: Fused) -> Call {
    let [sh, sw] = w.strides.map(int);
    let [dh, dw] = w.dilations.map(int);
    Call::new(3, 1, &[(0, w.padding()), (1, sw), (2, sh), (3, Byte(fused as u8)), (4, dw), (5, dh)])
}
pub(super) fn depthwise_conv_2d(w: Window, multiplier: usize, fused: Fused) -> Call {
    let [sh, sw] = w.strides.map(int);
    let [dh, dw] = w.dilations.map(int);
    Call::new(4, 2, &[(0, w.padding()), (1, sw), (2, sh), (3, int(multiplier)), (4, Byte(fused as u8)), (5, dw), (6, dh)])
}
pub(super) fn transpose_conv(w: Window) -> Call {
    let [sh, sw] = w.strides.map(int);
    Call { version: 3, ..Call::new(67, 49, &[(0, w.padding()), (1, sw), (2, sh)]) }
}
pub(super) fn fully_connected(fused: Fused) -> Call {
    Call { version: 5, ..Call::new(9, 8, &[(0, Byte(fused as u8)), (2, true.into())]) }
}
/// With an integer weight, whose input the kernel rounds with a zero point.
pub(super) fn hybrid_fully_connected() -> Call {
    Call { version: 12, ..Call::new(9, 8, &[(0, Byte(Fused::Nothing as u8)), (2, true.into()), (3, true.into())]) }
}
pub(super) fn batch_matmul(adjoint: [bool; 2]) -> Call {
    Call::new(126, 101, &[(0, adjoint[0].into()), (1, adjoint[1].into())])
}
fn pool(code: i32, w: Window, kernel: [usize; 2]) -> Call {
    let [sh, sw] = w.strides.map(int);
    Call::new(code, 5, &[(0, w.padding()), (1, sw), (2, sh), (3, int(kernel[1])), (4, int(kernel[0]))])
}
pub(super) fn average_pool_2d(w: Window, kernel: [usize; 2]) -> Call {
    pool(1, w, kernel)
}
pub(super) fn max_pool_2d(w: Window, kernel: [usize; 2]) -> Call {
    pool(17, w, kernel)
}
pub(super) fn concatenation(axis: usize) -> Call {
    Call::new(2, 10, &[(0, int(axis))])
}
pub(super) fn softmax() -> Call {
    Call::new(25, 9, &[(0, Float(1.0))])
}
pub(super) fn resize_bilinear(align_corners: bool, half_pixel: bool) -> Call {
    Call { version: 3, ..Call::new(23, 15, &[(2, align_corners.into()), (3, half_pixel.into())]) }
}
pub(super) fn resize_nearest(align_corners: bool, half_pixel: bool) -> Call {
    Call { version: 3, ..Call::new(97, 74, &[(0, align_corners.into()), (1, half_pixel.into())]) }
}
pub(super) fn gather(axis: usize) -> Call {
    Call::new(36, 23, &[(0, int(axis))])
}
pub(super) fn split_v(parts: usize) -> Call {
    Call::new(102, 79, &[(0, int(parts))])
}
/// Bits of `open` mark axes that go on to their end.
pub(super) fn strided_slice(open: i32) -> Call {
    Call::new(45, 32, &[(1, Int(open))])
}
pub(super) fn leaky_relu(alpha: f32) -> Call {
    Call::new(98, 75, &[(0, Float(alpha))])
}
pub(super) fn gelu(approximate: bool) -> Call {
    Call::new(150, 116, &[(0, approximate.into())])
}
pub(super) fn depth_to_space(block: usize) -> Call {
    Call::new(5, 94, &[(0, int(block))])
}
pub(super) fn space_to_depth(block: usize) -> Call {
    Call::new(26, 19, &[(0, int(block))])
}
pub(super) fn cumsum(exclusive: bool, reverse: bool) -> Call {
    Call::new(128, 102, &[(0, exclusive.into()), (1, reverse.into())])
}
pub(super) fn mirror_pad() -> Call {
    // Mode 0: REFLECT.
    Call::new(100, 77, &[])
}
pub(super) fn cast(from: Kind, to: Kind) -> Call {
    Call::new(53, 37, &[(0, Byte(from as u8)), (1, Byte(to as u8))])
}
pub(super) fn arg_max(least: bool) -> Call {
    let kind = Byte(Kind::I32 as u8);
    if least { Call::new(79, 57, &[(0, kind)]) } else { Call::new(56, 40, &[(0, kind)]) }
}

/// What remains of an axis over which values are reduced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reduction {
    Mean = 40,
    Sum = 74,
    Product = 81,
    Max = 82,
    Min = 89,
}

pub(super) fn reduce(how: Reduction) -> Call {
    Call::new(how as i32, 27, &[(0, true.into())])
}
