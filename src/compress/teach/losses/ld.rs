//! Zheng et al., "Localization distillation for dense object detection" (2022).

use super::divergence::{ClassPart, head_divergence};
use super::{LogitLoss, Number};

pub const LD: LogitLoss = LogitLoss {
    name: "ld",
    summary: "of detectors: the boxes' distributions alone",
    numbers: &[Number { name: "box", doc: "Factor on the boxes.", default: 1.0, bounds: (0.0, 1000.0) }],
    temperature: [1.0, 1.0],
    classes: None,
    head: Some(|h, n| head_divergence(h.levels, h.head, h.temperature, h.gains.times(0.0, n[0]), ClassPart::None)),
};
