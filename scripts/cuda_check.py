#!/usr/bin/env python3
"""Times compresso and PyTorch on one GPU, in turns, and prints a table: YOLOv8n at 640 pixels, inference of batches of 1 and 32 and training
steps of 16 images at 320 pixels.

  cuda_check.py COMPRESSO [--rounds 3] [--runs 30]

Needs torch with CUDA and ultralytics, whose model is exported to ONNX for compresso. What a side cannot do yet is a dash.
"""
import argparse, pathlib, statistics, subprocess, sys, tempfile, time

p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
p.add_argument("compresso")
p.add_argument("--rounds", type=int, default=3, help="turns of each side; the median counts")
p.add_argument("--runs", type=int, default=30, help="measured runs in a turn; their median counts")
a = p.parse_args()

import torch, ultralytics

if not torch.cuda.is_available():
    sys.exit("PyTorch finds no GPU")
folder = pathlib.Path(tempfile.mkdtemp())


def timed(run, runs):
    """Milliseconds of a run, the device's work included."""
    for _ in range(5):
        run()
    torch.cuda.synchronize()
    taken = []
    for _ in range(runs):
        start = time.perf_counter()
        run()
        torch.cuda.synchronize()
        taken.append(1e3 * (time.perf_counter() - start))
    return statistics.median(taken)


def torch_inference(dtype, batch):
    net = ultralytics.YOLO("yolov8n.yaml").model.cuda().eval().fuse().to(dtype)
    x = torch.rand(batch, 3, 640, 640, device="cuda", dtype=dtype)
    with torch.inference_mode():
        return timed(lambda: net(x), a.runs)


def torch_training(dtype):
    net = ultralytics.YOLO("yolov8n.yaml").model.cuda().train()
    net.args = ultralytics.utils.DEFAULT_CFG
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    scaler = torch.amp.GradScaler("cuda", enabled=dtype is torch.float16)
    batch = {
        "img": torch.rand(16, 3, 320, 320, device="cuda"),
        "batch_idx": torch.arange(16, device="cuda").repeat_interleave(4).float(),
        "cls": torch.zeros(64, 1, device="cuda"),
        "bboxes": torch.tensor([0.5, 0.5, 0.2, 0.2], device="cuda").repeat(64, 1),
    }

    def step():
        with torch.autocast("cuda", dtype, enabled=dtype is not torch.float32):
            loss = net(batch)[0].sum()
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

    return timed(step, a.runs)


def compresso(model, options):
    """The median that `benchmark` reports, or None with its error on standard error."""
    script = folder / "time.rhai"
    script.write_text(f'quiet(); device("cuda:0"); print(benchmark(model("{model}"), #{{ runs: {a.runs}, accuracy: false, {options} }}).p50_ms);\n')
    done = subprocess.run([a.compresso, "run", script], capture_output=True, text=True)
    if done.returncode:
        print(f"compresso, {options}: {done.stderr.strip()}", file=sys.stderr)
        return None
    return float(done.stdout.split()[-1].strip("[],"))


def exported(batch, size):
    path = folder / f"yolov8n-{batch}-{size}.onnx"
    if not path.exists():
        made = ultralytics.YOLO("yolov8n.yaml").export(format="onnx", imgsz=size, batch=batch, verbose=False)
        pathlib.Path(made).rename(path)
    return path


rows = [
    (f"inference, {name}, batch {batch}", lambda d=dtype, b=batch: torch_inference(d, b), own(batch) if own else None)
    for name, dtype, own in [
        ("float32", torch.float32, lambda b: lambda: compresso(exported(b, 640), 'runtimes: ["cuda"]')),
        ("float16", torch.float16, None),
    ]
    for batch in (1, 32)
]
rows.append(("training step, float32, 16 images", lambda: torch_training(torch.float32), lambda: compresso(exported(16, 320), "training: true")))
rows.append(("training step, float16, 16 images", lambda: torch_training(torch.float16), None))

print(f"{torch.cuda.get_device_name(0)}, PyTorch {torch.__version__}\n\n| work | PyTorch (ms) | compresso (ms) | times as fast |\n|---|---|---|---|")
for name, other, own in rows:
    turns = [(other(), own() if own else None) for _ in range(a.rounds)]
    theirs = statistics.median(t for t, _ in turns)
    ours = [t for _, t in turns if t is not None]
    ours = statistics.median(ours) if len(ours) == a.rounds else None
    print(f"| {name} | {theirs:.2f} | {f'{ours:.2f}' if ours else '–'} | {f'{theirs / ours:.2f}' if ours else '–'} |", flush=True)
