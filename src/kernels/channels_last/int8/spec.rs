//! What operations on bytes are, apart from weights and tables.

use super::super::operand::{Element, Operand};
use super::super::view::View;
use crate::activation::Activation;
use crate::window::Window2;
use compresso_base::error::{Error, Result};

/// What becomes of the real results of a kernel.
#[derive(Debug, Clone, PartialEq)]
pub enum Store {
    /// float32, to one output of any strides.
    Floats {
        /// Of the result's height, width and channels.
        output: View,
    },
    /// Bytes `q = clamp(round_ties_even(real · inverse_scale) + zero, 0, 255)`, to one output per view.
    Bytes {
        /// One over what one step of a byte is worth.
        inverse_scale: f32,
        /// The byte of the real number 0.
        zero: u8,
        /// Channels of the result, and where they are written; one may be written to several.
        outputs: Vec<Bytes>,
    },
}

/// One output of bytes: the channels `first..first + view.channels` of a result, each through the table if there is one.
/// Nothing but these channels of the view is written.
#[derive(Debug, Clone, PartialEq)]
pub struct Bytes {
    /// Channels last: `view.channel` is 1.
    pub view: View,
    /// The channel of the result that is the view's first.
    pub first: usize,
    /// What is written for each byte; `None`: the byte itself.
    pub table: Option<Box<[u8; 256]>>,
}

impl Bytes {
    /// All channels of a view, as they are.
    pub fn whole(view: View) -> Self {
        Self { view, first: 0, table: None }
    }
}

impl Store {
    /// The outputs of a result of `height × width` pixels of so many channels.
    ///
    /// # Errors
    /// `Shape` when an output has another size, channels that the result does not have, or bytes that are not channels last.
    pub fn outputs(&self, height: usize, width: usize, channels: usize) -> Result<Vec<Operand>> {
        match self {
            Self::Floats { output } if output.size() == [height, width, channels] => Ok(vec![Operand::image(Element::F32, output)?]),
            Self::Floats { output } => {
                Err(Error::shape(format!("a result of {height}x{width} pixels of {channels} channels does not fit {output:?}")))
            }
            Self::Bytes { outputs, .. } => byte_outputs(outputs, height, width, channels),
        }
    }
}

/// Outputs of bytes.
///
/// # Errors
/// As [`Store::outputs`].
pub fn byte_outputs(outputs: &[Bytes], height: usize, width: usize, channels: usize) -> Result<Vec<Operand>> {
    let operand = |Bytes { view, first, .. }: &Bytes| {
        let inside = first.checked_add(view.channels).is_some_and(|end| end <= channels);
        if [view.height, view.width] != [height, width] || !inside || view.channel != 1 {
            return Err(Error::shape(format!(
                "channels from {first} on of {height}x{width} pixels of {channels} channels do not fit the channels-last {view:?}"
            )));
        }
        Operand::image(Element::U8, view)
    };
    outputs.iter().map(operand).collect()
}

/// An input of bytes.
///
/// # Errors
/// `Shape` when it is not channels last.
pub fn byte_input(view: &View) -> Result<Operand> {
    if view.channel != 1 {
        return Err(Error::shape(format!("bytes must lie channels last, got {view:?}")));
    }
    Operand::image(Element::U8, view)
}

/// Longest sum of products of a result (input channels of its group times taps) that 32 bits hold for sure.
pub const MAX_DEPTH: usize = 65_536;

/// As [`MAX_DEPTH`], for weights beyond 8 bits.
pub const MAX_WIDE_DEPTH: usize = 32_768;

/// `real = act(Σ (q − input_zero) · w · scales[o] + bias[o])`, then stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Int8Conv {
    /// Sizes, stride, dilation and padding along height and width.
    pub window: Window2,
    /// Groups of channels, each convolved on its own.
    pub groups: usize,
    /// Channels last. With 3 channels and a pixel stride of 4, the fourth byte may hold anything.
    pub input: View,
    /// The byte of the real number 0, which padding is filled with. `None`: it is measured when the job runs, and the job reads
    /// it, with the scale of the input, from two more inputs of one element each, as [`super::scale`] writes them: the
    /// scale in float32, then the byte.
    pub input_zero: Option<u8>,
    /// Per output channel: scale of the input times scale of the weights; the latter alone where the input is measured.
    pub scales: Vec<f32>,
    /// Per output channel, in real units.
    pub bias: Vec<f32>,
    /// Applied to the real results; `None`: they are stored as they are.
    pub act: Option<Activation>,
    /// Where results go, and as what.
    pub store: Store,
    /// One more output, `[parts, 2, out]` of float32, the job having at most [`super::MOST_RANGES`] parts: the least and the largest real
    /// result of each channel that each part has made, 0 included. Not where the store has bytes.
    pub ranges: bool,
    /// Threads that the job is cut into parts for.
    pub threads: usize,
}

/// `real = Σ (q − input_zero) · (scale / count)` over what is under the window; or `real = Σ table[q] / count`, summed in float32
/// down the rows, then along them.
#[derive(Debug, Clone, PartialEq)]
pub struct AveragePool {
    /// As [`Int8Conv::window`].
    pub window: Window2,
    /// Channels last.
    pub input: View,
    /// The byte of the real number 0; not read where there is a table.
    pub input_zero: u8,
    /// What one step of a byte is worth; not read where there is a table.
    pub scale: f32,
    /// The numbers that bytes stand for, where they do not lie on a line.
    pub table: Option<Box<[f32; 256]>>,
    /// `Some`: padding counts, as far as this many rows and columns beyond the end of the input.
    pub padded: Option<[usize; 2]>,
    /// Where results go, and as what.
    pub store: Store,
    /// Threads that the job is cut into parts for.
    pub threads: usize,
}

impl AveragePool {
    /// What the sum at an output position is divided by; at least 1.
    pub fn count(&self, out: [usize; 2]) -> usize {
        let w = &self.window;
        let along = |d: usize| {
            let end = w.pad[d] + w.input[d];
            match self.padded {
                Some(more) => w.taps_in(d, out[d], 0..end.saturating_add(more[d])).len(),
                None => w.taps_in(d, out[d], w.pad[d]..end).len(),
            }
        };
        (along(0) * along(1)).max(1)
    }
}

/// `real = act((a − zeros[0]) · scales[0] + (b − zeros[1]) · scales[1])`, then stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Int8Add {
    /// Channels last, of one size.
    pub inputs: [View; 2],
    /// What one step of a byte of each input is worth.
    pub scales: [f32; 2],
    /// The byte of the real number 0 of each input.
    pub zeros: [u8; 2],
    /// Applied to the sum; `None`: it is stored as it is.
    pub act: Option<Activation>,
    /// Where results go, and as what.
    pub store: Store,
    /// Threads that the job is cut into parts for.
    pub threads: usize,
}
