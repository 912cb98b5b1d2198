//! Standard deviation of a channel's weights: one whose weights are all alike is a blur that a cheaper layer could make.

use super::{Criterion, Need, Result, Score, Slice};

pub const DEVIATION: Criterion =
    Criterion::new("deviation", "standard deviation of the channel's weights", &[Need::Weights], Score::Slice(score));

fn score(slice: &Slice<'_>) -> Result<Option<Vec<f64>>> {
    let Some(weights) = slice.weights().filter(|_| slice.is_weight()) else { return Ok(None) };
    let deviation = |row: &mut dyn Iterator<Item = f64>| {
        let row: Vec<f64> = row.collect();
        let mean = row.iter().sum::<f64>() / row.len() as f64;
        (row.iter().map(|w| (w - mean).powi(2)).sum::<f64>() / row.len() as f64).sqrt()
    };
    Ok(Some(weights.map(deviation)))
}
