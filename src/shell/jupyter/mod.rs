//! Jupyter kernels: the protocol once, the languages behind it.

mod language;

pub use language::{About, Cell, CellError, Completions, IsComplete, Language, Match, Outputs};
