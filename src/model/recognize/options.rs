//! How a model file is read, where the file does not say it.

use crate::classes::distinct;
use crate::{BoxDecode, PreprocessOption};
use compresso_base::error::{Error, Result};
use compresso_base::operation::{OptionKind, OptionValue};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

compresso_base::options! {
    /// How a model file is read, where the file does not say it.
    pub struct LoadOptions {
        /// What the outputs mean: a word, or a map that describes them (see [`BoxDecode`]). Found out by
        /// default.
        pub decode: Option<DecodeOption> = None,
        /// How images become the input: a word, or a map (see [`crate::Preprocess`]).
        pub preprocess: Option<PreprocessOption> = None,
        /// Class names: a list, or the path of a text file with one name per line.
        pub classes: Option<Classes> = None,
        /// Height and width of the input image: one number for a square, or [height, width].
        pub image_size: Option<ImageSize> = None,
    }
}

compresso_base::choice! {
    /// What the outputs of a model mean.
    pub enum DecodeAs {
        /// One output `[batch, 4 + classes, anchors]` of boxes and class probabilities.
        Yolo = "yolo",
        /// One output `[batch, boxes, 5 + classes]` of boxes, objectness and class probabilities, as YOLOv5 has it.
        Yolov5 = "yolov5",
        /// One output `[batch, 5 + classes, rows, columns]` of FastestDet.
        FastestDet = "fastestdet",
        /// One output `[batch, detections, 6]` of finished detections: left, top, right, bottom in input pixels, score, class.
        EndToEnd = "end2end",
        /// One output `[batch, classes]` of logits.
        Classify = "classify",
        /// Not to be interpreted.
        None = "none",
    }
}

/// What the outputs of a model mean: a word for a known form, or a description of another.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum DecodeOption {
    /// A form that has a name.
    As(DecodeAs),
    /// Any other.
    Described(Box<BoxDecode>),
}

impl OptionValue for DecodeOption {
    const KIND: OptionKind = match DecodeAs::KIND {
        OptionKind::Choice(words) => OptionKind::ChoiceOrMap(words),
        other => other,
    };
}

impl From<DecodeAs> for DecodeOption {
    fn from(word: DecodeAs) -> Self {
        Self::As(word)
    }
}

impl From<BoxDecode> for DecodeOption {
    fn from(description: BoxDecode) -> Self {
        Self::Described(Box::new(description))
    }
}

impl<'de> Deserialize<'de> for DecodeOption {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        use serde::de::Error as _;
        let value = serde_json::Value::deserialize(deserializer)?;
        if value.is_object() {
            return compresso_base::operation::decode::<BoxDecode>(value).map(Self::from).map_err(D::Error::custom);
        }
        serde_json::from_value(value).map(Self::As).map_err(D::Error::custom)
    }
}

/// Class names, or the text file that lists them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Classes {
    /// The names by class number.
    Names(Vec<String>),
    /// The path of a text file with one name per line.
    File(PathBuf),
}

impl OptionValue for Classes {
    const KIND: OptionKind = OptionKind::Any;
}

impl Classes {
    /// The names. A file has one per line; blank lines are skipped.
    ///
    /// # Errors
    /// `Io` for a file that cannot be read; `Argument` for no names, and for a name that comes twice.
    pub fn names(&self) -> Result<Vec<String>> {
        let names: Vec<String> = match self {
            Self::Names(names) => names.clone(),
            Self::File(path) => {
                let text = compresso_base::files::read_text(path).map_err(|e| e.at("option 'classes'"))?;
                text.lines().map(str::trim).filter(|l| !l.is_empty()).map(String::from).collect()
            }
        };
        if names.is_empty() { Err(Error::argument("option 'classes' has no names")) } else { distinct(names) }
    }
}

/// A size in pixels: of a square, or height and width.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ImageSize {
    /// Height and width are the same.
    Square(usize),
    /// `[height, width]`.
    HeightWidth([usize; 2]),
}

impl OptionValue for ImageSize {
    const KIND: OptionKind = OptionKind::Any;
}

impl ImageSize {
    /// Height and width.
    pub fn height_width(self) -> [usize; 2] {
        match self {
            Self::Square(n) => [n, n],
            Self::HeightWidth(hw) => hw,
        }
    }
}
