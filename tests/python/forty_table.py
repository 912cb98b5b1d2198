"""Opens, runs, prunes and quantizes the models of forty_models.py, which it has written first, and writes a table of what came of it.

    python forty_table.py DIR --compresso PROGRAM [--seconds 240] [--again] [PATTERN…]

Each model is held against what onnxruntime gave for its file (DIR/NAME.out.npz), in the planned and in the eager executor; pruned and quantized ones
against onnxruntime on the file that was saved. DIR/results.json keeps what was found, and only models that are not in it or failed
are tried, or all with --again; DIR/table.md is the table. A number is the largest difference, as a part of the largest value; of quantized models
the signal over the noise of rounding, in decibels. Exits with 1 if anything failed.
"""

import argparse
import fnmatch
import json
import os
import subprocess
import sys
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

import forty_nets as nets

LEVELS = {"all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL, "none": ort.GraphOptimizationLevel.ORT_DISABLE_ALL}
SCRIPT = """
let m = model("{file}", {options});
print(`@open ${{m.params}}`);
let x = load("{name}.in.npz");
let float = load("{name}.float.npz");
try {{ save(forward(m, x), "{name}.planned.npz"); print("@planned"); }} catch (e) {{ print(`@planned ! ${{e}}`); }}
try {{
    let b = benchmark(m, #{{ runs: 1, warmup: 0, runtimes: ["native"], layers: true, isolate: false, power: false, threads: 1 }});
    print(`@plan ${{b.layers.len}} ${{b.warnings}}`);
}} catch (e) {{ print(`@plan ! ${{e}}`); }}
{eager}
save(m, "{name}.saved.onnx");
for r in [3, 5] {{
    try {{
        let p = prune(m, #{{ ratio: 0.1 * r }});
        save(p, `{name}.p${{r}}.onnx`);
        print(`@p${{r}} ${{p.params}} ${{m.macs}} ${{p.macs}}`);
        save(forward(p, x), `{name}.p${{r}}.npz`);
    }} catch (e) {{ print(`@p${{r}} ! ${{e}}`); }}
}}
try {{
    let q = quantize(m, dataset("{pictures}"), #{{ images: 4, score: false }});
    save(q, "{name}.static.onnx");
    print("@static");
    save(forward(q, float), "{name}.static.npz");
}} catch (e) {{ print(`@static ! ${{e}}`); }}
try {{
    let q = quantize(m, #{{ mode: "dynamic" }});
    save(q, "{name}.dynamic.onnx");
    print("@dynamic");
    save(forward(q, float), "{name}.dynamic.npz");
}} catch (e) {{ print(`@dynamic ! ${{e}}`); }}
print("@end");
"""
EAGER = """
try {{
    let fed = load("{name}.in.npz");
    fed.mixin(load("{name}.fed.npz"));
    save(forward(model("{name}.eager.onnx"), fed), "{name}.eager.npz");
    print("@eager");
}} catch (e) {{ print(`@eager ! ${{e}}`); }}
"""


def eager_file(name, source):
    """A copy with one constant among the inputs: a plan is not made where a constant is fed, so that it runs node by node."""
    m = onnx.load(source)
    g = m.graph
    floats = (TensorProto.FLOAT, TensorProto.FLOAT16)
    tensors = [t for t in g.initializer if t.data_type in floats and len(t.dims)]
    if tensors:
        t = max(tensors, key=lambda t: len(t.dims))
    else:
        held = [n for n in g.node if n.op_type == "Constant" and n.attribute[0].name == "value" and n.attribute[0].t.data_type in floats]
        node = max(held, key=lambda n: len(n.attribute[0].t.dims))
        t = TensorProto()
        t.CopyFrom(node.attribute[0].t)
        t.name = node.output[0]
        g.node.remove(node)
        g.initializer.append(t)
    m.ir_version = max(m.ir_version, 4)
    if all(v.name != t.name for v in g.input):
        g.input.append(helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)))
    onnx.save(m, name + ".eager.onnx")
    np.savez(name + ".fed.npz", **{t.name: numpy_helper.to_array(t)})


