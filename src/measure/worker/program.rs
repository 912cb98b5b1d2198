//! The program that workers run, and how it becomes one.

use super::process::Process;
use super::protocol::{ARGUMENT, Hello};
use super::{Fault, serve};
use compresso_base::context::Cancel;
use compresso_base::error::{Error, Result};
use std::ffi::OsStr;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Names the program for workers.
pub const VARIABLE: &str = "COMPRESSO_WORKER";

/// This program calls [`hook`].
static HOOKED: AtomicBool = AtomicBool::new(false);

/// Makes this process a worker, when it was started for that: it then serves until its input ends, and what is returned is
/// its exit code. Otherwise `None`, and from then on this program is what workers run. Call it first in `main`.
///
/// ```no_run
/// # use std::process::ExitCode;
/// fn main() -> ExitCode {
///     if let Some(code) = compresso_measure::worker::hook() {
///         return code;
///     }
///     // … benchmark(…)
///     ExitCode::SUCCESS
/// }
/// ```
pub fn hook() -> Option<ExitCode> {
    let asked = std::env::args_os().nth(1).is_some_and(|a| a == ARGUMENT) && !std::io::stdin().is_terminal();
    if !asked {
        HOOKED.store(true, Ordering::Relaxed);
        return None;
    }
    let served = own_output().map_err(|e| Error::io("standard output", e)).and_then(|output| {
        serve::serve(std::io::stdin(), output, || {
            // Time to end well, where no request is running.
            std::thread::sleep(Duration::from_millis(200));
            std::process::exit(0);
        })
    });
    Some(match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            // Where the parent reads what became of it.
            let _ = writeln!(std::io::stderr(), "{e}");
            ExitCode::FAILURE
        }
    })
}

/// Standard output for frames alone: what libraries print goes to standard error.
#[cfg(unix)]
fn own_output() -> std::io::Result<std::fs::File> {
    use std::os::fd::AsFd;
    let frames = std::io::stdout().as_fd().try_clone_to_owned()?;
    rustix::stdio::dup2_stdout(std::io::stderr())?;
    Ok(frames.into())
}

#[cfg(not(unix))]
fn own_output() -> std::io::Result<std::io::Stdout> {
    Ok(std::io::stdout())
}

/// A program that can be a worker of this one: the one that [`VARIABLE`] names; else this one, where it is compresso or
/// calls [`hook`]; else `compresso` beside it, in the folder above (where cargo puts tests' programs), or on the PATH.
///
/// # Errors
/// `Error` for a cancellation; `Ended` with a line that says what was tried and why it is none.
pub fn find(cancel: &Cancel) -> Result<PathBuf, Fault> {
    let named = std::env::var_os(VARIABLE).filter(|v| !v.is_empty());
    let candidates = match &named {
        Some(path) => vec![PathBuf::from(path)],
        None => candidates(),
    };
    let mut reasons = Vec::new();
    for program in candidates {
        match usable(&program, cancel) {
            Ok(()) => return Ok(program),
            Err(Fault::Ended(reason)) => reasons.push(format!("{} is not one: {reason}", program.display())),
            Err(fault) => return Err(fault),
        }
    }
    let reasons = if reasons.is_empty() { "there is no program compresso".into() } else { reasons.join("; ") };
    Err(Fault::Ended(reasons))
}

fn usable(program: &Path, cancel: &Cancel) -> Result<(), Fault> {
    let (_, hello) = Process::start(Process::command(program), &[], cancel)?;
    let ours = Hello::ours();
    if hello == ours { Ok(()) } else { Err(Fault::Ended(format!("it is {hello}, this is {ours}"))) }
}

fn candidates() -> Vec<PathBuf> {
    let file = format!("compresso{}", std::env::consts::EXE_SUFFIX);
    let exe = std::env::current_exe().ok();
    let mut found = Vec::new();
    if HOOKED.load(Ordering::Relaxed) || exe.as_deref().is_some_and(|e| e.file_stem() == Some(OsStr::new("compresso"))) {
        // On Linux the very program that runs, even when its file has been replaced.
        found.extend(if cfg!(target_os = "linux") { Some(PathBuf::from("/proc/self/exe")) } else { exe.clone() });
    }
    let above = exe.iter().flat_map(|e| e.ancestors().skip(1).take(2)).map(Path::to_path_buf);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = above.chain(std::env::split_paths(&path));
    for program in folders.map(|f| f.join(&file)).filter(|p| p.is_file() && Some(p) != exe.as_ref()) {
        if !found.contains(&program) {
            found.push(program);
        }
    }
    found
}
