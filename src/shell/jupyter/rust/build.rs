//! Builds the library that Rust notebooks load, once, into a lasting folder.

use super::library::{self, Library, Record};
use super::sources::source_files;
use crate::context::Context;
use crate::error::{Error, ErrorKind, Result};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The package that is built.
const PACKAGE: &str = "compresso-prelude";

/// Crates that notebooks name, or whose types they see: completion reads their sources. Each may depend on those before it.
const ANALYSED: &[&str] = &[
    "half",
    "equivalent",
    "hashbrown",
    "indexmap",
    "serde_json",
    "image",
    "candle_core",
    "candle_nn",
    "compresso_base",
    "compresso_kernels",
    "compresso_model",
    "compresso_target",
    "compresso_exec",
    "compresso_learn",
    "compresso_measure",
    "compresso_compress",
    "compresso_deploy",
    "compresso_search",
    "compresso_experiment",
    "compresso",
    "compresso_prelude",
];

/// How the library is built.
#[derive(Debug, Clone, Default)]
pub struct BuildOptions {
    /// Where it goes; [`library::default_folder`] when left out.
    pub folder: Option<PathBuf>,
    /// Where the compiler works; the folder in which this program was built, or one beside the library.
    pub target: Option<PathBuf>,
}

/// Builds the library for Rust notebooks and gives its folder. Crates appear as steps of the context's progress.
///
/// # Errors
/// `Unavailable` without Rust or its standard library's sources; `Check` with the compiler's last lines when it fails; `Io`.
pub fn build(options: &BuildOptions, ctx: &Context) -> Result<Library> {
    let folder = match &options.folder {
        Some(folder) => std::path::absolute(folder).map_err(|e| Error::io(folder, e))?,
        None => library::default_folder()?,
    };
    if folder.to_string_lossy().contains(char::is_whitespace) {
        return Err(Error::unsupported("the compiler takes no folder whose path has blanks").file(&folder));
    }
    make_folder(&folder)?;
    install_standard_sources(ctx)?;
    let source = sources(&folder)?;
    let target = options.target.clone().or_else(own_target).unwrap_or_else(|| folder.join("target"));
    let crates = compile(&source, &target, ctx)?;
    ctx.check()?;
    collect(&folder, &crates)?;
    Library::open(&folder)
}

fn make_folder(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))
}

/// Types of variables are found out from the standard library's sources.
fn install_standard_sources(ctx: &Context) -> Result<()> {
    if library::standard_sources()? {
        return Ok(());
    }
    ctx.note("installing the sources of Rust's standard library: rustup component add rust-src");
    let hint = "install them: rustup component add rust-src";
    let missing = |e: Error| Error::unavailable("the sources of Rust's standard library are missing").because(e).hint(hint);
    library::output(Command::new("rustup").args(["component", "add", "rust-src"])).map_err(missing)?;
    Ok(())
}

/// The checkout that this program was built from, if it is still the same, else the sources in this program, written out.
fn sources(folder: &Path) -> Result<PathBuf> {
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR"));
    let source = folder.join("source");
    // What an earlier build made of sources written out is not taken for what the checkout would give: Cargo names both alike, and goes by
    // the times of the files that it read.
    if source.exists() {
        fs::remove_dir_all(&source).map_err(|e| Error::io(&source, e))?;
    }
    if source_files().iter().all(|(name, text)| fs::read(checkout.join(name)).is_ok_and(|found| found == *text)) {
        return Ok(checkout.to_path_buf());
    }
    write_sources(&source)?;
    Ok(source)
}

fn write_sources(to: &Path) -> Result<()> {
    for (name, text) in source_files() {
        write(&to.join(name), text)?;
    }
    Ok(())
}

/// The folder in which this program was built, if it still lies there: most crates need no second compilation.
fn own_target() -> Option<PathBuf> {
    if let Some(dir) = std::env::var_os("CARGO_TARGET_DIR").filter(|d| !d.is_empty()) {
        return std::path::absolute(dir).ok();
    }
    let program = std::env::current_exe().ok()?;
    let profile = program.parent().filter(|p| p.join(".fingerprint").is_dir())?;
    profile.parent().map(Path::to_path_buf)
}

