//! What the tests that compare against Python share.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A folder that outlives a test run, under the build's own folder.
pub fn cache(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// Runs `tests/python/SCRIPT` with arguments, in the Python environment that scripts/test.sh makes.
pub fn python(script: &str, args: &[&str]) {
    let python = std::env::var_os("COMPRESSO_PYTHON").expect("COMPRESSO_PYTHON is not set: run scripts/test.sh, which sets it up");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python").join(script);
    let out = Command::new(python).arg(&script).args(args).output().expect("Python starts");
    assert!(out.status.success(), "{} failed:\n{}", script.display(), String::from_utf8_lossy(&out.stderr));
}
