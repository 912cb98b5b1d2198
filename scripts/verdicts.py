#!/usr/bin/env python3
"""How often `benchmark` is right about two models: one against itself, and against a twin that takes a twentieth longer.

  verdicts.py [--trials 100] [--compresso PROGRAM] [--runtime native] [--runs 0] [--threads N]

The model is a chain of 60 equal convolutions, the twin has some more of them: as many as make it nearest to a twentieth slower by a first comparison with a
chain of 90 (a run has its own costs beside the layers). How much longer it truly takes is printed beside the counts: the median ratio over the rounds of all trials.
Each trial is one call of `benchmark` with the model, the model again and the twin, each in a process of its own, taking turns. Needs the
packages numpy and onnx, and a machine on which nothing else runs: the load is printed.
"""
import argparse, collections, json, os, statistics, subprocess, tempfile

p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
p.add_argument("--trials", type=int, default=100)
p.add_argument("--compresso", default="compresso", help="the program")
p.add_argument("--runtime", default="native")
p.add_argument("--runs", type=int, default=0, help="the default of benchmark: as many as it finds right")
p.add_argument("--threads", type=int, default=os.cpu_count())
p.add_argument("--layers", type=int, default=60)
a = p.parse_args()
import numpy as np, onnx
from onnx import TensorProto, helper, numpy_helper

CHANNELS, SIDE = 32, 56


def chain(path, layers):
    """Convolutions of 3 x 3 with a Relu behind each, all of the same size."""
    random = np.random.default_rng(0)
    nodes, weights, value = [], [], "x"
    for i in range(layers + 1):
        inputs = 3 if i == 0 else CHANNELS
        w = random.standard_normal((CHANNELS, inputs, 3, 3), "float32") * (2 / (9 * inputs)) ** 0.5
        weights.append(numpy_helper.from_array(w, f"w{i}"))
        nodes.append(helper.make_node("Conv", [value, f"w{i}"], [f"c{i}"], name=f"conv{i}", pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"c{i}"], [f"r{i}"], name=f"relu{i}"))
        value = f"r{i}"
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, SIDE, SIDE])
    out = helper.make_tensor_value_info(value, TensorProto.FLOAT, [1, CHANNELS, SIDE, SIDE])
    model = helper.make_model(helper.make_graph(nodes, "chain", [image], [out], weights), opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.save(model, path)


def trial(folder, seed):
    out = os.path.join(folder, "report.json")
    models = ", ".join(f'model("{os.path.join(folder, name)}.onnx")' for name in ("model", "again", "twin"))
    options = f'#{{ runs: {a.runs}, runtimes: ["{a.runtime}"], power: false }}'
    command = [a.compresso, "-q", "--threads", str(a.threads), "--seed", str(seed), "eval", f'save(benchmark([{models}], {options}), "{out}")']
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    with open(out) as file:
        return json.load(file)["rows"]


with tempfile.TemporaryDirectory() as folder:
    for name, layers in (("model", a.layers), ("again", a.layers), ("twin", a.layers * 3 // 2)):
        chain(os.path.join(folder, name + ".onnx"), layers)
    ratios = []
    for seed in range(3):
        first, _, long = trial(folder, seed)
        ratios += [o / s for o, s in zip(long["samples_ms"], first["samples_ms"])]
    more = max(1, round(0.05 * (a.layers // 2) / (statistics.median(ratios) - 1)))
    chain(os.path.join(folder, "twin.onnx"), a.layers + more)
    print(f"a chain of {a.layers} layers, its twin of {a.layers + more}", flush=True)
    load = os.getloadavg()[0]
    verdicts = {"itself": collections.Counter(), "twin": collections.Counter()}
    ratios = {"itself": [], "twin": []}
    for seed in range(a.trials):
        first, again, twin = trial(folder, seed)
        for name, row in (("itself", again), ("twin", twin)):
            verdicts[name][row["speedup"]["verdict"]] += 1
            ratios[name] += [o / s for o, s in zip(row["samples_ms"], first["samples_ms"])]
        if (seed + 1) % 10 == 0:
            print(f"after {seed + 1}: " + "; ".join(f"{name} {dict(counts)}" for name, counts in verdicts.items()), flush=True)
    print(f"{a.trials} trials of {len(first['samples_ms'])} runs in {a.runtime}, {a.threads} threads, median {statistics.median(first['samples_ms']):.2f} ms; "
          f"load before them {load:.2f}, after them {os.getloadavg()[0]:.2f}")
    for name, what in (("itself", "the model against itself"), ("twin", "the twin")):
        counts = ", ".join(f"{verdict.replace('_', ' ')} {count}" for verdict, count in verdicts[name].most_common())
        print(f"{what}, which takes {statistics.median(ratios[name]):.4f} times as long: {counts}")