/// What the compiler says of a crate that it has made.
#[derive(Debug, Clone, Deserialize)]
struct Artifact {
    target: CargoTarget,
    features: Vec<String>,
    filenames: Vec<PathBuf>,
}

#[derive(Debug, Clone, Deserialize)]
struct CargoTarget {
    kind: Vec<String>,
    name: String,
    src_path: PathBuf,
    edition: String,
}

impl Artifact {
    fn is(&self, kind: &str) -> bool {
        self.target.kind.iter().any(|k| k == kind)
    }
    fn with_ending(&self, ending: &str) -> Option<&PathBuf> {
        self.filenames.iter().find(|f| f.extension().is_some_and(|e| e == ending))
    }
    fn is_prelude(&self) -> bool {
        self.is("dylib") && self.target.name == "compresso_prelude"
    }
}

/// Ending of shared objects here.
const OBJECT: &str = std::env::consts::DLL_EXTENSION;

fn compile(source: &Path, target: &Path, ctx: &Context) -> Result<Vec<Artifact>> {
    let mut command = Command::new("cargo");
    command.args(["rustc", "--release", "--locked", "--package", PACKAGE, "--message-format=json-render-diagnostics"]);
    if cfg!(feature = "cuda") {
        command.args(["--features", "cuda"]);
    }
    // The flags go to the last crate alone, so that all others are those of an ordinary build.
    command.args(["--", "-Cprefer-dynamic", "-Cstrip=debuginfo"]).current_dir(source).env("CARGO_TARGET_DIR", target);
    // What cargo tells a program that it runs would have crates built anew that are built.
    for (name, _) in
        std::env::vars_os().filter(|(name, _)| ["CARGO_MANIFEST_", "CARGO_PKG_"].iter().any(|p| name.to_string_lossy().starts_with(p)))
    {
        command.env_remove(name);
    }
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| Error::unavailable("cargo cannot be started").because(e).hint("Rust notebooks need Rust: https://rustup.rs"))?;
    let complaints = child.stderr.take().map(|stderr| std::thread::spawn(move || last_lines(stderr)));
    let mut progress = ctx.progress("building the library for Rust notebooks", 0);
    let mut crates = Vec::new();
    let mut cancelled = None;
    for line in child.stdout.take().into_iter().flat_map(|out| BufReader::new(out).lines()).map_while(std::io::Result::ok) {
        let Ok(artifact) = serde_json::from_str::<Artifact>(&line) else { continue };
        if let Err(e) = progress.step(&artifact.target.name) {
            let _ = child.kill();
            cancelled = Some(e);
            break;
        }
        crates.push(artifact);
    }
    let status = child.wait().map_err(|e| Error::internal("cargo cannot be waited for").because(e))?;
    let complaints = complaints.and_then(|t| t.join().ok()).unwrap_or_default();
    match cancelled {
        Some(e) => Err(e),
        None if status.success() => Ok(crates),
        None => Err(Error::new(ErrorKind::Check, format!("the library for Rust notebooks does not build:\n{complaints}"))),
    }
}

/// The last lines of what the compiler says, from its first error on.
fn last_lines(stderr: impl Read) -> String {
    const KEPT: usize = 40;
    let mut lines: Vec<String> = Vec::new();
    for line in BufReader::new(stderr).lines().map_while(std::io::Result::ok) {
        let first_error = line.starts_with("error") && !lines.iter().any(|l| l.starts_with("error"));
        if first_error {
            lines.clear();
        }
        if lines.len() < KEPT || !lines[0].starts_with("error") {
            lines.push(line);
        }
        if lines.len() > KEPT {
            lines.remove(0);
        }
    }
    lines.join("\n")
}

