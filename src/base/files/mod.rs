//! Reading and writing files: what is read is a regular file, what is written appears whole or not at all.
//!
//! A file, or a folder of files that belong together ([`Stage`]), is made under a name of its own, `.compresso-PROCESS-….part`,
//! in the folder where it will stand, and takes its name when all of it is there. The process holds a lock on it meanwhile, by
//! which the next one that writes into the folder knows what a process left that ended too early, and removes it.
//!
//! Symbolic links are followed: the file that a link names is replaced, the link stays. Only regular files are replaced; bytes for a
//! device or a pipe go straight to it.

mod moves;
mod partial;
mod place;
mod read;
mod stage;
mod sweep;
#[cfg(test)]
mod tests;
mod write;

pub use partial::discard_partial;
pub use read::{check_regular, open, read, read_text, script_text};
pub use stage::{Scratch, Stage};
pub use write::{atomic_write, cache_write, make_parent, write_file};
