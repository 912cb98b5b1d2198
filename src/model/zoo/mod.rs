//! Architectures that the library can build.