/// Puts what cells need into the library's folder; the record comes last.
fn collect(folder: &Path, crates: &[Artifact]) -> Result<()> {
    let prelude = crates.iter().find(|c| c.is_prelude()).and_then(|c| c.with_ending(OBJECT));
    let prelude = prelude.ok_or_else(|| Error::internal("the compiler names no shared object"))?;
    let fresh = folder.join("new");
    if fresh.exists() {
        fs::remove_dir_all(&fresh).map_err(|e| Error::io(&fresh, e))?;
    }
    let lib = fresh.join("lib");
    make_folder(&lib)?;
    for c in crates.iter().filter(|c| !c.is("bin") && !c.is("custom-build") && !c.is_prelude()) {
        // What is in the shared object needs no code here, only its description.
        let file = c.with_ending("rmeta").or_else(|| c.with_ending("rlib")).or_else(|| c.with_ending(OBJECT));
        if let Some(file) = file {
            copy(file, &lib)?;
        }
    }
    let object = copy(prelude, &lib)?;
    write_notebook(&fresh.join("notebook"))?;
    write_analysis(&fresh.join("analysis"), crates)?;
    let record = folder.join("record.json");
    if record.exists() {
        fs::remove_file(&record).map_err(|e| Error::io(&record, e))?;
    }
    for part in ["lib", "notebook", "analysis"] {
        let to = folder.join(part);
        if to.exists() {
            fs::remove_dir_all(&to).map_err(|e| Error::io(&to, e))?;
        }
        fs::rename(fresh.join(part), &to).map_err(|e| Error::io(&to, e))?;
    }
    let _ = fs::remove_dir(&fresh);
    Record::now(&object)?.write(folder)
}

/// Copies a file into a folder; gives its name.
fn copy(file: &Path, folder: &Path) -> Result<String> {
    let name = file.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    fs::copy(file, folder.join(&name)).map_err(|e| Error::io(file, e))?;
    Ok(name)
}

fn write(path: &Path, content: impl AsRef<[u8]>) -> Result<()> {
    if let Some(folder) = path.parent() {
        make_folder(folder)?;
    }
    fs::write(path, content).map_err(|e| Error::io(path, e))
}

/// The crate that cells depend on. Cells are compiled against the shared object and nothing else; only completion sees
/// the sources behind it.
fn write_notebook(folder: &Path) -> Result<()> {
    let manifest = "[package]\nname = \"notebook\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n\
        [target.'cfg(not(compresso_cell))'.dependencies]\ncompresso_prelude = { path = \"../analysis/compresso_prelude\" }\n\n[workspace]\n";
    write(&folder.join("Cargo.toml"), manifest)?;
    write(&folder.join("src/lib.rs"), "pub use compresso_prelude::*;\n")
}

/// Sources of the crates of [`ANALYSED`], each with a manifest that names the others alone, so that completion reads a
/// dozen crates and not three hundred.
fn write_analysis(folder: &Path, crates: &[Artifact]) -> Result<()> {
    // The newest of two versions is the library's own.
    let mut found: BTreeMap<&str, &Artifact> = BTreeMap::new();
    for c in crates.iter().filter(|c| !c.is("custom-build") && !c.is("bin") && ANALYSED.contains(&c.target.name.as_str())) {
        // Folders of the registry end in the version.
        let older = |known: &&Artifact| known.target.src_path < c.target.src_path;
        if found.get(c.target.name.as_str()).is_none_or(older) {
            found.insert(&c.target.name, c);
        }
    }
    for (name, c) in &found {
        let to = folder.join(name);
        let root = c.target.src_path.parent().ok_or_else(|| Error::internal("a crate has no folder"))?;
        copy_sources(root, &to.join("src"))?;
        let file = c.target.src_path.file_name().map(|f| f.to_string_lossy().into_owned()).unwrap_or_default();
        let features: Vec<&String> = c.features.iter().filter(|f| *f != "default").collect();
        let defaults: Vec<String> = features.iter().map(|f| format!("{f:?}")).collect();
        let declared: String = features.iter().map(|f| format!("{f:?} = []\n")).collect();
        let others: String =
            found.keys().filter(|o| *o != name && before(o, name)).map(|o| format!("{o} = {{ path = \"../{o}\" }}\n")).collect();
        let manifest = format!(
            "[package]\nname = \"{name}\"\nversion = \"0.0.0\"\nedition = \"{}\"\nautobins = false\nautoexamples = false\nautotests = false\n\
             autobenches = false\nbuild = false\n\n[lib]\npath = \"src/{file}\"\n\n[features]\ndefault = [{}]\n{declared}\n\
             [dependencies]\n{others}\n[workspace]\n",
            c.target.edition,
            defaults.join(", ")
        );
        write(&to.join("Cargo.toml"), &manifest)?;
    }
    Ok(())
}

