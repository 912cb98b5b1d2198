//! Files for OpenVINO, run by OpenVINO and held against our executor.

#[path = "openvino/cases.rs"]
mod cases;
mod common;
#[path = "openvino/judge.rs"]
mod judge;
#[path = "openvino/models.rs"]
mod models;
#[path = "openvino/operators.rs"]
mod operators;
#[path = "openvino/shapes.rs"]
mod shapes;
