//! How much memory a call may take: large allocations are asked for before they are made, so that a size in a file or a script ends in
//! an error, not in the end of the process.

use crate::error::{Error, ErrorKind, Result};
use crate::report::bytes as bytes_text;
use std::sync::atomic::{AtomicU64, Ordering};

/// Allocations below this are not asked for, in bytes.
const LEAST: u64 = 32 << 20;
/// What stays free for everything that is not asked for, in bytes.
const RESERVE: u64 = 64 << 20;

/// The limit of this process in bytes; `u64::MAX`: what the machine has.
static LIMIT: AtomicU64 = AtomicU64::new(u64::MAX);

/// Sets how much memory this process may take in all, in bytes; `None`: what the machine has free.
pub fn set_limit(bytes: Option<u64>) {
    LIMIT.store(bytes.unwrap_or(u64::MAX), Ordering::Relaxed);
}

/// The limit that was set, in bytes.
pub fn limit() -> Option<u64> {
    Some(LIMIT.load(Ordering::Relaxed)).filter(|&l| l != u64::MAX)
}

/// Fails when `bytes` more do not fit into memory. `what` names what they are for, for example "the result [1, 3, 640, 640]".
///
/// # Errors
/// `Memory`, with what is asked for and what is free.
pub fn claim(bytes: u64, what: impl FnOnce() -> String) -> Result<()> {
    if bytes < LEAST && limit().is_none() {
        return Ok(());
    }
    let Some(free) = free().filter(|&free| bytes > free || free == 0) else { return Ok(()) };
    let e = Error::new(ErrorKind::Memory, format!("{} would take {}, {} are free", what(), bytes_text(bytes), bytes_text(free)));
    Err(match limit() {
        Some(l) => e.hint(format!("the limit for this process is {}; --max-memory sets another", bytes_text(l))),
        None => e,
    })
}

/// No shape has more elements: machines have fewer addresses. So strides, offsets in bytes and products of a few sizes can be counted.
const MOST_ELEMENTS: usize = 1 << 48;
/// The most of the other sizes of a shape with a size of zero, multiplied: loops go over them.
const MOST_BESIDE_ZERO: usize = 1 << 28;

/// Elements of a shape with these sizes; `None` when they are more than any memory holds. That a size is zero does not make the others small: strides
/// are products of them, and loops go over them.
pub fn elements(sizes: impl IntoIterator<Item = usize>) -> Option<usize> {
    let (mut count, mut span) = (1usize, 1usize);
    for size in sizes {
        span = span.checked_mul(size.max(1)).filter(|&n| n <= MOST_ELEMENTS)?;
        count *= size;
    }
    Some(count).filter(|&n| n > 0 || span <= MOST_BESIDE_ZERO)
}

/// As [`claim`], for a tensor of a shape with elements of `width` bytes, of which `copies` exist at once.
///
/// # Errors
/// `Memory` when it does not fit; `Shape` when its elements cannot be counted.
pub fn claim_tensor(dims: &[usize], width: usize, copies: u64, what: impl FnOnce() -> String) -> Result<()> {
    let bytes = elements(dims.iter().copied()).and_then(|n| (n as u64).checked_mul(width as u64)?.checked_mul(copies));
    match bytes {
        Some(bytes) => claim(bytes, what),
        None => Err(Error::shape(format!("{} has sizes whose product is too large", what()))),
    }
}

/// A list of `count` times one value. `what` names what it is for.
///
/// # Errors
/// As [`claim`].
pub fn repeated<T: Clone>(value: T, count: usize, what: impl FnOnce() -> String) -> Result<Vec<T>> {
    claim((count as u64).saturating_mul(size_of::<T>() as u64), what)?;
    Ok(vec![value; count])
}

