//! Where a model goes: files for other runtimes.
