//! Files for other runtimes.

use crate::deploy::{Finding, OnnxExport, Target, TensorrtExport};
use crate::error::{Error, Result};
use crate::operation::Arg;
use crate::report::{Show, Table};
use crate::shell::script::binding::{Binding, Call};
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
        call: lint,
    },
];

/// Findings of one target.
struct Lint {
    target: String,
    findings: Vec<Finding>,
}

fn lint(c: &Call<'_>) -> Result<Dynamic> {
    let (model, target) = (c.model(0)?, c.text(1)?);
    let findings = match target.as_str() {
        "onnx" => OnnxExport::default().lint(&model)?,
        "tensorrt" => TensorrtExport::default().lint(&model)?,
        other => return Err(Error::argument(format!("there is no target '{other}'")).hint("the targets are \"onnx\" and \"tensorrt\"")),
    };
    Ok(Dynamic::from(Report::new(Lint { target, findings })))
}

impl Show for Lint {
    fn tables(&self) -> Vec<Table> {
        let mut t = Table::new(format!("Findings for {}", self.target), &["severity", "place", "finding"]);
        for f in &self.findings {
            t.row([format!("{:?}", f.severity).to_lowercase(), f.place.clone(), f.message.clone()]);
        }
        vec![t]
    }
    fn notes(&self) -> Vec<String> {
        if self.findings.is_empty() { vec!["nothing to complain about".into()] } else { Vec::new() }
    }
    fn data(&self) -> serde_json::Value {
        serde_json::json!({ "target": self.target, "count": self.findings.len(), "findings": self.findings })
    }
}
