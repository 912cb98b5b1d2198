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

/// A notebook in JupyterLab; pictures of it are in the target folder's `tmp/jupyterlab`.
fn in_jupyterlab(jupyter: &Jupyter, kernel: &str, notebook: &str) {
    let pictures = Path::new(env!("CARGO_TARGET_TMPDIR")).join("jupyterlab");
    let notebook = root().join(notebook);
    jupyter.python("kernel_lab.py", &[kernel, pictures.to_str().unwrap(), notebook.to_str().unwrap()]);
    for name in ["table", "plot", "completion", "tooltip", "interrupt"] {
        let picture = pictures.join(format!("{kernel}-{name}.png"));
        assert_eq!(image::image_dimensions(&picture).unwrap(), (1280, 1000), "{picture:?}");
    }
}

#[test]
fn rhai_in_jupyterlab() {
    in_jupyterlab(&Jupyter::rhai(), RHAI, "notebooks/rhai/tour.ipynb");
}

#[test]
fn notebooks_of_rhai_run() {
    Jupyter::rhai().python("kernel_notebooks.py", &[RHAI, root().join("notebooks/rhai").to_str().unwrap()]);
}

#[cfg(feature = "evcxr")]
mod rust {
    use super::{Jupyter, Path, RHAI, in_jupyterlab, root};
    use std::sync::{Mutex, PoisonError};

    const RUST: &str = "compresso-rust";

    /// Cells of two kernels at once wait for the compiler, so tests take turns. The library is built by the first, and kept.
    fn with_kernels(kernels: &[&str], test: impl FnOnce(&Jupyter)) {
        static TURN: Mutex<()> = Mutex::new(());
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join("rust-kernel");
        let library = ["--library", library.to_str().unwrap()];
        test(&Jupyter::new(&[kernels, &library].concat()));
    }

    fn with_kernel(test: impl FnOnce(&Jupyter)) {
        with_kernels(&["--rust"], test);
    }

    fn script(name: &str) {
        with_kernel(|jupyter| drop(jupyter.python(name, &[RUST])));
    }

    #[test]
    fn conforms() {
        script("kernel_conformance.py");
    }

    #[test]
    fn keeps_the_protocol() {
        script("kernel_protocol.py");
    }

    #[test]
    fn stands_hostile_messages() {
        script("kernel_hostile.py");
    }

    #[test]
    fn begins_and_ends() {
        script("kernel_life.py");
    }

    #[test]
    fn lasts() {
        script("kernel_endurance.py");
    }

    #[test]
    fn shares_the_library_and_outlives_its_process() {
        with_kernel(|jupyter| drop(jupyter.python("kernel_rust.py", &[RUST, "Child", "Cells"])));
    }

    #[test]
    fn runs_beside_rhai() {
        with_kernels(&["--rhai", "--rust"], |jupyter| drop(jupyter.python("kernel_rust.py", &[RHAI, "Magic"])));
    }

    #[test]
    fn works_in_jupyterlab() {
        with_kernel(|jupyter| in_jupyterlab(jupyter, RUST, "notebooks/rust/tour.ipynb"));
    }

    #[test]
    fn notebooks_run() {
        let notebooks = root().join("notebooks/rust");
        with_kernel(|jupyter| drop(jupyter.python("kernel_notebooks.py", &[RUST, notebooks.to_str().unwrap()])));
    }
}
