//! The module `A2C2f` of YOLO12 (Tian et al. 2025, "YOLOv12").

use super::blocks::Conv;
use super::site::{Made, Site};
use crate::Constant;
use compresso_base::error::Result;

/// The module `A2C2f`: layers in a row, all of which are joined: pairs of area attention blocks, or nested cross-stage
/// blocks. In the larger models what comes out is scaled (`gamma`) and added to what went in.
pub fn a2c2f(s: &mut Site<'_>) -> Result<Made> {
    let (out, attends) = (s.channels(0)?, s.layer.flag(1, "attention", true)?);
    let areas = if attends { s.layer.count(2, "areas", 1, 64)? } else { 1 };
    let large = matches!(s.plan.scale.as_str(), "l" | "x");
    let residual = match s.b.is_new() {
        true => s.layer.flag(3, "residual", false)? || large,
        false => s.b.given(&format!("{}.gamma", s.scope)).is_some(),
    };
    let ratio = if large { 1.2 } else { s.layer.factor(4, "ratio", 2.0, 8.0)? };
    let hidden = ((out as f64 * s.layer.factor(5, "expansion", 0.5, 4.0)?) as usize).max(1);
    let shortcut = s.layer.flag(7, "shortcut", true)?;
    let (name, x, n) = (s.scope.clone(), s.inputs[0].clone(), s.repeats);
    let mut parts = vec![s.b.conv(&format!("{name}.cv1"), &x, Conv::new(hidden, 1))?];
    for i in 0..n {
        let (block, y) = (format!("{name}.m.{i}"), parts[i].clone());
        parts.push(if attends {
            let y = s.b.area_block(&format!("{block}.0"), &y, areas, ratio)?;
            s.b.area_block(&format!("{block}.1"), &y, areas, ratio)?
        } else {
            s.b.c3k(&block, &y, y.channels, 2, shortcut, 0.5, 3)?
        });
    }
    let all = s.b.concat(&name, &parts.iter().collect::<Vec<_>>());
    let y = s.b.conv(&format!("{name}.cv2"), &all, Conv::new(out, 1))?;
    if !(attends && residual) {
        return Ok(Made::Feature(y));
    }
    let gamma = s.b.filled(&format!("{name}.gamma"), y.channels, 0.01)?;
    let shape = s.b.graph.constant(&format!("{name}.gamma.shape"), Constant::ints(&[-1, 1, 1]));
    let gamma = s.b.named("Reshape", &format!("{name}.gamma"), &[&gamma, &shape]);
    let scaled = y.with(s.b.named("Mul", &format!("{name}.gamma"), &[&y.value, &gamma]));
    s.b.add(&name, &x, &scaled).map(Made::Feature)
}
