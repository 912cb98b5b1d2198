//! The kernels, as front ends see them. The scripts of `tests/python/kernel_*.py` say what they check.

#![cfg(unix)]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

const RHAI: &str = "compresso-rhai";

/// Installs kernels into a folder of that name, and gives it.
fn installed(name: &str, languages: &[&str]) -> PathBuf {
    let prefix = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let mut command = Command::new(env!("CARGO_BIN_EXE_compresso"));
    command.args(["kernel", "install"]).args(languages).arg("--prefix").arg(&prefix);
    let out = command.output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    prefix
}

/// Jupyter with some kernels; what it writes goes into a folder of its own.
struct Jupyter {
    kernels: &'static Path,
    home: tempfile::TempDir,
}

impl Jupyter {
    fn new(kernels: &'static Path) -> Self {
        let home = tempfile::tempdir().unwrap();
        for folder in FOLDERS.map(|f| f.1).into_iter().chain(["work"]) {
            std::fs::create_dir_all(home.path().join(folder)).unwrap();
        }
        Self { kernels, home }
    }
    fn rhai() -> Self {
        static KERNEL: LazyLock<PathBuf> = LazyLock::new(|| installed("kernel", &["--rhai"]));
        Self::new(&KERNEL)
    }
    /// Runs a script of `tests/python`; gives what it printed.
    fn python(&self, script: &str, args: &[&str]) -> String {
        let mut command = Command::new(common::python_path());
        command.arg(root().join("tests/python").join(script)).args(args).current_dir(self.home.path().join("work"));
        command.env("PYTHONDONTWRITEBYTECODE", "1").env("JUPYTER_PATH", self.kernels.join("share/jupyter"));
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
const FOLDERS: [(&str, &str); 4] =
    [("JUPYTER_DATA_DIR", "data"), ("JUPYTER_CONFIG_DIR", "config"), ("JUPYTER_RUNTIME_DIR", "runtime"), ("IPYTHONDIR", "ipython")];

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
    for name in ["table", "plot", "numbers", "variables", "completion", "tooltip", "interrupt"] {
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
    use super::{Jupyter, LazyLock, Path, PathBuf, RHAI, in_jupyterlab, installed, root};

    const RUST: &str = "compresso-rust";

    /// Both kernels, for cells of Rust are in notebooks of Rhai, too. Building the library for notebooks takes minutes.
    fn jupyter() -> Jupyter {
        static KERNELS: LazyLock<PathBuf> = LazyLock::new(|| {
            let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join("rust-kernel");
            installed("kernels", &["--rhai", "--rust", "--library", library.to_str().unwrap()])
        });
        Jupyter::new(&KERNELS)
    }

    #[test]
    fn conforms() {
        jupyter().python("kernel_conformance.py", &[RUST]);
    }

    #[test]
    fn keeps_the_protocol() {
        jupyter().python("kernel_protocol.py", &[RUST]);
    }

    #[test]
    fn stands_hostile_messages() {
        jupyter().python("kernel_hostile.py", &[RUST]);
    }

    #[test]
    fn begins_and_ends() {
        jupyter().python("kernel_life.py", &[RUST]);
    }

    #[test]
    fn lasts() {
        jupyter().python("kernel_endurance.py", &[RUST]);
    }

    #[test]
    fn shares_the_library_and_outlives_its_process() {
        jupyter().python("kernel_rust.py", &[RUST, "Child", "Cells"]);
    }

    #[test]
    fn runs_beside_rhai() {
        jupyter().python("kernel_rust.py", &[RHAI, "Magic"]);
    }

    #[test]
    fn works_in_jupyterlab() {
        in_jupyterlab(&jupyter(), RUST, "notebooks/rust/tour.ipynb");
    }

    #[test]
    fn notebooks_run() {
        jupyter().python("kernel_notebooks.py", &[RUST, root().join("notebooks/rust").to_str().unwrap()]);
    }
}
