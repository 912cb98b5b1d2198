//! What a model is for, and how its outputs are read.

use super::{BoxDecode, Preprocess};
use serde::{Deserialize, Serialize};

/// What a model is for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// Not known: it can be run, compressed and timed, but not evaluated.
    #[default]
    Unknown,
    /// One class for each image.
    Classify(Classify),
    /// Boxes around objects, each with a class.
    Detect(Detect),
    /// Boxed objects with masks, key points or angles: it can be run, compressed and timed, but not trained or evaluated.
    Instances(Instances),
}

/// An image classifier: one output of `[batch, classes]` logits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Classify {
    /// Class names in the order of the logits.
    pub classes: Vec<String>,
    /// Height and width of the input image in pixels.
    pub image_size: [usize; 2],
    /// Name of the logits.
    pub output: String,
    /// How images become its input.
    #[serde(default, skip_serializing_if = "Preprocess::is_plain")]
    pub preprocess: Preprocess,
}

/// An object detector.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Detect {
    /// Class names by class number.
    pub classes: Vec<String>,
    /// Height and width of the input image in pixels.
    pub image_size: [usize; 2],
    /// How boxes and scores are read from the outputs.
    pub decode: Decode,
    /// The raw head, which training needs; `None` for a detector that is only run. Where nothing is to be suppressed, one cell of it
    /// answers for an object, else several do.
    #[serde(default)]
    pub head: Option<DetectHead>,
    /// The raw head of an anchor-based detector, in place of `head`.
    #[serde(default)]
    pub anchors: Option<AnchorHead>,
}

/// How boxes and scores are read from the outputs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", from = "StoredDecode")]
pub enum Decode {
    /// One output `[batch, 4 + classes, anchors]`: centre x, centre y, width, height in input pixels, then class
    /// probabilities.
    Yolo {
        /// Name of the output.
        output: String,
    },
    /// Outputs of any form that a [`BoxDecode`] can describe.
    Described(Box<BoxDecode>),
}

/// A [`Decode`] in a file; earlier versions had a form of its own for FastestDet.
#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum StoredDecode {
    Yolo { output: String },
    FastestDet { output: String },
    Described(Box<BoxDecode>),
}

impl From<StoredDecode> for Decode {
    fn from(stored: StoredDecode) -> Self {
        match stored {
            StoredDecode::Yolo { output } => Self::Yolo { output },
            StoredDecode::FastestDet { output } => Self::Described(Box::new(BoxDecode::fastest_det(output))),
            StoredDecode::Described(d) => Self::Described(d),
        }
    }
}

impl Decode {
    /// The form that a description gives.
    pub fn described(description: BoxDecode) -> Self {
        Self::Described(Box::new(description))
    }
    /// The form as a description.
    pub fn into_description(self) -> BoxDecode {
        match self {
            Self::Described(b) => *b,
            Self::Yolo { output } => BoxDecode::yolo(output),
        }
    }
    /// Names of the outputs that are read.
    pub fn outputs(&self) -> Vec<&str> {
        match self {
            Self::Yolo { output } => vec![output.as_str()],
            Self::Described(d) => d.outputs(),
        }
    }
    /// Whether overlapping boxes are still to be suppressed.
    pub fn suppresses(&self) -> bool {
        match self {
            Self::Described(d) => d.suppresses(),
            _ => true,
        }
    }
    /// Whether the number of boxes may differ from image to image, so that images cannot share a batch.
    pub fn is_ragged(&self) -> bool {
        matches!(self, Self::Described(d) if d.is_finished())
    }
}

/// Raw outputs of an anchor-free head with distances of a box's sides (YOLOv8 to YOLO26), one value per level.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DetectHead {
    /// Values `[batch, 4 * reg_max, height, width]`: logits of distributions over distances from 0 to `reg_max − 1` cells (left, top,
    /// right, bottom) or, with a `reg_max` of 1, the distances.
    pub boxes: Vec<String>,
    /// Values `[batch, classes, height, width]`: class logits.
    pub scores: Vec<String>,
    /// Input pixels per cell of each level.
    pub strides: Vec<usize>,
    /// Bins of the distribution of a side's distance; 1 where the head gives distances.
    pub reg_max: usize,
}

/// Raw outputs of an anchor-based head (YOLOv5), one value per level.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AnchorHead {
    /// Values `[batch, anchors * (5 + classes), height, width]`: per anchor the logits of box centre, box size, objectness
    /// and classes.
    pub outputs: Vec<String>,
    /// Width and height of each level's anchors in input pixels.
    pub anchors: Vec<Vec<[f64; 2]>>,
    /// Input pixels per cell of each level.
    pub strides: Vec<usize>,
}

