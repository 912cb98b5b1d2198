//! Accuracy, speed, differences.

use crate::learn::eval::{self, Evaluate};
use crate::shell::script::binding::Binding;
use crate::shell::script::value::Report;
use rhai::Dynamic;

pub(super) const TABLE: &[Binding] = &[Binding {
    signature: eval::EVALUATE,
    call: |c| {
        let options: Evaluate = c.options()?;
        Ok(Dynamic::from(Report::new(eval::evaluate(&c.model(0)?, &c.dataset(1)?, &options, &c.ctx)?)))
    },
}];
