"""Static libraries that stand for CUDA's shared ones and open them at the first call.

cuda_stubs.py SOURCES OUT [MAJOR]

SOURCES is the folder src of the crate cudarc, whose modules name the functions that a program may call; OUT gets libcuda.a, libcublas.a,
libcublasLt.a, libcurand.a and libnvrtc.a. A program that is linked with them starts on any machine. Where a library is not found its
functions give an error of that library's own. For x86-64 and Linux.
"""

import pathlib
import re
import subprocess
import sys

sources, out = map(pathlib.Path, sys.argv[1:3])
major = sys.argv[3] if len(sys.argv) > 3 else "13"

# Module of cudarc, name to link with, files to open, and the error: stub library, not initialized, initialization failed, internal error.
LIBRARIES = [
    ("driver", "cuda", ["libcuda.so.1"], 34),
    ("cublas", "cublas", [f"libcublas.so.{major}", "libcublas.so"], 1),
    ("cublaslt", "cublasLt", [f"libcublasLt.so.{major}", "libcublasLt.so"], 1),
    ("curand", "curand", ["libcurand.so.10", "libcurand.so"], 203),
    ("nvrtc", "nvrtc", [f"libnvrtc.so.{major}", "libnvrtc.so"], 11),
]
FUNCTION = re.compile(r"^pub unsafe fn (\w+)\(.*?\)(?: -> (.*?))? \{$", re.M)

# What every library has; NAME is its own.
CODE = r"""
#include <dlfcn.h>
#include <stddef.h>

static const char* const files[] = {FILES};
static const char* const functions[] = {FUNCTIONS};
static const char texts[] = {TEXTS};
static const char message[] = "FIRST was not found";

static long missing(void) { return STATUS; }
static const char* missing_text(void) { return message; }
/* cuGetErrorString and cuGetErrorName write their text. */
static int missing_error(int error, const char** text) {
    (void)error;
    *text = message;
    return 0;
}

__attribute__((visibility("hidden"))) void* NAME_slots[sizeof functions / sizeof *functions];

/* Threads that come at once find the same. */
__attribute__((visibility("hidden"))) void* NAME_find(unsigned i) {
    void* library = NULL;
    void* found = NULL;
    for (size_t f = 0; f < sizeof files / sizeof *files && !library; f++) library = dlopen(files[f], RTLD_NOW | RTLD_LOCAL);
    if (library) found = dlsym(library, functions[i]);
    if (!found) found = texts[i] == 1 ? (void*)missing_text : texts[i] == 2 ? (void*)missing_error : (void*)missing;
    __atomic_store_n(&NAME_slots[i], found, __ATOMIC_RELEASE);
    return found;
}

/* Keeps the arguments of a call, finds its function, and goes on there. */
__asm__(
    ".text\n"
    "NAME_load:\n"
    "pushq %rdi\npushq %rsi\npushq %rdx\npushq %rcx\npushq %r8\npushq %r9\n"
    "subq $128, %rsp\n"
    "movups %xmm0, (%rsp)\nmovups %xmm1, 16(%rsp)\nmovups %xmm2, 32(%rsp)\nmovups %xmm3, 48(%rsp)\n"
    "movups %xmm4, 64(%rsp)\nmovups %xmm5, 80(%rsp)\nmovups %xmm6, 96(%rsp)\nmovups %xmm7, 112(%rsp)\n"
    "movl 176(%rsp), %edi\n"
    "call NAME_find\n"
    "movups (%rsp), %xmm0\nmovups 16(%rsp), %xmm1\nmovups 32(%rsp), %xmm2\nmovups 48(%rsp), %xmm3\n"
    "movups 64(%rsp), %xmm4\nmovups 80(%rsp), %xmm5\nmovups 96(%rsp), %xmm6\nmovups 112(%rsp), %xmm7\n"
    "addq $128, %rsp\n"
    "popq %r9\npopq %r8\npopq %rcx\npopq %rdx\npopq %rsi\npopq %rdi\n"
    "addq $8, %rsp\n"
    "jmp *%rax\n"
    ".macro NAME_function name index\n"
    ".globl \\name\n"
    ".type \\name, @function\n"
    "\\name:\n"
    "movq NAME_slots+8*\\index(%rip), %rax\n"
    "testq %rax, %rax\n"
    "je 1f\n"
    "jmp *%rax\n"
    "1: pushq $\\index\n"
    "jmp NAME_load\n"
    ".endm\n"
TABLE);
"""

out.mkdir(parents=True, exist_ok=True)
for module, name, files, status in LIBRARIES:
    text = (sources / module / "sys" / "mod.rs").read_text()
    # Versions of CUDA declare some functions twice.
    found = {f: r or "()" for f, r in FUNCTION.findall(text) if f not in ("culib", "is_culib_present")}
    if not found:
        sys.exit(f"{module}: no functions in {sources}")

    def kind(function: str, result: str) -> str:
        return "2" if function in ("cuGetErrorString", "cuGetErrorName") else "1" if "c_char" in result else "0"

    quoted = lambda words: ", ".join(f'"{w}"' for w in words)
    parts = {
        "FILES": quoted(files),
        "FUNCTIONS": quoted(found),
        "TEXTS": ", ".join(kind(f, r) for f, r in found.items()),
        "FIRST": files[0],
        "STATUS": str(status),
        "TABLE": "\n".join(f'    "{name}_function {f} {i}\\n"' for i, f in enumerate(found)),
        "NAME": name,
    }
    code = CODE
    for key, value in parts.items():
        code = re.sub(rf"{key}(?=\b|_)", lambda _: value, code)
    source = out / f"{name}.c"
    source.write_text(code)
    subprocess.run(["cc", "-O2", "-fPIC", "-c", source, "-o", source.with_suffix(".o")], check=True)
    archive = out / f"lib{name}.a"
    archive.unlink(missing_ok=True)
    subprocess.run(["ar", "rcs", archive, source.with_suffix(".o")], check=True)
    print(f"{archive}: {len(found)} functions of {files[0]}")
