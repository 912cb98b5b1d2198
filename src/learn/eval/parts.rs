//! What stands where in a detector's outputs: boxes and scores, for errors that are told apart, and the classes among the scores, for models
//! that number them differently.

use compresso_model::{AnchorLayout, BoxDecode, Decode, Detect, InstanceKind, Task};
use std::ops::Range;

/// A part of an output.
#[derive(Debug, Clone, PartialEq)]
pub struct OutputPart {
    /// `boxes`, `scores` or what else there is of each object: `masks`, `key points`, `angles`.
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
    /// Its values, of all values of the output in row-major order.
    ///
    /// # Shapes
    /// `values` are those of `dims`, which has the axis.
    pub fn of(&self, values: &[f64], dims: &[usize]) -> Vec<f64> {
        let behind = dims[self.axis + 1..].iter().product::<usize>().max(1);
        let channel = |i: usize| i / behind % dims[self.axis].max(1);
        values.iter().enumerate().filter(|(i, _)| self.holds(channel(*i))).map(|(_, v)| *v).collect()
    }
}

/// Boxes, scores and what else there is of each object, of a detector's output that holds them side by side in its channels; empty for
/// every other output, rows of finished detections too: their order is a result.
///
/// Boxes are pixels, up to the size of the image, and scores probabilities, so a figure over both is one of the boxes.
pub fn output_parts(task: &Task, output: &str, dims: &[usize]) -> Vec<OutputPart> {
    if let Task::Instances(i) = task {
        let scores_end = 4 + i.classes.len();
        let [_, channels, _] = dims else { return Vec::new() };
        if i.finished || i.outputs.first().is_none_or(|o| o != output) || i.classes.is_empty() || *channels <= scores_end {
            return Vec::new();
        }
        let more = if i.kind == InstanceKind::Turned { "angles" } else { i.kind.what() };
        return [("boxes", 0..4), ("scores", 4..scores_end), (more, scores_end..*channels)]
            .map(|(name, channels)| OutputPart { name, axis: 1, channels: std::iter::once(channels).collect() })
            .into();
    }
    let Some((axis, boxes)) = task.detect().and_then(|detect| joint(detect, output, dims)) else { return Vec::new() };
    let channels = dims[axis];
    if channels < boxes.end || channels == boxes.len() {
        return Vec::new();
    }
    vec![
        OutputPart { name: "boxes", axis, channels: std::iter::once(boxes.clone()).collect() },
        OutputPart { name: "scores", axis, channels: vec![0..boxes.start, boxes.end..channels] },
    ]
}

/// The axis on which an output has a number for each class, and the place of each class on it; `None` for an output without such an axis
/// (boxes, rows of finished detections).
pub fn class_places(task: &Task, output: &str, dims: &[usize]) -> Option<(usize, Vec<usize>)> {
    let classes = task.classes().len();
    let (axis, first, background) = match task {
        Task::Classify(c) if c.output == output => (1, 0, None),
        Task::Instances(i) if !i.finished && i.outputs.first().is_some_and(|o| o == output) => (1, 4, None),
        Task::Detect(detect) => {
            let described = if let Decode::Described(d) = &detect.decode { Some(d) } else { None };
            let (axis, before) = match described {
                Some(d) if d.scores.as_deref() == Some(output) && !d.is_finished() => (axis(d, dims)?, 0),
                _ => {
                    let (axis, boxes) = joint(detect, output, dims)?;
                    (axis, if described.is_some_and(|d| d.scores_first) { 0 } else { boxes.end })
                }
            };
            let objectness = described.is_some_and(|d| d.objectness && !d.objectness_first);
            (axis, before + usize::from(objectness), described.and_then(|d| d.background))
        }
        _ => return None,
    };
    let places: Vec<usize> = (0..classes).map(|c| first + c + usize::from(background.is_some_and(|b| c >= b))).collect();
    (axis < dims.len() && places.last().is_some_and(|&last| last < dims[axis])).then_some((axis, places))
}

