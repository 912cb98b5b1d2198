//! The sources as modules, and the names under which compiled ones are kept.

use super::{COMMON, MODULES};
use sha2::{Digest, Sha256};
use std::fmt::Write;

/// Compute capabilities that every kernel is compiled for in tests: Turing, Ampere (data centre and consumer), Hopper.
pub const ARCHITECTURES: &[u32] = &[75, 80, 86, 90];

/// Options of the compiler beside the architecture. Products and sums are not joined in one rounding, so that overlaps and codes at a limit
/// are those of the CPU; what these kernels wait for is memory.
pub const OPTIONS: &[&str] = &["--std=c++17", "--fmad=false"];

/// One source of kernels.
#[derive(Debug, Clone, Copy)]
pub struct Module {
    /// Stem of its file: `int8` for `int8.cu`.
    pub name: &'static str,
    /// What the file has; [`Module::source`] is what is compiled.
    pub text: &'static str,
}

impl Module {
    /// The whole text, with what all share.
    pub fn source(&self) -> String {
        format!("#line 1 \"common.cuh\"\n{COMMON}\n#line 1 \"{}.cu\"\n{}", self.name, self.text)
    }
    /// The names of its kernels.
    pub fn kernels(&self) -> impl Iterator<Item = &'static str> {
        self.text.split("extern \"C\" __global__ void ").skip(1).filter_map(|rest| {
            let (head, _) = rest.strip_prefix("__launch_bounds__")?.split_once(") ")?.1.split_once('(')?;
            Some(head.trim())
        })
    }
}

/// The module that has a kernel.
pub fn module_of(kernel: &str) -> Option<&'static Module> {
    MODULES.iter().find(|m| m.kernels().any(|k| k == kernel))
}

/// The file of the cache that has a compiled module: its name says all that the code depends on.
pub fn cache_name(module: &Module, architecture: u32, compiler: (u32, u32), options: &[&str]) -> String {
    let mut hash = Sha256::new();
    hash.update(module.source());
    for option in options {
        hash.update(option.as_bytes());
        hash.update([0]);
    }
    let mut name = format!("{}-sm{architecture}-nvrtc{}.{}-", module.name, compiler.0, compiler.1);
    for byte in &hash.finalize()[..12] {
        let _ = write!(name, "{byte:02x}");
    }
    name + ".ptx"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kernel_is_found_in_one_module() {
        let all: Vec<&str> = MODULES.iter().flat_map(Module::kernels).collect();
        assert_eq!(all.len(), MODULES.iter().map(|m| m.text.matches("__global__").count()).sum::<usize>(), "{all:?}");
        let unique: std::collections::BTreeSet<&&str> = all.iter().collect();
        assert_eq!(unique.len(), all.len());
        assert_eq!(module_of("max_pool_backward").map(|m| m.name), Some("pool"));
        assert!(module_of("max").is_none());
    }

    #[test]
    fn a_cached_module_is_of_its_source_architecture_compiler_and_options() {
        let (a, b) = (&MODULES[0], Module { name: MODULES[0].name, text: "other" });
        let name = |m: &Module, cc, version, options: &[&str]| cache_name(m, cc, version, options);
        let first = name(a, 80, (13, 0), &["-fast"]);
        assert_eq!(first, name(a, 80, (13, 0), &["-fast"]));
        for other in [
            name(&b, 80, (13, 0), &["-fast"]),
            name(a, 90, (13, 0), &["-fast"]),
            name(a, 80, (13, 1), &["-fast"]),
            name(a, 80, (13, 0), &["-f", "ast"]),
        ] {
            assert_ne!(first, other);
        }
    }
}
