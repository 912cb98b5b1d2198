//! Distance to the geometric median: He et al., "Filter pruning via geometric median for deep convolutional neural networks
//! acceleration" (2019). A filter close to all others of its layer is the one that they can replace.

use super::{Criterion, Need, Result, Score, Slice};
use rayon::prelude::*;

pub const FPGM: Criterion =
    Criterion::new("fpgm", "sum of distances to the layer's other filters (geometric median)", &[Need::Weights], Score::Slice(score));

fn score(slice: &Slice<'_>) -> Result<Option<Vec<f64>>> {
    let Some(weights) = slice.weights().filter(|_| slice.is_weight()) else { return Ok(None) };
    let rows: Vec<Vec<f64>> = (0..weights.len()).map(|i| weights.row(i).collect()).collect();
    let distance = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt();
    Ok(Some(rows.par_iter().map(|a| rows.iter().map(|b| distance(a, b)).sum()).collect()))
}
