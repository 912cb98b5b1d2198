"""Writes small graphs for the passes of onnxoptimizer, and what it makes of them: `optimizer_counts.py FOLDER`.

FOLDER/NAME.onnx, and counts.json: for each name the pass, the nodes before, and the nodes that onnxoptimizer leaves.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxoptimizer
from onnx import TensorProto, helper, numpy_helper

RANDOM = np.random.default_rng(0)
CASES = []


class Graph:
    """Nodes by their results; `x` is the input, float32 of shape `dims`."""

    def __init__(self, dims, opset=17, element=TensorProto.FLOAT):
        self.opset, self.nodes, self.constants, self.count = opset, [], [], 0
        self.inputs = [helper.make_tensor_value_info("x", element, dims)]

    def __call__(self, op, *inputs, outputs=1, **attributes):
        names = [f"v{self.count + i}" for i in range(outputs)]
        self.count += outputs
        self.nodes.append(helper.make_node(op, [self.name(i) for i in inputs], names, **attributes))
        return names[0] if outputs == 1 else names

    def name(self, value):
        if isinstance(value, str):
            return value
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def weight(self, *dims):
        return RANDOM.uniform(0.2, 1.2, dims).astype(np.float32)

    def model(self, *results):
        outputs = [onnx.ValueInfoProto(name=r) for r in results]
        g = helper.make_graph(self.nodes, "case", self.inputs, outputs, self.constants)
        return onnx.shape_inference.infer_shapes(helper.make_model(g, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8))


def ints(*values):
    return np.array(values, np.int64)


def case(name, optimizer_pass, dims, opset=17):
    """Registers a function that builds on a graph and gives its results."""

    def register(build):
        g = Graph(dims, opset)
        results = build(g)
        CASES.append((name, optimizer_pass, g.model(*(results if isinstance(results, tuple) else (results,)))))

    return register


IMAGE = [1, 4, 6, 6]


@case("deadend", "eliminate_deadend", IMAGE)
def _(g):
    g("Exp", g("Neg", "x"))
    return g("Relu", "x")


@case("identity", "eliminate_identity", IMAGE)
def _(g):
    return g("Relu", g("Identity", g("Identity", "x")))


@case("identity_output", "eliminate_identity", IMAGE)
def _(g):
    y = g("Relu", "x")
    return g("Identity", y), g("Neg", y)


@case("dropout", "eliminate_nop_dropout", IMAGE)
def _(g):
    return g("Relu", g("Dropout", "x"))


@case("dropout_trains", "eliminate_nop_dropout", IMAGE)
def _(g):
    return g("Relu", g("Dropout", "x", np.float32(0.5), np.array(True)))


@case("argmax_softmax", "eliminate_nop_monotone_argmax", IMAGE)
def _(g):
    return g("ArgMax", g("Softmax", "x", axis=1), axis=1)


@case("argmax_exp", "eliminate_nop_monotone_argmax", IMAGE)
def _(g):
    return g("ArgMax", g("Exp", "x"), axis=2)


@case("argmax_other_axis", "eliminate_nop_monotone_argmax", IMAGE)
def _(g):
    return g("ArgMax", g("Softmax", "x", axis=1), axis=2)


@case("pad_nothing", "eliminate_nop_pad", IMAGE)
def _(g):
    return g("Relu", g("Pad", "x", ints(*[0] * 8)))


@case("pad_nothing_10", "eliminate_nop_pad", IMAGE, 10)
def _(g):
    return g("Relu", g("Pad", "x", pads=[0] * 8))


@case("pad_something", "eliminate_nop_pad", IMAGE)
def _(g):
    return g("Relu", g("Pad", "x", ints(0, 0, 0, 1, 0, 0, 0, 0)))


@case("transpose_nothing", "eliminate_nop_transpose", IMAGE)
def _(g):
    return g("Relu", g("Transpose", "x", perm=[0, 1, 2, 3]))


@case("transpose_something", "eliminate_nop_transpose", IMAGE)
def _(g):
    return g("Relu", g("Transpose", "x", perm=[0, 1, 3, 2]))


@case("unused", "eliminate_unused_initializer", IMAGE)
def _(g):
    g.name(g.weight(3, 3))
    return g("Relu", "x")


@case("constant", "extract_constant_to_initializer", IMAGE)
def _(g):
    held = g("Constant", value=numpy_helper.from_array(g.weight(1, 4, 1, 1)))
    return g("Add", "x", held)


@case("bias", "fuse_add_bias_into_conv", IMAGE)
def _(g):
    return g("Add", g("Conv", "x", g.weight(5, 4, 3, 3)), g.weight(5, 1, 1))


@case("bias_four_axes", "fuse_add_bias_into_conv", IMAGE)
def _(g):
    return g("Add", g.weight(1, 5, 1, 1), g("Conv", "x", g.weight(5, 4, 3, 3)))


@case("bias_per_column", "fuse_add_bias_into_conv", IMAGE)
def _(g):
    return g("Add", g("Conv", "x", g.weight(4, 4, 3, 3)), g.weight(4))


@case("bias_read_elsewhere", "fuse_add_bias_into_conv", IMAGE)
def _(g):
    y = g("Conv", "x", g.weight(5, 4, 3, 3))
    return g("Add", y, g.weight(5, 1, 1)), g("Neg", y)


def batch_norm(g, y, channels):
    return g("BatchNormalization", y, g.weight(channels), g.weight(channels), g.weight(channels), g.weight(channels))


@case("bn", "fuse_bn_into_conv", IMAGE)
def _(g):
    return batch_norm(g, g("Conv", "x", g.weight(5, 4, 3, 3)), 5)


@case("bn_bias", "fuse_bn_into_conv", IMAGE)
def _(g):
    return batch_norm(g, g("Conv", "x", g.weight(5, 4, 3, 3), g.weight(5)), 5)


@case("bn_read_elsewhere", "fuse_bn_into_conv", IMAGE)
def _(g):
    y = g("Conv", "x", g.weight(5, 4, 3, 3))
    return batch_norm(g, y, 5), g("Neg", y)


@case("concats", "fuse_consecutive_concats", IMAGE)
def _(g):
    a = g("Relu", "x")
    return g("Concat", g("Concat", "x", a, axis=1), a, g("Concat", a, "x", axis=1), axis=1)


@case("concats_other_axis", "fuse_consecutive_concats", IMAGE)
def _(g):
    inner = g("Concat", "x", "x", axis=1)
    return g("Concat", inner, inner, axis=2)


@case("log_softmax", "fuse_consecutive_log_softmax", IMAGE)
def _(g):
    return g("Log", g("Softmax", "x", axis=1))


@case("log_softmax_read_elsewhere", "fuse_consecutive_log_softmax", IMAGE)
def _(g):
    y = g("Softmax", "x", axis=1)
    return g("Log", y), g("Neg", y)


@case("reduce_unsqueeze", "fuse_consecutive_reduce_unsqueeze", IMAGE)
def _(g):
    return g("Unsqueeze", g("ReduceMean", "x", axes=[2, 3], keepdims=0), ints(2, 3))


@case("reduce_unsqueeze_11", "fuse_consecutive_reduce_unsqueeze", IMAGE, 11)
def _(g):
    return g("Unsqueeze", g("ReduceSum", "x", axes=[1], keepdims=0), axes=[1])


@case("reduce_unsqueeze_other_axes", "fuse_consecutive_reduce_unsqueeze", IMAGE)
def _(g):
    return g("Unsqueeze", g("ReduceMean", "x", axes=[2, 3], keepdims=0), ints(0, 1))


@case("squeezes", "fuse_consecutive_squeezes", [1, 3, 1, 1, 5])
def _(g):
    return g("Squeeze", g("Squeeze", "x", ints(0, 3)), ints(1))


@case("squeezes_11", "fuse_consecutive_squeezes", [1, 3, 1, 1, 5], 11)
def _(g):
    return g("Squeeze", g("Squeeze", "x", axes=[0, 3]), axes=[1])


@case("transposes", "fuse_consecutive_transposes", IMAGE)
def _(g):
    return g("Relu", g("Transpose", g("Transpose", "x", perm=[0, 2, 3, 1]), perm=[0, 1, 3, 2]))


@case("transposes_default", "fuse_consecutive_transposes", [3, 5])
def _(g):
    return g("Relu", g("Transpose", g("Transpose", "x")))


@case("gemm", "fuse_matmul_add_bias_into_gemm", [3, 5])
def _(g):
    return g("Add", g("MatMul", "x", g.weight(5, 7)), g.weight(7))


@case("gemm_three_axes", "fuse_matmul_add_bias_into_gemm", [2, 3, 5])
def _(g):
    return g("Add", g("MatMul", "x", g.weight(5, 7)), g.weight(7))


@case("gemm_wide_bias", "fuse_matmul_add_bias_into_gemm", [1, 5])
def _(g):
    return g("Add", g("MatMul", "x", g.weight(5, 7)), g.weight(3, 7))


@case("gemm_read_elsewhere", "fuse_matmul_add_bias_into_gemm", [3, 5])
def _(g):
    y = g("MatMul", "x", g.weight(5, 7))
    return g("Add", y, g.weight(7)), g("Neg", y)


@case("pad", "fuse_pad_into_conv", IMAGE)
def _(g):
    return g("Conv", g("Pad", "x", ints(0, 0, 1, 2, 0, 0, 0, 1)), g.weight(5, 4, 3, 3))


@case("pad_10", "fuse_pad_into_conv", IMAGE, 10)
def _(g):
    return g("Conv", g("Pad", "x", pads=[0, 0, 1, 1, 0, 0, 1, 1]), g.weight(5, 4, 3, 3), pads=[1, 0, 1, 0])


@case("pad_channels", "fuse_pad_into_conv", IMAGE)
def _(g):
    return g("Conv", g("Pad", "x", ints(0, 1, 0, 0, 0, 0, 0, 0)), g.weight(5, 5, 3, 3))


@case("pad_by_one", "fuse_pad_into_conv", IMAGE)
def _(g):
    return g("Conv", g("Pad", "x", ints(0, 0, 1, 1, 0, 0, 1, 1), np.float32(1)), g.weight(5, 4, 3, 3))


@case("pad_by_edges", "fuse_pad_into_conv", IMAGE)
def _(g):
    return g("Conv", g("Pad", "x", ints(0, 0, 1, 1, 0, 0, 1, 1), mode="edge"), g.weight(5, 4, 3, 3))


@case("pad_negative", "fuse_pad_into_conv", IMAGE)
def _(g):
    return g("Conv", g("Pad", "x", ints(0, 0, -1, 0, 0, 0, 0, 0)), g.weight(5, 4, 3, 3))


@case("pad_auto", "fuse_pad_into_conv", IMAGE)
def _(g):
    return g("Conv", g("Pad", "x", ints(0, 0, 1, 1, 0, 0, 1, 1)), g.weight(5, 4, 3, 3), auto_pad="SAME_UPPER")


@case("gemm_turned", "fuse_transpose_into_gemm", [5, 3])
def _(g):
    return g("Gemm", g("Transpose", "x", perm=[1, 0]), g("Transpose", g.weight(7, 5), perm=[1, 0]), g.weight(7))


def main(folder):
    counts = {}
    for name, optimizer_pass, model in CASES:
        onnx.save(model, folder / f"{name}.onnx")
        # What a pass leaves unread is not counted.
        left = onnxoptimizer.optimize(model, [optimizer_pass, "eliminate_deadend"])
        counts[name] = {"pass": optimizer_pass, "before": len(model.graph.node), "after": len(left.graph.node)}
    (folder / "counts.json").write_text(json.dumps(counts, indent=1))


main(Path(sys.argv[1]))
