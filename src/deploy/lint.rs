//! What a target would refuse or run badly.

use super::{Finding, OnnxExport, Target, TensorrtExport};
use compresso_base::error::{Error, Result};
use compresso_base::report::{Show, Table};
use compresso_model::Model;

/// Findings of one target.
#[derive(Debug, Clone)]
pub struct Lint {
    pub target: String,
    pub findings: Vec<Finding>,
}

/// What a target would refuse or run badly: "onnx" or "tensorrt".
///
/// # Errors
/// `Argument` for another target; `Unsupported` for operators that the registry does not know.
pub fn lint(model: &Model, target: &str) -> Result<Lint> {
    let findings = match target {
        "onnx" => OnnxExport::default().lint(model)?,
        "tensorrt" => TensorrtExport::default().lint(model)?,
        other => return Err(Error::argument(format!("there is no target '{other}'")).hint("the targets are \"onnx\" and \"tensorrt\"")),
    };
    Ok(Lint { target: target.into(), findings })
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
