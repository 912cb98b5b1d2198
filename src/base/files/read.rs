//! Reading regular files, and nothing else: a device may never end, and a pipe may never begin.

use crate::error::{Error, Result};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Opens a file for reading.
///
/// # Errors
/// `Argument` for a folder, a device or a pipe; `Io`.
pub fn open(path: impl AsRef<Path>) -> Result<File> {
    let path = path.as_ref();
    check_regular(path)?;
    File::open(path).map_err(|e| Error::io(path, e))
}

/// The bytes of a file.
///
/// # Errors
/// As [`open`].
pub fn read(path: impl AsRef<Path>) -> Result<Vec<u8>> {
    let path = path.as_ref();
    check_regular(path)?;
    std::fs::read(path).map_err(|e| Error::io(path, e))
}

/// The text of a file.
///
/// # Errors
/// As [`open`]; `Format` for bytes that are no UTF-8.
pub fn read_text(path: impl AsRef<Path>) -> Result<String> {
    let path = path.as_ref();
    check_regular(path)?;
    std::fs::read_to_string(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::InvalidData => Error::format("the file is not UTF-8 text").file(path),
        _ => Error::io(path, e),
    })
}

/// Bytes of the longest script.
const SCRIPT: u64 = 64 << 20;

/// A script from a file or, unlike what else is read, a pipe; `path` stands in errors.
///
/// # Errors
/// `Format` for more than 64 MiB and for bytes that are no UTF-8; `Io`.
pub fn script_text(source: impl Read, path: impl AsRef<Path>) -> Result<String> {
    let path = path.as_ref();
    let mut bytes = Vec::new();
    source.take(SCRIPT + 1).read_to_end(&mut bytes).map_err(|e| Error::io(path, e))?;
    if bytes.len() as u64 > SCRIPT {
        return Err(Error::format(format!("is longer than a script may be, {} MiB", SCRIPT >> 20)).file(path));
    }
    let text = String::from_utf8(bytes).map_err(|_| Error::format("the file is not UTF-8 text").file(path))?;
    // Some editors begin a file with a mark of its byte order.
    Ok(text.strip_prefix('\u{feff}').map(str::to_string).unwrap_or(text))
}

/// That a path names a regular file, or a link to one, looked at without opening it.
///
/// # Errors
/// As [`open`].
pub fn check_regular(path: &Path) -> Result<()> {
    let kind = std::fs::metadata(path).map_err(|e| Error::io(path, e))?.file_type();
    // What the system says of processes stays open for what the program itself reads there, but is nothing for scripts.
    if crate::sandbox::folder().is_some() && path.canonicalize().is_ok_and(|p| p.starts_with("/proc") || p.starts_with("/sys")) {
        return Err(Error::io(path, std::io::ErrorKind::PermissionDenied.into()));
    }
    if kind.is_file() {
        return Ok(());
    }
    let what = if kind.is_dir() { "a folder" } else { "a device or a pipe" };
    Err(Error::argument(format!("expected a file, got {what}")).file(path))
}
