//! Files and folders in the making: their names, their locks, and what becomes of them when their process ends.

use super::place::folder_of;
use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;
use tempfile::{NamedTempFile, TempDir};

pub(super) const PREFIX: &str = ".compresso-";
/// In the making: worth nothing without its process.
pub(super) const PART: &str = ".part";
/// Whole, and on its way into a folder that is there.
pub(super) const MOVE: &str = ".move";

/// Attempts to make a file that is not swept away before its lock is taken.
const ATTEMPTS: usize = 8;

/// What this process is making.
static LIVE: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

fn live() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Held while files are moved into a folder that is there.
pub(super) static MOVING: Mutex<()> = Mutex::new(());
/// How long a process that ends waits for that, in steps.
const STEPS: u32 = 20;
const STEP: Duration = Duration::from_millis(10);

/// Removes all that this process has begun to write and not finished, for a process that ends now: no other thread begins to write
/// or to move files afterwards. Files that are being moved have a fifth of a second to arrive; those that do not are moved by the
/// next process that writes into their folder.
pub fn discard_partial() {
    for _ in 0..STEPS {
        match MOVING.try_lock() {
            Err(TryLockError::WouldBlock) => std::thread::sleep(STEP),
            free => {
                std::mem::forget(free);
                break;
            }
        }
    }
    let live = live();
    for path in live.iter() {
        // What cannot be removed now is swept later.
        let _ = if path.is_dir() { remove_folder(path) } else { std::fs::remove_file(path) };
    }
    std::mem::forget(live);
}

/// Removes a folder that other threads still write into: under another name, where they do not find it.
fn remove_folder(path: &Path) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let away = path.with_file_name(format!("{}-{PART}", name.strip_suffix(PART).unwrap_or(&name)));
    let away = if std::fs::rename(path, &away).is_ok() { &away } else { path };
    // A thread that cleans up after itself may take entries away at the same time.
    let mut removed = std::fs::remove_dir_all(away);
    for _ in 0..3 {
        if removed.is_ok() || !away.exists() {
            return Ok(());
        }
        removed = std::fs::remove_dir_all(away);
    }
    removed
}

/// An entry of [`LIVE`].
pub(super) struct Live(PathBuf);

impl Live {
    fn new(path: &Path) -> Self {
        // As the process may change its folder.
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
        live().insert(path.clone());
        Self(path)
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        live().remove(&self.0);
    }
}

fn builder() -> (String, &'static str) {
    (format!("{PREFIX}{}-", std::process::id()), PART)
}

/// Takes the lock that says that this process lives; false when the entry was swept away before.
///
/// Where a file system knows no locks, nothing is swept either.
fn lock(handle: &File, path: &Path) -> bool {
    match handle.try_lock() {
        Err(std::fs::TryLockError::WouldBlock) => false,
        Ok(()) | Err(std::fs::TryLockError::Error(_)) => path.exists(),
    }
}

/// A file in the making. Dropped, it is removed.
pub(super) struct PartialFile {
    file: NamedTempFile,
    _live: Live,
}

impl PartialFile {
    /// In the folder where `path` will stand.
    pub fn beside(path: &Path) -> io::Result<Self> {
        let folder = folder_of(path);
        let (prefix, suffix) = builder();
        let mut builder = tempfile::Builder::new();
        builder.prefix(&prefix).suffix(suffix);
        #[cfg(unix)]
        {
            // A temporary file is private; a result has the rights that any new file would have.
            use std::os::unix::fs::PermissionsExt;
            builder.permissions(std::fs::Permissions::from_mode(0o666));
        }
        for _ in 0..ATTEMPTS {
            let file = builder.tempfile_in(folder)?;
            let live = Live::new(file.path());
            if lock(file.as_file(), file.path()) {
                return Ok(Self { file, _live: live });
            }
        }
        Err(io::Error::other("a file in the making was removed by another program"))
    }
    pub fn file(&self) -> &File {
        self.file.as_file()
    }
    /// Gives it its name.
    pub fn persist(self, path: &Path) -> io::Result<()> {
        self.file.persist(path).map(drop).map_err(|e| e.error)
    }
}

/// A folder in the making. Dropped, it is removed with all that is in it.
pub(super) struct PartialFolder {
    folder: TempDir,
    live: Live,
    /// Held for its lock.
    handle: Option<File>,
}

impl PartialFolder {
    pub fn inside(folder: &Path) -> io::Result<Self> {
        let (prefix, suffix) = builder();
        let mut builder = tempfile::Builder::new();
        builder.prefix(&prefix).suffix(suffix);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            builder.permissions(std::fs::Permissions::from_mode(0o777));
        }
        for _ in 0..ATTEMPTS {
            let made = builder.tempdir_in(folder)?;
            let live = Live::new(made.path());
            // Folders cannot be opened everywhere.
            let handle = File::open(made.path()).ok();
            if handle.as_ref().is_none_or(|h| lock(h, made.path())) {
                return Ok(Self { folder: made, live, handle });
            }
        }
        Err(io::Error::other("a folder in the making was removed by another program"))
    }
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
    /// Gives it another name, under which it stays when the process ends. The lock is held as long as what is returned.
    pub fn rename(self, path: &Path) -> Result<Option<File>, (Self, io::Error)> {
        if let Err(e) = std::fs::rename(self.folder.path(), path) {
            return Err((self, e));
        }
        let Self { folder, live, handle } = self;
        // Nothing is there under the old name any more.
        let _ = folder.keep();
        drop(live);
        Ok(handle)
    }
}
