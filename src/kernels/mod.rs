//! How numbers move: numeric kernels as plain functions on slices, each with a safe reference, and the candle operations on top of them.
