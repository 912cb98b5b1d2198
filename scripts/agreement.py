#!/usr/bin/env python3
"""Holds the rows of `benchmark` against other tools, in one run on the same threads:

  agreement.py DENSE.onnx [MODEL.onnx ...] [--compresso PROGRAM] [--runs 100] [--rounds 7] [--threads N]

- latency in onnxruntime against a loop in Python, in OpenVINO against `benchmark_app` (which the package openvino brings),
- memory of the worker's process against the maximum resident size of /usr/bin/time -v,
- percentiles against numpy, the interval of the median against the ranks of scipy's binomial distribution, on the recorded runs.

All models are timed in native, onnxruntime, OpenVINO, TensorFlow Lite and ncnn by one call of `benchmark`. Other tools run one model over and over, so that its weights stay in the
caches; they are held against `benchmark` of that model and runtime alone, in turns, and what counts is the median of the ratios of the turns: the machine's speed drifts. Give the dense, the pruned, the INT8 and the distilled model. Needs the packages numpy,
onnxruntime, openvino and scipy (ai-edge-litert and ncnn for their rows) and GNU time. Ends with status 1 where something is off by more than 5 %.
"""
import argparse, glob, json, os, re, shlex, statistics, subprocess, sys, tempfile

p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
p.add_argument("models", metavar="MODEL", nargs="+")
p.add_argument("--compresso", default="compresso", help="the program")
p.add_argument("--runtimes", default="native,onnxruntime,openvino,tflite,ncnn")
p.add_argument("--runs", type=int, default=100)
p.add_argument("--rounds", type=int, default=7, help="turns of each tool; the median of their ratios counts")
p.add_argument("--threads", type=int, default=os.cpu_count())
p.add_argument("--size", type=int, default=640, help="pixels of a side, where a model leaves it open")
a = p.parse_args()
import numpy as np
from scipy.stats import binom

models = [os.path.abspath(m) for m in a.models]
runtimes = a.runtimes.split(",")
off = []


def told(what, ours, theirs, unit, part=None):
    part = ours / theirs - 1 if part is None else part
    print(f"{what:58} {ours:11.4f} {theirs:11.4f} {unit:3} {100 * part:+6.1f} %", flush=True)
    if abs(part) > 0.05:
        off.append(what)


def compresso(code, **environment):
    command = [a.compresso, "-q", "--threads", str(a.threads), "eval", code]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ | environment)


def benchmark(paths, names, out, **environment):
    """The rows of one call."""
    listed = ", ".join(f"model({json.dumps(path)})" for path in paths)
    options = f"#{{ runs: {a.runs}, size: {a.size}, power: false, runtimes: {json.dumps(names)} }}"
    compresso(f"save(benchmark([{listed}], {options}), {json.dumps(out)})", **environment)
    with open(out) as file:
        return json.load(file)["rows"]


# As anyone writes it; the threads rest between runs, as those of `benchmark` do.
LOOP = """
import statistics, sys, time, numpy as np, onnxruntime as ort
path, threads, size, runs = sys.argv[1], *map(int, sys.argv[2:])
o = ort.SessionOptions()
o.intra_op_num_threads, o.inter_op_num_threads = threads, 1
o.add_session_config_entry("session.force_spinning_stop", "1")
s = ort.InferenceSession(path, o, providers=["CPUExecutionProvider"])
i = s.get_inputs()[0]
x = np.random.default_rng(0).random([d if isinstance(d, int) else 1 if n == 0 else size for n, d in enumerate(i.shape)], "float32")
times = []
for n in range(runs + 10):
    start = time.perf_counter()
    s.run(None, {i.name: x})
    times.append((time.perf_counter() - start) * 1e3)
print(statistics.median(times[10:]))
"""


def loop(path):
    words = [sys.executable, "-c", LOOP, path, *map(str, (a.threads, a.size, a.runs))]
    return float(subprocess.run(words, check=True, capture_output=True, text=True).stdout)


def benchmark_app(path):
    """OpenVINO's own tool: one request after the other on one stream, in float32 where the file is."""
    app = [sys.executable, "-c", "import sys; from openvino.tools.benchmark.main import main; sys.exit(main())"]
    words = [*app, "-m", path, "-d", "CPU", "-api", "sync", "-hint", "none", "-nstreams", "1", "-nthreads", str(a.threads)]
    words += ["-infer_precision", "f32", "-niter", str(a.runs)]
    done = subprocess.run(words, capture_output=True, text=True)
    found = re.search(r"Median:\s+([\d.]+) ms", done.stdout)
    if not found:
        sys.exit(f"benchmark_app says no median: {done.stdout[-500:]}{done.stderr[-500:]}")
    return float(found[1])


