//! For what models are made: files, and the runtimes that run them.
//!
//! A [`TargetSpec`] says as data what a target takes, how it wants integers, what is run on a graph before it is written, and
//! what writes it. [`TARGETS`] lists them; a new one is one file and one line here (docs/adding-a-target.md). What quantizes,
//! checks and exports models reads these and knows no target by name. [`Target`] is an option that takes a name of the list.

#![warn(missing_docs)]

mod artefact;
mod grid;
mod lint;
mod names;
mod op;
mod prepare;
mod quantization;
mod reader;
mod spec;

pub mod coreml;
pub mod ncnn;
pub mod onnx;
pub mod onnxruntime;
pub mod openvino;
pub mod tensorrt;
pub mod tflite;

pub use artefact::{Artefact, Calibration, ExportPrecision, file_name, make_executable, write_text};
pub use grid::Grid;
pub use lint::{Finding, Severity, lint};
pub use names::Names;
pub use op::{Op, Remark};
pub use prepare::{accepted, write_model};
pub use quantization::{Elementwise, Joining, Quantization};
pub use spec::{Destination, Float16, Takes, TargetSpec};

use compresso_base::error::{Error, Result, nearest};
use compresso_base::operation::{OptionKind, OptionValue};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// The registration lines: all targets.
pub const TARGETS: &[&TargetSpec] =
    &[&onnx::SPEC, &onnxruntime::SPEC, &tensorrt::SPEC, &openvino::SPEC, &tflite::SPEC, &ncnn::SPEC, &coreml::SPEC];

/// A target, as an option: in scripts the name of a registered one.
#[derive(Clone, Copy)]
pub struct Target(pub &'static TargetSpec);

impl Target {
    /// The registered target of this name.
    ///
    /// # Errors
    /// `Argument`, with the nearest name.
    pub fn find(name: &str) -> Result<Self> {
        TARGETS.iter().copied().find(|t| t.name == name).map(Self).ok_or_else(|| {
            let e = Error::argument(format!("there is no target '{name}'"));
            match nearest(name, NAMES.iter().copied()) {
                Some(near) => e.hint(format!("did you mean \"{near}\"?")),
                None => e.hint(format!("the targets are {}", OptionKind::Choice(NAMES))),
            }
        })
    }
}

/// The target whose files have this ending, where no other's do.
pub fn by_ending(ending: &str) -> Option<Target> {
    let has = |t: &&TargetSpec| t.destination.ending().is_some_and(|e| e.eq_ignore_ascii_case(ending));
    let mut found = TARGETS.iter().copied().filter(has);
    found.next().filter(|_| found.next().is_none()).map(Target)
}

impl std::ops::Deref for Target {
    type Target = TargetSpec;
    fn deref(&self) -> &TargetSpec {
        self.0
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// Names of all targets, in the list's order.
pub const NAMES: &[&str] = &names();

const fn names() -> [&'static str; TARGETS.len()] {
    let mut names = [""; TARGETS.len()];
    let mut i = 0;
    while i < names.len() {
        names[i] = TARGETS[i].name;
        i += 1;
    }
    names
}

impl OptionValue for Target {
    const KIND: OptionKind = OptionKind::Choice(NAMES);
}

impl Serialize for Target {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name)
    }
}

impl<'de> Deserialize<'de> for Target {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::find(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    compresso_base::options! {
        /// Test options.
        pub struct Sample {
            /// For what.
            pub target: Target = Target(&onnxruntime::SPEC),
        }
    }

    #[test]
    fn names_are_unique_and_found() {
        assert_eq!(NAMES.iter().collect::<HashSet<_>>().len(), TARGETS.len());
        for t in TARGETS {
            assert_eq!(Target::find(t.name).unwrap().name, t.name);
            assert!(!t.title.is_empty() && !t.summary.ends_with('.'), "{}", t.name);
        }
    }

    #[test]
    fn an_option_takes_registered_names_and_suggests_them() {
        let decode = |name: &str| compresso_base::operation::decode::<Sample>(serde_json::json!({ "target": name }));
        assert_eq!(decode("tensorrt").unwrap().target.name, "tensorrt");
        assert_eq!(serde_json::to_value(Sample::default()).unwrap()["target"], "onnxruntime");
        let e = decode("tensort").unwrap_err().to_string();
        assert!(
            e.starts_with(
                "option 'target' expects \"onnx\", \"onnxruntime\", \"tensorrt\", \"openvino\", \"tflite\", \"ncnn\" or \"coreml\""
            ),
            "{e}"
        );
        assert!(e.contains("did you mean \"tensorrt\"?"), "{e}");
        let e = Target::find("qnn").unwrap_err().to_string();
        assert!(e.contains("no target 'qnn'") && e.contains("\"ncnn\" or \"coreml\""), "{e}");
    }
}
