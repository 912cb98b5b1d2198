"""Compiles CUDA sources by NVRTC and assembles them by ptxas; no GPU is needed.

cuda_kernels.py LIBRARY PTXAS ARCHITECTURES OPTIONS SOURCE...

LIBRARY is libnvrtc, PTXAS the assembler, ARCHITECTURES a list such as 75,80, OPTIONS those of the compiler, with commas. Prints a line
per kernel and architecture: both, registers, and bytes of stack, of spills and of shared memory.
"""

import ctypes
import pathlib
import re
import subprocess
import sys
import tempfile

library, ptxas, architectures, options, *sources = sys.argv[1:]
# NVRTC looks for this one by its name alone.
for builtins in pathlib.Path(library).parent.glob("libnvrtc-builtins.so.*"):
    ctypes.CDLL(str(builtins))
nvrtc = ctypes.CDLL(library)


def compiled(source: pathlib.Path, architecture: str) -> bytes:
    program = ctypes.c_void_p()
    text = source.read_bytes()
    assert nvrtc.nvrtcCreateProgram(ctypes.byref(program), text, source.name.encode(), 0, None, None) == 0
    given = [f"--gpu-architecture=compute_{architecture}", *filter(None, options.split(","))]
    status = nvrtc.nvrtcCompileProgram(program, len(given), (ctypes.c_char_p * len(given))(*[g.encode() for g in given]))
    size = ctypes.c_size_t()
    nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetProgramLog(program, log)
    # A warning is a failure.
    if status != 0 or log.value.strip():
        sys.exit(f"{source.name}, compute_{architecture}: {log.value.decode()}")
    nvrtc.nvrtcGetPTXSize(program, ctypes.byref(size))
    ptx = ctypes.create_string_buffer(size.value)
    assert nvrtc.nvrtcGetPTX(program, ptx) == 0
    nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
    return ptx.value


ENTRY = re.compile(r"Compiling entry function '(\w+)' for")
STACK = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
USED = re.compile(r"Used (\d+) registers")
SHARED = re.compile(r"(\d+) bytes smem")


def assembled(ptx: bytes, architecture: str) -> list[dict]:
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "kernels.ptx")
        path.write_bytes(ptx)
        command = [ptxas, "-v", f"--gpu-name=sm_{architecture}", path, "-o", path.with_suffix(".cubin")]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    found = []
    for line in done.stderr.splitlines():
        if m := ENTRY.search(line):
            found.append({"kernel": m[1], "shared": 0})
        elif m := STACK.search(line):
            found[-1] |= {"stack": int(m[1]), "spilled": int(m[2]) + int(m[3])}
        elif m := USED.search(line):
            found[-1]["registers"] = int(m[1])
            if m := SHARED.search(line):
                found[-1]["shared"] = int(m[1])
    return found


for source in sources:
    for architecture in architectures.split(","):
        for k in assembled(compiled(pathlib.Path(source), architecture), architecture):
            print(k["kernel"], architecture, k["registers"], k["stack"], k["spilled"], k["shared"])
