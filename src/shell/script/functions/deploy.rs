//! Files for other runtimes.

use super::report;
use crate::deploy::{Deploy, OnnxExport, TensorrtExport, lint};
use crate::operation::{Arg, ArgKind, Operation};
use crate::shell::script::call::Binding;

pub(super) const TABLE: &[Binding] = &[
    Binding { signature: Deploy::SIGNATURE, call: |c| Ok(report(c.run::<Deploy>()?)) },
    Binding { signature: OnnxExport::SIGNATURE, call: |c| Ok(report(c.run::<OnnxExport>()?)) },
    Binding { signature: TensorrtExport::SIGNATURE, call: |c| Ok(report(c.run::<TensorrtExport>()?)) },
    Binding {
        signature: super::signature(
            ("deploy", "lint"),
            "What a target, such as \"onnx\" or \"tensorrt\", would refuse or run badly",
            &[Arg::new("m", ArgKind::Model), Arg::new("target", ArgKind::Text)],
            "report",
            &["lint(model(\"classifier\", #{ classes: 3, image_size: 32 }), \"tensorrt\").count"],
            &["check", "validate", "supported", "compatible", "trt"],
        ),
        call: |c| Ok(report(lint(&c.model(0)?, &c.text(1)?)?)),
    },
];
