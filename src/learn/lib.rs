//! How a model learns and is judged: data, training, evaluation.

#![warn(missing_docs)]

pub mod data;
pub mod eval;
pub mod events;
pub mod train;
