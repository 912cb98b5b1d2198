#!/usr/bin/env python3
"""Compares this program with other tools on one ONNX file: all take turns, round by round, on the same threads.

  compare.py infer MODEL.onnx    milliseconds of one float32 inference
  compare.py int8  MODEL.onnx    milliseconds of one inference after each tool's own static INT8 quantization
  compare.py ptq   MODEL.onnx    seconds of that quantization, reading and writing the files included
  compare.py export MODEL.onnx   milliseconds of this program's INT8 file in each other runtime, beside the file of that runtime's quantizer

The others are onnxruntime and, where they can be imported, OpenVINO and its quantizer NNCF. Needs the packages onnx,
onnxruntime and sympy. The model takes one image tensor; sizes that it leaves open become 1. Prints a line per tool and the ratio.
Several models (`infer`, `int8`, `ptq`) are compared one after another and end in a table with the geometric mean of the ratios.
"""
import argparse, importlib.util, logging, os, statistics, subprocess, sys, tempfile, time

p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
p.add_argument("mode", choices=["infer", "int8", "ptq", "export"])
p.add_argument("models", metavar="MODEL", nargs="+")
p.add_argument("--compresso", default="compresso", help="this program")
p.add_argument("--threads", type=int, default=os.cpu_count())
p.add_argument("--rounds", type=int, default=3, help="turns of each tool; the median counts")
p.add_argument("--runs", type=int, default=30, help="measured inferences in a turn; their median counts")
p.add_argument("--images", type=int, default=32, help="calibration images, uniform noise")
a = p.parse_args()
os.environ["OMP_NUM_THREADS"] = str(a.threads)


def table():
    """Each model by a process of its own: what one leaves in memory or keeps running is not the next one's."""
    options = sys.argv[1:]
    for model in a.models:
        options.remove(model)
    tools = ["compresso", "onnxruntime", "openvino"]
    rows = []
    for model in a.models:
        done = subprocess.run([sys.executable, __file__, options[0], model, *options[1:]], capture_output=True, text=True)
        print(f"{model}\n{done.stdout or done.stderr[-500:]}", end="", flush=True)
        # NNCF writes its progress among the lines.
        lines = [line for line in map(str.split, done.stdout.splitlines()) if line and line[0] in tools]
        if done.returncode or not lines:
            rows.append((model, None, {}))
            continue
        rows.append((model, float(lines[-1][2]), {line[0]: float(line[1]) for line in lines[:-1]}))
    print(f"\n| model | {' | '.join(tools)} | ratio to the better |\n|---|---|---|---|---|")
    for model, ratio, taken in sorted(rows, key=lambda r: r[1] or float("inf")):
        cells = [f"{taken[t]:.1f}" if t in taken else "–" for t in tools]
        print(f"| {os.path.splitext(os.path.basename(model))[0]} | {' | '.join(cells)} | {'failed' if ratio is None else f'{ratio:.2f}'} |")
    ratios = [r for _, r, _ in rows if r]
    mean = f"{statistics.geometric_mean(ratios):.2f}" if ratios else "–"
    print(f"| geometric mean of {len(ratios)} | | | | {mean} |")
    return len(ratios) < len(rows)


if len(a.models) > 1:
    if a.mode == "export":
        p.error("export compares one model")
    sys.exit(table())
a.model = a.models[0]
import numpy as np, onnx, onnxruntime as ort
from onnxruntime import quantization as ort_quantization

logging.disable(logging.WARNING)
with_openvino = all(importlib.util.find_spec(m) for m in (["openvino"] if a.mode == "infer" else ["openvino", "nncf"]))
folder = tempfile.TemporaryDirectory()
image = onnx.load(a.model, load_external_data=False).graph.input[0]
shape = [d.dim_value or 1 for d in image.type.tensor_type.shape.dim]
random = np.random.RandomState(0)
noise = lambda: random.rand(*shape).astype(np.float32)
path = lambda name: os.path.join(folder.name, name)


def ours(code):
    command = [a.compresso, "--threads", str(a.threads), "eval", code]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{command} failed:\n{done.stderr}")
    return done.stdout.split()[-1:]


