//! Kernelspecs: what tells Jupyter that a kernel is there and how to start it.

use crate::error::{Error, Result};
use crate::files::Stage;
use serde_json::{Value as Json, json};
use std::path::{Path, PathBuf};

/// A kernel that can be installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spec {
    /// Name of the kernelspec's folder.
    pub name: &'static str,
    /// What people choose in a front end.
    pub display_name: &'static str,
    /// The language and the argument of `compresso kernel`.
    pub language: &'static str,
}

/// The kernel of the script language.
pub const RHAI: Spec = Spec { name: "compresso-rhai", display_name: "Compresso (Rhai)", language: "rhai" };
/// The kernel of Rust cells, which builds with the feature `evcxr` run.
pub const RUST: Spec = Spec { name: "compresso-rust", display_name: "Compresso (Rust)", language: "rust" };

const LOGOS: [(&str, &[u8]); 3] = [
    ("logo-svg.svg", include_bytes!("logo/logo-svg.svg")),
    ("logo-32x32.png", include_bytes!("logo/logo-32x32.png")),
    ("logo-64x64.png", include_bytes!("logo/logo-64x64.png")),
];

/// Where kernelspecs go: below a prefix such as that of a Python environment, else into the user's folder.
///
/// # Errors
/// `Missing` when there is no home folder.
pub fn folder(prefix: Option<&Path>) -> Result<PathBuf> {
    let data = match prefix {
        Some(prefix) => prefix.join("share/jupyter"),
        None => user_data()?,
    };
    Ok(data.join("kernels"))
}

fn user_data() -> Result<PathBuf> {
    if let Some(dir) = std::env::var_os("JUPYTER_DATA_DIR").filter(|d| !d.is_empty()) {
        return Ok(dir.into());
    }
    jupyter_zmq_client::user_data_dir()
        .map_err(|e| Error::missing("there is no home folder to install into").because(e).hint("give --prefix DIR"))
}

/// Writes a kernelspec that starts this program; gives its folder. `extra` are arguments of the kernel.
///
/// # Errors
/// `Io`.
pub fn install(spec: &Spec, prefix: Option<&Path>, extra: &[String]) -> Result<PathBuf> {
    let program = std::env::current_exe().map_err(|e| Error::internal("the path of this program is unknown").because(e))?;
    let folder = folder(prefix)?.join(spec.name);
    let stage = Stage::new(&folder)?;
    let mut argv = vec![program.display().to_string(), "kernel".into(), spec.language.into()];
    argv.extend(["--connection-file".into(), "{connection_file}".into()]);
    argv.extend_from_slice(extra);
    let content = json!({
        "argv": argv,
        "display_name": spec.display_name,
        "language": spec.language,
        "interrupt_mode": "message",
        "metadata": { "debugger": true },
    });
    for (name, bytes) in LOGOS {
        stage.write(name, bytes)?;
    }
    stage.write("kernel.json", format!("{content:#}\n").as_bytes())?;
    stage.commit()?;
    Ok(folder)
}

/// Removes a kernelspec; false when there is none.
///
/// # Errors
/// `Io`; `Check` for a folder of that name that holds something else.
pub fn uninstall(spec: &Spec, prefix: Option<&Path>) -> Result<bool> {
    let folder = folder(prefix)?.join(spec.name);
    if !folder.exists() {
        return Ok(false);
    }
    if read(&folder).is_none() {
        return Err(Error::new(crate::error::ErrorKind::Check, "this folder holds no kernelspec of compresso, so it stays").file(&folder));
    }
    std::fs::remove_dir_all(&folder).map_err(|e| Error::io(&folder, e))?;
    Ok(true)
}

/// An installed kernel of this program.
#[derive(Debug, Clone)]
pub struct Installed {
    /// Name of the kernelspec's folder.
    pub name: String,
    /// The kernelspec's folder.
    pub folder: PathBuf,
    /// The command that starts it, program first.
    pub argv: Vec<String>,
}

impl Installed {
    /// Why it cannot start, if so.
    pub fn problem(&self) -> Option<String> {
        let program = self.argv.first()?;
        (!Path::new(program).is_file()).then(|| format!("{program} is not there"))
    }
}

/// The kernels of this program in all folders that Jupyter searches.
pub fn installed() -> Vec<Installed> {
    let mut folders = jupyter_zmq_client::data_dirs();
    folders.extend(user_data().ok());
    folders.extend(std::env::var_os("JUPYTER_PATH").iter().flat_map(std::env::split_paths));
    for environment in ["VIRTUAL_ENV", "CONDA_PREFIX"] {
        folders.extend(std::env::var_os(environment).map(|d| Path::new(&d).join("share/jupyter")));
    }
    folders.sort();
    folders.dedup();
    let specs = folders.iter().filter_map(|f| std::fs::read_dir(f.join("kernels")).ok()).flatten().flatten();
    let mut found: Vec<Installed> = specs.filter_map(|e| read(&e.path())).collect();
    found.sort_by(|a, b| (&a.name, &a.folder).cmp(&(&b.name, &b.folder)));
    found
}

fn read(folder: &Path) -> Option<Installed> {
    let json: Json = serde_json::from_slice(&std::fs::read(folder.join("kernel.json")).ok()?).ok()?;
    let argv: Vec<String> = json["argv"].as_array()?.iter().filter_map(|a| a.as_str().map(str::to_string)).collect();
    let ours = [RHAI, RUST].iter().any(|s| argv.get(1).is_some_and(|a| a == "kernel") && argv.get(2).is_some_and(|a| a == s.language));
    let name = folder.file_name()?.to_string_lossy().into_owned();
    ours.then(|| Installed { name, folder: folder.to_path_buf(), argv })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_is_installed_found_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let folder = install(&RHAI, Some(dir.path()), &["--seed".into(), "7".into()]).unwrap();
        assert_eq!(folder, dir.path().join("share/jupyter/kernels/compresso-rhai"));
        let found = read(&folder).unwrap();
        assert_eq!(found.argv[1..], ["kernel", "rhai", "--connection-file", "{connection_file}", "--seed", "7"]);
        assert_eq!(found.problem(), None);
        for (name, size) in [("logo-32x32.png", 32), ("logo-64x64.png", 64)] {
            assert_eq!(image::image_dimensions(folder.join(name)).unwrap(), (size, size));
        }
        roxmltree::Document::parse(&std::fs::read_to_string(folder.join("logo-svg.svg")).unwrap()).unwrap();
        assert!(uninstall(&RHAI, Some(dir.path())).unwrap());
        assert!(!uninstall(&RHAI, Some(dir.path())).unwrap());
    }

    #[test]
    fn a_folder_of_another_kernel_stays() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("share/jupyter/kernels/compresso-rust");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("kernel.json"), r#"{ "argv": ["other", "-f", "x"] }"#).unwrap();
        assert!(uninstall(&RUST, Some(dir.path())).unwrap_err().to_string().contains("stays"));
        assert!(folder.exists());
    }
}