def resident(path, runtime, folder):
    """The process memory that `benchmark` says of a worker, and the largest resident size that GNU time says of the same process, in MB."""
    worker = os.path.join(folder, "worker.sh")
    times = os.path.join(folder, "times")
    os.makedirs(times, exist_ok=True)
    for old in glob.glob(f"{times}/*"):
        os.remove(old)
    with open(worker, "w") as file:
        # Killed, this leaves GNU time behind, whose worker ends with its input.
        program = shlex.quote(os.path.realpath(a.compresso))
        file.write(f'#!/bin/bash\nexec 3<&0\n/usr/bin/time -v -o {shlex.quote(times)}/$$ {program} "$@" <&3 &\nexec 3<&-\nwait\n')
    os.chmod(worker, 0o755)
    row = benchmark([path], [runtime], os.path.join(folder, "memory.json"), COMPRESSO_WORKER=worker)[0]
    sizes = []
    for _ in range(100):
        texts = [open(f).read() for f in glob.glob(f"{times}/*")]
        sizes = [int(m[1]) for m in (re.search(r"Maximum resident set size \(kbytes\): (\d+)", t) for t in texts) if m]
        if len(sizes) > 1:
            break
        subprocess.run(["sleep", "0.1"])
    # One more worker says who it is before models are loaded; it is the smaller one.
    return row["process_memory_bytes"] / 1e6, max(sizes) * 1024 / 1e6


def interval(samples):
    """Ranks that hold the median with 95 % confidence, from 1."""
    n = len(samples)
    ranks = [binom.ppf(0.025, n, 0.5), binom.ppf(0.975, n, 0.5) + 1]
    return [sorted(samples)[int(r) - 1] for r in ranks]


with tempfile.TemporaryDirectory() as folder:
    files = {}
    for i, path in enumerate(models):
        # Open sizes are filled in for all.
        models[i] = os.path.join(folder, f"{i}.onnx")
        from onnxruntime.tools.onnx_model_utils import fix_output_shapes, make_input_shape_fixed
        import onnx
        m = onnx.load(path)
        dims = [d.dim_value or (1 if n == 0 else a.size) for n, d in enumerate(m.graph.input[0].type.tensor_type.shape.dim)]
        make_input_shape_fixed(m.graph, m.graph.input[0].name, dims)
        fix_output_shapes(m)
        onnx.save(m, models[i])
        path = models[i]
        files[path] = os.path.join(folder, f"{i}.xml")
        compresso(f"openvino_export(model({json.dumps(path)}), {json.dumps(files[path])})")
    tools = {"onnxruntime": loop, "openvino": lambda m: benchmark_app(files[m])}
    print(f"load {os.getloadavg()[0]:.2f}; {a.threads} threads, {a.runs} runs, {a.rounds} turns\n")
    print(f"{'':58} {'benchmark':>11} {'other':>11}")
    rows = benchmark(models, runtimes, os.path.join(folder, "report.json"))
    names = dict(zip(models, dict.fromkeys(row["name"] for row in rows)))
    for runtime, tool in tools.items():
        for m in models:
            ours, theirs = [], []
            for n in range(a.rounds):
                # Each begins every other turn.
                turn = [lambda: theirs.append(tool(m)), lambda: ours.append(benchmark([m], [runtime], os.path.join(folder, "one.json"))[0]["p50_ms"])]
                for go in turn[:: 1 if n % 2 else -1]:
                    go()
            ratio = statistics.median(x / y for x, y in zip(ours, theirs))
            told(f"{names[m]} in {runtime}, median of {a.rounds}", statistics.median(ours), statistics.median(theirs), "ms", ratio - 1)
    for m in models:
        for runtime in ("native", "onnxruntime"):
            told(f"{names[m]} in {runtime}, memory of the process", *resident(m, runtime, folder), "MB")
    for row in rows:
        runtime, name, samples = row["runtime"], row["name"], row["samples_ms"]
        figures = [(row[f"p{q}_ms"], np.percentile(samples, q)) for q in (50, 95, 99)]
        figures += [(row["mean_ms"], np.mean(samples)), (row["std_ms"], np.std(samples, ddof=1))]
        figures += list(zip((row["p50_interval_ms"]["low"], row["p50_interval_ms"]["high"]), interval(samples)))
        if not all(abs(x - y) <= 1e-9 * max(1, abs(y)) for x, y in figures):
            off.append(f"percentiles or interval of {name} in {runtime}: {figures}")
    print(f"\npercentiles, mean, deviation and interval of {len(rows)} rows recomputed from their runs by numpy and scipy")
    for row in rows:
        print(f"{row['name']:20} {row['runtime']:12} p50 {row['p50_ms']:.2f} ms")
for line in off:
    print(f"more than 5 % off: {line}")
sys.exit(bool(off))
