//! Where a write goes.

use crate::error::{Error, Result};
use std::fs::{File, OpenOptions, Permissions};
use std::path::{Path, PathBuf};

/// Links that are followed, as by the system.
const LINKS: usize = 40;

/// The folder in which a path's last name stands.
pub(super) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// What a path stands for when it is written to.
pub(super) enum Place {
    /// A regular file, which is replaced whole and keeps its permissions; or none yet. No link.
    File { path: PathBuf, permissions: Option<Permissions> },
    /// A device, a pipe, or an open file of a process (`/dev/stdout`).
    Stream(PathBuf),
}

impl Place {
    /// # Errors
    /// `Argument` for a folder and for links that lead in a circle; `Io`.
    pub fn of(path: &Path) -> Result<Self> {
        let folder_error = || Error::argument("is a folder, expected a file").file(path);
        let mut at = path.to_path_buf();
        for _ in 0..LINKS {
            if at.file_name().is_none() {
                return Err(folder_error());
            }
            let folder = folder_of(&at).to_path_buf();
            if !folder.is_dir() {
                let e = Error::io(path, std::io::ErrorKind::NotFound.into());
                return Err(e.hint(format!("'{}' is no folder: make it first", folder.display())));
            }
            // Links there name what is open, by no path at all.
            if folder.canonicalize().is_ok_and(|f| f.starts_with("/proc")) {
                return Ok(Self::Stream(at));
            }
            match at.symlink_metadata() {
                Ok(m) if m.is_symlink() => at = folder.join(at.read_link().map_err(|e| Error::io(path, e))?),
                Ok(m) if m.is_dir() => return Err(folder_error()),
                Ok(m) if m.is_file() => return Ok(Self::File { path: at, permissions: Some(m.permissions()) }),
                Ok(_) => return Ok(Self::Stream(at)),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Self::File { path: at, permissions: None }),
                Err(e) => return Err(Error::io(path, e)),
            }
        }
        Err(Error::argument(format!("more than {LINKS} symbolic links follow each other")).file(path))
    }
}

/// Opens a device or a pipe for writing; `path` stands in errors.
///
/// # Errors
/// `Unavailable` for a pipe without a reader; `Io`.
pub(super) fn open_stream(to: &Path, path: &Path) -> Result<File> {
    #[cfg(target_os = "linux")]
    if let Some(own) = own_stream(to) {
        return own.map_err(|e| Error::io(path, e));
    }
    // At its end, where it is a file that something else writes to as well.
    let mut options = OpenOptions::new();
    options.append(true);
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
        let is_pipe = std::fs::metadata(to).is_ok_and(|m| m.file_type().is_fifo());
        if is_pipe {
            // Opened so, a pipe without a reader is an error at once; otherwise it would wait for one.
            let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
            let _reader = OpenOptions::new().append(true).custom_flags(flags).open(to).map_err(|e| {
                let e = Error::unavailable("nobody reads this pipe").because(e).file(path);
                e.hint("start the program that reads it first")
            })?;
            return options.open(to).map_err(|e| Error::io(path, e));
        }
    }
    options.open(to).map_err(|e| Error::io(path, e))
}

/// Standard output or error of this process, where a path names it: opened by its path, it would have a position of its own.
#[cfg(target_os = "linux")]
fn own_stream(to: &Path) -> Option<std::io::Result<File>> {
    use std::os::fd::AsFd;
    let own = Path::new("/proc/self/fd").canonicalize().ok()?;
    if folder_of(to).canonicalize().ok()? != own {
        return None;
    }
    match to.file_name()?.to_str()? {
        "1" => Some(std::io::stdout().as_fd().try_clone_to_owned().map(File::from)),
        "2" => Some(std::io::stderr().as_fd().try_clone_to_owned().map(File::from)),
        _ => None,
    }
}
