//! Files for other runtimes.

use super::{made, report};
use crate::deploy::{
    CoremlExport, Deploy, EmbedNms, EmbedPreprocessing, Lint, NcnnExport, OnnxExport, OpenvinoExport, Optimize, TensorrtExport,
    TfliteExport,
};
use crate::operation::Operation;
use crate::shell::script::call::Binding;
use crate::shell::script::value::ModelValue;
use rhai::Dynamic;

pub(super) const TABLE: &[Binding] = &[
    Binding { signature: Deploy::SIGNATURE, call: |c| Ok(report(c.run::<Deploy>()?)) },
    Binding { signature: OnnxExport::SIGNATURE, call: |c| Ok(report(c.run::<OnnxExport>()?)) },
    Binding { signature: Optimize::SIGNATURE, call: |c| Ok(made(c.run::<Optimize>()?)) },
    Binding { signature: EmbedNms::SIGNATURE, call: |c| Ok(Dynamic::from(ModelValue::from(c.run::<EmbedNms>()?))) },
    Binding { signature: EmbedPreprocessing::SIGNATURE, call: |c| Ok(Dynamic::from(ModelValue::from(c.run::<EmbedPreprocessing>()?))) },
    Binding { signature: TensorrtExport::SIGNATURE, call: |c| Ok(report(c.run::<TensorrtExport>()?)) },
    Binding { signature: OpenvinoExport::SIGNATURE, call: |c| Ok(report(c.run::<OpenvinoExport>()?)) },
    Binding { signature: TfliteExport::SIGNATURE, call: |c| Ok(report(c.run::<TfliteExport>()?)) },
    Binding { signature: NcnnExport::SIGNATURE, call: |c| Ok(report(c.run::<NcnnExport>()?)) },
    Binding { signature: CoremlExport::SIGNATURE, call: |c| Ok(report(c.run::<CoremlExport>()?)) },
    Binding { signature: Lint::SIGNATURE, call: |c| Ok(report(c.run::<Lint>()?)) },
];
