//! Files for other runtimes.

use crate::deploy::{OnnxExport, TensorrtExport, lint};
use crate::operation::Arg;
use crate::shell::script::binding::Binding;
use crate::shell::script::value::Report;
use rhai::Dynamic;

pub(super) const TABLE: &[Binding] = &[
    Binding {
        signature: OnnxExport::SIGNATURE,
        call: |c| {
            let options: OnnxExport = c.options()?;
            Ok(Dynamic::from(Report::new(options.apply(&c.model(0)?, c.text(1)?, &c.ctx)?)))
        },
    },
    Binding {
        signature: TensorrtExport::SIGNATURE,
        call: |c| {
            let options: TensorrtExport = c.options()?;
            Ok(Dynamic::from(Report::new(options.apply(&c.model(0)?, c.text(1)?, c.maybe_dataset(2)?.as_ref(), &c.ctx)?)))
        },
    },
    Binding {
        signature: super::signature(
            ("deploy", "lint"),
            "What a target would refuse or run badly: \"onnx\" or \"tensorrt\"",
            &[Arg::new("m", "model"), Arg::new("target", "text")],
            "report",
            &["lint(model(\"classifier\", #{ classes: 3, image_size: 32 }), \"tensorrt\").count"],
            &["check", "validate", "supported", "compatible", "trt"],
        ),
        call: |c| Ok(Dynamic::from(Report::new(lint(&c.model(0)?, &c.text(1)?)?))),
    },
];
