//! Average percentage of zeros: Hu et al., "Network trimming" (2016). A channel that a ReLU mostly sets to zero goes.

use super::{Criterion, Error, Need, Result, Role, Score, Slice};

pub const APOZ: Criterion = Criterion::new(
    "apoz",
    "share of images and places at which the channel is not zero, where layers read it (for ReLU networks)",
    &[Need::Activations],
    Score::Slice(score),
)
.check(check);

fn score(slice: &Slice<'_>) -> Result<Option<Vec<f64>>> {
    let read = slice.activations().filter(|_| slice.role == Role::Input);
    Ok(read.map(|a| a.zeros.iter().map(|z| 1.0 - z).collect()))
}

fn check(slices: &[Slice<'_>]) -> Result<()> {
    if slices.iter().filter_map(Slice::activations).any(|a| a.zeros.iter().any(|&z| z > 0.0)) {
        return Ok(());
    }
    let e = Error::unsupported("importance \"apoz\" counts zeros, and no channel of this model was ever zero");
    Err(e.hint("its activations are not ReLU: use importance: \"activation\""))
}
