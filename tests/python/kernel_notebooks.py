"""Runs committed notebooks anew: `kernel_notebooks.py KERNEL FOLDER [--keep] [NOTEBOOK...]`.

Each notebook of the folder is executed by nbconvert in a temporary copy of the folder and of what lies beside it. A notebook
fails that was committed without outputs or with an error, whose cells fail now, or whose cells give other kinds of outputs.
With --keep nothing is compared: notebooks whose cells ran well are written back with the new outputs."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat

# Seconds that a cell may take: on slow machines, trainings take minutes.
LIMIT = 1200


def code_cells(notebook):
    return [c for c in notebook.cells if c.cell_type == "code"]


def structure(cell):
    """Kinds of a cell's outputs, with the MIME types of what is shown, and whether there is text. Progress depends on time."""
    shown = [o for o in cell.outputs if "compresso-progress" not in str(o.get("data", {}).get("text/html", ""))]
    kinds = [f"{o.output_type}: {', '.join(sorted(o.data))}" for o in shown if "data" in o]
    return kinds + ["text"] * any(o.output_type == "stream" for o in shown)


def committed(path, kernel):
    """What is wrong with a notebook as it is in the repository."""
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    if notebook.metadata.get("kernelspec", {}).get("name") != kernel:
        yield f"its kernel is {notebook.metadata.get('kernelspec')}"
    cells = code_cells(notebook)
    if not any(c.outputs for c in cells):
        yield "it has no outputs: run it before it is committed"
    for number, cell in enumerate(cells, 1):
        if cell.source.strip() and cell.execution_count != number:
            yield f"code cell {number} has the count {cell.execution_count}: it was not run from top to bottom"
        yield from (f"code cell {number} has the error {o.ename}: {o.evalue}" for o in cell.outputs if o.output_type == "error")


def executed(path, out):
    """Runs a notebook; what went wrong."""
    options = ["--ExecutePreprocessor.record_timing=False", f"--ExecutePreprocessor.timeout={LIMIT}"]
    # Files as sockets: another process can take a TCP port between its choice here and the start of the kernel.
    options += ["--KernelManager.transport=ipc", f"--KernelManager.ip={out / path.stem}"]
    command = [sys.executable, "-m", "jupyter", "nbconvert", "--to", "notebook", "--execute", "--log-level=WARN", *options]
    done = subprocess.run([*command, "--output-dir", out, "--output", path.name, path], capture_output=True, text=True, cwd=path.parent)
    return "" if done.returncode == 0 else f"nbconvert ended with {done.returncode}:\n{done.stdout[-6000:]}\n{done.stderr[-6000:]}"


def check(path, copy, kernel, out):
    problems = list(committed(path, kernel))
    if error := executed(copy, out):
        return [*problems, error]
    before, after = (code_cells(nbformat.read(p, as_version=4)) for p in (path, out / path.name))
    for number, (old, new) in enumerate(zip(before, after, strict=True), 1):
        if structure(old) != structure(new):
            problems.append(f"code cell {number} gave {structure(old)} when committed, now {structure(new)}:\n{new.source}\n{str(new.outputs)[:3000]}")
    return problems


def rewritten(path, copy, out):
    """Runs a notebook and puts its outputs into the repository."""
    if error := executed(copy, out):
        return [error]
    # Text that came in pieces becomes one output, as front ends show it.
    subprocess.run([sys.executable, "-m", "jupyter", "nbconvert", "--log-level=WARN", "--coalesce-streams", out / path.name], check=True)
    shutil.copy(out / path.name, path)
    return []


def main():
    kernel, folder = sys.argv[1], Path(sys.argv[2]).resolve()
    keep = "--keep" in sys.argv
    names = [name for name in sys.argv[3:] if name != "--keep"] or sorted(p.name for p in folder.glob("*.ipynb"))
    if not names:
        sys.exit(f"no notebooks in {folder}")
    with tempfile.TemporaryDirectory(prefix="notebooks-") as scratch:
        copies = Path(scratch) / folder.parent.name
        # What is ignored by git was written by runs on this machine.
        shutil.copytree(folder.parent, copies, ignore=shutil.ignore_patterns("target", "output", "*.ipynb_checkpoints"))
        out = Path(scratch) / "executed"
        out.mkdir()
        os.environ.setdefault("PYTHONWARNINGS", "ignore")

        def run(name):
            begin = time.monotonic()
            copy = copies / folder.name / name
            problems = rewritten(folder / name, copy, out) if keep else check(folder / name, copy, kernel, out)
            print(f"{'FAILED' if problems else 'ok'} {name}, {time.monotonic() - begin:.1f} s", *problems, sep="\n  ", flush=True)
            return bool(problems)

        # Two at a time, for they often wait; one where the figures are kept.
        with ThreadPoolExecutor(1 if keep else 2) as pool:
            failed = any(list(pool.map(run, names)))
    sys.exit(failed)


if __name__ == "__main__":
    main()