def calibration(height, width):
    """A folder of four pictures."""
    from PIL import Image

    folder = f"pictures_{height}_{width}"
    os.makedirs(folder, exist_ok=True)
    rng = np.random.default_rng(7)
    for i in range(4):
        pixels = (nets.picture((3, height, width), rng) * 255).astype(np.uint8)
        Image.fromarray(pixels.transpose(1, 2, 0)).save(f"{folder}/{i}.png")
    return f"{folder}/*.png"


def rhai(value):
    if isinstance(value, dict):
        return "#{ " + ", ".join(f"{k}: {rhai(v)}" for k, v in value.items()) + " }"
    return json.dumps(value)


def run(path, feeds, level):
    o = ort.SessionOptions()
    o.intra_op_num_threads = 1
    o.log_severity_level = 3
    o.graph_optimization_level = LEVELS[level]
    s = ort.InferenceSession(path, o, providers=["CPUExecutionProvider"])
    return dict(zip([v.name for v in s.get_outputs()], s.run(None, feeds)))


def load(path):
    with np.load(path) as f:
        return {k: f[k] for k in f.files}


def sizes(e):
    """The largest value of each channel, where there are channels: boxes in pixels and probabilities have their own measure."""
    e = np.abs(np.where(np.isfinite(e), e, 0))
    if e.ndim < 3:
        return max(e.max(), 1e-9)
    channels = min(range(1, e.ndim), key=lambda a: e.shape[a])
    return np.maximum(e.max(axis=tuple(a for a in range(e.ndim) if a != channels), keepdims=True), 1e-3 * e.max() + 1e-9)


def named(got, expected):
    """A single output may have another name: checkpoints name none."""
    return {next(iter(expected)): next(iter(got.values()))} if len(got) == len(expected) == 1 else got


def apart(got, expected):
    """The largest difference as a part of the channel's largest value, or what does not fit."""
    worst = 0.0
    got = named(got, expected)
    for k, e in expected.items():
        if k not in got:
            return f"no output '{k}'"
        g = got[k].astype(np.float64)
        e = e.astype(np.float64)
        if g.shape != e.shape:
            return f"'{k}' is {list(g.shape)}, not {list(e.shape)}"
        if e.size and not np.isfinite(e).any():
            return f"'{k}' of the model itself is not finite"
        if not np.array_equal(np.isfinite(g), np.isfinite(e)):
            return f"'{k}' is not finite where it should be"
        if e.size:
            worst = max(worst, float((np.abs(np.where(np.isfinite(e), g - e, 0)) / sizes(e)).max()))
    return worst


def rows_apart(got, expected, tolerance):
    """As `apart`, for lists of detections, in which two of nearly the same score may change places: the part of rows that have a partner must be
    nearly all."""
    direct = apart(got, expected)
    if isinstance(direct, str) or direct <= tolerance:
        return direct
    tables = []
    for outputs in (got, expected):
        columns = []
        for k in expected:
            v = outputs[k].astype(np.float64)
            v = v.reshape(-1, v.shape[-1]) if v.ndim >= 2 else v.reshape(-1, 1)
            columns.append(v)
        n = columns[0].shape[0]
        tables.append(np.concatenate([c for c in columns if c.shape[0] == n], 1))
    g, e = tables
    scale = np.maximum(np.abs(e).max(0), 1e-9)
    distance = np.array([np.abs((g - row) / scale).max(1).min() for row in e])
    # The last of a list may have been another with nearly the same score.
    return float(np.quantile(distance, 0.95)) if len(e) else 0.0


def decibels(got, expected):
    """Signal over noise of the joined outputs."""
    got = named(got, expected)
    for k, e in expected.items():
        if k not in got or got[k].shape != e.shape:
            return None
    if any(not np.isfinite(got[k].astype(np.float64)).all() for k in expected):
        return float("nan")
    # About its mean, each channel counts alike.
    noise = signal = 0.0
    for k, e in expected.items():
        e = e.astype(np.float64)
        size = sizes(e)
        noise += float((((got[k].astype(np.float64) - e) / size) ** 2).sum())
        axes = tuple(a for a in range(e.ndim) if np.ndim(size) and np.shape(size)[a] == 1) or None
        signal += float((((e - e.mean(axis=axes, keepdims=True)) / size) ** 2).sum())
    return 10 * np.log10(max(signal, 1e-30) / max(noise, 1e-30))


def attempt(work):
    try:
        return work()
    except Exception as e:
        return "fails: " + " ".join(str(e).split())[:300]


