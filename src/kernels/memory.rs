//! Large blocks that a training step gives back and the next one takes again.
//!
//! A step makes and drops gigabytes in blocks of some hundred sizes, the same in each step. The system's allocator gives blocks of
//! many megabytes back to the system, which hands out zeroed pages again one by one: that costs more than writing them.
//! A program that declares [`Recycling`] as its global allocator keeps such blocks while a [`Reuse`] lives; without, nothing changes.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bytes from which on blocks are kept: smaller ones the system's allocator keeps itself.
const LARGE: usize = 128 << 10;

/// The system's allocator, with large blocks kept for reuse while a [`Reuse`] lives.
#[derive(Debug, Clone, Copy, Default)]
pub struct Recycling;

/// While one lives, [`Recycling`] keeps large blocks that are given back, at most half as many bytes as were in use at once besides
/// those. What is kept when the last one is dropped goes back to the system.
#[derive(Debug)]
pub struct Reuse(());

static USERS: AtomicUsize = AtomicUsize::new(0);
static KEPT: Mutex<Kept> = Mutex::new(Kept { blocks: [Block::NONE; MOST], count: 0, bytes: 0, in_use: 0, peak: 0 });

/// Blocks that are kept at most.
const MOST: usize = 1024;

#[derive(Clone, Copy)]
struct Block {
    /// Address of the block.
    at: usize,
    layout: Layout,
}

impl Block {
    const NONE: Self = Self { at: 0, layout: Layout::new::<()>() };
}

struct Kept {
    /// Those in use are `..count`, the latest last.
    blocks: [Block; MOST],
    count: usize,
    bytes: usize,
    /// Bytes of large blocks that were taken while a [`Reuse`] lived, and the most at once.
    in_use: usize,
    peak: usize,
}

fn kept() -> MutexGuard<'static, Kept> {
    KEPT.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Kept {
    /// The latest block of exactly this layout.
    fn take(&mut self, layout: Layout) -> Option<Block> {
        let i = self.blocks[..self.count].iter().rposition(|b| b.layout == layout)?;
        Some(self.remove(i))
    }
    fn remove(&mut self, i: usize) -> Block {
        let block = self.blocks[i];
        self.blocks.copy_within(i + 1..self.count, i);
        self.count -= 1;
        self.bytes -= block.layout.size();
        block
    }
    /// The oldest block, when what is kept and in use passes `1.5 · peak`.
    fn surplus(&mut self) -> Option<Block> {
        (self.count > 0 && self.bytes + self.in_use > self.peak + self.peak / 2).then(|| self.remove(0))
    }
    fn lend(&mut self, bytes: usize) {
        self.in_use += bytes;
        self.peak = self.peak.max(self.in_use);
    }
}

impl Block {
    fn free(self) {
        // SAFETY: the system's allocator gave it for this layout, and whoever had it has given it back.
        unsafe { System.dealloc(self.at as *mut u8, self.layout) };
    }
}

impl Reuse {
    /// From now on large blocks are kept, until the last of these is dropped.
    #[must_use]
    pub fn new() -> Self {
        USERS.fetch_add(1, Ordering::SeqCst);
        Self(())
    }
}

impl Default for Reuse {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Reuse {
    fn drop(&mut self) {
        if USERS.fetch_sub(1, Ordering::SeqCst) == 1 {
            release();
            let mut kept = kept();
            (kept.in_use, kept.peak) = (0, 0);
        }
    }
}

/// Gives all that is kept back to the system; false when there was nothing.
fn release() -> bool {
    let mut kept = kept();
    let some = kept.count > 0;
    while kept.count > 0 {
        kept.remove(0).free();
    }
    some
}

/// True for blocks that are kept now.
fn counts(layout: Layout) -> bool {
    layout.size() >= LARGE && USERS.load(Ordering::Relaxed) > 0
}

/// A block that was kept, or none, in place of which one of the system's is lent.
fn reused(layout: Layout) -> Option<*mut u8> {
    let mut kept = kept();
    kept.lend(layout.size());
    let found = kept.take(layout);
    while let Some(old) = found.is_none().then(|| kept.surplus()).flatten() {
        old.free();
    }
    found.map(|b| b.at as *mut u8)
}

/// Calls the system, once more with what was kept given back where it had nothing left.
fn of_system(layout: Layout, get: impl Fn() -> *mut u8) -> *mut u8 {
    let first = get();
    if first.is_null() && layout.size() >= LARGE && release() { get() } else { first }
}

// SAFETY: blocks are the system's; one that is kept was given back, and is handed out once, for the very layout that it was made for.
unsafe impl GlobalAlloc for Recycling {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if counts(layout)
            && let Some(block) = reused(layout)
        {
            return block;
        }
        // SAFETY: as the caller vouches.
        of_system(layout, || unsafe { System.alloc(layout) })
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if counts(layout)
            && let Some(block) = reused(layout)
        {
            // SAFETY: the block is as long as the layout says.
            unsafe { block.write_bytes(0, layout.size()) };
            return block;
        }
        // SAFETY: as the caller vouches.
        of_system(layout, || unsafe { System.alloc_zeroed(layout) })
    }
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if counts(layout) {
            let mut kept = kept();
            kept.in_use = kept.in_use.saturating_sub(layout.size());
            if kept.count < MOST {
                let (at, count) = (block as usize, kept.count);
                kept.blocks[count] = Block { at, layout };
                kept.count += 1;
                kept.bytes += layout.size();
                return;
            }
        }
        // SAFETY: as the caller vouches.
        unsafe { System.dealloc(block, layout) }
    }
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as the caller vouches.
        unsafe { System.realloc(block, layout, size) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_come_back_while_they_are_asked_to() {
        let layout = Layout::from_size_align(LARGE + 4096, 64).unwrap();
        let other = Layout::from_size_align(LARGE + 8192, 64).unwrap();
        let reuse = Reuse::new();
        // SAFETY: blocks are written within their sizes and given back once, with their own layouts.
        unsafe {
            let a = Recycling.alloc(layout);
            a.write_bytes(7, layout.size());
            let b = Recycling.alloc(layout);
            assert_ne!(a, b, "a block that is in use is no other's");
            Recycling.dealloc(a, layout);
            let c = Recycling.alloc(other);
            assert_ne!(a, c, "blocks serve their own size only");
            let d = Recycling.alloc_zeroed(layout);
            assert_eq!(a, d, "the block that was given back");
            assert!(std::slice::from_raw_parts(d, layout.size()).iter().all(|&v| v == 0), "zeroed");
            [(b, layout), (c, other), (d, layout)].into_iter().for_each(|(p, l)| Recycling.dealloc(p, l));
            // What is kept stays below half of what was in use.
            for i in 0..64 {
                let l = Layout::from_size_align(LARGE + (i << 12), 64).unwrap();
                let p = Recycling.alloc(l);
                Recycling.dealloc(p, l);
                let kept = kept();
                assert!(kept.bytes + kept.in_use <= kept.peak + kept.peak / 2 + l.size(), "{} of {}", kept.bytes, kept.peak);
            }
        }
        drop(reuse);
        assert_eq!(kept().count, 0, "nothing is kept afterwards");
    }
}
