//! Where an image lies.

/// Where an image lies: element (y, x, c) is `y * row + x * pixel + c * channel` elements after the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View {
    /// Rows of pixels.
    pub height: usize,
    /// Pixels of a row.
    pub width: usize,
    /// Values of a pixel.
    pub channels: usize,
    /// Elements from one row to the next.
    pub row: usize,
    /// Elements from one pixel of a row to the next.
    pub pixel: usize,
    /// 1 for channels last; `height * width` for the planes of an ONNX input.
    pub channel: usize,
}

impl View {
    /// A whole channels-last image.
    pub fn dense(height: usize, width: usize, channels: usize) -> Self {
        Self { height, width, channels, row: width.saturating_mul(channels), pixel: channels, channel: 1 }
    }
    /// A whole image of planes.
    pub fn planes(height: usize, width: usize, channels: usize) -> Self {
        Self { height, width, channels, row: width, pixel: 1, channel: height.saturating_mul(width) }
    }
    /// Height, width and channels.
    pub fn size(&self) -> [usize; 3] {
        [self.height, self.width, self.channels]
    }
    /// Elements from the first to the last, both included; 0 when the image is empty, `usize::MAX` when there are more than
    /// can be counted, which no memory holds.
    pub fn reach(&self) -> usize {
        reach(&self.size(), &[self.row, self.pixel, self.channel])
    }
}

/// Elements from the first to the last, both included, of an array with such sizes and strides; 0 for an empty one, and
/// `usize::MAX` for more than can be counted.
pub fn reach(sizes: &[usize], strides: &[usize]) -> usize {
    if sizes.contains(&0) {
        return 0;
    }
    sizes.iter().zip(strides).fold(1, |sum: usize, (n, s)| sum.saturating_add((n - 1).saturating_mul(*s)))
}
