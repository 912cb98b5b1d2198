//! What is found of an object besides its box.

use super::mask::Mask;
use super::points::KeyPoint;
use super::turned::TurnedBox;
use serde::Serialize;

/// What is found of an object besides its upright box.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// The pixels that belong to it.
    Mask(Mask),
    /// In the order of the model's training data.
    KeyPoints(Vec<KeyPoint>),
    /// The box turned about its centre.
    Turned(TurnedBox),
}
