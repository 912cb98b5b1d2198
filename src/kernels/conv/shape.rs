//! Sizes of a convolution, and what its kernels share.

use crate::window::{Window, Window2, elements};
use compresso_base::error::{Error, Result};

/// Sizes of a convolution: `x: [batch, in_channels, input…]`, `w: [out_channels, in_channels / groups, kernel…]`,
/// `y: [batch, out_channels, output…]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConvShape {
    /// Images.
    pub batch: usize,
    /// Channels of `x`, all groups together.
    pub in_channels: usize,
    /// Channels of `y`, all groups together.
    pub out_channels: usize,
    /// Groups of channels, each convolved on its own; it divides both numbers of channels.
    pub groups: usize,
    /// Sizes, stride, dilation and padding along the axes after the channels.
    pub window: Window,
}

impl ConvShape {
    /// Checks that groups divide the channels and that no number that is worked out from the sizes overflows.
    ///
    /// # Errors
    /// `Shape` with what does not fit.
    pub fn check(&self) -> Result<()> {
        self.window.check()?;
        let (ins, outs, groups) = (self.in_channels, self.out_channels, self.groups);
        if groups == 0 || !ins.is_multiple_of(groups) || !outs.is_multiple_of(groups) {
            return Err(Error::shape(format!("{groups} groups of {ins} input and {outs} output channels")));
        }
        elements(&[self.batch, ins, self.window.input_len()])?;
        elements(&[self.batch, outs, self.window.output_len()])?;
        elements(&[outs, ins / groups, self.window.kernel_len()])?;
        Ok(())
    }
    /// Elements of `x`.
    pub fn x_len(&self) -> usize {
        self.batch * self.in_channels * self.window.input_len()
    }
    /// Elements of `w`.
    pub fn w_len(&self) -> usize {
        self.out_channels * (self.in_channels / self.groups) * self.window.kernel_len()
    }
    /// Elements of `y`.
    pub fn y_len(&self) -> usize {
        self.batch * self.out_channels * self.window.output_len()
    }
    /// Multiply-accumulates of one pass.
    pub fn macs(&self) -> usize {
        self.y_len() * (self.in_channels / self.groups) * self.window.kernel_len()
    }
    /// Input and output channels of a group.
    pub(super) fn per_group(&self) -> (usize, usize) {
        (self.in_channels / self.groups, self.out_channels / self.groups)
    }
}

/// Rows and columns of each tap after the first.
pub fn shifts(win: &Window2) -> Vec<[usize; 2]> {
    (0..win.kernel[0]).flat_map(|y| (0..win.kernel[1]).map(move |x| [y * win.dilation[0], x * win.dilation[1]])).collect()
}

/// Output that several jobs write, each to elements of its own.
pub struct Shared(pub *mut f32, pub usize);
// SAFETY: jobs write disjoint elements; see who writes.
unsafe impl Sync for Shared {}
