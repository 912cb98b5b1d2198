//! Peak memory of a piece of work, from the kernel's own accounts.

/// Resident memory of this process in bytes: now, and its highest value since it was last reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resident {
    pub now: u64,
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

/// Runs `work` and returns its result with the bytes by which resident memory rose above where it started.
///
/// The kernel's high-water mark is reset first (`/proc/self/clear_refs`). Memory that an earlier piece of work left with
/// the allocator is reused without being seen, so figures of one process are lower bounds; `None` where the kernel does
/// not let the mark be reset.
pub fn peak<T>(work: impl FnOnce() -> T) -> (T, Option<u64>) {
    let reset = std::fs::write("/proc/self/clear_refs", "5").is_ok();
    let before = resident();
    let result = work();
    let rise = match (reset, before, resident()) {
        (true, Some(before), Some(after)) => Some(after.peak.saturating_sub(before.now)),
        _ => None,
    };
    (result, rise)
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
        const SIZE: usize = 256 << 20;
        let (_, rise) = peak(|| {
            let v = vec![1u8; SIZE];
            std::hint::black_box(&v);
        });
        // Absent where a container forbids resetting the mark.
        if let Some(rise) = rise {
            assert!(rise >= (SIZE as u64) * 9 / 10, "{rise} bytes seen of {SIZE}");
        }
    }
}
