//! Building engines with trtexec, TensorRT's own command.

use compresso_base::context::Context;
use compresso_base::error::{Error, Result};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
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
    let log = folder.join("build.log");
    let file = std::fs::File::create(&log).map_err(|e| Error::io(&log, e))?;
    let errors = file.try_clone().map_err(|e| Error::io(&log, e))?;
    let child = Command::new("sh")
        .arg("build.sh")
        .current_dir(folder)
        .env("TRTEXEC", trtexec)
        .stdin(Stdio::null())
        .stdout(file)
        .stderr(errors)
        .spawn()
        .map_err(|e| Error::io("sh", e))?;
    let done = finish(child, "build engine", trtexec, ctx)?;
    let engine = folder.join(engine);
    if done && engine.is_file() {
        return Ok(Ok(engine));
    }
    let text = std::fs::read_to_string(&log).unwrap_or_default();
    let last = text.lines().rev().find(|l| l.contains("[E]")).or_else(|| text.lines().last()).unwrap_or("no output");
    Ok(Err(format!("{last} (all of it in {})", log.display())))
}

/// Waits for a builder, and ends it when the user cancels; whether it succeeded.
pub(super) fn finish(mut child: Child, what: &str, program: &Path, ctx: &Context) -> Result<bool> {
    let _progress = ctx.progress(what, 0);
    loop {
        if let Some(status) = child.try_wait().map_err(|e| Error::io(program, e))? {
            return Ok(status.success());
        }
        if let Err(e) = ctx.check() {
            let _ = child.kill();
            let _ = child.wait();
            return Err(e);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
