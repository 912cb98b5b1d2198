//! The folder that this process is held to, for errors that say so; holding it is the shell's.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

static FOLDER: OnceLock<PathBuf> = OnceLock::new();

/// Notes that only what lies under `folder` can be reached from now on; the first call counts.
pub fn held_to(folder: impl Into<PathBuf>) {
    let _ = FOLDER.set(folder.into());
}

/// The folder outside of which nothing can be reached, if there is one.
pub fn folder() -> Option<&'static Path> {
    FOLDER.get().map(PathBuf::as_path)
}
