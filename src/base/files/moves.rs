//! Moving the files of a folder into another.

use super::partial::PartialFile;
use super::place::{Place, open_stream};
use crate::error::{Error, Result};
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Entries of a folder, folders first, then by name.
fn entries(folder: &Path) -> Result<Vec<(bool, PathBuf)>> {
    let io = |e| Error::io(folder, e);
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io)? {
        let entry = entry.map_err(io)?;
        all.push((!entry.file_type().map_err(io)?.is_dir(), entry.path()));
    }
    all.sort();
    Ok(all.into_iter().map(|(is_file, path)| (!is_file, path)).collect())
}

fn at(folder: &Path, entry: &Path) -> PathBuf {
    entry.file_name().map_or_else(|| folder.to_path_buf(), |name| folder.join(name))
}

/// That all files of `from` can be moved into the folder `to`.
pub(super) fn check_moves(from: &Path, to: &Path) -> Result<()> {
    for (is_folder, entry) in entries(from)? {
        let to = at(to, &entry);
        if !is_folder {
            Place::of(&to)?;
        } else if to.is_dir() {
            check_moves(&entry, &to)?;
        } else if to.symlink_metadata().is_ok() {
            return Err(Error::argument("is a file, expected a folder").file(to));
        }
    }
    Ok(())
}

/// Moves all files of `from` into the folder `to`. Begun again after a part of it, it moves the rest.
pub(super) fn move_all(from: &Path, to: &Path) -> Result<()> {
    for (is_folder, entry) in entries(from)? {
        let to = at(to, &entry);
        if is_folder && to.is_dir() {
            move_all(&entry, &to)?;
        } else if is_folder {
            std::fs::rename(&entry, &to).map_err(|e| Error::io(&to, e))?;
        } else {
            move_file(&entry, &to)?;
        }
    }
    Ok(())
}

fn move_file(from: &Path, to: &Path) -> Result<()> {
    let io = |e| Error::io(to, e);
    match Place::of(to)? {
        Place::File { path, .. } => match std::fs::rename(from, &path) {
            // A link leads to another disk.
            Err(e) if e.kind() == ErrorKind::CrossesDevices => {
                let partial = PartialFile::beside(&path).map_err(io)?;
                copy(from, partial.file(), to)?;
                partial.file().set_permissions(std::fs::metadata(from).map_err(io)?.permissions()).map_err(io)?;
                partial.persist(&path).map_err(io)?;
            }
            moved => return moved.map_err(io),
        },
        Place::Stream(path) => copy(from, &open_stream(&path, to)?, to)?,
    }
    std::fs::remove_file(from).map_err(|e| Error::io(from, e))
}

fn copy(from: &Path, mut out: &File, to: &Path) -> Result<()> {
    let mut source = File::open(from).map_err(|e| Error::io(from, e))?;
    std::io::copy(&mut source, &mut out).map(drop).map_err(|e| Error::io(to, e))
}