def study(said, program, seconds):
    name = said["name"]
    r = {"name": name, "params": said["params"], "rows": bool(said.get("rows"))}
    tolerance = said.get("tolerance", 1e-4)
    compare = (lambda g, e: rows_apart(g, e, tolerance)) if said.get("rows") else apart
    for kind in ("planned", "eager", "p3", "p5", "static", "dynamic"):
        for ending in (".npz", ".onnx"):
            if os.path.exists(name + f".{kind}{ending}"):
                os.remove(name + f".{kind}{ending}")
    feeds = load(name + ".in.npz")
    single = {k: v.astype(np.float32) for k, v in feeds.items()}
    np.savez(name + ".float.npz", **single)
    expected = load(name + ".out.npz")
    is_file = said["file"].endswith(".onnx")
    if is_file:
        eager_file(name, said["file"])
    names = {"name": name}
    pictures = calibration(*next(iter(feeds.values())).shape[-2:])
    script = SCRIPT.format(file=said["file"], options=rhai(said["options"]), pictures=pictures, eager=EAGER.format(**names) if is_file else "", **names)
    log = compresso(program, name, script, seconds)
    if not is_file and os.path.exists(name + ".saved.onnx"):
        eager_file(name, name + ".saved.onnx")
        log.update(compresso(program, name + ".2", EAGER.format(**names), seconds))
    failed = lambda step: "fails: " + log.get(step, ("!", log["end"]))[1]
    ok = lambda step: log.get(step, ("!",))[0] == "ok"
    r["open"] = "ok" if ok("open") else failed("open")
    r["ours"] = int(log["open"][1]) if ok("open") else None
    for step in ("planned", "eager"):
        r[step] = attempt(lambda: compare(load(f"{name}.{step}.npz"), expected)) if ok(step) else failed(step)
    r["plan"] = log.get("plan", ("!", ""))[1]
    r["saved"] = attempt(lambda: compare(run(name + ".saved.onnx", feeds, "all"), expected)) if r["open"] == "ok" else None
    for step in ("p3", "p5"):
        r[step] = failed(step)
        if ok(step):
            r[step] = attempt(lambda: compare(load(f"{name}.{step}.npz"), run(f"{name}.{step}.onnx", feeds, "all")))
            r[step + "_size"] = log[step][1]
    for step in ("static", "dynamic"):
        for level in LEVELS:
            r[f"{step}_{level}"] = failed(step)
            if ok(step):
                r[f"{step}_{level}"] = attempt(lambda: decibels(run(f"{name}.{step}.onnx", single, level), expected))
        if ok(step):
            r[f"{step}_ours"] = attempt(lambda: decibels(load(f"{name}.{step}.npz"), expected))
    r["seconds"] = log["seconds"]
    r["failures"] = failures(r, said, tolerance)
    return r


def compresso(program, name, script, seconds):
    """What each step of a script said: ("ok" or "!", text)."""
    path = name + ".rhai"
    with open(path, "w") as f:
        f.write(script)
    start = time.time()
    try:
        o = subprocess.run([program, "--threads", "1", "run", path], capture_output=True, text=True, timeout=seconds)
        out, end = o.stdout, (o.stderr[-400:] if o.returncode else "")
        whole = o.stdout + "\n" + o.stderr
    except subprocess.TimeoutExpired as e:
        out = (e.stdout or b"").decode(errors="replace")
        end, whole = f"took more than {seconds} s", out
    with open(name + ".log", "w") as f:
        f.write(whole)
    log = {"end": " ".join(end.split()) or "it was not reached", "seconds": round(time.time() - start, 1)}
    step = None
    for line in out.splitlines():
        if line.startswith("@"):
            step, _, rest = line[1:].partition(" ")
            bad = rest.startswith("!")
            log[step] = ("!" if bad else "ok", rest[1:].strip() if bad else rest)
        elif step and log.get(step, ("ok",))[0] == "!":
            log[step] = ("!", (log[step][1] + " " + line.strip())[:400])
    return log


