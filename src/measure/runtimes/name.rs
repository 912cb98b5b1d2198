//! The name of a runtime as an option.

use super::{NAMES, RuntimeSpec, named};
use compresso_base::error::Result;
use compresso_base::operation::{OptionKind, OptionValue};
use serde::{Deserialize, Serialize};

/// The name of a runtime, as options take it: one of [`NAMES`], which [`RuntimeName::spec`] checks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RuntimeName(String);

impl RuntimeName {
    /// # Errors
    /// `Argument` when there is no such runtime, with the nearest name.
    pub fn spec(&self) -> Result<&'static RuntimeSpec> {
        named(&self.0)
    }
}

impl From<&str> for RuntimeName {
    fn from(name: &str) -> Self {
        Self(name.into())
    }
}

impl From<String> for RuntimeName {
    fn from(name: String) -> Self {
        Self(name)
    }
}

impl OptionValue for RuntimeName {
    const KIND: OptionKind = OptionKind::Choice(&NAMES);
}

impl std::fmt::Display for RuntimeName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}
