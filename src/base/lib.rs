//! What every crate of Compresso shares: [errors][error], [reports][report] of results, [files] that appear whole, the [context] in which
//! work runs, and how an [operation] declares its options.

#![warn(missing_docs)]

pub mod contain;
pub mod context;
pub mod error;
pub mod files;
pub mod memory;
pub mod operation;
pub mod report;
pub mod sandbox;

pub use context::Context;
pub use error::{Error, ErrorKind, Result};
