//! Geometry of a sliding window over any number of spatial axes.

/// A window that slides over a padded input: of convolutions and pools.
///
/// Output position `o` and kernel position `k` read input position `o * stride + k * dilation - pad_begin` of each axis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    pub input: Vec<usize>,
    pub kernel: Vec<usize>,
    pub stride: Vec<usize>,
    pub dilation: Vec<usize>,
    pub pad_begin: Vec<usize>,
    /// Only average pools that count padding look at it; the output's size is given.
    pub pad_end: Vec<usize>,
    pub output: Vec<usize>,
}

impl Window {
    /// A two-dimensional window whose output is as large as fits.
    pub fn square(input: [usize; 2], kernel: usize, stride: usize, pad: usize, dilation: usize) -> Self {
        let out = |n: usize| (n + 2 * pad).saturating_sub(dilation * (kernel - 1) + 1) / stride + 1;
        Self {
            input: input.to_vec(),
            kernel: vec![kernel; 2],
            stride: vec![stride; 2],
            dilation: vec![dilation; 2],
            pad_begin: vec![pad; 2],
            pad_end: vec![pad; 2],
            output: input.map(out).to_vec(),
        }
    }
    pub fn rank(&self) -> usize {
        self.input.len()
    }
    /// Elements of one input plane.
    pub fn input_len(&self) -> usize {
        self.input.iter().product()
    }
    /// Elements of one output plane.
    pub fn output_len(&self) -> usize {
        self.output.iter().product()
    }
    /// Taps of the window.
    pub fn kernel_len(&self) -> usize {
        self.kernel.iter().product()
    }
    /// The input index that flat output position `out` reads at flat kernel position `tap`; `None` in the padding.
    pub fn read(&self, mut out: usize, mut tap: usize) -> Option<usize> {
        let (mut index, mut scale) = (0, 1);
        for d in (0..self.rank()).rev() {
            let (o, k) = (out % self.output[d], tap % self.kernel[d]);
            out /= self.output[d];
            tap /= self.kernel[d];
            let at = (o * self.stride[d] + k * self.dilation[d]).checked_sub(self.pad_begin[d])?;
            if at >= self.input[d] {
                return None;
            }
            index += at * scale;
            scale *= self.input[d];
        }
        Some(index)
    }
    /// Taps of output position `out` that lie inside the input and its padding.
    pub fn padded_taps(&self, mut out: usize) -> usize {
        let mut count = 1;
        for d in (0..self.rank()).rev() {
            let start = (out % self.output[d]) * self.stride[d];
            out /= self.output[d];
            let limit = self.pad_begin[d] + self.input[d] + self.pad_end[d];
            count *= (0..self.kernel[d]).filter(|k| start + k * self.dilation[d] < limit).count();
        }
        count
    }
    /// The same window with one-dimensional axes widened to two (a height of 1).
    #[must_use]
    pub fn as_2d(&self) -> Option<Window2> {
        let pair = |v: &[usize], fill: usize| match *v {
            [w] => Some([fill, w]),
            [h, w] => Some([h, w]),
            _ => None,
        };
        Some(Window2 {
            input: pair(&self.input, 1)?,
            kernel: pair(&self.kernel, 1)?,
            stride: pair(&self.stride, 1)?,
            dilation: pair(&self.dilation, 1)?,
            pad: pair(&self.pad_begin, 0)?,
            output: pair(&self.output, 1)?,
        })
    }
}

/// A [`Window`] over height and width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window2 {
    pub input: [usize; 2],
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    pub dilation: [usize; 2],
    /// Padding at the top and the left.
    pub pad: [usize; 2],
    pub output: [usize; 2],
}

impl Window2 {
    /// Output positions of axis `d` at which kernel position `k` reads inside the input: a half-open range.
    pub fn valid(&self, d: usize, k: usize) -> (usize, usize) {
        let (shift, stride) = (k * self.dilation[d], self.stride[d]);
        let start = self.pad[d].saturating_sub(shift).div_ceil(stride).min(self.output[d]);
        let end = match (self.input[d] + self.pad[d]).checked_sub(shift + 1) {
            Some(last) => (last / stride + 1).min(self.output[d]),
            None => 0,
        };
        (start, end.max(start))
    }
    /// True for a window that reads each input position once, in order.
    pub fn is_pointwise(&self) -> bool {
        self.kernel == [1, 1] && self.stride == [1, 1] && self.pad == [0, 0] && self.input == self.output
    }
}
