"""Runs one session for long and says how its memory grows.

    python soak.py PROGRAM [--evaluations 10000] [--cells 2000] [--epochs 300]

Three sessions: evaluations of a small detector in one script; cells of a notebook through the Rhai kernel (needs jupyter_client); one training on eight
images. The resident memory of the process is read all the while (Linux); the slope is a straight line through the readings after the first quarter, in
kilobytes per thousand rounds. Exits with 1 when a slope times its rounds is more than 10 MB and a tenth of what the process had.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

EVALUATIONS = """
let d = dataset("shapes", #{ images: 2, size: 32, classes: 2 });
let m = model("yolov8n", #{ classes: d.classes, image_size: 32, width: 0.0625, depth: 0.33 });
for i in 0..ROUNDS { let e = evaluate(m, d); if i % 50 == 49 { print(`round ${i + 1}`); } }
"""
TRAINING = """
let d = dataset("shapes", #{ images: 8, size: 32, classes: 2 });
let m = model("yolov8n", #{ classes: d.classes, image_size: 32, width: 0.0625, depth: 0.33 });
m = train(m, d, #{ epochs: ROUNDS, batch: 4, validate_every: 50 });
"""
CELL = "let m = model(\"classifier\", #{ classes: 3, image_size: 32 }); let p = prune(m, #{ ratio: 0.3, score: false }); summary(p)"


def resident(pid):
    """Kilobytes."""
    with open(f"/proc/{pid}/statm") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1024


def slope(points):
    """Kilobytes per round over the last three quarters, by least squares."""
    points = points[len(points) // 4 :]
    n = len(points)
    mx, my = sum(x for x, _ in points) / n, sum(y for _, y in points) / n
    return sum((x - mx) * (y - my) for x, y in points) / max(1e-9, sum((x - mx) ** 2 for x, _ in points))


def report(what, rounds, points, seconds):
    if len(points) < 8:
        print(f"{what}: only {len(points)} readings: too few rounds")
        return False
    s = slope(points)
    bad = s * rounds > max(10_000, points[0][1] / 10)
    print(
        f"{what}: {rounds} rounds in {seconds:.0f} s, {points[0][1] / 1024:.1f} MB at first, {points[-1][1] / 1024:.1f} MB at last, "
        f"slope {1000 * s:+.1f} kB per 1000 rounds{'  GROWS' if bad else ''}",
        flush=True,
    )
    return not bad


def script(program, what, code, rounds, counted):
    """`counted` reads the number of rounds done from a line, or gives None."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "soak.rhai")
        with open(path, "w") as f:
            f.write(code.replace("ROUNDS", str(rounds)))
        start = time.time()
        errors = subprocess.STDOUT
        with subprocess.Popen([program, "run", path], stdout=subprocess.PIPE, stderr=errors, text=True) as p:
            points = []
            for line in p.stdout:
                done = counted(line)
                if done is not None:
                    points.append((done, resident(p.pid)))
        if p.returncode != 0:
            print(f"{what}: ended with {p.returncode}")
            return False
        return report(what, rounds, points, time.time() - start)


def cells(program, rounds):
    from jupyter_client import KernelManager
    from jupyter_client.kernelspec import KernelSpec

    class Manager(KernelManager):
        """Starts the program itself, without an installed specification."""

        @property
        def kernel_spec(self):
            return KernelSpec(argv=[program, "kernel", "rhai", "-f", "{connection_file}"], display_name="soak", language="rhai")

    manager = Manager()
    manager.start_kernel()
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=60)
        start, points = time.time(), []
        for i in range(rounds):
            reply = client.execute_interactive(CELL, output_hook=lambda _: None, timeout=60)
            if reply["content"]["status"] != "ok":
                print(f"cells: {json.dumps(reply['content'])[:500]}")
                return False
            if i % 10 == 9:
                points.append((i + 1, resident(manager.provisioner.process.pid)))
        return report("cells", rounds, points, time.time() - start)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def main():
    a = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    a.add_argument("program")
    a.add_argument("--evaluations", type=int, default=10_000)
    a.add_argument("--cells", type=int, default=2_000)
    a.add_argument("--epochs", type=int, default=300)
    a = a.parse_args()
    program = os.path.abspath(a.program)
    good = []

    def epoch(line):
        return int(line.split("epoch")[1].split("/")[0]) if line.startswith("train: epoch") else None

    if a.evaluations:
        good.append(script(program, "evaluations", EVALUATIONS, a.evaluations, lambda line: int(line.split()[1]) if line.startswith("round ") else None))
    if a.epochs:
        good.append(script(program, "epochs of training", TRAINING, a.epochs, epoch))
    if a.cells:
        good.append(cells(program, a.cells))
    sys.exit(0 if all(good) else 1)


if __name__ == "__main__":
    main()
