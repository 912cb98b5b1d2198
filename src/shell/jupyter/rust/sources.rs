//! The sources that this program holds, for building the library where the checkout is gone.

use include_dir::{Dir, include_dir};
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The sources that this program was built from, for where they are gone.
static SOURCES: &[(&str, Dir<'_>)] = &[
    ("src", include_dir!("$CARGO_MANIFEST_DIR/src")),
    ("notebooks/prelude", include_dir!("$CARGO_MANIFEST_DIR/notebooks/prelude")),
    ("benches", include_dir!("$CARGO_MANIFEST_DIR/benches")),
    ("tests/support", include_dir!("$CARGO_MANIFEST_DIR/tests/support")),
];
const MANIFEST: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
const LOCK: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.lock"));
const README: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md"));
const BUILD: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/build.rs"));
/// Cargo takes no manifest that names a test whose file is missing.
const NAMED_TESTS: [(&str, &str); 2] = [
    ("tests/jupyter.rs", include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/jupyter.rs"))),
    ("tests/rust_cells.rs", include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/rust_cells.rs"))),
];

/// Names and contents of this program's sources. Texts at the top lie beside each other, folders below them.
pub fn source_files() -> Vec<(PathBuf, &'static [u8])> {
    fn walk(dir: &Dir<'static>, to: &Path, all: &mut Vec<(PathBuf, &'static [u8])>) {
        all.extend(dir.files().map(|f| (to.join(f.path()), f.contents())));
        dir.dirs().for_each(|d| walk(d, to, all));
    }
    let texts = [("Cargo.toml", MANIFEST), ("Cargo.lock", LOCK), ("README.md", README), ("build.rs", BUILD)];
    let mut all: Vec<_> = texts.iter().chain(&NAMED_TESTS).map(|(name, text)| (PathBuf::from(name), text.as_bytes())).collect();
    SOURCES.iter().for_each(|(name, dir)| walk(dir, Path::new(name), &mut all));
    all
}

/// A number that other sources do not have.
pub fn fingerprint() -> u64 {
    static NUMBER: OnceLock<u64> = OnceLock::new();
    *NUMBER.get_or_init(|| {
        let mut hasher = std::hash::DefaultHasher::new();
        source_files().hash(&mut hasher);
        hasher.finish()
    })
}
