//! The loss of end-to-end detectors: consistent dual assignments (Wang et al. 2024, "YOLOv10").
//!
//! Of two heads on the same features, one learns with several cells for each object, which gives backbone and neck much to learn
//! from, the other with one, which is what the model gives. Both choose their cells by the same alignment of score and overlap.

use super::detection::DetectionLoss;
use super::loss::Loss;
use crate::data::GroundTruth;
use candle_core::Tensor;
use compresso_base::error::{Error, Result};
use compresso_model::DetectHead;

/// How the two heads share the loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// Both count in full (YOLOv10).
    Full,
    /// The head of several cells counts less and less, that of one cell more and more: from 0.8 and 0.2 to 0.1 and 0.9 (the
    /// progressive loss that YOLO26 is described to have; these numbers are this library's).
    Progressive,
}

impl Share {
    /// Factors of the head of several cells and of that of one, at a part of the training from 0 to 1.
    pub fn at(self, part: f64) -> [f64; 2] {
        match self {
            Self::Full => [1.0, 1.0],
            Self::Progressive => {
                let many = 0.8 - 0.7 * part.clamp(0.0, 1.0);
                [many, 1.0 - many]
            }
        }
    }
}

/// The loss of two heads.
#[derive(Debug, Clone)]
pub struct DualLoss {
    /// Several cells for each object.
    pub many: DetectionLoss,
    /// One cell for each object.
    pub one: DetectionLoss,
    /// How much each counts.
    pub share: Share,
}

impl DualLoss {
    /// For the heads of several cells and of one. Heads of plain distances (YOLO26) share the loss progressively.
    ///
    /// # Errors
    /// As [`DetectionLoss::new`].
    pub fn new(many: DetectHead, one: DetectHead, classes: usize) -> Result<Self> {
        let share = if one.reg_max == 1 { Share::Progressive } else { Share::Full };
        Ok(Self { many: DetectionLoss::new(many, classes)?, one: DetectionLoss::new(one, classes)?.one_to_one(), share })
    }

    /// The loss of a batch at a part of the training from 0 to 1; parts of the head of one cell begin with `one_`. Each head's
    /// values are boxes and scores, of the shapes of [`DetectionLoss::forward`].
    ///
    /// # Errors
    /// As [`DetectionLoss::forward`].
    pub fn forward(&self, many: [&[Tensor]; 2], one: [&[Tensor]; 2], targets: &[Vec<GroundTruth>], part: f64) -> Result<Loss> {
        let [of_many, of_one] = self.share.at(part);
        let first = self.many.forward(many[0], many[1], targets)?;
        let second = self.one.forward(one[0], one[1], targets)?;
        let total = ((first.total * of_many)? + (second.total * of_one)?)?;
        let mut parts: Vec<(&'static str, f64)> = first.parts.into_iter().map(|(n, v)| (n, v * of_many)).collect();
        for (name, value) in second.parts {
            parts.push((of_one_cell(name)?, value * of_one));
        }
        Ok(Loss { total, parts })
    }
}

fn of_one_cell(part: &str) -> Result<&'static str> {
    Ok(match part {
        "box" => "one_box",
        "cls" => "one_cls",
        "dfl" => "one_dfl",
        "l1" => "one_l1",
        other => return Err(Error::internal(format!("a part of the loss is called '{other}'"))),
    })
}

#[cfg(test)]
#[path = "dual_tests.rs"]
mod tests;