/// Whether one analysed crate may be a dependency of another.
fn before(a: &str, b: &str) -> bool {
    let place = |name: &str| ANALYSED.iter().position(|n| *n == name);
    place(a) < place(b)
}

/// The sources of one crate; those of others below it have manifests of their own.
fn copy_sources(from: &Path, to: &Path) -> Result<()> {
    make_folder(to)?;
    for entry in fs::read_dir(from).map_err(|e| Error::io(from, e))?.flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        if path.is_dir() && path.join("Cargo.toml").exists() {
            continue;
        }
        if path.is_dir() {
            copy_sources(&path, &to.join(name))?;
        } else if path.extension().is_some_and(|e| e == "rs") {
            copy(&path, to)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_holds_the_sources_of_the_library() {
        let dir = tempfile::tempdir().unwrap();
        write_sources(dir.path()).unwrap();
        for file in ["src/lib.rs", "src/kernels/Cargo.toml", "notebooks/prelude/src/lib.rs"] {
            assert!(dir.path().join(file).is_file(), "{file}");
        }
        // They are a workspace that cargo takes, with the versions that this program was built with.
        let tree = ["tree", "--locked", "--offline", "--package", PACKAGE, "--depth", "1"];
        let text = library::output(Command::new("cargo").args(tree).current_dir(dir.path())).unwrap();
        assert!(text.starts_with(PACKAGE) && text.contains("candle-core"), "{text}");
        // `cargo tree` is content with manifests that name missing files; what a build would compile is not.
        let plan = ["rustc", "--release", "--locked", "--offline", "--package", PACKAGE, "--unit-graph", "-Zunstable-options"];
        let text = library::output(Command::new("cargo").args(plan).env("RUSTC_BOOTSTRAP", "1").current_dir(dir.path())).unwrap();
        assert!(text.contains("compresso_prelude"), "{text}");
    }

    #[test]
    fn the_first_error_of_the_compiler_is_kept() {
        let compiling: String = (0..100).map(|i| format!("   Compiling c{i}\n")).collect();
        let text = format!("{compiling}error[E1]: first\n{}", "more\n".repeat(100));
        let kept = last_lines(text.as_bytes());
        assert!(kept.starts_with("error[E1]: first\nmore"), "{kept}");
        assert_eq!(kept.lines().count(), 40);
        let calm = last_lines("   Compiling a\n   Compiling b\n".as_bytes());
        assert_eq!(calm, "   Compiling a\n   Compiling b");
    }

    #[test]
    fn every_crate_of_the_library_is_analysed_after_those_it_depends_on() {
        let manifests = source_files().into_iter().filter(|(name, _)| name.starts_with("src") && name.ends_with("Cargo.toml"));
        let mut seen = 0;
        for (name, text) in manifests {
            let own = format!("compresso_{}", name.parent().unwrap().file_name().unwrap().to_string_lossy());
            assert!(ANALYSED.contains(&own.as_str()), "{own}");
            let dependencies = String::from_utf8_lossy(text);
            for line in dependencies.split("[dev-dependencies]").next().unwrap().lines().filter(|l| l.ends_with(".workspace = true")) {
                let other = line.trim_end_matches(".workspace = true").replace('-', "_");
                assert!(!ANALYSED.contains(&other.as_str()) || before(&other, &own), "{own} depends on {other}");
            }
            seen += 1;
        }
        assert!(seen >= 8, "{seen} crates");
    }
}
