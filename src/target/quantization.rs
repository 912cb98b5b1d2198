//! How a target runs integers.

use super::{Grid, Op};

/// How a target runs integers, for `quantize` to follow. What layers and values are is told in its module `placement`.
#[derive(Debug, Clone, Copy)]
pub struct Quantization {
    /// Integers of activations, one scale per value.
    pub activations: Grid,
    /// Integers of weights, whose zero point is 0; a scale per output channel, or one.
    pub weights: Grid,
    /// Whether static weights may be asked to have one bit less ([`Grid::reduced`]).
    pub reduced_weights: bool,
    /// Whether graphs run whose scales of activations are computed at run time.
    pub dynamic: bool,
    /// Integers of activations that are asked to have 16 bits; `None` where no kernels take such.
    pub wide: Option<Grid>,
    /// Layers whose kernels take an integer weight beside real numbers, which they round themselves while they run.
    pub hybrid: &'static [Op],
    /// Layers that multiply integers. Others stay in float.
    pub layers: &'static [Op],
    /// Layers whose weight may have a scale per output channel. Others have one for the whole weight.
    pub channel_scales: &'static [Op],
    /// Convolutions with fewer input or output channels stay in float.
    pub min_channels: usize,
    /// Layers that add a bias in int32, whose scale is the product of the input's and the weight's. Others add it in float.
    pub int32_bias: &'static [Op],
    /// Layers that write integers: what they make is rounded too. Others make floats.
    pub writes: &'static [Op],
    /// Operators that the layers of `writes` do by their rounding: where one alone reads such a layer, what it makes is rounded
    /// instead of what the layer makes.
    pub fused: &'static [Op],
    /// Operators whose integer kernels lack what these nodes ask for: they read floats, also where integers stand around them.
    pub float: &'static [Op],
    /// Whether additions and activations run on integers.
    pub elementwise: Elementwise,
    /// What the last layers make is rounded as well: kernels that write integers write nothing else, so that such a layer would stay in
    /// float.
    pub ends: bool,
    /// What operators that move values (pools, reshapes, concatenations) do with the scales of what they join.
    pub joining: Joining,
    /// Operators that add what is rounded for others already (the skip input of a sum) to what a layer makes: of their inputs, the
    /// first that is rounded is read so.
    pub residual: &'static [Op],
    /// A value that no layer reads is left in float when its largest channel is more times as large as the middle one: one scale
    /// would lose its small channels.
    pub spread_limit: Option<f32>,
}

/// Whether additions and activations between layers run on integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Elementwise {
    /// There are no kernels for it.
    Never,
    /// When they are asked to.
    Asked,
    /// Unless they are asked not to: what is left in float costs more than it computes, by going there and back.
    Usual,
}

impl Elementwise {
    /// Whether they do, by what is asked for; `None` leaves it to the target.
    pub fn chosen(self, asked: Option<bool>) -> bool {
        match self {
            Self::Never => false,
            Self::Asked => asked.unwrap_or(false),
            Self::Usual => asked.unwrap_or(true),
        }
    }
}

/// What operators that move values do with the scales of what they join.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Joining {
    /// Rescale: each input keeps its own scale, and so does what they make.
    Rescale,
    /// Copy: all inputs and outputs share one scale, from the layers that read them back to the first.
    Share,
}
