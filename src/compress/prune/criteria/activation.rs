//! Mean absolute activation, of what layers read: a channel that is always close to zero says little to them.

use super::{Criterion, Need, Role, Score, Slice};

pub const ACTIVATION: Criterion = Criterion::new(
    "activation",
    "mean absolute value of the channel on images, where layers read it",
    &[Need::Activations],
    Score::Slice(|slice| Ok(magnitude(slice, Role::Input))),
)
.fallback(&MADE);

/// For channels that no layer with weights reads.
const MADE: Criterion = Criterion::new("activation", "", &[Need::Activations], Score::Slice(|slice| Ok(magnitude(slice, Role::Output))));

fn magnitude(slice: &Slice<'_>, role: Role) -> Option<Vec<f64>> {
    slice.activations().filter(|_| slice.role == role).map(|a| a.magnitude.clone())
}
