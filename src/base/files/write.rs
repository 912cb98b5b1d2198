//! Writing one file.

use super::partial::PartialFile;
use super::place::{Place, folder_of, open_stream};
use super::sweep::sweep;
use crate::error::{At, Error, Result};
use std::io::{BufWriter, Write};
use std::path::Path;

/// Bytes that are gathered before they go to the system.
const BLOCK: usize = 1 << 20;

/// Writes a file through a temporary one in the same folder, which takes the name only when all is written and on disk.
/// On failure the old file, if any, is untouched. A file that is replaced keeps its permissions; to a device or a pipe, bytes are
/// written as they come.
///
/// # Errors
/// `Argument` for a folder; `Unavailable` for a pipe that nobody reads; `Io`, naming the file; whatever `write` reports.
pub fn atomic_write(path: impl AsRef<Path>, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    written(path.as_ref(), true, write)
}

/// As [`atomic_write`], for what can be made again: it does not wait until the bytes are on disk, so that a power cut may lose them.
///
/// # Errors
/// As there.
pub fn cache_write(path: impl AsRef<Path>, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    written(path.as_ref(), false, write)
}

/// [`atomic_write`] of bytes that are there.
///
/// # Errors
/// As there.
pub fn write_file(path: impl AsRef<Path>, bytes: &[u8]) -> Result<()> {
    let path = path.as_ref();
    atomic_write(path, |w| w.write_all(bytes).map_err(|e| Error::io(path, e)))
}

fn written(path: &Path, durable: bool, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let io = |e| Error::io(path, e);
    match Place::of(path)? {
        Place::Stream(to) => {
            let mut out = BufWriter::with_capacity(BLOCK, open_stream(&to, path)?);
            write(&mut out).in_file(path)?;
            out.flush().map_err(io)
        }
        Place::File { path: to, permissions } => {
            sweep(folder_of(&to));
            let partial = PartialFile::beside(&to).map_err(io)?;
            let mut out = BufWriter::with_capacity(BLOCK, partial.file());
            write(&mut out).in_file(path)?;
            let file = out.into_inner().map_err(|e| io(e.into_error()))?;
            if let Some(permissions) = permissions {
                file.set_permissions(permissions).map_err(io)?;
            }
            if durable {
                file.sync_data().map_err(io)?;
            }
            partial.persist(&to).map_err(io)
        }
    }
}

/// Makes the folder of a file that is about to be written, and those above it.
///
/// # Errors
/// `Io`.
pub fn make_parent(path: &Path) -> Result<()> {
    let folder = folder_of(path);
    std::fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))
}
