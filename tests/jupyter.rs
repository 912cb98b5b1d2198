//! The kernels, as front ends see them. The scripts of `tests/python/kernel_*.py` say what they check.

#![cfg(unix)]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

const RHAI: &str = "compresso-rhai";

/// Kernels installed into a folder of their own, and folders for what Jupyter writes.
struct Jupyter {
    home: tempfile::TempDir,
}

impl Jupyter {
    fn new(languages: &[&str]) -> Self {
        let home = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_compresso"));
        command.args(["kernel", "install"]).args(languages).arg("--prefix").arg(home.path());
        let out = command.output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        for folder in FOLDERS.map(|f| f.1).into_iter().chain(["work"]) {
            std::fs::create_dir_all(home.path().join(folder)).unwrap();
        }
        Self { home }
    }
    fn rhai() -> Self {
        Self::new(&["--rhai"])
    }
    /// Runs a script of `tests/python`; gives what it printed.
    fn python(&self, script: &str, args: &[&str]) -> String {
        let mut command = Command::new(common::python_path());
        command.arg(root().join("tests/python").join(script)).args(args).current_dir(self.home.path().join("work"));
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        for (variable, folder) in FOLDERS {
            command.env(variable, self.home.path().join(folder));
        }
        let out = command.output().unwrap();
        let text = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        assert!(out.status.success(), "{script} {args:?} failed:\n{text}");
        text
    }
}

/// Nothing is read from or written to the user's own folders.
const FOLDERS: [(&str, &str); 5] = [
    ("JUPYTER_PATH", "share/jupyter"),
    ("JUPYTER_DATA_DIR", "data"),
    ("JUPYTER_CONFIG_DIR", "config"),
    ("JUPYTER_RUNTIME_DIR", "runtime"),
    ("IPYTHONDIR", "ipython"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf()
}

#[test]
fn rhai_conforms() {
    Jupyter::rhai().python("kernel_conformance.py", &[RHAI]);
}

#[test]
fn rhai_keeps_the_protocol() {
    Jupyter::rhai().python("kernel_protocol.py", &[RHAI]);
}

#[test]
fn rhai_stands_hostile_messages() {
    Jupyter::rhai().python("kernel_hostile.py", &[RHAI]);
}

#[test]
fn rhai_begins_and_ends() {
    Jupyter::rhai().python("kernel_life.py", &[RHAI]);
}

#[test]
fn rhai_lasts() {
    Jupyter::rhai().python("kernel_endurance.py", &[RHAI]);
}

#[test]
fn rhai_in_jupyterlab() {
    let pictures = Path::new(env!("CARGO_TARGET_TMPDIR")).join("jupyterlab");
    let tour = root().join("notebooks/rhai/tour.ipynb");
    Jupyter::rhai().python("kernel_lab.py", &[RHAI, pictures.to_str().unwrap(), tour.to_str().unwrap()]);
    for name in ["table", "plot", "completion", "tooltip", "interrupt"] {
        let picture = pictures.join(format!("{RHAI}-{name}.png"));
        assert_eq!(image::image_dimensions(&picture).unwrap(), (1280, 1000), "{picture:?}");
    }
}

#[test]
fn notebooks_of_rhai_run() {
    Jupyter::rhai().python("kernel_notebooks.py", &[RHAI, root().join("notebooks/rhai").to_str().unwrap()]);
}