/// A model that finds more of each object than an upright box.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Instances {
    /// What it finds besides boxes.
    pub kind: InstanceKind,
    /// Class names by class number.
    pub classes: Vec<String>,
    /// Height and width of the input image in pixels.
    pub image_size: [usize; 2],
    /// Names of the outputs: of the boxes and what belongs to them; then, for masks, of the prototypes
    /// `[batch, prototypes, height, width]`.
    pub outputs: Vec<String>,
    /// The boxes are rows `[batch, detections, 6 + more]` of finished detections: left, top, right, bottom (turned boxes:
    /// centre x, centre y, width, height), score, class, more. Otherwise they are `[batch, 4 + classes + more, anchors]`:
    /// centre x, centre y, width, height, class probabilities, more, still to be suppressed.
    pub finished: bool,
}

/// What an [`Instances`] model finds of each object besides a box.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InstanceKind {
    /// Coefficients of as many prototypes, whose weighed sum is the logit of a mask.
    Masks {
        /// Coefficients of each object, as many as the output of prototypes has channels.
        prototypes: usize,
    },
    /// Key points of 2 or 3 numbers each: x, y in input pixels, and a visibility from 0 to 1.
    KeyPoints {
        /// Points of each object.
        points: usize,
        /// Numbers of each point: 2, or 3 with a visibility.
        numbers: usize,
    },
    /// The angle in radians by which the box is turned about its centre.
    Turned,
}

impl InstanceKind {
    /// Ultralytics' word for the task.
    pub fn word(self) -> &'static str {
        match self {
            Self::Masks { .. } => "segment",
            Self::KeyPoints { .. } => "pose",
            Self::Turned => "obb",
        }
    }
    /// What is found, for people.
    pub fn what(self) -> &'static str {
        match self {
            Self::Masks { .. } => "masks",
            Self::KeyPoints { .. } => "key points",
            Self::Turned => "turned boxes",
        }
    }
}

impl Task {
    /// Height and width of the input image, when the task says them.
    pub fn image_size(&self) -> Option<[usize; 2]> {
        match self {
            Self::Unknown => None,
            Self::Classify(c) => Some(c.image_size),
            Self::Detect(d) => Some(d.image_size),
            Self::Instances(i) => Some(i.image_size),
        }
    }
    /// The task with another height and width of the input image; an unknown one stays as it is.
    #[must_use]
    pub fn with_image_size(mut self, size: [usize; 2]) -> Self {
        match &mut self {
            Self::Unknown => {}
            Self::Classify(c) => c.image_size = size,
            Self::Detect(d) => d.image_size = size,
            Self::Instances(i) => i.image_size = size,
        }
        self
    }
    /// Class names by class number; none for an unknown task.
    pub fn classes(&self) -> &[String] {
        match self {
            Self::Unknown => &[],
            Self::Classify(c) => &c.classes,
            Self::Detect(d) => &d.classes,
            Self::Instances(i) => &i.classes,
        }
    }
    /// The task with other class names; an unknown one stays as it is.
    #[must_use]
    pub fn with_classes(mut self, names: Vec<String>) -> Self {
        match &mut self {
            Self::Unknown => {}
            Self::Classify(c) => c.classes = names,
            Self::Detect(d) => d.classes = names,
            Self::Instances(i) => i.classes = names,
        }
        self
    }
    /// What a detector is; `None` for any other task.
    pub fn detect(&self) -> Option<&Detect> {
        if let Self::Detect(d) = self { Some(d) } else { None }
    }
    /// What a classifier is; `None` for any other task.
    pub fn classify(&self) -> Option<&Classify> {
        if let Self::Classify(c) = self { Some(c) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files of version 0.1.0 up to November 2026 have it.
    #[test]
    fn a_form_that_has_become_a_description_still_opens() {
        let stored = r#"{ "kind": "fastestdet", "output": "758" }"#;
        let expected = Decode::described(BoxDecode::fastest_det("758"));
        assert_eq!(serde_json::from_str::<Decode>(stored).unwrap(), expected);
        assert_eq!(serde_json::from_str::<Decode>(&serde_json::to_string(&expected).unwrap()).unwrap(), expected);
        BoxDecode::fastest_det("758").check().unwrap();
    }
}
