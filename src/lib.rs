//! Compresso makes vision models small and fast.

pub mod compress;
pub mod context;
pub mod deploy;
pub mod exec;
pub mod learn;
pub mod measure;
pub mod model;
pub mod operation;
pub mod report;
pub mod shell;

pub use compresso_kernels::{error, kernels};

pub use context::Context;
pub use error::{Error, ErrorKind, Result};
pub use model::Model;
