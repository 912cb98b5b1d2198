//! Other inference runtimes.
