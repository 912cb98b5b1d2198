//! Scales that leave out much of what calibration saw.

use super::Settings;
use super::affine::{Affine, Range};
use super::calibrate::Ranges;
use super::observers::Histogram;
use super::placement::Plan;
use serde::Serialize;
use std::collections::HashMap;

/// What is lost by clipping, as a share of the sum of squares, above which it is told: below 20 dB of signal over it.
const MUCH: f64 = 0.01;

/// A value whose scale leaves out much of what it holds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Clipped {
    /// Its name in the graph.
    pub value: String,
    /// What calibration saw of it.
    pub seen: Range,
    /// What its scale can stand for; what lies outside becomes the nearer end.
    pub kept: Range,
    /// Signal over what clipping alone loses, in decibels.
    pub sqnr_db: f64,
}

impl Clipped {
    /// `'x' from -8.60 … 5.70 to -0.89 … 0.89 (3.1 dB)`
    pub fn text(&self) -> String {
        let Self { value, seen, kept, sqnr_db } = self;
        format!("'{value}' from {:.2} … {:.2} to {:.2} … {:.2} ({sqnr_db:.1} dB)", seen.min, seen.max, kept.min, kept.max)
    }
}

/// The values of a plan that their scales clip much of, the worst first. Known of observers that keep a histogram; others clip nothing.
pub(super) fn find(plan: &Plan, scales: &HashMap<String, Affine>, ranges: &Ranges, settings: &Settings) -> Vec<Clipped> {
    let grid = settings.activations;
    let of = |value: &String| {
        let (affine, histogram) = (scales.get(value)?, ranges.histogram(value)?);
        let kept = Range { min: affine.dequantize(grid.low), max: affine.dequantize(grid.high) };
        let lost = lost(histogram, kept);
        let clipped = || Clipped { value: value.clone(), seen: histogram.range(), kept, sqnr_db: -10.0 * lost.log10() };
        (lost > MUCH).then(clipped)
    };
    let mut found: Vec<Clipped> = plan.values.keys().filter_map(of).collect();
    found.sort_by(|a, b| a.sqnr_db.total_cmp(&b.sqnr_db));
    found
}

/// The squares of what lies outside a range, taken from its nearer end, as a share of the squares of all.
fn lost(histogram: &Histogram, kept: Range) -> f64 {
    let moments = histogram.moments();
    let all = moments.all();
    // Σ (x - end)² from the count, the sum and the sum of squares of the x.
    let squares = |[n, sum, squares]: [f64; 3], end: f64| squares - 2.0 * end * sum + end * end * n;
    let (low, high) = (f64::from(kept.min), f64::from(kept.max));
    let below = squares(moments.below(low), low);
    let inside = moments.below(high);
    let above = squares(std::array::from_fn(|k| all[k] - inside[k]), high);
    if all[2] > 0.0 { (below.max(0.0) + above.max(0.0)) / all[2] } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_is_what_lies_outside() {
        let values: Vec<f32> = (0..4000u16).map(|i| f32::from(i) / 500.0 - 4.0).collect();
        let mut histogram = Histogram::default();
        histogram.add(&values, Range::of(&values));
        for kept in [Range { min: -1.0, max: 2.0 }, Range { min: -4.0, max: 4.0 }, Range { min: -0.5, max: 9.0 }] {
            let outside = |v: f32| f64::from(v - v.clamp(kept.min, kept.max)).powi(2);
            let expected = values.iter().map(|&v| outside(v)).sum::<f64>() / values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>();
            assert!((lost(&histogram, kept) - expected).abs() < 1e-3, "{kept:?}: {} is not {expected}", lost(&histogram, kept));
        }
        assert_eq!(lost(&Histogram::default(), Range { min: -1.0, max: 1.0 }), 0.0);
    }
}
