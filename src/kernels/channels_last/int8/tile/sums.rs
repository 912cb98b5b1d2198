//! Sums of the pixels that a tile is run for.

/// Most pixels that a tile is run for at once: a multiple of what any computes together.
pub const MAX_PIXELS: usize = 96;

/// The sums of a pixel.
#[cfg(target_arch = "x86_64")]
pub type Sums = [std::arch::x86_64::__m256i; 2];

/// Sums of all pixels of a run. What follows is done for all of them together: so tiles need not wait for it.
#[cfg(target_arch = "x86_64")]
pub type Stage = [std::mem::MaybeUninit<Sums>; MAX_PIXELS];
