//! The images that a graph takes.

use super::Graph;

/// Channels of images: grey; red, green, blue; these and opacity.
pub const IMAGE_CHANNELS: [usize; 3] = [1, 3, 4];

/// Whether a shape of four sizes is that of images whose channels come last: the last size is one of channels, and the second is none. `size`
/// gives what is known of an axis.
pub fn has_channels_last(size: impl Fn(usize) -> Option<usize>) -> bool {
    let colours = |axis| size(axis).is_some_and(|c| IMAGE_CHANNELS.contains(&c));
    colours(3) && !colours(1)
}

/// Channels of the images that a graph with one input takes: `[batch, channels, height, width]`, `[batch, height, width,
/// channels]` or `[channels, height, width]`; `None` where it does not say or takes no images.
pub fn image_channels(graph: &Graph) -> Option<usize> {
    let mut feeds = graph.feeds();
    let (input, None) = (feeds.next()?, feeds.next()) else { return None };
    let of = |axis| input.fact.dim(axis).filter(|c| IMAGE_CHANNELS.contains(c));
    match input.fact.rank()? {
        4 => of(1).or_else(|| of(3)),
        3 => of(0),
        _ => None,
    }
}
