//! Pruning: removing weights or channels.
