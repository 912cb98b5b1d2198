//! Files for other runtimes.

use super::{made, report};
use crate::deploy::{Deploy, Lint, OnnxExport, Optimize, TensorrtExport};
use crate::operation::Operation;
use crate::shell::script::call::Binding;

pub(super) const TABLE: &[Binding] = &[
    Binding { signature: Deploy::SIGNATURE, call: |c| Ok(report(c.run::<Deploy>()?)) },
    Binding { signature: OnnxExport::SIGNATURE, call: |c| Ok(report(c.run::<OnnxExport>()?)) },
    Binding { signature: Optimize::SIGNATURE, call: |c| Ok(made(c.run::<Optimize>()?)) },
    Binding { signature: TensorrtExport::SIGNATURE, call: |c| Ok(report(c.run::<TensorrtExport>()?)) },
    Binding { signature: Lint::SIGNATURE, call: |c| Ok(report(c.run::<Lint>()?)) },
];
