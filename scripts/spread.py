#!/usr/bin/env python3
"""Spreads the scales of channels, so that a model computes the same in float32 and loses much in INT8.

  spread.py MODEL.onnx OUT.onnx [LAYERS] [DECADES] [SEED]

The input of LAYERS convolutions (8), drawn at random, is multiplied channel by channel with 10^u, u uniform from -DECADES/2 to DECADES/2
(2), and the weights that read it are divided by that. Needs the packages onnx and numpy.
"""
import sys
import numpy as np, onnx
from onnx import numpy_helper as numbers, helper

model, out = onnx.load(sys.argv[1]), sys.argv[2]
layers, decades, seed = (f(a) for f, a in zip((int, float, int), sys.argv[3:] + ["8", "2", "0"][len(sys.argv) - 3:]))
rng = np.random.default_rng(seed)
graph = model.graph
weights = {t.name: t for t in graph.initializer}
readers = {}
for node in graph.node:
    for name in node.input:
        readers.setdefault(name, []).append(node)
convs = [n for n in graph.node if n.op_type == "Conv" and n.input[1] in weights and len(readers[n.input[1]]) == 1]
convs = [n for n in convs if not any(a.name == "group" and a.i != 1 for a in n.attribute) and numbers.to_array(weights[n.input[1]]).shape[1] > 3]
for node in (convs[i] for i in sorted(rng.choice(len(convs), min(layers, len(convs)), replace=False))):
    weight = numbers.to_array(weights[node.input[1]])
    factor = (10.0 ** rng.uniform(-decades / 2, decades / 2, weight.shape[1])).astype(np.float32)
    weights[node.input[1]].CopyFrom(numbers.from_array(weight / factor.reshape(1, -1, *[1] * (weight.ndim - 2)), node.input[1]))
    scale = node.input[1] + "_spread"
    graph.initializer.append(numbers.from_array(factor.reshape(1, -1, *[1] * (weight.ndim - 2)), scale))
    place = list(graph.node).index(node)
    graph.node.insert(place, helper.make_node("Mul", [node.input[0], scale], [scale + "_out"], name=scale))
    node.input[0] = scale + "_out"
    print(node.name)
onnx.save(model, out)
