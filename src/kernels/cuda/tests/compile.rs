//! Every kernel through NVRTC and ptxas, which need no GPU. Both are Python packages of NVIDIA's; `scripts/test.sh` installs them.

use super::super::{ARCHITECTURES, MODULES, Module, OPTIONS};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// `nvidia/…/NAME` among the packages of the tests' Python.
fn packaged(python: &Path, name: &str) -> Option<PathBuf> {
    let code = "import glob, sysconfig; print(*glob.glob(sysconfig.get_path('purelib') + '/nvidia/*/*/*'), sep='\\n')";
    let out = Command::new(python).args(["-c", code]).output().ok()?;
    let files = String::from_utf8(out.stdout).ok()?;
    files.lines().map(PathBuf::from).find(|p| p.file_name().is_some_and(|f| f.to_string_lossy().starts_with(name)))
}

#[test]
fn all_kernels_compile_without_spills() {
    let found = || {
        let python = PathBuf::from(std::env::var_os("COMPRESSO_PYTHON")?);
        let (nvrtc, ptxas) = (packaged(&python, "libnvrtc.so.")?, packaged(&python, "ptxas")?);
        Some((python, nvrtc, ptxas))
    };
    let Some((python, nvrtc, ptxas)) = found() else {
        eprintln!("NVRTC or ptxas is not among the packages of COMPRESSO_PYTHON: the CUDA kernels are not compiled");
        return;
    };
    let folder = std::env::temp_dir().join(format!("compresso-nvrtc-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let sources = MODULES.iter().map(|m| {
        let path = folder.join(format!("{}.cu", m.name));
        std::fs::write(&path, m.source()).unwrap();
        path
    });
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/python/cuda_kernels.py");
    let architectures = ARCHITECTURES.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
    let out = Command::new(python).args([script, nvrtc, ptxas]).arg(architectures).arg(OPTIONS.join(",")).args(sources).output().unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let text = String::from_utf8(out.stdout).unwrap();
    let lines: Vec<Vec<&str>> = text.lines().map(|l| l.split(' ').collect()).collect();
    let mut seen = BTreeSet::new();
    for line in &lines {
        let [kernel, architecture, numbers @ ..] = line.as_slice() else { panic!("{line:?}") };
        let numbers: Vec<u32> = numbers.iter().map(|n| n.parse().unwrap()).collect();
        let [registers, stack, spilled, shared] = numbers[..] else { panic!("{line:?}") };
        // 65536 registers: four blocks of 256 threads on a multiprocessor. Turing has 64 KiB of shared memory for them.
        assert!(registers <= 64 && shared <= 16 << 10, "{line:?}");
        assert!(stack == 0 && spilled == 0, "{line:?}");
        seen.insert((kernel.to_string(), architecture.parse::<u32>().unwrap()));
    }
    let all = MODULES.iter().flat_map(Module::kernels).flat_map(|k| ARCHITECTURES.iter().map(move |&a| (k.to_string(), a)));
    assert_eq!(seen, all.collect(), "{text}");
}
