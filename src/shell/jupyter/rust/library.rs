//! The built library that cells of Rust notebooks load: where it lies, what it was built from.
//!
//! ```text
//! record.json   what built it
//! lib/          the shared object, and what the compiler wants to know of the crates in it
//! notebook/     the crate that cells depend on: the prelude under another name
//! analysis/     sources of the crates that notebooks name, for completion and for the types of variables
//! ```

use super::sources::fingerprint;
use crate::error::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What a built library was built from. A kernel loads one that fits itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Version of this program.
    pub compresso: String,
    /// Fingerprint of the sources that this program was built from.
    pub sources: String,
    /// `rustc 1.95.0 (…)`.
    pub rustc: String,
    /// Features of this program.
    pub features: Vec<String>,
    /// File name of the shared object in `lib`.
    pub object: String,
}

/// File name of the record.
const RECORD: &str = "record.json";

impl Record {
    /// The record of a library that this program would build now.
    ///
    /// # Errors
    /// `Unavailable` when there is no Rust compiler.
    pub fn now(object: &str) -> Result<Self> {
        let features = if cfg!(feature = "cuda") { vec!["cuda".to_string()] } else { Vec::new() };
        let sources = fingerprint().to_string();
        Ok(Self { compresso: env!("CARGO_PKG_VERSION").into(), sources, rustc: rustc_version()?, features, object: object.into() })
    }

    pub(super) fn write(&self, folder: &Path) -> Result<()> {
        let json = serde_json::to_string_pretty(self).map_err(|e| Error::internal("the record does not serialize").because(e))?;
        crate::files::write_file(folder.join(RECORD), format!("{json}\n").as_bytes())
    }
}

fn again(e: Error) -> Error {
    e.hint("run 'compresso kernel install --rust' again")
}

/// A library that fits this program.
#[derive(Debug, Clone)]
pub struct Library {
    folder: PathBuf,
    record: Record,
}

impl Library {
    /// Opens a built library and checks that this program, as it is now, built it.
    ///
    /// # Errors
    /// `Missing` when it is not there or not whole; `Check` when another version of this program or of the compiler built
    /// it; `Format` for a record that cannot be read.
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join(RECORD);
        let text = std::fs::read_to_string(&path).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => again(Error::missing("the library for Rust notebooks is not built").file(folder)),
            _ => Error::io(&path, e),
        })?;
        let record: Record = serde_json::from_str(&text)
            .map_err(|e| again(Error::format("the record of the library for Rust notebooks cannot be read").because(e).file(&path)))?;
        let now = Record::now(&record.object)?;
        for (what, built, this) in [
            ("compresso", &record.compresso, &now.compresso),
            ("its sources", &record.sources, &now.sources),
            ("the compiler", &record.rustc, &now.rustc),
            ("the features", &record.features.join(", "), &now.features.join(", ")),
        ] {
            if built != this {
                let e = Error::new(ErrorKind::Check, format!("the library for Rust notebooks was built by another version of {what}"));
                return Err(again(e.because(Error::new(ErrorKind::Check, format!("it was '{built}' and is '{this}'"))).file(folder)));
            }
        }
        let library = Self { folder: std::path::absolute(folder).map_err(|e| Error::io(folder, e))?, record };
        for part in [library.object(), library.notebook()] {
            if !part.exists() {
                return Err(again(Error::missing("a part of the library for Rust notebooks is missing").file(part)));
            }
        }
        if library.folder.to_string_lossy().contains(char::is_whitespace) {
            return Err(Error::unsupported("the compiler takes no folder whose path has blanks").file(&library.folder));
        }
        Ok(library)
    }

    /// The folder that it was built in.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
    /// The shared object.
    pub fn object(&self) -> PathBuf {
        self.folder.join("lib").join(&self.record.object)
    }
    /// Folder of the crate that cells depend on.
    pub fn notebook(&self) -> PathBuf {
        self.folder.join("notebook")
    }
    /// Flags with which the compiler finds the shared object. Under `compresso_cell` the crate of the cells needs no other.
    pub fn flags(&self, linker: &str) -> String {
        let mut flags = format!(
            "-Cprefer-dynamic --cfg compresso_cell --extern compresso_prelude={} -Ldependency={}",
            self.object().display(),
            self.folder.join("lib").display()
        );
        if linker == "lld" {
            flags += " -Clink-arg=-fuse-ld=lld";
        }
        flags
    }
}

