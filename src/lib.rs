//! Compresso makes vision models small and fast.
//!
//! This crate puts together the crates of the library, each under the name of its room, and adds the shell.

#![warn(missing_docs)]

pub mod shell;

pub use compresso_base::{choice, context, error, files, memory, operation, options, report};
pub use compresso_compress as compress;
pub use compresso_deploy as deploy;
pub use compresso_exec as exec;
pub use compresso_experiment as experiment;
pub use compresso_kernels as kernels;
pub use compresso_learn as learn;
pub use compresso_measure as measure;
pub use compresso_model as model;
pub use compresso_search as search;
pub use compresso_target as target;

pub use context::Context;
pub use error::{Error, ErrorKind, Result};
pub use model::Model;
