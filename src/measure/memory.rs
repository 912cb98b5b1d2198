//! Resident memory of this process, from the kernel's own accounts.

use serde::{Deserialize, Serialize};

/// Resident memory in bytes: now, and its highest value since it was last reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resident {
    /// What is resident at this moment.
    pub now: u64,
    /// The highest since the mark was last reset; since the process began where it never was.
    pub peak: u64,
}

/// What `/proc/self/status` says, or `None` where there is none (not Linux).
pub fn resident() -> Option<Resident> {
    parse(&std::fs::read_to_string("/proc/self/status").ok()?)
}

fn parse(status: &str) -> Option<Resident> {
    let field = |name: &str| {
        let line = status.lines().find_map(|l| l.strip_prefix(name))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|k| k * 1024)
    };
    Some(Resident { now: field("VmRSS:")?, peak: field("VmHWM:")? })
}

/// Peak memory of a piece of work, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peak {
    /// How far the process rose above what it had before.
    pub added: u64,
    /// All of the process.
    pub process: u64,
    /// What is resident of what was added, now.
    pub steady: u64,
}

/// The memory of this process before a piece of work.
///
/// Memory that earlier work left with the allocator is used again without being seen. So the figures are those of the
/// work only in a process that has done little else; in others they are lower bounds.
#[derive(Debug, Clone, Copy)]
pub struct Before(u64);

impl Before {
    /// Begins: the kernel's high-water mark is set back to what is resident now (`/proc/self/clear_refs`). Where that is
    /// not allowed, the mark so far is what counts as before. `None` where the kernel keeps no such accounts.
    pub fn now() -> Option<Self> {
        let reset = std::fs::write("/proc/self/clear_refs", "5").is_ok();
        let resident = resident()?;
        Some(Self(if reset { resident.now } else { resident.peak }))
    }
    /// The highest since then.
    pub fn peak(self) -> Option<Peak> {
        let Resident { now, peak } = resident()?;
        Some(Peak { added: peak.saturating_sub(self.0), process: peak, steady: now.saturating_sub(self.0) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_is_read() {
        let text = "Name:\tx\nVmPeak:\t  900 kB\nVmHWM:\t     512 kB\nVmRSS:\t     256 kB\n";
        assert_eq!(parse(text), Some(Resident { now: 256 * 1024, peak: 512 * 1024 }));
        assert_eq!(parse("Name:\tx\n"), None);
    }

    #[test]
    fn a_large_allocation_shows_even_after_it_is_freed() {
        const SIZE: u64 = 256 << 20;
        assert_eq!(Before::now().is_some(), cfg!(target_os = "linux"), "Linux keeps these accounts");
        let shows = || {
            let before = Before::now()?;
            std::hint::black_box(vec![1u8; SIZE as usize]);
            before.peak()
        };
        // Other tests of this process may free theirs meanwhile, and may hold some by the end.
        let peaks: Vec<Peak> = (0..5).map_while(|_| shows()).collect();
        assert!(peaks.iter().all(|p| p.process >= p.added && p.steady <= p.added), "{peaks:?}");
        assert!(peaks.is_empty() || peaks.iter().any(|p| p.added >= SIZE * 9 / 10), "{peaks:?} of {SIZE}");
    }
}
