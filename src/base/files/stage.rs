//! Folders of files that belong together.

use super::moves::{check_moves, move_all};
use super::partial::{MOVE, MOVING, PART, PartialFolder};
use super::place::folder_of;
use super::read::check_regular;
use super::sweep::sweep;
use crate::error::{Error, Result};
use std::fs::File;
use std::io::{BufWriter, ErrorKind, Write};
use std::path::{Component, Path, PathBuf};
use std::sync::PoisonError;

/// A folder's files in the making: they appear together when [`Stage::commit`] is called, or not at all.
///
/// A folder that is not there appears whole, with those above it. Into one that is there the files are moved when all are made:
/// they replace files of the same names, others stay; folders come first, so that a file that describes them comes after them. When
/// the process is killed between the first and the last, the next that writes into the folder moves the rest.
pub struct Stage {
    partial: PartialFolder,
    /// Where the files will stand.
    target: PathBuf,
    /// Where the partial folder's content goes: the target, or the highest of the folders above it that are not there.
    top: PathBuf,
    /// Where the files are made: the target's place inside of the partial folder.
    files: PathBuf,
    /// What is there already goes.
    replaces: bool,
}

impl Stage {
    /// For the files of `folder`, which may be there or not.
    ///
    /// # Errors
    /// `Argument` for a file in the folder's place; `Io`.
    pub fn new(folder: &Path) -> Result<Self> {
        Self::of(folder, false)
    }

    /// For a folder that takes the place of one of its name as a whole: what was in that one is gone afterwards. Only a folder in which a
    /// file `mark` stands, or nothing, is replaced.
    ///
    /// # Errors
    /// `Argument` for a file in the folder's place, and for another folder; `Io`.
    pub fn replacing(folder: &Path, mark: &str) -> Result<Self> {
        let is_other = folder.is_dir() && !folder.join(mark).is_file();
        if is_other && std::fs::read_dir(folder).map_err(|e| Error::io(folder, e))?.next().is_some() {
            let e = Error::argument(format!("is a folder without '{mark}', which would be replaced with all that is in it"));
            return Err(e.file(folder).hint("choose another name, or remove the folder"));
        }
        Self::of(folder, true)
    }

    fn of(folder: &Path, replaces: bool) -> Result<Self> {
        let target = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let io = |e| Error::io(target, e);
        let mut top = target;
        // The parents of what is not there, up to one that is.
        if !target.is_dir() {
            while top.symlink_metadata().is_err() && !folder_of(top).is_dir() {
                top = folder_of(top);
            }
        }
        if top.symlink_metadata().is_ok() && !top.is_dir() {
            return Err(Error::argument("is a file, expected a folder").file(top));
        }
        let rest = target.strip_prefix(top).unwrap_or(Path::new(""));
        let plain = |p: &Path| p.components().all(|c| matches!(c, Component::Normal(_)));
        if !target.is_dir() && (top.file_name().is_none() || !plain(rest)) {
            return Err(Error::argument("cannot be made: a folder on the way is not there").file(target));
        }
        let home = if target.is_dir() && !replaces { target } else { folder_of(top) };
        sweep(home);
        let partial = PartialFolder::inside(home).map_err(io)?;
        let files = partial.path().join(rest);
        std::fs::create_dir_all(&files).map_err(io)?;
        Ok(Self { top: top.to_path_buf(), target: target.to_path_buf(), files, partial, replaces })
    }

