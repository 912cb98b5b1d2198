//! Files appear whole or not at all.

use crate::error::{At, Error, Result};
use std::io::{BufWriter, Write};
use std::path::Path;

/// Writes a file through a temporary one in the same folder, which takes the name only when all is written and on disk.
/// On failure the old file, if any, is untouched.
///
/// # Errors
/// `Io`, naming the file, and whatever `write` reports.
pub fn atomic_write(path: impl AsRef<Path>, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let path = path.as_ref();
    if path.is_dir() || path.file_name().is_none() {
        return Err(Error::argument("is a folder, expected a file").file(path));
    }
    let folder = match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    };
    if !folder.is_dir() {
        return Err(Error::io(path, std::io::ErrorKind::NotFound.into()).hint(format!("make the folder '{}' first", folder.display())));
    }
    let io = |e| Error::io(path, e);
    let mut builder = tempfile::Builder::new();
    builder.prefix(".compresso-").suffix(".part");
    #[cfg(unix)]
    {
        // A temporary file is private; a result has the rights that any new file would have.
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    let file = builder.tempfile_in(folder).map_err(io)?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    write(&mut out).in_file(path)?;
    let file = out.into_inner().map_err(|e| io(e.into_error()))?;
    file.as_file().sync_data().map_err(io)?;
    file.persist(path).map_err(|e| io(e.error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.txt");
        atomic_write(&path, |w| w.write_all(b"old").map_err(|e| Error::io("a", e))).unwrap();
        let e = atomic_write(&path, |w| {
            w.write_all(b"half").map_err(|e| Error::io("a", e))?;
            Err(Error::check("stop"))
        });
        assert!(e.unwrap_err().to_string().contains("a.txt: stop"));
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn missing_folders_and_folders_are_errors_that_name_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let e = atomic_write(dir.path().join("no/such/x.npy"), |_| Ok(())).unwrap_err();
        assert!(e.to_string().contains("x.npy"), "{e}");
        assert!(atomic_write(dir.path(), |_| Ok(())).is_err());
    }
}
