"""Runs files for NCNN and compares what they make with what is expected.

    ncnn_judge.py LIST

LIST is a JSON list of cases: {"name", "folder" with *.ncnn.param and *.ncnn.bin, "x" and "y": npz files with in0, in1, … and out0, out1, …,
"half": whether NCNN may compute in float16}. Prints a JSON list: for each case its outputs' largest errors relative to the largest
expected magnitude, their cosines, and what went wrong.
"""

import json
import sys
from pathlib import Path

import ncnn
import numpy as np


def load(folder, half):
    net = ncnn.Net()
    net.opt.use_vulkan_compute = False
    net.opt.num_threads = 1
    if not half:
        for option in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_storage", "use_bf16_packed"):
            if hasattr(net.opt, option):
                setattr(net.opt, option, False)
    param = next(Path(folder).glob("*.ncnn.param"))
    if net.load_param(str(param)) != 0:
        raise ValueError("the layers are not read")
    if net.load_model(str(param.with_suffix(".bin"))) != 0:
        raise ValueError("the weights are not read")
    return net


def blob(array):
    """A blob of its own: one that is made of an array points into it."""
    array = np.ascontiguousarray(array.astype(np.float32))
    if array.ndim < 4:
        return ncnn.Mat(array).clone()
    c, d, h, w = array.shape
    return ncnn.Mat(array.reshape(-1)).clone().reshape(w, h, d, c).clone()


def array(blob):
    if blob.dims < 4:
        return np.array(blob)
    return np.array(blob.reshape(blob.w * blob.h * blob.d * blob.c)).reshape(blob.c, blob.d, blob.h, blob.w)


def run(case):
    net = load(case["folder"], case["half"])
    x, y = np.load(case["x"]), np.load(case["y"])
    names = [f"out{i}" for i in range(len(y.files))]
    if sorted(net.output_names()) != sorted(names):
        raise ValueError(f"outputs {net.output_names()}, expected {names}")
    errors, cosines = [], []
    extractor = net.create_extractor()
    for name in x.files:
        if extractor.input(name, blob(x[name])) != 0:
            raise ValueError(f"{name} is not taken")
    for name in names:
        code, made = extractor.extract(name)
        if code != 0:
            raise ValueError(f"{name} is not made: {code}")
        got, expected = array(made).astype(np.float64), y[name].astype(np.float64)
        # More than four axes are joined to four.
        if expected.ndim <= 4 and got.shape != expected.shape or got.size != expected.size:
            raise ValueError(f"{name} is {got.shape}, expected {expected.shape}")
        expected = expected.reshape(got.shape)
        error = float(np.abs(got - expected).max() / max(np.abs(expected).max(), 1e-12))
        errors.append(error if np.isfinite(error) else None)
        norm = np.linalg.norm(got) * np.linalg.norm(expected)
        cosine = float((got * expected).sum() / norm) if norm > 0 else 1.0
        cosines.append(cosine if np.isfinite(cosine) else None)
    return errors, cosines


def main():
    results = []
    for case in json.loads(Path(sys.argv[1]).read_text()):
        result = {"name": case["name"], "errors": [], "cosines": [], "wrong": None}
        try:
            result["errors"], result["cosines"] = run(case)
        except (ValueError, StopIteration) as e:
            result["wrong"] = repr(e)
        results.append(result)
    print("\n" + json.dumps(results))


if __name__ == "__main__":
    main()
