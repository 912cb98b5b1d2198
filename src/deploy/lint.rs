//! `lint`: what a target would refuse or run badly.

use crate::pitfalls::pitfalls;
use compresso_base::context::Context;
use compresso_base::error::Result;
use compresso_base::operation::{Arg, ArgKind, Operation, Options, Signature};
use compresso_base::report::{Show, Table};
use compresso_model::Model;
use compresso_target::{self as target, Finding, Target};

compresso_base::options! {
    /// Holds a model against the rules of a target.
    pub struct Lint {}
}

/// Findings of one target.
#[derive(Debug, Clone)]
pub struct Findings {
    /// Its name.
    pub target: String,
    /// What it would refuse or run badly, with the nodes.
    pub findings: Vec<Finding>,
}

/// What a target, by its name, would refuse or run badly.
///
/// # Errors
/// `Argument` for a name that is not registered.
impl Operation for Lint {
    const SIGNATURE: Signature = Signature {
        name: "lint",
        summary: "What a target, such as \"onnx\" or \"tensorrt\", would refuse or run badly, and what of the model looks like a gain and is none",
        group: "deploy",
        args: &[Arg::new("m", ArgKind::Model), Arg::new("target", ArgKind::Text)],
        returns: "report",
        fields: Self::FIELDS,
        examples: &["lint(model(\"classifier\", #{ classes: 3, image_size: 32 }), \"tensorrt\").count"],
        keywords: &["check", "validate", "supported", "compatible", "trt"],
    };
    type Inputs<'a> = (&'a Model, &'a str);
    type Output = Findings;

    fn run(&self, (model, target): (&Model, &str), _: &Context) -> Result<Findings> {
        let mut findings = target::lint(Target::find(target)?.0, model.graph())?;
        // What has no costs has findings of its own.
        findings.extend(pitfalls(model).unwrap_or_default());
        Ok(Findings { target: target.into(), findings })
    }
}

impl Show for Findings {
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
