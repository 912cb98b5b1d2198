//! Tells cargo of sources that the program embeds and that it does not compile: those of the library for Rust notebooks.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var_os("CARGO_FEATURE_EVCXR").is_some() {
        for folder in ["notebooks/prelude", "benches", "tests/support"] {
            println!("cargo:rerun-if-changed={folder}");
        }
    }
}
