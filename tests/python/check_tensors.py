"""Reads tensor files that the library wrote: `check_tensors.py FOLDER` compares each with arange(24).reshape(2, 3, 4)."""

import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper
from safetensors.numpy import load_file

TYPES = ["float16", "float32", "float64", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "bool"]
base = np.arange(24).reshape(2, 3, 4)
folder = Path(sys.argv[1])


def same(where, got, kind):
    assert got.dtype == np.dtype(kind), f"{where}: {got.dtype}, expected {kind}"
    want = base % 2 == 1 if kind == "bool" else base.astype(kind)
    assert np.array_equal(got, want), f"{where}: {got}"


checked = 0
for archive in [np.load(folder / "all.npz"), load_file(folder / "all.safetensors")]:
    assert sorted(archive) == sorted(TYPES), sorted(archive)
    for kind in TYPES:
        same("archive", archive[kind], kind)
        checked += 1
for kind in TYPES:
    same("npy", np.load(folder / f"{kind}.npy"), kind)
    same("pb", numpy_helper.to_array(onnx.load_tensor(str(folder / f"{kind}.pb"))), kind)
    checked += 2
print("ok", checked)
