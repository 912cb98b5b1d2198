//! How fast, how heavy: timing, memory, power, other runtimes.

pub mod runtimes;
