//! Where results go: real numbers as they are, or as bytes of one or several views.

use super::super::View;

/// What becomes of the real results of a kernel.
#[derive(Debug, Clone, PartialEq)]
pub enum Store {
    /// float32, to one output of any strides.
    Floats { output: View },
    /// Bytes `q = clamp(round_ties_even(real · inverse_scale) + zero, 0, 255)`, to one output per view.
    Bytes { inverse_scale: f32, zero: u8, outputs: Vec<Bytes> },
}

/// One output of bytes: the channels `first..first + view.channels` of a result, each through the table if there is one.
/// Nothing but these channels of the view is written.
#[derive(Debug, Clone, PartialEq)]
pub struct Bytes {
    /// Channels last: `view.channel` is 1.
    pub view: View,
    pub first: usize,
    pub table: Option<Box<[u8; 256]>>,
}

impl Bytes {
    /// All channels, as they are.
    pub fn whole(view: View) -> Self {
        Self { view, first: 0, table: None }
    }
}

impl Store {
    /// # Panics
    /// When an output has another size than `height × width`, channels that the result does not have, or bytes that are not
    /// channels last.
    pub(super) fn check(&self, height: usize, width: usize, channels: usize) {
        match self {
            Self::Floats { output } => {
                assert_eq!([output.height, output.width, output.channels], [height, width, channels], "size of a float output");
            }
            Self::Bytes { outputs, .. } => check(outputs, height, width, channels),
        }
    }
}

/// # Panics
/// As [`Store::check`].
pub(super) fn check(outputs: &[Bytes], height: usize, width: usize, channels: usize) {
    for Bytes { view, first, .. } in outputs {
        assert_eq!([view.height, view.width], [height, width], "size of a byte output");
        assert!(first + view.channels <= channels && view.channel == 1, "channels of a byte output");
    }
}

/// `clamp(round_ties_even(real · inverse_scale) + zero, 0, 255)`; NaN gives 0.
#[inline(always)]
pub(super) fn to_byte(real: f32, inverse_scale: f32, zero: u8) -> u8 {
    // Adding 1.5 · 2^23 rounds to an integer, ties to even, which then stands in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let (low, high) = (-f32::from(zero), f32::from(255 - zero));
    let t = real * inverse_scale;
    let t = if t > low { t } else { low };
    let t = if t < high { t } else { high };
    ((t + ROUND).to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32).wrapping_add(i32::from(zero)) as u8
}