def failures(r, said, tolerance):
    found = []
    if r["open"] != "ok":
        return [r["open"]]
    for step in ("planned", "eager", "saved"):
        if isinstance(r[step], str) or r[step] is None or not r[step] <= tolerance:
            found.append(f"{step}: {r[step]}")
    if r["params"] is not None and r["ours"] != r["params"]:
        found.append(f"params: {r['ours']}, PyTorch counts {r['params']}")
    for step in ("p3", "p5"):
        if isinstance(r[step], str) or not r[step] <= tolerance:
            found.append(f"{step}: {r[step]}")
    for step in ("static_all", "static_none", "dynamic_all", "dynamic_none", "static_ours", "dynamic_ours"):
        v = r.get(step)
        if isinstance(v, str) or (v is not None and not (np.isfinite(v))):
            found.append(f"{step}: {v}")
        elif v is None and not said.get("rows") and step in r:
            found.append(f"{step}: other shapes")
        elif v is not None and not said.get("rows") and v < 3:
            found.append(f"{step}: {v:.1f} dB")
    return found


def cell(v):
    if isinstance(v, str):
        return "**no**"
    return "–" if v is None else f"{v:.0e}" if v else "0"


def noise(r, step):
    values = [r.get(f"{step}_{level}") for level in LEVELS]
    # Of detections, each of which rounding may move in the order, runs that end say enough.
    show = lambda v: "**no**" if isinstance(v, str) else "runs" if v is None or r["rows"] else f"{v:.0f}"
    return " / ".join(show(v) for v in values)


def table(results):
    lines = [
        "| model | open | planned | eager | params, ours / PyTorch | prune 0.3 | prune 0.5 | MACs at 0.5 | static INT8, all / none | dynamic INT8, all / none |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for r in results.values():
        if r["open"] != "ok":
            lines.append(f"| {r['name']} | **no** | | | / {r['params']} | | | | | |")
            continue
        params = str(r["ours"]) if r["params"] in (None, r["ours"]) else f"**{r['ours']} / {r['params']}**"
        sizes = r.get("p5_size", "").split()
        share = f"{float(sizes[2]) / float(sizes[1]):.0%}" if len(sizes) == 3 and sizes[1].isdigit() and int(sizes[1]) else "–"
        plan = cell(r["planned"]) + ("" if r["plan"].startswith("1 ") else " (eager)")
        parts = [r["name"], "yes", plan, cell(r["eager"]), params, cell(r["p3"]), cell(r["p5"]), share, noise(r, "static"), noise(r, "dynamic")]
        lines.append("| " + " | ".join(parts) + " |")
    bad = {r["name"]: r["failures"] for r in results.values() if r["failures"]}
    lines += ["", f"{len(results) - len(bad)} of {len(results)} models have nothing to report."]
    lines += [f"- {name}: " + "; ".join(f) for name, f in bad.items()]
    return "\n".join(lines) + "\n"


def main():
    a = argparse.ArgumentParser()
    a.add_argument("dir")
    a.add_argument("--compresso", default="compresso")
    a.add_argument("--seconds", type=float, default=240)
    a.add_argument("--again", action="store_true")
    a.add_argument("patterns", nargs="*")
    a = a.parse_intermixed_args()
    program = os.path.abspath(a.compresso) if os.path.sep in a.compresso else a.compresso
    makes = os.path.join(os.path.dirname(os.path.abspath(__file__)), "forty_models.py")
    subprocess.run([sys.executable, makes, a.dir, *a.patterns], check=False)
    os.chdir(a.dir)
    results = {}
    if os.path.exists("results.json"):
        with open("results.json") as f:
            results = json.load(f)
    for file in sorted(os.listdir(".")):
        if not file.endswith(".json") or file == "results.json" or not any(fnmatch.fnmatch(file[:-5], p) for p in a.patterns or ["*"]):
            continue
        with open(file) as f:
            said = json.load(f)
        known = results.get(said["name"])
        if known and not known["failures"] and not a.again:
            continue
        r = attempt(lambda: study(said, program, a.seconds))
        if isinstance(r, str):
            r = {"name": said["name"], "open": r, "params": said["params"], "failures": [r]}
        results[said["name"]] = r
        print(f"{said['name']}: {'; '.join(r['failures']) or 'fine'} ({r.get('seconds', 0)} s)", flush=True)
        with open("results.json", "w") as f:
            json.dump(dict(sorted(results.items())), f, indent=1)
    with open("table.md", "w") as f:
        f.write(table(dict(sorted(results.items()))))
    return any(r["failures"] for r in results.values())


if __name__ == "__main__":
    sys.exit(1 if main() else 0)
