//! Memory for programs, for scratch, and for weights.

use compresso_base::error::{Error, Result};
use std::alloc::{Layout, alloc_zeroed, dealloc};

/// Of memory: that of cache lines and the widest vectors.
const ALIGNMENT: usize = 64;

/// Memory aligned to cache lines.
pub struct Memory {
    start: *mut u8,
    layout: Layout,
}

// SAFETY: the memory is owned, and reached through `&` and `&mut` of its owner only.
unsafe impl Send for Memory {}
// SAFETY: as above; shared references only read.
unsafe impl Sync for Memory {}

impl Memory {
    /// # Errors
    /// `Unavailable` when there is not so much memory.
    pub fn new(bytes: usize) -> Result<Self> {
        let missing = || Error::unavailable(format!("there is no memory for {bytes} bytes"));
        let layout = Layout::from_size_align(bytes.max(64), ALIGNMENT).map_err(|_| missing())?;
        // SAFETY: the size is not zero.
        let start = unsafe { alloc_zeroed(layout) };
        if start.is_null() {
            return Err(missing());
        }
        Ok(Self { start, layout })
    }
    /// Bytes that there are: at least as many as asked for.
    pub fn len(&self) -> usize {
        self.layout.size()
    }
    /// Where it begins. Writing through the address needs the same care as through any.
    pub fn start(&self) -> *mut u8 {
        self.start
    }
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the allocation is initialized and lives as long as `self`.
        unsafe { std::slice::from_raw_parts(self.start, self.layout.size()) }
    }
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `self` is borrowed for writing.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.layout.size()) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: made with this layout.
        unsafe { dealloc(self.start, self.layout) };
    }
}

/// Numbers of which the first begins a cache line, so that no vector of them lies across two: one that does takes the time of two
/// loads, which made products with vectors of 64 bytes a fifth slower.
#[derive(Debug, Clone)]
pub struct Aligned {
    values: Vec<f32>,
    start: usize,
}

impl Aligned {
    pub fn new(from: &[f32]) -> Self {
        const LINE: usize = ALIGNMENT / size_of::<f32>();
        let mut values = vec![0.0; from.len() + LINE - 1];
        let start = values.as_ptr().align_offset(ALIGNMENT).min(LINE - 1);
        values[start..][..from.len()].copy_from_slice(from);
        values.truncate(start + from.len());
        Self { values, start }
    }
}

impl std::ops::Deref for Aligned {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.values[self.start..]
    }
}
