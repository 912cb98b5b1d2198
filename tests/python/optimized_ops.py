"""Prints how often each operator occurs in a model after onnxruntime has optimized it, as JSON."""

import collections
import json
import sys
import tempfile
from pathlib import Path

import onnx
import onnxruntime as ort

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "optimized.onnx"
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 3
    ort.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
    nodes = onnx.load(path).graph.node
names = (f"{n.domain}.{n.op_type}" if n.domain else n.op_type for n in nodes)
print(json.dumps(collections.Counter(names)))
