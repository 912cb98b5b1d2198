"""Runs each network of a folder in OpenVINO and compares it with the outputs that are expected.

`NAME.xml` has its inputs and expected outputs, in order, in `NAME.npz` (input_0, ..., output_0, ...). Prints a JSON object: for each network
either {"error": text} or {"outputs": {name: {"worst": largest difference over the largest expected magnitude, "cosine": ...}}, "exact": the same
with the rounding of a quantized network computed in float32, as kernels without VNNI may overflow on integers, "integers": convolutions and
products that run on integers, "layers": all of them, "names": the outputs' names, "labels": the class names}.
"""

import glob
import json
import os
import sys

import numpy as np

# It reports its use to its makers, by a process that it leaves behind.
sys.modules["openvino_telemetry"] = None
import openvino as ov


def compare(got, expected):
    if got.shape != expected.shape:
        return {"error": f"is {list(got.shape)}, expected {list(expected.shape)}"}
    if (got.dtype.kind == "f") != (expected.dtype.kind == "f"):
        return {"error": f"is {got.dtype}, expected {expected.dtype}"}
    a, b = got.astype("f8").ravel(), expected.astype("f8").ravel()
    if a.size == 0:
        return {"worst": 0.0, "cosine": 1.0}
    if not np.array_equal(np.isfinite(a), np.isfinite(b)):
        return {"error": "is infinite or not a number elsewhere"}
    a, b = a[np.isfinite(a)], b[np.isfinite(b)]
    scale = np.abs(b).max(initial=1e-3)
    norms = np.linalg.norm(a) * np.linalg.norm(b)
    cosine = float(a @ b / norms) if norms > 0 else 1.0
    return {"worst": float(np.abs(a - b).max(initial=0.0) / scale), "cosine": cosine}


def judge(core, path):
    model = core.read_model(path)
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    compiled = core.compile_model(model, "CPU", settings)
    stored = np.load(path[:-4] + ".npz")
    feeds = [stored[f"input_{i}"] for i in range(len(compiled.inputs))]
    feeds = [x.astype(bool) if p.get_element_type() == ov.Type.boolean else x for x, p in zip(feeds, compiled.inputs)]
    results = compiled(feeds)
    exact = {}
    if any(op.get_type_name() == "FakeQuantize" for op in model.get_ops()):
        exact = core.compile_model(model, "CPU", settings | {"LP_TRANSFORMS_MODE": "NO"})(feeds)
    names = [min(o.get_names()) for o in compiled.outputs]
    layers = [op.get_rt_info() for op in compiled.get_runtime_model().get_ops()]
    layers = [i["runtimePrecision"].astype(str) for i in layers if i["layerType"].astype(str) in ("Convolution", "FullyConnected", "MatMul", "Deconvolution")]
    info = lambda *keys: model.get_rt_info(list(keys)).astype(str) if model.has_rt_info(list(keys)) else None
    return {
        "outputs": {n: compare(np.asarray(results[i]), stored[f"output_{i}"]) for i, n in enumerate(names)},
        "exact": {n: compare(np.asarray(exact[i]), stored[f"output_{i}"]) for i, n in enumerate(names)} if exact else {},
        "integers": sum(p.lower() in ("i8", "u8") for p in layers),
        "layers": len(layers),
        "names": [sorted(o.get_names()) for o in compiled.outputs],
        "labels": info("model_info", "labels"),
    }


def main(folder):
    core = ov.Core()
    found = {}
    for path in sorted(glob.glob(os.path.join(folder, "*.xml"))):
        try:
            verdict = judge(core, path)
        except Exception as e:
            verdict = {"error": str(e)}
        found[os.path.basename(path)[:-4]] = verdict
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
