//! Jupyter kernels: the protocol once, the languages behind it.

mod history;
pub mod install;
mod kernel;
mod language;
mod magics;
mod outputs;
mod progress;
pub mod rhai;
mod wire;

pub use kernel::serve;
pub use language::{About, Cell, CellError, Completions, IsComplete, Language, Match, Outputs};
