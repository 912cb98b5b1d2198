//! Seeded random numbers: what every other criterion has to beat.

use super::{Criterion, GroupSlices, Normalization, Result, Score};
use rand::RngExt;

pub const RANDOM: Criterion = Criterion::new("random", "seeded random numbers: a baseline to compare with", &[], Score::Group(score))
    .normalization(Normalization::None);

fn score(group: &mut GroupSlices<'_>) -> Result<Vec<f64>> {
    Ok((0..group.channels()).map(|_| group.rng.random::<f64>()).collect())
}
