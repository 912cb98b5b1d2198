//! Pruning, quantization, distillation, recovery.

use super::{made, report, trained};
use crate::compress::distill::Distill;
use crate::compress::prune::{Prune, PruneGroups, Sensitivity, Student};
use crate::compress::quantize::{QuantizationSensitivity, Quantize, ShowRanges};
use crate::compress::recover::Recover;
use crate::operation::Operation;
use crate::shell::script::call::Binding;
use crate::shell::script::value::ModelValue;
use rhai::Dynamic;

pub(super) const TABLE: &[Binding] = &[
    Binding { signature: Prune::SIGNATURE, call: |c| Ok(made(c.run::<Prune>()?)) },
    Binding { signature: PruneGroups::SIGNATURE, call: |c| Ok(report(c.run::<PruneGroups>()?)) },
    Binding { signature: Sensitivity::SIGNATURE, call: |c| Ok(report(c.run::<Sensitivity>()?)) },
    Binding { signature: Quantize::SIGNATURE, call: |c| Ok(made(c.run::<Quantize>()?)) },
    Binding { signature: QuantizationSensitivity::SIGNATURE, call: |c| Ok(report(c.run::<QuantizationSensitivity>()?)) },
    Binding { signature: ShowRanges::SIGNATURE, call: |c| Ok(report(c.run::<ShowRanges>()?)) },
    Binding { signature: Distill::SIGNATURE, call: |c| Ok(trained(c, c.run::<Distill>()?)) },
    Binding { signature: Recover::SIGNATURE, call: |c| Ok(trained(c, c.run::<Recover>()?)) },
    Binding { signature: Student::SIGNATURE, call: |c| Ok(Dynamic::from(ModelValue::from(c.run::<Student>()?))) },
];
