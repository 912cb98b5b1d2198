"""Writes the test cases of the onnx package for tests/onnx_nodes.rs.

    python onnx_nodes.py DIR

DIR/cases.json lists the cases; DIR/NAME/model.onnx is a case's model, DIR/NAME/data_I.onnx a model without nodes whose
initializers are the inputs (named input_J) and expected outputs (output_J) of its data set I. Cases with values other
than tensors are listed without data. It also lists all operators of the ONNX set. Models of operator sets before 7 are converted
to 13. Nothing is written when DIR holds the cases of this script and onnx version.
"""

import glob
import hashlib
import importlib.metadata
import json
import os
import shutil
import sys


def main(out):
    with open(__file__, "rb") as f:
        stamp = importlib.metadata.version("onnx") + " " + hashlib.sha256(f.read()).hexdigest()[:16]
    index = os.path.join(out, "cases.json")
    if os.path.exists(index):
        with open(index) as f:
            if json.load(f)["stamp"] == stamp:
                return
    shutil.rmtree(out, ignore_errors=True)
    os.makedirs(out)

    import numpy as np
    import onnx
    from onnx import helper, numpy_helper, version_converter
    from onnx.backend.test.case import model as model_cases
    from onnx.backend.test.case import node as node_cases

    np.random.seed(0)
    cases = []

    def tensor(value, name):
        if isinstance(value, onnx.TensorProto):
            proto = onnx.TensorProto()
            proto.CopyFrom(value)
            proto.name = name
            return proto
        return numpy_helper.from_array(np.asarray(value), name)

    def write(kind, name, model, sets, rtol, atol):
        if any(o.domain in ("", "ai.onnx") and o.version < 7 for o in model.opset_import):
            model = version_converter.convert_version(model, 13)
            # The converter leaves slopes per channel as old operator sets have them.
            if any(n.op_type == "PRelu" for n in model.graph.node) and "multiparam" in name:
                return
        values = list(model.graph.input) + list(model.graph.output)
        tensors = all(v.type.HasField("tensor_type") for v in values)
        folder = os.path.join(out, name)
        os.makedirs(folder)
        onnx.save(model, os.path.join(folder, "model.onnx"))
        for i, (inputs, outputs) in enumerate(sets if tensors else []):
            protos = [tensor(v, f"input_{j}") for j, v in enumerate(inputs)]
            protos += [tensor(v, f"output_{j}") for j, v in enumerate(outputs)]
            graph = helper.make_graph([], "data", [], [], protos)
            onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)]), os.path.join(folder, f"data_{i}.onnx"))
        cases.append({"kind": kind, "name": name, "sets": len(sets) if tensors else 0, "rtol": rtol, "atol": atol})

    for case in node_cases.collect_testcases(None):
        write("node", case.name, case.model, case.data_sets, case.rtol, case.atol)
    for case in model_cases.collect_testcases():
        if case.kind == "simple":
            write("simple", "simple_" + case.name, case.model, case.data_sets, case.rtol, case.atol)

    data = os.path.join(os.path.dirname(os.path.abspath(onnx.backend.test.case.__file__)), "..", "data")

    def load(path):
        proto = onnx.TensorProto()
        with open(path, "rb") as f:
            proto.ParseFromString(f.read())
        return proto

    for folder in sorted(glob.glob(os.path.join(data, "pytorch-converted", "*"))):
        model = onnx.load(os.path.join(folder, "model.onnx"))
        sets = []
        for s in sorted(glob.glob(os.path.join(folder, "test_data_set_*"))):
            count = lambda kind: len(glob.glob(os.path.join(s, kind + "_*.pb")))
            read = lambda kind: [load(os.path.join(s, f"{kind}_{j}.pb")) for j in range(count(kind))]
            sets.append((read("input"), read("output")))
        write("pytorch", "pytorch_" + os.path.basename(folder), model, sets, 1e-3, 1e-7)

    operators = sorted({s.name for s in onnx.defs.get_all_schemas() if s.domain == "" and not s.deprecated})
    with open(index, "w") as f:
        json.dump({"stamp": stamp, "cases": cases, "operators": operators}, f)


if __name__ == "__main__":
    main(sys.argv[1])
