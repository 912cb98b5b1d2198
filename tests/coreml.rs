//! Packages for Core ML, read by coremltools, run operation by operation and held against our executor.

#[path = "openvino/cases.rs"]
mod cases;
mod common;
#[path = "coreml/judge.rs"]
mod judge;
#[path = "coreml/models.rs"]
mod models;
#[path = "coreml/operators.rs"]
mod operators;
#[path = "coreml/packages.rs"]
mod packages;
#[path = "coreml/shapes.rs"]
mod shapes;
