//! Pruning, quantization, distillation.

use super::{made, report, trained};
use crate::compress::distill::Distill;
use crate::compress::prune::{Prune, PruneGroups};
use crate::compress::quantize::{Quantize, ShowRanges};
use crate::compress::sensitivity::Sensitivity;
use crate::operation::Operation;
use crate::shell::script::call::Binding;

pub(super) const TABLE: &[Binding] = &[
    Binding { signature: Prune::SIGNATURE, call: |c| Ok(made(c.run::<Prune>()?)) },
    Binding { signature: PruneGroups::SIGNATURE, call: |c| Ok(report(c.run::<PruneGroups>()?)) },
    Binding { signature: Sensitivity::SIGNATURE, call: |c| Ok(report(c.run::<Sensitivity>()?)) },
    Binding { signature: Quantize::SIGNATURE, call: |c| Ok(made(c.run::<Quantize>()?)) },
    Binding { signature: ShowRanges::SIGNATURE, call: |c| Ok(report(c.run::<ShowRanges>()?)) },
    Binding { signature: Distill::SIGNATURE, call: |c| Ok(trained(c, c.run::<Distill>()?)) },
];