    /// Where the files are to be made. Nothing else is there.
    pub fn path(&self) -> &Path {
        &self.files
    }
    /// Where a file that is made will stand.
    pub fn target(&self, made: &Path) -> PathBuf {
        made.strip_prefix(&self.files).map_or_else(|_| made.to_path_buf(), |rest| self.target.join(rest))
    }
    /// Writes a file by its path in the folder. Folders on the way are made.
    ///
    /// # Errors
    /// `Io`, naming the file as it will stand.
    pub fn write(&self, file: impl AsRef<Path>, bytes: &[u8]) -> Result<()> {
        let file = file.as_ref();
        self.make_parent(file)?;
        std::fs::write(self.files.join(file), bytes).map_err(|e| Error::io(self.target.join(file), e))
    }
    /// As [`Stage::write`], for bytes that are made one after the other.
    ///
    /// # Errors
    /// As there; whatever `write` reports.
    pub fn write_with(&self, file: impl AsRef<Path>, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
        let file = file.as_ref();
        self.make_parent(file)?;
        let io = |e| Error::io(self.target.join(file), e);
        let mut out = BufWriter::new(File::create(self.files.join(file)).map_err(io)?);
        write(&mut out)?;
        out.flush().map_err(io)
    }
    /// Copies a file to a path in the folder. Folders on the way are made.
    ///
    /// # Errors
    /// `Io`, naming the file as it will stand, or the one that cannot be read.
    pub fn copy(&self, from: &Path, file: impl AsRef<Path>) -> Result<()> {
        let file = file.as_ref();
        check_regular(from)?;
        self.make_parent(file)?;
        std::fs::copy(from, self.files.join(file)).map(drop).map_err(|e| Error::io(self.target.join(file), e))
    }
    fn make_parent(&self, file: &Path) -> Result<()> {
        let folder = folder_of(file);
        std::fs::create_dir_all(self.files.join(folder)).map_err(|e| Error::io(self.target.join(folder), e))
    }

    /// Puts the files where they belong.
    ///
    /// # Errors
    /// `Argument`, before anything is moved, where a file would take the place of a folder or the other way round; `Io`, saying so
    /// when some files are in their places and others are not.
    pub fn commit(self) -> Result<()> {
        let Self { partial, target, top, replaces, .. } = self;
        let partial = if top.is_dir() {
            if replaces {
                return replace(partial, &top);
            }
            partial
        } else {
            match partial.rename(&top) {
                Ok(_) => return Ok(()),
                // Another program has made it in the meantime.
                Err((partial, e)) if matches!(e.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists) => partial,
                Err((_, e)) => return Err(Error::io(&target, e)),
            }
        };
        check_moves(partial.path(), &top)?;
        let name = partial.path().to_string_lossy().into_owned();
        let moving = PathBuf::from(format!("{}{MOVE}", name.strip_suffix(PART).unwrap_or(&name)));
        let _whole = MOVING.lock().unwrap_or_else(PoisonError::into_inner);
        let lock = partial.rename(&moving).map_err(|(_, e)| Error::io(&target, e))?;
        let moved = move_all(&moving, &top);
        // Left there, it would be moved over what is saved later.
        let removed = std::fs::remove_dir_all(&moving);
        drop(lock);
        moved.map_err(|e| e.hint(format!("some files of '{}' are new and some are as they were: save again", target.display())))?;
        removed.map_err(|e| Error::io(&moving, e))
    }
}

/// Puts a folder in the place of another, which goes. It is never gone without the new one: where the system cannot exchange two names, it has
/// another name for a moment, and comes back when the new one cannot take its place.
fn replace(partial: PartialFolder, old: &Path) -> Result<()> {
    let io = |e| Error::io(old, e);
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        if renameat_with(CWD, partial.path(), CWD, old, RenameFlags::EXCHANGE).is_ok() {
            // Under the partial folder's name now stands what is to go, and goes with it.
            return Ok(());
        }
    }
    let aside = PartialFolder::inside(folder_of(old)).map_err(io)?;
    let kept = aside.path().join("old");
    std::fs::rename(old, &kept).map_err(io)?;
    match partial.rename(old) {
        Ok(_) => Ok(()),
        Err((_, e)) => {
            std::fs::rename(&kept, old).map_err(io)?;
            Err(io(e))
        }
    }
}

/// A folder for files that other programs read while this value lives. It stands among the system's temporary files.
pub struct Scratch(PartialFolder);

impl Scratch {
    /// # Errors
    /// `Io`.
    pub fn new() -> Result<Self> {
        let folder = tempfile::env::temp_dir();
        sweep(&folder);
        PartialFolder::inside(&folder).map(Self).map_err(|e| Error::io(&folder, e))
    }
    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl std::fmt::Debug for Scratch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Scratch").field(&self.path()).finish()
    }
}
