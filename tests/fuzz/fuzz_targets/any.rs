//! The targets under libFuzzer, which finds inputs that reach new code: `COMPRESSO_FUZZ_TARGET=graph cargo +nightly fuzz run any`.
#![no_main]

#[path = "../targets.rs"]
mod targets;

use std::sync::OnceLock;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    static TARGET: OnceLock<&targets::Target> = OnceLock::new();
    let target = TARGET.get_or_init(|| {
        let name = std::env::var("COMPRESSO_FUZZ_TARGET").expect("COMPRESSO_FUZZ_TARGET names a target");
        targets::named(&name).expect("a target of targets.rs")
    });
    target.run(bytes);
});