def random_images():
    return f'dataset("random", #{{ images: {a.images}, size: [{shape[2]}, {shape[3]}] }})'


def quantize_ours(out):
    ours(f'save(quantize(model("{a.model}"), {random_images()}, #{{ images: {a.images} }}), "{out}")')


def export_ours(call):
    def write(out):
        options = f'precision: "int8", images: {a.images}, score: false'
        ours(call.format(model=f'model("{a.model}")', out=out, images=random_images(), options=options) + "; 0")

    return write


class Noise(ort_quantization.CalibrationDataReader):
    def __init__(self):
        self.left = a.images

    def get_next(self):
        self.left -= 1
        return {image.name: noise()} if self.left >= 0 else None


def quantize_onnxruntime(out):
    from onnxruntime.quantization.shape_inference import quant_pre_process

    quant_pre_process(a.model, path("prepared.onnx"))
    ort_quantization.quantize_static(path("prepared.onnx"), out, Noise(), per_channel=True)


def quantize_openvino(out):
    import nncf, openvino

    data = nncf.Dataset([noise() for _ in range(a.images)], lambda x: {image.name: x})
    openvino.save_model(nncf.quantize(openvino.Core().read_model(a.model), data, subset_size=a.images), out)


def timed(f):
    start = time.perf_counter()
    f()
    return time.perf_counter() - start


def turn(f):
    f()
    return lambda: 1e3 * statistics.median(timed(f) for _ in range(a.runs))


def run_ours(file):
    options = f'#{{ runtimes: ["native"], runs: {a.runs}, accuracy: false, power: false }}'
    return lambda: float(ours(f'benchmark("{file}", {options}).p50_ms')[0])


def run_onnxruntime(file):
    options = ort.SessionOptions()
    options.intra_op_num_threads = a.threads
    session = ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    x = noise()
    return turn(lambda: session.run(None, {image.name: x}))


def run_openvino(file):
    sys.modules["openvino_telemetry"] = None  # a process that stays
    import openvino

    settings = {"INFERENCE_NUM_THREADS": a.threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    request = openvino.Core().compile_model(file, "CPU", settings).create_infer_request()
    x = noise()
    return turn(lambda: request.infer({0: x}))


def compare(tools):
    turns = {}
    for name, (quantize, run, file) in tools.items():
        out = path(file)
        if a.mode == "ptq":
            turns[name] = lambda quantize=quantize, out=out: timed(lambda: quantize(out))
        elif a.mode == "infer":
            turns[name] = run(a.model)
        else:
            quantize(out)
            turns[name] = run(out)
    taken = {name: [] for name in turns}
    for _ in range(a.rounds):
        for name, f in turns.items():
            taken[name].append(f())
    middle = {name: statistics.median(t) for name, t in taken.items()}
    for name, value in middle.items():
        print(f"{name:12} {value:10.3f} {'s' if a.mode == 'ptq' else 'ms'}")
    best = min((n for n in middle if n != "compresso"), key=middle.get)
    print(f"compresso takes {middle['compresso'] / middle[best]:.3f} of the time of {best}")


if a.mode == "export":
    # One runtime at a time, with the file of each tool.
    to_onnx = export_ours('deploy({model}, "{out}", {images}, #{{ target: "onnxruntime", {options} }})')
    compare({"compresso": (to_onnx, run_onnxruntime, "ours.onnx"), "onnxruntime": (quantize_onnxruntime, run_onnxruntime, "ort.onnx")})
    if with_openvino:
        to_ir = export_ours('openvino_export({model}, "{out}", {images}, #{{ {options} }})')
        compare({"compresso": (to_ir, run_openvino, "ours.xml"), "openvino": (quantize_openvino, run_openvino, "openvino.xml")})
    sys.exit()
tools = {"compresso": (quantize_ours, run_ours, "ours.onnx"), "onnxruntime": (quantize_onnxruntime, run_onnxruntime, "ort.onnx")}
if with_openvino:
    tools["openvino"] = (quantize_openvino, run_openvino, "openvino.xml")
compare(tools)