/// The folder for the built library: `$XDG_DATA_HOME/compresso/rust-kernel`.
///
/// # Errors
/// `Missing` when there is no home folder.
pub fn default_folder() -> Result<PathBuf> {
    let data = crate::shell::data_folder().ok_or_else(|| Error::missing("there is no home folder").hint("give --library DIR"))?;
    Ok(data.join("rust-kernel"))
}

/// The compiler's name for itself.
///
/// # Errors
/// `Unavailable` when it cannot be started.
pub fn rustc_version() -> Result<String> {
    let text = output(Command::new("rustc").arg("--version"))?;
    Ok(text.trim().to_string())
}

/// What a tool of Rust prints.
pub(super) fn output(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let hint = "Rust notebooks need Rust: https://rustup.rs installs it";
    let out = command.output().map_err(|e| Error::unavailable(format!("{name} cannot be started")).because(e).hint(hint))?;
    if !out.status.success() {
        let text = String::from_utf8_lossy(&out.stderr);
        return Err(Error::unavailable(format!("{name} failed: {}", text.lines().last().unwrap_or_default())).hint(hint));
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

/// Whether the standard library's sources are there: without them no variable's type is known.
///
/// # Errors
/// `Unavailable` when there is no compiler.
pub fn standard_sources() -> Result<bool> {
    let root = output(Command::new("rustc").args(["--print", "sysroot"]))?;
    Ok(Path::new(root.trim()).join("lib/rustlib/src/rust/library/std/src/lib.rs").is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder_with(change: impl FnOnce(&mut Record)) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let mut record = Record::now("libcompresso_prelude.so").unwrap();
        change(&mut record);
        record.write(dir.path()).unwrap();
        dir
    }

    #[test]
    fn a_library_of_another_version_is_refused() {
        let refused = |dir: &tempfile::TempDir| Library::open(dir.path()).unwrap_err().to_string();
        assert!(refused(&tempfile::tempdir().unwrap()).contains("is not built"));
        let old = refused(&folder_with(|r| r.compresso = "0.0.1".into()));
        assert!(old.contains("built by another version of compresso") && old.contains("kernel install --rust"), "{old}");
        assert!(refused(&folder_with(|r| r.sources = "0".into())).contains("another version of its sources"));
        assert!(refused(&folder_with(|r| r.rustc = "rustc 1.0.0".into())).contains("another version of the compiler"));
        assert!(refused(&folder_with(|r| r.features.push("cuda".into()))).contains("the features") || cfg!(feature = "cuda"));
        assert!(refused(&folder_with(|_| ())).contains("a part of the library"));
        let broken = tempfile::tempdir().unwrap();
        std::fs::write(broken.path().join(RECORD), "{").unwrap();
        assert!(refused(&broken).contains("cannot be read"));
    }

    #[test]
    fn a_whole_library_gives_the_flags() {
        let dir = folder_with(|_| ());
        std::fs::create_dir_all(dir.path().join("lib")).unwrap();
        std::fs::create_dir_all(dir.path().join("notebook")).unwrap();
        std::fs::write(dir.path().join("lib/libcompresso_prelude.so"), b"").unwrap();
        let flags = Library::open(dir.path()).unwrap().flags("lld");
        assert!(flags.contains("--extern compresso_prelude=") && flags.ends_with("-fuse-ld=lld"), "{flags}");
    }
}
