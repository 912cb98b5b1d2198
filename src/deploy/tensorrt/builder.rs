//! Building engines with trtexec, TensorRT's own command.

use compresso_base::context::Context;
use compresso_base::error::{Error, Result};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// trtexec: named by `TRTEXEC`, under `TENSORRT_DIR`, on the PATH, or where TensorRT's packages put it.
pub fn find_trtexec() -> Option<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let mut places: Vec<PathBuf> = variable("TRTEXEC").into_iter().collect();
    places.extend(variable("TENSORRT_DIR").map(|d| d.join("bin/trtexec")));
    places.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).map(|d| d.join("trtexec")));
    places.extend(["/usr/src/tensorrt/bin/trtexec", "/opt/tensorrt/bin/trtexec", "/usr/local/tensorrt/bin/trtexec"].map(PathBuf::from));
    places.into_iter().find(|p| p.is_file())
}

/// What an engine could not be built for want of.
pub(super) fn missing() -> String {
    let library = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/local/lib", "/usr/local/tensorrt/lib"]
        .iter()
        .flat_map(|d| std::fs::read_dir(d).into_iter().flatten().flatten())
        .map(|e| e.path())
        .find(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with("libnvinfer.so")));
    match library {
        Some(path) => format!("TensorRT's library is here ({}), but its command trtexec is not on the PATH", path.display()),
        None => "no TensorRT on this machine: neither trtexec (on the PATH, or named by TRTEXEC) nor libnvinfer".into(),
    }
}

/// Runs the build script, which makes the file `engine` in the folder. The inner error is the builder's last words.
pub(super) fn run(trtexec: &Path, folder: &Path, engine: &str, ctx: &Context) -> Result<std::result::Result<PathBuf, String>> {
    let mut command = Command::new("sh");
    command.arg("build.sh").current_dir(folder).env("TRTEXEC", trtexec);
    let words = |log: &str| log.lines().rev().find(|l| l.contains("[E]")).map(str::to_string);
    logged(command, folder, engine, "build engine", words, ctx)
}

/// Runs a builder that makes the file `made` in the folder, with what it says in `build.log`, and ends it when the user cancels. The inner
/// error is what `words` finds in that, or its last line.
pub(super) fn logged(
    mut command: Command,
    folder: &Path,
    made: &str,
    what: &str,
    words: impl Fn(&str) -> Option<String>,
    ctx: &Context,
) -> Result<std::result::Result<PathBuf, String>> {
    let log = folder.join("build.log");
    let file = std::fs::File::create(&log).map_err(|e| Error::io(&log, e))?;
    let errors = file.try_clone().map_err(|e| Error::io(&log, e))?;
    let program = PathBuf::from(command.get_program());
    let mut child = command.stdin(Stdio::null()).stdout(file).stderr(errors).spawn().map_err(|e| Error::io(&program, e))?;
    let _progress = ctx.progress(what, 0);
    let status = loop {
        if let Some(status) = child.try_wait().map_err(|e| Error::io(&program, e))? {
            break status;
        }
        if let Err(e) = ctx.check() {
            let _ = child.kill();
            let _ = child.wait();
            return Err(e);
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    let made = folder.join(made);
    if status.success() && made.is_file() {
        return Ok(Ok(made));
    }
    let text = std::fs::read_to_string(&log).unwrap_or_default();
    let last = words(&text).or_else(|| text.lines().last().map(str::to_string)).unwrap_or_else(|| "no output".into());
    Ok(Err(format!("{last} (all of it in {})", log.display())))
}
