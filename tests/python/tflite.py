"""Runs .tflite files in LiteRT and compares what they give with what our executor gave, for tests/tflite.rs.

    python tflite.py DIR

For each NAME.tflite of DIR, NAME.npz holds the inputs (in_0, …) in the order of the file's inputs and the expected outputs (out_0, …). Floats are fed and read
in the steps of a tensor that holds them as integers. Prints a JSON object: for each NAME the largest error relative to the largest number
and the cosine of each output, with the XNNPACK delegate and without, the operators, their types, the types of inputs and outputs, the metadata.
"""

import json
import os
import sys

import numpy as np

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType


def metadata(path):
    with open(path, "rb") as f:
        model = schema.Model.GetRootAs(f.read(), 0)
    found = {}
    for i in range(model.MetadataLength()):
        entry = model.Metadata(i)
        data = model.Buffers(entry.Buffer()).DataAsNumpy()
        found[entry.Name().decode()] = bytes(data).decode()
    return found


def compare(got, expected):
    if got.shape != expected.shape:
        return f"{got.shape}, expected {expected.shape}"
    got, expected = got.astype(np.float64).ravel(), expected.astype(np.float64).ravel()
    largest = max(np.abs(expected).max(initial=0.0), 1e-6)
    error = float(np.abs(got - expected).max(initial=0.0) / largest)
    norms = np.sqrt((got @ got) * (expected @ expected))
    return [error if np.isfinite(error) else 1e9, float(got @ expected / norms) if norms > 0 else 1.0]


def given(net, detail, expected):
    value, (scale, zero) = net.get_tensor(detail["index"]), detail["quantization"]
    return (value.astype(np.float32) - zero) * np.float32(scale) if expected.dtype == np.float32 and scale else value


def judge(folder, name):
    path = os.path.join(folder, name + ".tflite")
    arrays = np.load(os.path.join(folder, name + ".npz"))
    said = metadata(path)
    described = json.loads(said["compresso"])
    result = {"metadata": said, "runs": [], "operators": []}
    for resolver in (OpResolverType.BUILTIN, OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES):
        net = Interpreter(path, experimental_op_resolver_type=resolver, num_threads=1)
        net.allocate_tensors()
        for i, (detail, described_input) in enumerate(zip(net.get_input_details(), described["inputs"])):
            assert detail["name"] == described_input["name"]
            x = arrays[f"in_{i}"]
            if described_input["layout"] == "NHWC":
                x = x.transpose(0, 2, 3, 1)
            scale, zero = detail["quantization"]
            if x.dtype == np.float32 and scale:
                limits = np.iinfo(detail["dtype"])
                x = np.clip(np.rint(x / np.float32(scale)) + zero, limits.min, limits.max)
            net.set_tensor(detail["index"], np.ascontiguousarray(x).astype(detail["dtype"]))
        net.invoke()
        outputs = net.get_output_details()
        assert [o["name"] for o in outputs] == described["outputs"]
        result["runs"].append([compare(given(net, o, arrays[f"out_{i}"]), arrays[f"out_{i}"]) for i, o in enumerate(outputs)])
        operators = net._get_ops_details()
        result["operators"] = [o["op_name"] for o in operators]
        kinds = {d["index"]: d["dtype"].__name__ for d in net.get_tensor_details()}
        result["types"] = [" ".join([o["op_name"], *(kinds.get(t, "-") for t in o["inputs"])]) for o in operators]
        result["ends"] = [d["dtype"].__name__ for d in [*net.get_input_details(), *outputs]]
    return result


def main(folder):
    results = {}
    for file in sorted(os.listdir(folder)):
        if file.endswith(".tflite"):
            name = file.removesuffix(".tflite")
            try:
                results[name] = judge(folder, name)
            except Exception as e:  # What the runtime refuses is a result.
                results[name] = {"error": f"{type(e).__name__}: {e}"}
    print(json.dumps(results))


main(sys.argv[1])
