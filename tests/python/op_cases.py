"""Writes small models of operators that onnx's own node tests hardly cover, for tests/op_cases.rs.

    python op_cases.py DIR

For each case DIR holds NAME.onnx and NAME.npz with seeded inputs (input_0, …) and outputs (output_0, …): of onnxruntime, or
where that is said of torchvision or onnx's reference. DIR/cases.json lists the names. Nothing is written when DIR holds the cases of this script
and these packages.
"""

import hashlib
import importlib.metadata
import json
import os
import shutil
import sys


def main(out):
    packages = " ".join(importlib.metadata.version(p) for p in ("onnx", "onnxruntime", "torch", "torchvision"))
    with open(__file__, "rb") as f:
        stamp = packages + " " + hashlib.sha256(f.read()).hexdigest()[:16]
    index = os.path.join(out, "cases.json")
    if os.path.exists(index):
        with open(index) as f:
            if json.load(f)["stamp"] == stamp:
                return
    shutil.rmtree(out, ignore_errors=True)
    os.makedirs(out)

    import numpy as np
    import onnx
    import onnxruntime as ort
    import torch
    from onnx import TensorProto as T
    from onnx import helper, numpy_helper

    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    names = []

    def normal(*dims):
        return rng.standard_normal(dims).astype(np.float32)

    def reference(model, feeds):
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = 1
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return session.run(None, {i.name: v for i, v in zip(session.get_inputs(), feeds)})

    def keep(name, model, feeds, expected=None):
        outputs = reference(model, feeds) if expected is None else expected
        onnx.save(model, os.path.join(out, name + ".onnx"))
        data = {f"input_{i}": v for i, v in enumerate(feeds)} | {f"output_{i}": v for i, v in enumerate(outputs)}
        np.savez(os.path.join(out, name + ".npz"), **data)
        names.append(name)

    def info(name, value):
        return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)

    def case(name, nodes, feeds, outputs, constants=(), opset=17, expected=None, ir=8):
        """Nodes over feeds x0, x1, … and constants by name; outputs by name (float32 unless said)."""
        inputs = [info(f"x{i}", v) for i, v in enumerate(feeds)]
        results = [helper.make_tensor_value_info(o, t, None) for o, t in (x if isinstance(x, tuple) else (x, T.FLOAT) for x in outputs)]
        initial = [numpy_helper.from_array(v, n) for n, v in dict(constants).items()]
        graph = helper.make_graph(nodes, name, inputs, results, initial)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)
        keep(name, model, feeds, expected)

    node = helper.make_node

    # Recurrent layers: directions, lengths of sequences, states, peepholes, functions, clipping.
    gates = {"RNN": 1, "GRU": 3, "LSTM": 4}
    t, b, i, h = 5, 3, 4, 6

    def recurrent(name, op, lengths=None, states=False, peepholes=False, bias=True, **attrs):
        d, g = (2 if attrs.get("direction") == "bidirectional" else 1), gates[op]
        constants = {"w": normal(d, g * h, i) * 0.5, "r": normal(d, g * h, h) * 0.5, "b": normal(d, 2 * g * h) * 0.5}
        inputs = ["x0", "w", "r", "b" if bias else "", "", "", "", ""]
        if not bias:
            del constants["b"]
        if lengths:
            constants["l"], inputs[4] = np.array(lengths, np.int32), "l"
        if states:
            constants["h"], inputs[5] = normal(d, b, h), "h"
            if op == "LSTM":
                constants["c"], inputs[6] = normal(d, b, h), "c"
        if peepholes:
            constants["p"], inputs[7] = normal(d, 3 * h), "p"
        while not inputs[-1]:
            inputs.pop()
        outputs = ["y", "yh", "yc"] if op == "LSTM" else ["y", "yh"]
        case(name, [node(op, inputs, outputs, hidden_size=h, **attrs)], [normal(t, b, i)], outputs, constants)

    for op in gates:
        low = op.lower()
        for direction in ("forward", "reverse", "bidirectional"):
            recurrent(f"{low}_{direction}", op, direction=direction, states=True)
            recurrent(f"{low}_{direction}_lengths", op, lengths=[5, 1, 3], direction=direction)
        recurrent(f"{low}_clip", op, clip=0.3, states=True)
        recurrent(f"{low}_plain", op, bias=False)
    recurrent("gru_after", "GRU", linear_before_reset=1, states=True, direction="bidirectional")
    recurrent("gru_after_lengths", "GRU", linear_before_reset=1, lengths=[2, 5, 4], direction="reverse")
    recurrent("gru_functions", "GRU", activations=["HardSigmoid", "Softsign"], activation_alpha=[0.3], activation_beta=[0.4])
    recurrent("rnn_functions", "RNN", activations=["LeakyRelu", "Relu"], activation_alpha=[0.2], direction="bidirectional")
    recurrent("rnn_affine", "RNN", activations=["Affine"], activation_alpha=[0.5], activation_beta=[0.1])
    recurrent("rnn_scaled", "RNN", activations=["ScaledTanh"], activation_alpha=[0.5], activation_beta=[1.5])
    recurrent("lstm_peepholes", "LSTM", peepholes=True, states=True, direction="bidirectional")
    recurrent("lstm_coupled", "LSTM", input_forget=1, states=True)
    recurrent("lstm_functions", "LSTM", activations=["HardSigmoid", "Relu", "Softsign"], activation_alpha=[0.3], activation_beta=[0.4])

    # Regions.
    image = normal(2, 3, 10, 14)
    rois = np.array([[0.4, 0.7, 9.3, 8.2], [3, 2, 5, 4], [-3, -2, 20, 15], [6, 6, 6.5, 6.5], [2, 9, 12, 9.5]], np.float32)
    of = np.array([0, 1, 1, 0, 1], np.int64)
    for mode in ("avg", "max"):
        for samples in (0, 2):
            for half in ("half_pixel", "output_half_pixel"):
                attrs = {"mode": mode, "sampling_ratio": samples, "coordinate_transformation_mode": half}
                n = node("RoiAlign", ["x0", "x1", "x2"], ["y"], output_height=3, output_width=4, spatial_scale=0.8, **attrs)
                case(f"roi_align_{mode}_{samples}_{half}", [n], [image, rois, of], ["y"])
    n = node("RoiAlign", ["x0", "x1", "x2"], ["y"], output_height=3, output_width=4, spatial_scale=0.8)
    case("roi_align_opset10", [n], [image, rois, of], ["y"], opset=10)
    boxes = np.concatenate([of[:, None].astype(np.float32), rois], 1)
    case("max_roi_pool", [node("MaxRoiPool", ["x0", "x1"], ["y"], pooled_shape=[2, 3], spatial_scale=0.5)], [image, boxes], ["y"])

    # Deformable convolutions, by torchvision.
    from torchvision.ops import deform_conv2d

    for name, groups, offsets, masked, stride, pad, dilation in [
        ("deform_conv", 1, 1, True, (1, 1), (1, 1), (1, 1)),
        ("deform_conv_groups", 2, 2, True, (2, 1), (1, 2), (1, 2)),
        ("deform_conv_plain", 1, 2, False, (1, 2), (0, 1), (2, 1)),
    ]:
        x, w, bias = normal(2, 4, 7, 9), normal(6, 4 // groups, 3, 2), normal(6)
        size = [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, p, d, k, s in zip((7, 9), pad, dilation, (3, 2), stride)]
        offset = normal(2, offsets * 2 * 6, *size) * 2
        feeds = [x, offset] + ([1 / (1 + np.exp(-normal(2, offsets * 6, *size)))] if masked else [])
        torch_feeds = [torch.from_numpy(v) for v in feeds]
        y = deform_conv2d(torch_feeds[0], torch_feeds[1], torch.from_numpy(w), torch.from_numpy(bias), stride, pad, dilation, torch_feeds[2] if masked else None)
        attrs = {"strides": stride, "pads": [*pad, *pad], "dilations": dilation, "group": groups, "offset_group": offsets}
        n = node("DeformConv", ["x0", "w", "x1", "b"] + (["x2"] if masked else []), ["y"], **attrs)
        case(name, [n], feeds, ["y"], {"w": w, "b": bias}, opset=19, expected=[y.numpy()], ir=9)

    # Images from parts.
    x = normal(2, 3 * 6, 12)
    n = node("Col2Im", ["x0", "image", "block"], ["y"], strides=[2, 1], pads=[1, 0, 1, 1], dilations=[1, 2])
    ints = lambda *v: np.array(v, np.int64)
    x = normal(2, 3 * 6, 3 * 4)
    case("col2im", [n], [x], ["y"], {"image": ints(5, 5), "block": ints(3, 2)}, opset=18)
    for align in (0, 1):
        n = node("AffineGrid", ["x0", "size"], ["y"], align_corners=align)
        case(f"affine_grid_{align}", [n], [normal(2, 2, 3)], ["y"], {"size": ints(2, 3, 4, 5)}, opset=20, ir=9)
        case(f"affine_grid_3d_{align}", [n], [normal(2, 3, 4)], ["y"], {"size": ints(2, 3, 4, 5, 3)}, opset=20, ir=9)
    n = node("CenterCropPad", ["x0", "shape"], ["y"], axes=[-1, 1])
    case("center_crop_pad", [n], [normal(3, 4, 7)], ["y"], {"shape": ints(4, 9)}, opset=18)
    nodes = [node("MaxPool", ["x0"], ["p", "at"], kernel_shape=[3, 3], strides=[2, 2]), node("MaxUnpool", ["p", "at"], ["y"], kernel_shape=[3, 3], strides=[2, 2])]
    case("max_unpool_overlaps", nodes, [normal(1, 2, 7, 9)], ["y"])

    # Spectra.
    for length in (7, 8, 12):
        for inverse, onesided, parts in [(0, 0, 1), (0, 0, 2), (0, 1, 1), (1, 0, 2)]:
            n = node("DFT", ["x0", "length", "axis"], ["y"], inverse=inverse, onesided=onesided)
            name = f"dft_{length}_{inverse}{onesided}{parts}"
            case(name, [n], [normal(2, 8, 3, parts)], ["y"], {"length": np.array(length), "axis": np.array(1)}, opset=20, ir=9)
    for onesided in (0, 1):
        n = node("STFT", ["x0", "step", "window", "length"], ["y"], onesided=onesided)
        constants = {"step": np.array(3), "window": np.hanning(9).astype(np.float32), "length": np.array(9)}
        case(f"stft_{onesided}", [n], [normal(2, 40, 1)], ["y"], constants)

    # Sequences, as exporters write them.
    x = normal(2, 7, 3)
    zero, one, minus = np.array(0), np.array(1), np.array(-1)
    some = {"zero": zero, "one": one, "minus": minus, "three": np.array(3), "sizes": ints(2, 4, 1)}
    use = lambda *wanted: {n: some[n] for n in wanted}
    nodes = [node("SplitToSequence", ["x0", "three"], ["s"], axis=1), node("SequenceAt", ["s", "one"], ["a"]), node("SequenceAt", ["s", "minus"], ["z"]),
             node("ConcatFromSequence", ["s"], ["j"], axis=1), node("SequenceLength", ["s"], ["n"]), node("Cast", ["n"], ["f"], to=T.FLOAT), node("Mul", ["z", "f"], ["zf"])]
    case("sequence_split", nodes, [x], ["a", "zf", "j"], use("one", "minus", "three"))
    nodes = [node("SplitToSequence", ["x0", "sizes"], ["s"], axis=1), node("SequenceAt", ["s", "one"], ["a"])]
    case("sequence_split_sizes", nodes, [x], ["a"], use("one", "sizes"), opset=11)
    nodes = [node("SplitToSequence", ["x0"], ["s"], axis=1, keepdims=0), node("SequenceAt", ["s", "minus"], ["a"]), node("ConcatFromSequence", ["s"], ["j"], axis=-1, new_axis=1)]
    case("sequence_split_single", nodes, [x], ["a", "j"], use("minus"), opset=12)
    nodes = [node("SequenceEmpty", [], ["e"]), node("SequenceInsert", ["e", "x0"], ["s1"]), node("Relu", ["x0"], ["r"]), node("SequenceInsert", ["s1", "r", "zero"], ["s2"]),
             node("SequenceConstruct", ["r", "x0"], ["c"]), node("SequenceAt", ["c", "one"], ["k"]), node("SequenceInsert", ["s2", "k"], ["s3"]),
             node("SequenceErase", ["s3", "zero"], ["s4"]), node("ConcatFromSequence", ["s3"], ["y"], axis=0, new_axis=1), node("ConcatFromSequence", ["s4"], ["z"], axis=2)]
    case("sequence_list", nodes, [x], ["y", "z"], use("zero", "one"))
    # A list that a loop appends to.
    body = helper.make_graph(
        [node("Gather", ["x0", "i"], ["row"], axis=1), node("Mul", ["row", "row"], ["square"]), node("SequenceInsert", ["s_in", "square"], ["s_out"]), node("Identity", ["c_in"], ["c_out"])],
        "body",
        [helper.make_tensor_value_info("i", T.INT64, []), helper.make_tensor_value_info("c_in", T.BOOL, []), helper.make_tensor_sequence_value_info("s_in", T.FLOAT, None)],
        [helper.make_tensor_value_info("c_out", T.BOOL, []), helper.make_tensor_sequence_value_info("s_out", T.FLOAT, None)],
    )
    nodes = [node("SequenceEmpty", [], ["e"]), node("Loop", ["count", "go", "e"], ["s"], body=body), node("ConcatFromSequence", ["s"], ["y"], axis=1, new_axis=1)]
    case("sequence_loop", nodes, [x], ["y"], {"count": np.array(4), "go": np.array(True)})

    # Loops of a known number of rounds, with weights inside, and one that ends by its own condition.
    def loop(name, stop):
        inner = [node("MatMul", ["v_in", "w"], ["a"]), node("Relu", ["a"], ["v_out"]), node("Cast", ["i"], ["f"], to=T.FLOAT), node("Add", ["v_out", "f"], ["shown"])]
        inner += [node("Less", ["i", "two"], ["c_out"])] if stop else [node("Identity", ["c_in"], ["c_out"])]
        scalar = lambda n, t: helper.make_tensor_value_info(n, t, [])
        free = lambda n: helper.make_tensor_value_info(n, T.FLOAT, [2, 3])
        weights = [numpy_helper.from_array(normal(3, 3), "w"), numpy_helper.from_array(np.array(2), "two")]
        body = helper.make_graph(inner, "body", [scalar("i", T.INT64), scalar("c_in", T.BOOL), free("v_in")], [scalar("c_out", T.BOOL), free("v_out"), free("shown")], weights)
        case(name, [node("Loop", ["count", "go", "x0"], ["last", "all"], body=body)], [normal(2, 3)], ["last", "all"], {"count": np.array(5), "go": np.array(True)})

    loop("loop_known", False)
    loop("loop_open", True)

    # A condition that follows from shapes.
    branches = []
    for name, op in (("then", "Relu"), ("else", "Neg")):
        inner = [node(op, ["x0"], [f"{name}_a"]), node("Add", [f"{name}_a", "k"], [f"{name}_y"])]
        k = [numpy_helper.from_array(np.float32([1 if name == "then" else 2]), "k")]
        branches.append(helper.make_graph(inner, name, [], [helper.make_tensor_value_info(f"{name}_y", T.FLOAT, None)], k))
    for value in (3, 4):
        nodes = [node("Shape", ["x0"], ["shape"]), node("Gather", ["shape", "last"], ["n"]), node("Equal", ["n", "want"], ["same"]),
                 node("If", ["same"], ["p"], then_branch=branches[0], else_branch=branches[1]), node("If", ["same"], ["q"], then_branch=branches[1], else_branch=branches[0]), node("Sub", ["p", "q"], ["y"])]
        case(f"if_shape_{value}", nodes, [x], ["y", "p"], {"last": np.array(2), "want": np.array(value)})

    # Scans: directions and axes.
    body = helper.make_graph(
        [node("Add", ["sum_in", "slice"], ["sum_out"]), node("Mul", ["sum_out", "other"], ["shown"]), node("Identity", ["sum_out"], ["also"])],
        "body",
        [helper.make_tensor_value_info(n, T.FLOAT, [2]) for n in ("sum_in", "slice", "other")],
        [helper.make_tensor_value_info(n, T.FLOAT, [2]) for n in ("sum_out", "shown", "also")],
    )
    n = node("Scan", ["x0", "x1", "x2"], ["last", "shown_all", "also_all"], body=body, num_scan_inputs=2, scan_input_axes=[1, -1], scan_input_directions=[0, 1], scan_output_axes=[1, 0], scan_output_directions=[1, 0])
    case("scan", [n], [normal(2), normal(2, 5), normal(2, 5)], ["last", "shown_all", "also_all"])

    # Operators that onnxruntime may lack, by onnx's reference.
    from onnx.reference import ReferenceEvaluator

    def by_reference(name, op, feeds, outputs=("y",), constants=(), opset=23, **attrs):
        constants = dict(constants)
        # A constant stands at the place that its name begins with: 3mask.
        slots = {int(n[0]): n for n in constants}
        own = iter(f"x{i}" for i in range(len(feeds)))
        wanted = max([*slots, len(feeds) + len(slots) - 1])
        inputs = [slots.get(i) or next(own, "") for i in range(wanted + 1)]
        graph = helper.make_graph(
            [node(op, inputs, [o if isinstance(o, str) else o[0] for o in outputs], **attrs)], name, [info(f"x{i}", v) for i, v in enumerate(feeds)],
            [helper.make_tensor_value_info(o, t, None) for o, t in (x if isinstance(x, tuple) else (x, T.FLOAT) for x in outputs)],
            [numpy_helper.from_array(v, n) for n, v in constants.items()])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
        keep(name, model, feeds, ReferenceEvaluator(model).run(None, {f"x{i}": v for i, v in enumerate(feeds)}))

    q, k, v = normal(2, 5, 12), normal(2, 4, 6), normal(2, 4, 8)
    by_reference("attention_packed", "Attention", [q, k, v], q_num_heads=4, kv_num_heads=2, softcap=2.0, scale=0.7)
    q, k, v = normal(2, 4, 3, 5), normal(2, 2, 6, 5), normal(2, 2, 6, 7)
    mask = rng.random((3, 6)) > 0.4
    mask[1] = False
    by_reference("attention_masked", "Attention", [q, k, v], ("y",), {"3mask": mask})
    by_reference("attention_biased", "Attention", [q, k, v], ("y",), {"3mask": normal(4, 3, 5)}, is_causal=1)
    by_reference("attention_past", "Attention", [q, k, v], ("y", "k", "v", "qk"), {"3mask": normal(3, 8), "4past": normal(2, 2, 2, 5), "5past": normal(2, 2, 2, 7)}, qk_matmul_output_mode=3, is_causal=1)
    by_reference("attention_counts", "Attention", [q, k, v], ("y",), {"3mask": np.ones((3, 6), bool), "6counts": ints(6, 2)}, opset=24, is_causal=1)
    by_reference("rotary", "RotaryEmbedding", [normal(2, 3, 4, 8)], ("y",), {"1cos": normal(9, 2), "2sin": normal(9, 2), "3at": ints(0, 8, 3, 1, 4, 4, 7, 2).reshape(2, 4)}, rotary_embedding_dim=4, interleaved=1)
    by_reference("cumprod", "CumProd", [normal(2, 5, 3)], ("y",), {"1axis": np.array(1)}, opset=26, exclusive=1, reverse=1)
    by_reference("det", "Det", [normal(2, 3, 4, 4)], ("y",))
    repeated = np.float32([[1, 0, 2], [3, 0, 4], [1, 0, 2], [0, 0, 0]])
    by_reference("unique_rows", "Unique", [repeated], ("y", ("a", T.INT64), ("b", T.INT64), ("c", T.INT64)), axis=0)
    by_reference("unique_unsorted", "Unique", [repeated.reshape(-1)], ("y", ("a", T.INT64), ("b", T.INT64), ("c", T.INT64)), sorted=0)
    classes = rng.integers(0, 4, (2, 3)).astype(np.int64)
    by_reference("cross_entropy", "SoftmaxCrossEntropyLoss", [normal(2, 4, 3), classes], ("y", "logs"), {"2weights": np.float32([1, 2, 0.5, 1])}, opset=13, ignore_index=2)
    by_reference("hann", "HannWindow", [np.array(9)], ("y",), periodic=0)
    by_reference("mel", "MelWeightMatrix", [np.array(5), np.array(64), np.array(8000), np.float32(10), np.float32(3900)], ("y",))
    by_reference("tensor_scatter", "TensorScatter", [normal(2, 3, 5, 4), normal(2, 3, 2, 4), ints(4, 1)], ("y",), opset=24, mode="circular")
    by_reference("causal_conv", "CausalConvWithState", [normal(2, 3, 6), normal(3, 1, 4), normal(3), normal(2, 3, 3)], ("y", "s"), opset=27, activation="silu")
    feeds = [normal(2, 5, 12), normal(2, 5, 6) * 0.5, normal(2, 5, 10), normal(2, 2, 3, 5), -rng.random((2, 5, 2)).astype(np.float32), rng.random((2, 5, 2)).astype(np.float32)]
    by_reference("linear_attention", "LinearAttention", feeds, ("y", "s"), opset=27, q_num_heads=4, kv_num_heads=2)
    by_reference("swiglu", "SwiGLU", [normal(2, 5), normal(2, 5)], ("y",), opset=28, alpha=1.5)

    # Networks from PyTorch.
    class Reader(torch.nn.Module):
        """Convolutions, height pooled away, recurrent layers in both directions, a linear layer: reads lines of text."""

        def __init__(self):
            super().__init__()
            c = lambda i, o, p: torch.nn.Sequential(torch.nn.Conv2d(i, o, 3, 1, 1), torch.nn.BatchNorm2d(o), torch.nn.ReLU(), torch.nn.MaxPool2d(p, p))
            self.f = torch.nn.Sequential(c(1, 8, 2), c(8, 12, (4, 2)), c(12, 10, (2, 1)))
            self.r = torch.nn.LSTM(10, 8, bidirectional=True, num_layers=2)
            self.g = torch.nn.GRU(16, 6)
            self.o = torch.nn.Linear(6, 9)

        def forward(self, x):
            y = self.f(x).squeeze(2).permute(2, 0, 1)
            return self.o(self.g(self.r(y)[0])[0]).log_softmax(2)

    import io

    def exported(name, model, x, opset, **more):
        buffer = io.BytesIO()
        torch.onnx.export(model, (x,), buffer, opset_version=opset, dynamo=False, **more)
        keep(name, onnx.load_from_string(buffer.getvalue()), [x.numpy()])

    reader = Reader().eval()
    for m in reader.modules():
        if isinstance(m, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(m.weight, 0.6, 1.4)
            torch.nn.init.uniform_(m.bias, -0.3, 0.3)
    exported("reader", reader, torch.rand(1, 1, 16, 40), 17)
    exported("reader_wide", reader, torch.rand(2, 1, 16, 24), 11, input_names=["line"], output_names=["text"], dynamic_axes={"line": {0: "n", 3: "w"}, "text": {0: "t", 1: "n"}})

    with open(index, "w") as f:
        json.dump({"stamp": stamp, "cases": names}, f)


if __name__ == "__main__":
    import warnings

    warnings.filterwarnings("ignore")
    main(sys.argv[1])
