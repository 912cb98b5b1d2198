//! What of a detector's joint output are boxes and what are scores, for errors that are told apart.

use compresso_model::{AnchorLayout, BoxDecode, Decode, Task};
use std::ops::Range;

/// A part of an output.
#[derive(Debug, Clone, PartialEq)]
pub struct OutputPart {
    /// `boxes` or `scores`.
    pub name: &'static str,
    /// The axis of the channels.
    pub axis: usize,
    channels: Vec<Range<usize>>,
}

impl OutputPart {
    /// Whether the channel at this place of the axis belongs to it.
    pub fn holds(&self, channel: usize) -> bool {
        self.channels.iter().any(|c| c.contains(&channel))
    }
}

/// Boxes and scores of a detector's output that holds both, side by side in its channels; empty for every other output,
/// rows of finished detections too: their order is a result.
///
/// Boxes are pixels, up to the size of the image, and scores probabilities, so a figure over both is one of the boxes.
pub fn output_parts(task: &Task, output: &str, dims: &[usize]) -> Vec<OutputPart> {
    let Some(detect) = task.detect() else { return Vec::new() };
    let (axis, boxes) = match &detect.decode {
        Decode::Yolo { output: own } if own == output && dims.len() == 3 => (1, 0..4),
        Decode::Described(d) if d.boxes.as_deref() == Some(output) && d.scores.is_none() && !d.is_finished() => match axis(d, dims) {
            Some(axis) => (axis, d.box_channels(dims[axis])),
            None => return Vec::new(),
        },
        _ => return Vec::new(),
    };
    let channels = dims[axis];
    if channels < boxes.end || channels == boxes.len() {
        return Vec::new();
    }
    vec![
        OutputPart { name: "boxes", axis, channels: std::iter::once(boxes.clone()).collect() },
        OutputPart { name: "scores", axis, channels: vec![0..boxes.start, boxes.end..channels] },
    ]
}

/// The axis of the channels of a joint output.
fn axis(d: &BoxDecode, dims: &[usize]) -> Option<usize> {
    match (d.layout, dims) {
        // Cells in two axes.
        (_, [_, _, _, _]) if !d.strides.is_empty() => Some(1),
        (Some(AnchorLayout::AnchorsLast), [_, _, _]) => Some(1),
        (Some(AnchorLayout::ChannelsLast), [_, _, _]) => Some(2),
        // There are fewer channels than boxes.
        (None, [_, a, b]) => Some(if b <= a { 2 } else { 1 }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use compresso_model::Detect;

    fn parts(decode: Decode, dims: &[usize]) -> Vec<(&'static str, usize, Vec<usize>)> {
        let task = Task::Detect(Detect { classes: Vec::new(), image_size: [64, 64], decode, head: None, anchors: None });
        let list = |p: OutputPart| (p.name, p.axis, (0..dims[p.axis]).filter(|&c| p.holds(c)).collect());
        output_parts(&task, "o", dims).into_iter().map(list).collect()
    }

    #[test]
    fn boxes_and_scores_are_found_in_every_joint_form() {
        let yolo = || Decode::Yolo { output: "o".into() };
        let after = |axis| vec![("boxes", axis, vec![0, 1, 2, 3]), ("scores", axis, vec![4, 5, 6])];
        assert_eq!(parts(yolo(), &[1, 7, 84]), after(1));
        assert_eq!(parts(Decode::described(BoxDecode::yolov5("o")), &[1, 84, 7]), after(2));
        let open = BoxDecode { boxes: Some("o".into()), ..BoxDecode::default() };
        assert_eq!(parts(Decode::described(open.clone()), &[1, 84, 7]), after(2));
        assert_eq!(parts(Decode::described(open), &[1, 7, 84]), after(1));
        let first = vec![("boxes", 1, vec![1, 2, 3, 4]), ("scores", 1, vec![0, 5, 6])];
        assert_eq!(parts(Decode::described(BoxDecode::fastest_det("o")), &[1, 7, 4, 4]), first);
        let last = BoxDecode { boxes: Some("o".into()), scores_first: true, bins: 2, strides: vec![8], ..BoxDecode::default() };
        assert_eq!(parts(Decode::described(last), &[1, 84, 10]), [("boxes", 2, (2..10).collect()), ("scores", 2, vec![0, 1])]);
        assert!(parts(Decode::described(BoxDecode::end_to_end("o")), &[1, 300, 6]).is_empty());
        assert!(parts(Decode::Yolo { output: "other".into() }, &[1, 7, 84]).is_empty());
    }
}
