//! How a model learns and is judged: data, training, evaluation.

pub mod data;
pub mod eval;
pub mod events;
pub mod train;
