//! Hinton, Vinyals and Dean, "Distilling the knowledge in a neural network" (2015); of boxes Zheng et al., "Localization distillation for
//! dense object detection" (2022).

use super::divergence::{ClassPart, class_divergence, head_divergence};
use super::{LogitLoss, Number};

pub const KD: LogitLoss = LogitLoss {
    name: "kd",
    summary: "divergence of the softened class distributions; of detectors of each class in each cell, and of the boxes' distributions",
    numbers: BOTH,
    temperature: [4.0, 1.0],
    classes: Some(|c, _| class_divergence(c.student, c.teacher, c.temperature)),
    head: Some(|h, n| head_divergence(h.levels, h.head, h.temperature, h.gains.times(n[0], n[1]), ClassPart::Everywhere)),
};

/// Factors on the two parts of a detector's loss.
pub(super) const BOTH: &[Number] = &[
    Number { name: "class", doc: "Factor on the classes of detectors.", default: 1.0, bounds: (0.0, 1000.0) },
    Number { name: "box", doc: "Factor on the boxes of detectors.", default: 1.0, bounds: (0.0, 1000.0) },
];
