//! The cores that a process is kept on.

use compresso_base::error::{Error, Result};

/// Checks that this process may use these cores, numbered as the system numbers them, and so give them to its workers.
///
/// # Errors
/// `Argument` for an empty list and for a core that is not there or not allowed; `Unsupported` where the system keeps no process on cores.
pub(crate) fn check(cores: &[usize]) -> Result<()> {
    if cores.is_empty() {
        return Err(Error::argument("option 'cores' is an empty list")
            .hint("the numbers of the cores that the processes may use, such as cores: [0, 1]"));
    }
    let allowed = allowed()?;
    let Some(wrong) = cores.iter().find(|c| !allowed.contains(c)) else { return Ok(()) };
    let names: Vec<String> = allowed.iter().map(ToString::to_string).collect();
    Err(Error::argument(format!("option 'cores': core {wrong} is not one that this program may use"))
        .hint(format!("it may use {}", names.join(", "))))
}

#[cfg(target_os = "linux")]
mod system {
    use super::{Error, Result};
    use rustix::process::Pid;
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

    pub(super) fn allowed() -> Result<Vec<usize>> {
        let set = sched_getaffinity(None)
            .map_err(|e| Error::unavailable("the system does not say which cores this program may use").because(e))?;
        Ok((0..CpuSet::MAX_CPU).filter(|c| set.is_set(*c)).collect())
    }

    /// Keeps a process that has just begun on some cores, and all threads that it starts.
    pub(crate) fn keep(process: u32, cores: &[usize]) -> Result<()> {
        let mut set = CpuSet::new();
        cores.iter().filter(|c| **c < CpuSet::MAX_CPU).for_each(|c| set.set(*c));
        let pid = i32::try_from(process).ok().and_then(Pid::from_raw);
        sched_setaffinity(pid, &set).map_err(|e| Error::unavailable(format!("the process cannot be kept on cores {cores:?}")).because(e))
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use super::{Error, Result};

    fn not_here() -> Error {
        Error::unsupported("option 'cores': this system keeps no process on cores").hint("leave it out; Linux does")
    }
    pub(super) fn allowed() -> Result<Vec<usize>> {
        Err(not_here())
    }
    pub(crate) fn keep(_: u32, _: &[usize]) -> Result<()> {
        Err(not_here())
    }
}

use system::allowed;
pub(super) use system::keep;

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_process_stays_on_its_cores() {
        let all = allowed().unwrap();
        check(&all).unwrap();
        assert!(check(&[]).unwrap_err().message().contains("empty"));
        let e = check(&[all[0], 100_000]).unwrap_err();
        assert!(e.message().contains("core 100000 is not one"), "{e}");
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let last = *all.last().unwrap();
        keep(child.id(), &[last]).unwrap();
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let line = status.lines().find_map(|l| l.strip_prefix("Cpus_allowed_list:")).unwrap();
        assert_eq!(line.trim(), last.to_string());
    }
}
