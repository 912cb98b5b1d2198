//! What a target would refuse or run badly.

use compresso_base::error::Result;
use compresso_base::report::{Show, Table};
use compresso_model::Model;
use compresso_target::{self as target, Finding, Target};

/// Findings of one target.
#[derive(Debug, Clone)]
pub struct Lint {
    pub target: String,
    pub findings: Vec<Finding>,
}

/// What a target, by its name, would refuse or run badly.
///
/// # Errors
/// `Argument` for a name that is not registered.
pub fn lint(model: &Model, target: &str) -> Result<Lint> {
    let findings = target::lint(Target::find(target)?.0, model.graph())?;
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