/// Bytes that this process may still take: the least of what is free on the machine, in its control group, in its address space, and under
/// the limit that was set. `None` where the system does not say.
pub fn free() -> Option<u64> {
    let own = limit().and_then(|l| Some(l.saturating_sub(system::resident()?)));
    let free = [system::free(), own].into_iter().flatten().min()?;
    Some(free.saturating_sub(RESERVE))
}

/// Memory that this process has now, in bytes; `None` where the system does not say.
pub fn resident() -> Option<u64> {
    system::resident()
}

mod system {
    use sysinfo::{MemoryRefreshKind, RefreshKind, System};

    /// What the machine has free, and the control group where there is one.
    pub fn free() -> Option<u64> {
        let kind = RefreshKind::nothing().with_memory(MemoryRefreshKind::everything());
        let system = System::new_with_specifics(kind).ok()?;
        let machine = system.available_memory();
        let free = system.cgroup_limits().map_or(machine, |c| machine.min(c.free_memory));
        Some(space().map_or(free, |space| free.min(space)))
    }

    /// What is left of the address space, where it is limited.
    #[cfg(target_os = "linux")]
    fn space() -> Option<u64> {
        let most = rustix::process::getrlimit(rustix::process::Resource::As).current?;
        Some(most.saturating_sub(pages().map_or(0, |p| p.0)))
    }
    #[cfg(not(target_os = "linux"))]
    fn space() -> Option<u64> {
        None
    }

    /// Memory that this process has now, in bytes.
    #[cfg(target_os = "linux")]
    pub fn resident() -> Option<u64> {
        pages().map(|p| p.1)
    }
    #[cfg(not(target_os = "linux"))]
    pub fn resident() -> Option<u64> {
        use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate};
        let (mut system, pid) = (System::new(), Pid::from_u32(std::process::id()));
        system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), false, ProcessRefreshKind::nothing().with_memory());
        system.process(pid).map(|p| p.memory())
    }

    /// Address space and resident memory of this process, in bytes.
    #[cfg(target_os = "linux")]
    fn pages() -> Option<(u64, u64)> {
        let text = std::fs::read_to_string("/proc/self/statm").ok()?;
        let page = rustix::param::page_size() as u64;
        let mut fields = text.split_whitespace().map(|n| Some(n.parse::<u64>().ok()?.saturating_mul(page)));
        Some((fields.next()??, fields.next()??))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_is_let_pass_and_what_does_not_is_named() {
        assert!(free().unwrap() > LEAST && system::resident().unwrap() > 1 << 20);
        claim(1, || unreachable!("small")).unwrap();
        claim(LEAST + 1, || unreachable!("it fits")).unwrap();
        let e = claim_tensor(&[1 << 40, 1 << 8], 16, 1, || "the result [1, 2]".to_string()).unwrap_err();
        assert!(e.to_string().starts_with("the result [1, 2] would take 4.5") && e.kind() == ErrorKind::Memory, "{e}");
        let e = claim_tensor(&[usize::MAX, 4], 4, 2, || "it".to_string()).unwrap_err();
        assert_eq!(e.to_string(), "it has sizes whose product is too large");
        assert_eq!(repeated(7u8, 3, || unreachable!("small")).unwrap(), [7; 3]);
        assert!(repeated(1.0f32, usize::MAX, || "ones".to_string()).unwrap_err().to_string().starts_with("ones would take"));
        claim_tensor(&[1 << 20, 4, 0], 4, 2, || unreachable!("nothing")).unwrap();
        assert!(claim_tensor(&[0, 5, 1 << 31], 4, 2, || "it".to_string()).is_err());
        assert!(claim_tensor(&[0, usize::MAX, 4], 4, 2, || "it".to_string()).is_err());
        assert_eq!((elements([]), elements([2, 0, 3]), elements([1 << 40, 1 << 8])), (Some(1), Some(0), Some(1 << 48)));
        assert_eq!((elements([0, 1 << 40, 1 << 40]), elements([1 << 62, 4])), (None, None));
    }
}
