//! As `kd`, where what the teacher says of the classes in a cell counts by its confidence there, as its boxes do: cells of the background,
//! nearly all of an image, say little.

use super::LogitLoss;
use super::divergence::{ClassPart, head_divergence};
use super::kd::BOTH;

pub const WEIGHTED: LogitLoss = LogitLoss {
    name: "weighted",
    summary: "of detectors: as \"kd\", with the classes weighted by the teacher's confidence in the cell",
    numbers: BOTH,
    temperature: [1.0, 1.0],
    classes: None,
    head: Some(|h, n| head_divergence(h.levels, h.head, h.temperature, h.gains.times(n[0], n[1]), ClassPart::Confident)),
};
