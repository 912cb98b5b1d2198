//! Pruning, quantization, distillation, recovery.

use super::{made, report, trained};
use crate::compress::distill::Distill;
use crate::compress::prune::{Prune, PruneGroups, Student};
use crate::compress::quantize::{Quantize, ShowRanges};
use crate::compress::recover::Recover;
use crate::compress::sensitivity::Sensitivity;
use crate::error::Result;
use crate::operation::Operation;
use crate::search::{Compress, Guide};
use crate::shell::script::call::{Binding, Call};
use crate::shell::script::value::ModelValue;
use rhai::Dynamic;

pub(super) const TABLE: &[Binding] = &[
    Binding { signature: Prune::SIGNATURE, call: |c| Ok(made(c.run::<Prune>()?)) },
    Binding { signature: PruneGroups::SIGNATURE, call: |c| Ok(report(c.run::<PruneGroups>()?)) },
    Binding { signature: Sensitivity::SIGNATURE, call: |c| Ok(report(c.run::<Sensitivity>()?)) },
    Binding { signature: Quantize::SIGNATURE, call: |c| Ok(made(c.run::<Quantize>()?)) },
    Binding { signature: ShowRanges::SIGNATURE, call: |c| Ok(report(c.run::<ShowRanges>()?)) },
    Binding { signature: Compress::SIGNATURE, call: searched },
    Binding { signature: Guide::SIGNATURE, call: |c| Ok(report(c.run::<Guide>()?)) },
    Binding { signature: Distill::SIGNATURE, call: |c| Ok(trained(c, c.run::<Distill>()?)) },
    Binding { signature: Recover::SIGNATURE, call: |c| Ok(trained(c, c.run::<Recover>()?)) },
    Binding { signature: Student::SIGNATURE, call: |c| Ok(Dynamic::from(ModelValue::from(c.run::<Student>()?))) },
];

/// The model taken. When the user stopped the search, the session keeps it too, for the script ends here.
fn searched(c: &Call<'_>) -> Result<Dynamic> {
    let found = c.run::<Compress>()?;
    let cancelled = found.report.as_ref().is_some_and(|r| r.cancelled);
    if found.model.recipe() != c.model(0)?.recipe() {
        c.shared.keep_trained(&found.model);
    }
    let value = made(found);
    if cancelled {
        c.shared.keep_partial(value.clone());
    }
    Ok(value)
}
