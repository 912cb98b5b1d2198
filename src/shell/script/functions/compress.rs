//! Pruning, quantization, distillation.

use crate::compress::prune::{self, Prune};
use crate::shell::script::binding::Binding;
use crate::shell::script::value::ModelValue;
use rhai::Dynamic;

pub(super) const TABLE: &[Binding] = &[Binding {
    signature: prune::SIGNATURE,
    call: |c| {
        let options: Prune = c.options()?;
        Ok(Dynamic::from(ModelValue::from(options.apply(&c.model(0)?, c.maybe_dataset(1)?.as_ref(), &c.ctx)?)))
    },
}];
