//! `scripts/cuda_stubs.py`: a program linked with its libraries starts without CUDA, and calls CUDA's own where they are found.

use std::path::Path;
use std::process::Command;

const PROGRAM: &str = r#"
#include <stdio.h>
int cuInit(unsigned flags);
int cuGetErrorString(int error, const char** text);
const char* cublasGetStatusString(int status);
int curandGenerateNormal(void* g, float* out, unsigned long n, float mean, float deviation, long a, long b, long c);
int main(void) {
    const char* text = "";
    int status = cuInit(7), told = cuGetErrorString(status, &text);
    printf("%d %d %s|%s", status, told, text, cublasGetStatusString(1));
    /* Arguments in registers of both kinds and on the stack. */
    for (int i = 0; i < 2; i++) printf("|%d", curandGenerateNormal(NULL, NULL, 3, 0.5f, 2.0f, 5, 6, 7));
}
"#;

/// Stand-ins for CUDA's own libraries.
const DRIVER: &str =
    "int cuInit(unsigned flags) { return flags * 10; } int cuGetErrorString(int e, const char** t) { *t = \"own words\"; return e; }";
const RANDOM: &str = "int curandGenerateNormal(void* g, float* o, unsigned long n, float m, float d, long a, long b, long c) \
                      { return n * 100 + (m == 0.5f) * 10 + (d == 2.0f) + a * 1000 + b * 10000 + c * 100000; }";

fn run(folder: &Path, program: &str, args: &[&str]) -> String {
    let out = Command::new(program).args(args).current_dir(folder).env("LD_LIBRARY_PATH", folder.join("own")).output().unwrap();
    assert!(out.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

#[test]
fn libraries_are_opened_at_the_first_call() {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return;
    }
    if ["cc", "python3"].iter().any(|tool| Command::new(tool).arg("--version").output().is_err()) {
        eprintln!("there is no C compiler or no python3: scripts/cuda_stubs.py is not tested");
        return;
    }
    let folder = std::env::temp_dir().join(format!("compresso-stubs-{}", std::process::id()));
    let declared = [
        (
            "driver",
            "pub unsafe fn cuInit(Flags: u32) -> CUresult {\npub unsafe fn cuGetErrorString(e: CUresult, t: *mut *const c_char) -> CUresult {",
        ),
        ("cublas", "pub unsafe fn cublasGetStatusString(s: cublasStatus_t) -> *const ::core::ffi::c_char {"),
        ("cublaslt", "pub unsafe fn cublasLtGetVersion() -> usize {"),
        (
            "curand",
            "pub unsafe fn curandGenerateNormal(g: curandGenerator_t) -> curandStatus_t {\npub unsafe fn culib() -> &'static Library {",
        ),
        ("nvrtc", "pub unsafe fn nvrtcVersion(a: *mut i32, b: *mut i32) -> nvrtcResult {"),
    ];
    for (module, text) in declared {
        let sys = folder.join("cudarc").join(module).join("sys");
        std::fs::create_dir_all(&sys).unwrap();
        std::fs::write(sys.join("mod.rs"), format!("{text}\n")).unwrap();
    }
    std::fs::create_dir_all(folder.join("own")).unwrap();
    for (name, text) in [("program.c", PROGRAM), ("driver.c", DRIVER), ("random.c", RANDOM)] {
        std::fs::write(folder.join(name), text).unwrap();
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/cuda_stubs.py");
    run(&folder, "python3", &[script.to_str().unwrap(), "cudarc", "stubs"]);
    run(&folder, "cc", &["program.c", "-Lstubs", "-lcuda", "-lcublas", "-lcurand", "-o", "program"]);
    assert_eq!(run(&folder, "./program", &[]), "34 0 libcuda.so.1 was not found|libcublas.so.13 was not found|203|203");
    run(&folder, "cc", &["-shared", "-fPIC", "driver.c", "-o", "own/libcuda.so.1"]);
    run(&folder, "cc", &["-shared", "-fPIC", "random.c", "-o", "own/libcurand.so.10"]);
    assert_eq!(run(&folder, "./program", &[]), "70 70 own words|libcublas.so.13 was not found|765311|765311");
    std::fs::remove_dir_all(&folder).unwrap();
}