/// Of an output of boxes and scores, the axis of its channels and those of the box.
fn joint(detect: &Detect, output: &str, dims: &[usize]) -> Option<(usize, Range<usize>)> {
    match &detect.decode {
        Decode::Yolo { output: own } if own == output && dims.len() == 3 => Some((1, 0..4)),
        Decode::Described(d) if d.boxes.as_deref() == Some(output) && d.scores.is_none() && !d.is_finished() => {
            let axis = axis(d, dims)?;
            Some((axis, d.box_channels(dims[axis])))
        }
        _ => None,
    }
}

/// The axis of the channels of an output of boxes, scores or both.
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
    use compresso_model::{Classify, Instances};

    fn detector(decode: Decode) -> Task {
        let classes = ["a", "b"].map(String::from).to_vec();
        Task::Detect(Detect { classes, image_size: [64, 64], decode, head: None, anchors: None })
    }

    fn parts(decode: Decode, dims: &[usize]) -> Vec<(&'static str, usize, Vec<usize>)> {
        let task = detector(decode);
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

    #[test]
    fn masks_stand_behind_scores() {
        let kind = InstanceKind::Masks { prototypes: 3 };
        let found =
            Instances { kind, classes: vec!["a".into()], image_size: [8, 8], outputs: vec!["o".into(), "p".into()], finished: false };
        let names = |i: &Instances, output: &str| -> Vec<_> {
            let parts = output_parts(&Task::Instances(i.clone()), output, &[1, 8, 84]);
            parts.into_iter().map(|p| (p.name, (0..8).filter(|&c| p.holds(c)).collect::<Vec<_>>())).collect()
        };
        assert_eq!(names(&found, "o"), [("boxes", vec![0, 1, 2, 3]), ("scores", vec![4]), ("masks", vec![5, 6, 7])]);
        assert!(names(&found, "p").is_empty() && names(&Instances { finished: true, ..found }, "o").is_empty());
    }

    #[test]
    fn a_part_is_taken_out_of_values_in_row_major_order() {
        let values: Vec<f64> = (0..14).map(f64::from).collect();
        let of = |dims: &[usize], axis| OutputPart { name: "scores", axis, channels: vec![0..1, 5..7] }.of(&values, dims);
        assert_eq!(of(&[1, 7, 2], 1), [0.0, 1.0, 10.0, 11.0, 12.0, 13.0]);
        assert_eq!(of(&[1, 2, 7], 2), [0.0, 5.0, 6.0, 7.0, 12.0, 13.0]);
    }

    #[test]
    fn classes_stand_behind_boxes_objectness_and_background() {
        let at = |task: &Task, output: &str, dims: &[usize]| class_places(task, output, dims);
        let of = |d: BoxDecode| detector(Decode::described(d));
        assert_eq!(at(&detector(Decode::Yolo { output: "o".into() }), "o", &[1, 6, 84]), Some((1, vec![4, 5])));
        assert_eq!(at(&of(BoxDecode::yolov5("o")), "o", &[1, 84, 7]), Some((2, vec![5, 6])));
        assert_eq!(at(&of(BoxDecode::fastest_det("o")), "o", &[1, 7, 4, 4]), Some((1, vec![5, 6])));
        let ssd = BoxDecode { boxes: Some("b".into()), scores: Some("s".into()), background: Some(1), ..BoxDecode::default() };
        assert_eq!(at(&of(ssd.clone()), "s", &[1, 84, 3]), Some((2, vec![0, 2])));
        assert_eq!(at(&of(ssd), "b", &[1, 84, 4]), None);
        assert_eq!(at(&of(BoxDecode::end_to_end("o")), "o", &[1, 300, 6]), None);
        let logits = Classify {
            classes: vec!["a".into(), "b".into()],
            image_size: [8, 8],
            output: "o".into(),
            preprocess: compresso_model::Preprocess::default(),
        };
        assert_eq!(at(&Task::Classify(logits.clone()), "o", &[4, 2]), Some((1, vec![0, 1])));
        assert_eq!(at(&Task::Classify(logits), "o", &[4, 1]), None);
    }
}
