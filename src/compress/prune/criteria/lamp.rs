//! Layer-adaptive magnitude: Lee et al., "Layer-adaptive sparsity for the magnitude-based pruning" (2021), with channels in
//! the place of single weights.

use super::{Criterion, Need, Normalization, Score, l2};

pub const LAMP: Criterion = Criterion::new(
    "lamp",
    "\"l2\" as a share of what its layer keeps with it (LAMP): no layer runs empty",
    &[Need::Weights],
    Score::Slice(l2::score),
)
.normalization(Normalization::Lamp);
