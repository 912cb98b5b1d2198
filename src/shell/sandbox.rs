//! A process that sees one folder: for scripts that are not trusted.
//!
//! The system itself holds it (Landlock, Linux 5.13 or later), so that it binds every way to a file, symbolic links, libraries and
//! worker processes included; see <https://docs.kernel.org/userspace-api/landlock.html>.

use crate::error::{Error, Result};
use std::path::Path;

/// From here on this process, and those that it starts, read and write under `folder` alone, start no program but themselves, and reach
/// no network. `script` and the folder of `library` may be read too, and what programs need to run at all: libraries, the state of
/// processors and memory. To be called before any thread is started.
///
/// # Errors
/// `Missing` when there is no such folder; `Unavailable` where the system has no such means.
#[cfg(target_os = "linux")]
pub fn enter(folder: &Path, script: Option<&Path>, library: Option<&Path>) -> Result<()> {
    use landlock::{
        ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr,
        RulesetStatus, Scope,
    };
    /// What is asked of the system; what an older one lacks of the network and of signals is done without.
    const WANTED: ABI = ABI::V6;
    /// Without this, files could not be held.
    const LEAST: ABI = ABI::V1;
    let failed = |e: &dyn std::fmt::Display| {
        Error::unavailable(format!("the sandbox cannot be set up: {e}")).hint("it needs Linux 5.13 or later, with Landlock switched on")
    };
    if !folder.is_dir() {
        return Err(Error::missing("no such folder").file(folder).hint("--sandbox takes the folder that scripts may use"));
    }
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(LEAST))
        .and_then(|r| r.set_compatibility(CompatLevel::BestEffort).handle_access(AccessFs::from_all(WANTED)))
        .and_then(|r| r.handle_access(AccessNet::from_all(WANTED)))
        .and_then(|r| r.scope(Scope::from_all(WANTED)))
        .and_then(Ruleset::create)
        .map_err(|e| failed(&e))?;
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let mut allow: Vec<(std::path::PathBuf, BitFlags<AccessFs>)> = vec![(folder.into(), AccessFs::from_all(WANTED) & !AccessFs::Execute)];
    allow.extend(script.map(|s| (s.into(), AccessFs::ReadFile.into())));
    if let Ok(own) = std::env::current_exe() {
        allow.push((own, AccessFs::ReadFile | AccessFs::Execute));
    }
    for system in ["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib"] {
        // The loader of programs lies among the libraries.
        allow.push((system.into(), read | AccessFs::Execute));
    }
    for system in ["/etc/ld.so.cache", "/etc/localtime", "/usr/share/zoneinfo", "/proc", "/sys", "/dev/urandom"] {
        allow.push((system.into(), read));
    }
    allow.push(("/dev/null".into(), AccessFs::ReadFile | AccessFs::WriteFile));
    // The library of a runtime, with what lies beside it.
    allow.extend(library.and_then(Path::parent).filter(|p| !p.as_os_str().is_empty()).map(|p| (p.to_path_buf(), read)));
    for (path, access) in allow {
        // What this machine lacks needs no leave.
        let Ok(fd) = PathFd::new(&path) else { continue };
        let access = if path.is_dir() { access } else { access & AccessFs::from_file(WANTED) };
        rules = rules.add_rule(PathBeneath::new(fd, access)).map_err(|e| failed(&e))?;
    }
    let status = rules.restrict_self().map_err(|e| failed(&e))?;
    if status.ruleset == RulesetStatus::NotEnforced {
        return Err(failed(&"this system does not enforce it"));
    }
    // Temporary files too.
    tempfile::env::override_temp_dir(folder).ok();
    compresso_base::sandbox::held_to(folder);
    Ok(())
}

/// See there.
///
/// # Errors
/// `Unavailable`: only Linux has the means.
#[cfg(not(target_os = "linux"))]
pub fn enter(_: &Path, _: Option<&Path>, _: Option<&Path>) -> Result<()> {
    Err(Error::unavailable("only Linux can hold a sandbox").hint("leave --sandbox out, and run only scripts that you trust"))
}
