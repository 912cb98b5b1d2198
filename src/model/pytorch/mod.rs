//! PyTorch's files: checkpoints of the ultralytics package, and weights by name.
//!
//! Such a file is a pickle, which is a program: opened with Python, it may do anything. Here it is read without calling
//! anything ([`unpickle`]); classes are names with attributes, and a file that names what could run code is refused
//! ([`policy`]).

mod archive;
mod object;
mod policy;
mod settings;
mod state;
mod tensor;
mod ultralytics;
mod unpickle;

pub(super) use ultralytics::load;

use crate::Constant;
use archive::Checkpoint;
use compresso_base::error::{At, Result};
use indexmap::IndexMap;
use state::Content;
use std::path::Path;

/// Extensions of PyTorch's files.
pub(super) const EXTENSIONS: [&str; 3] = ["pt", "pth", "ckpt"];

/// The weights in a file, by PyTorch's names: those of a network, of a dict of tensors, or of such under a usual key of a
/// checkpoint (`state_dict`, `model`, …).
///
/// # Errors
/// `Io`, `Format`; `Unsupported` for other files and kinds of tensors, and for files that name what could run code.
pub(super) fn tensors(path: &Path) -> Result<IndexMap<String, Constant>> {
    let checkpoint = Checkpoint::open(path)?;
    checkpoint
        .content()
        .and_then(|c| match c {
            Content::Module(network) => checkpoint.state_dict(network),
            Content::Tensors(dict) => checkpoint.tensors(dict),
        })
        .in_file(path)
}

#[cfg(test)]
mod tests;
