//! Finding shared libraries of runtimes on this machine.

use std::path::{Path, PathBuf};

/// Where a library was looked for and, when it is there, found.
#[derive(Debug, Clone, Default)]
pub(super) struct Search {
    pub found: Option<PathBuf>,
    /// The folders and files that were tried, for the message when nothing was found.
    pub tried: Vec<PathBuf>,
}

impl Search {
    /// Looks at `path`: a library, or a folder that holds one whose file name starts with `stem`.
    fn look(&mut self, path: &Path, stem: &str) {
        if self.found.is_some() || self.tried.iter().any(|t| t == path) {
            return;
        }
        self.tried.push(path.to_path_buf());
        if path.is_file() {
            self.found = Some(path.to_path_buf());
        } else {
            let mut matches: Vec<PathBuf> = entries(path).filter(|p| is_library(p, stem)).collect();
            // The longest name is the one with the full version, which is never a dangling link.
            matches.sort_by_key(|p| p.as_os_str().len());
            self.found = matches.into_iter().rev().find(|p| p.exists());
        }
    }
}

/// Looks for the library `stem` (such as `libonnxruntime`): in the files and folders that `variables` name, then in
/// `package` (such as `onnxruntime/capi`) of the Python environments in reach, then where systems keep libraries.
pub(super) fn library(stem: &str, variables: &[&str], package: &str) -> Search {
    let mut search = Search::default();
    for path in variables.iter().filter_map(std::env::var_os).filter(|v| !v.is_empty()) {
        search.look(Path::new(&path), stem);
    }
    for folder in python_environments().iter().flat_map(|e| packages(e)).map(|site| site.join(package)) {
        if folder.is_dir() {
            search.look(&folder, stem);
        }
    }
    let listed = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    for folder in std::env::split_paths(&listed).filter(|p| !p.as_os_str().is_empty()) {
        search.look(&folder, stem);
    }
    for folder in
        ["/usr/local/lib", "/usr/lib", "/usr/lib64", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/opt/homebrew/lib"]
    {
        search.look(Path::new(folder), stem);
    }
    search
}

/// Where the packages of a Python environment are.
fn packages(environment: &Path) -> Vec<PathBuf> {
    let libraries = environment.join("lib");
    let pythons = entries(&libraries).filter(|p| file_name(p).starts_with("python"));
    pythons.flat_map(|p| ["site-packages", "dist-packages"].map(|site| p.join(site))).filter(|site| site.is_dir()).collect()
}

/// Interpreters, each with a folder of packages that it imports from: the one that `variable` names, then those in reach.
pub(super) fn interpreters(variable: &str) -> Vec<(PathBuf, PathBuf)> {
    let named = std::env::var_os(variable).filter(|v| !v.is_empty()).map(PathBuf::from);
    let mut found = Vec::new();
    if let Some(interpreter) = named {
        let environment = interpreter.ancestors().nth(2).map(Path::to_path_buf).unwrap_or_default();
        found.extend(packages(&environment).into_iter().map(|site| (interpreter.clone(), site)));
    }
    for environment in python_environments() {
        let own = environment.join("bin/python3");
        // A user's own packages have no interpreter of their own.
        let interpreter = if own.exists() { own } else { PathBuf::from("python3") };
        found.extend(packages(&environment).into_iter().map(|site| (interpreter.clone(), site)));
    }
    found
}

/// The version of a package, from the folder that its installer left: `openvino-2026.4.0.dist-info`.
pub(super) fn version(site: &Path, distribution: &str) -> Option<String> {
    let of = |p: PathBuf| Some(file_name(&p).strip_prefix(distribution)?.strip_prefix('-')?.strip_suffix(".dist-info")?.to_string());
    entries(site).find_map(of)
}

/// Roots of Python environments: the active one, those whose interpreter is on the PATH, the user's own packages, and
/// the environment that this project's tests make under the cache folder.
fn python_environments() -> Vec<PathBuf> {
    let mut roots: Vec<PathBuf> = ["VIRTUAL_ENV", "CONDA_PREFIX"].iter().filter_map(std::env::var_os).map(PathBuf::from).collect();
    for folder in std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()) {
        if folder.join("python3").exists()
            && let Some(root) = folder.parent()
        {
            roots.push(root.to_path_buf());
        }
    }
    if let Some(home) = std::env::var_os("HOME").map(PathBuf::from) {
        roots.push(home.join(".local"));
        roots.push(home.join(".cache/compresso/target/venv"));
    }
    roots
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path()).collect();
    found.sort();
    found.into_iter()
}

fn file_name(path: &Path) -> &str {
    path.file_name().and_then(|n| n.to_str()).unwrap_or_default()
}

/// `libX.so`, `libX.so.1.2.3`, `libX.1.dylib`, `X.dll`; not `libX_providers_shared.so`.
fn is_library(path: &Path, stem: &str) -> bool {
    let name = file_name(path);
    let rest = name.strip_prefix(stem).or_else(|| name.strip_prefix(stem.trim_start_matches("lib")));
    rest.is_some_and(|r| r.starts_with(".so") || r == ".dll" || r.ends_with(".dylib") && r.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_full_version_is_taken_and_neighbours_are_not() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["libonnxruntime_providers_shared.so", "libonnxruntime.so.1.24.0", "readme"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        std::os::unix::fs::symlink("nowhere", dir.path().join("libonnxruntime.so")).unwrap();
        let mut search = Search::default();
        search.look(dir.path(), "libonnxruntime");
        assert_eq!(search.found.unwrap(), dir.path().join("libonnxruntime.so.1.24.0"));
    }

    #[test]
    fn packages_and_their_versions_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let site = dir.path().join("lib/python3.12/site-packages");
        for folder in ["tensors", "tensors-1.2.dist-info", "tensors_more-7.0.dist-info"] {
            std::fs::create_dir_all(site.join(folder)).unwrap();
        }
        assert_eq!(packages(dir.path()), std::slice::from_ref(&site));
        assert_eq!(version(&site, "tensors").as_deref(), Some("1.2"));
        assert_eq!(version(&site, "tensor"), None);
    }

    #[test]
    fn what_was_tried_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let mut search = Search::default();
        search.look(dir.path(), "libonnxruntime");
        assert!(search.found.is_none());
        assert_eq!(search.tried, [dir.path().to_path_buf()]);
    }
}
