//! One operation on one image, cut into parts.

use super::operand::Operands;
use std::ops::Range;

/// Addresses of the first element of each operand of a job, in the order that its maker documents.
#[derive(Debug, Clone, Copy)]
pub struct Args<'a> {
    /// One for each of [`Operands::inputs`].
    pub inputs: &'a [*const u8],
    /// One for each of [`Operands::outputs`].
    pub outputs: &'a [*mut u8],
}

/// One operation on one image, packed for its sizes.
pub trait Job: Send + Sync {
    /// What it is and how it runs, such as `conv 3x3 64→64 winograd`.
    fn name(&self) -> String;
    /// All that it reads and writes. Who runs a job checks its memory against this.
    fn operands(&self) -> &Operands;
    /// Parts that may run at the same time, in any order; each writes elements of its own.
    fn parts(&self) -> usize;
    /// Bytes of scratch memory that a part may use; aligned to 64 and not initialized.
    fn scratch(&self) -> usize {
        0
    }
    /// # Safety
    /// `part < parts()`. There is an address for each operand; it is aligned for the operand's elements, all of which are
    /// readable or, for outputs, writable. Nothing that this part reads is written by another part or thread, but for an
    /// input that may be the output and is. `scratch` has [`Job::scratch`] bytes that no one else uses. The job has
    /// something to compute: [`Operands::is_empty`] is false.
    unsafe fn run(&self, part: usize, args: Args<'_>, scratch: *mut u8);
}

/// Elements of output that are worth a part of their own in operations that are bound by memory.
pub const PART: usize = 1 << 15;

/// The `part`-th of `parts` ranges of nearly equal length that make up `0..n`.
pub fn share(n: usize, part: usize, parts: usize) -> Range<usize> {
    // At most `n`, which fits.
    let at = |part: usize| (n as u128 * part as u128 / parts as u128) as usize;
    at(part)..at(part + 1)
}

/// Parts of a job of so many floating-point operations: a few per thread, none too small to be worth its start.
pub fn parts_for(work: usize, threads: usize) -> usize {
    const SMALLEST: usize = 1 << 20;
    let threads = threads.clamp(1, 1 << 16);
    let most = work / SMALLEST;
    if threads == 1 {
        1
    } else if most <= threads {
        most.max(1)
    } else {
        threads * (most / threads / 4).clamp(1, 4)
    }
}

/// The product of sizes, or as much as can be counted: for estimates of work.
pub fn about(sizes: &[usize]) -> usize {
    sizes.iter().fold(1, |product: usize, n| product.saturating_mul(*n))
}

/// Parts that `rows` of a job on so many bytes are cut into: a few per thread, unless there is too little to do.
pub fn cut(rows: usize, bytes: usize, threads: usize) -> usize {
    if threads <= 1 { 1 } else { threads.saturating_mul(4).min(bytes / 4096 + 1).min(rows).max(1) }
}
