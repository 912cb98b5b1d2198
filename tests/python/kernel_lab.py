"""JupyterLab in a browser without a screen: `kernel_lab.py KERNEL FOLDER [NOTEBOOK]`.

Opens a copy of a notebook (a small one when none is given), runs all its cells, checks what the page shows, then completion and
tooltip. Pictures of the page are written into FOLDER."""

import contextlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import nbformat
from kernel_cases import KERNEL
from kernel_wire import free_ports, specification
from playwright.sync_api import expect, sync_playwright

BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
SAMPLES = {
    "compresso-rhai": {
        "cells": ["let rows = [#{ layer: 1, size: 20 }, #{ layer: 2, size: 22 }];\ntable(rows)", "plot([1.0, 4.0, 9.0])", 'print("hello, world");'],
        "header": "layer",
        "complete": ("prun", "prune"),
        "help": ("prune", "Share to remove"),
        "variable": ("let seen = [1, 2];", "seen", "[1, 2]"),
        "stale": ("let limit = 1;", "print(limit)", "let limit = 2;"),
        # Works long enough to be interrupted.
        "work": "loop {}",
    },
    "compresso-rust": {
        "cells": ['table("Sizes", &[">layer", ">size"], [[1, 20], [2, 22]])', "plot([1.0, 4.0, 9.0])?", 'println!("hello, world");'],
        "header": "layer",
        "complete": ("prun", "prune"),
        "help": ("prune", "channels"),
        "variable": ("let seen = 7i32;", "seen", "i32"),
        "work": "loop { ctx().check()?; }",
    },
    "python3": {
        "cells": [
            "from IPython.display import HTML, SVG\nHTML('<table><tr><th>layer</th></tr><tr><td>1</td></tr></table>')",
            "SVG('<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"50\" height=\"50\"><circle r=\"20\" cx=\"25\" cy=\"25\"/></svg>')",
            "print('hello, world')",
        ],
        "header": "layer",
        "complete": ("isinst", "isinstance"),
        "help": ("isinstance", "instance"),
        "variable": None,
        "work": "while True: pass",
    },
}
# Cells of a notebook may train.
LIMIT = 900_000


def small_notebook(sample):
    cells = [nbformat.v4.new_markdown_cell("# Small")] + [nbformat.v4.new_code_cell(c) for c in sample["cells"]]
    _, spec = specification(KERNEL)
    spec = {"name": KERNEL, "display_name": spec["display_name"], "language": spec["language"]}
    return nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": spec})


@contextlib.contextmanager
def server(root):
    """JupyterLab on a free port of this machine; gives its address and token."""
    [port], token = free_ports(1), secrets.token_hex(16)
    settings = {
        "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
        # All cells are in the page, not only those in sight.
        "notebook-extension/tracker": {"windowingMode": "none"},
    }
    for name, content in settings.items():
        file = root / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps(content))
    env = {**os.environ, "JUPYTERLAB_SETTINGS_DIR": str(root / "settings"), "JUPYTERLAB_WORKSPACES_DIR": str(root / "workspaces")}
    options = ["--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}", "--ServerApp.port_retries=0",
               f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={root / 'files'}", "--LabApp.extension_manager=readonly"]  # fmt: skip
    log = open(root / "server.log", "w+")
    process = subprocess.Popen([sys.executable, "-m", "jupyterlab", *options], env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    try:
        end = time.monotonic() + 90
        while True:
            with contextlib.suppress(urllib.error.URLError, ConnectionError):
                urllib.request.urlopen(f"{address}/api?token={token}", timeout=5)
                break
            if process.poll() is not None or time.monotonic() > end:
                sys.exit(f"JupyterLab did not start:\n{(root / 'server.log').read_text()}")
            time.sleep(0.2)
        yield address, token
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
        log.close()


class Page:
    def __init__(self, page, folder):
        self.page, self.folder = page, folder
        self.notebook = page.locator(".jp-NotebookPanel:visible")

    def picture(self, name):
        self.page.screenshot(path=self.folder / f"{KERNEL}-{name}.png")

    def wait_idle(self, limit=60_000):
        """The status bar says that the kernel is idle, and no cell waits to run."""
        expect(self.page.locator(".jp-StatusBar-Item", has_text="| Idle")).to_have_count(1, timeout=limit)
        self.page.wait_for_function("() => [...document.querySelectorAll('.jp-NotebookPanel .jp-InputPrompt')].every(p => !p.textContent.includes('*'))", timeout=limit)

    def command(self, menu, item):
        self.page.locator(".lm-MenuBar-itemLabel", has_text=menu).first.click()
        self.page.locator(".lm-Menu-itemLabel", has_text=item).first.click()

    def saved(self, file):
        """The notebook as the page saves it."""
        before = file.stat().st_mtime_ns
        self.command("File", "Save Notebook")
        end = time.monotonic() + 20
        while time.monotonic() < end:
            # It may be read half written.
            with contextlib.suppress(nbformat.reader.NotJSONError):
                if file.stat().st_mtime_ns != before:
                    return nbformat.read(file, as_version=4)
            time.sleep(0.1)
        raise AssertionError("the notebook was not saved")

    def new_cell(self, text):
        """A new last cell with a text and the cursor at its end."""
        self.page.keyboard.press("Escape")
        self.notebook.locator(".jp-Cell").last.click()
        self.page.keyboard.press("Escape")
        self.page.keyboard.press("b")
        self.page.keyboard.press("Enter")
        self.page.keyboard.type(text, delay=20)
        return self.notebook.locator(".jp-Cell").last


def main():
    expect.set_options(timeout=60_000)
    folder = Path(sys.argv[2]).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    sample = SAMPLES[KERNEL]
    browser = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if not browser:
        sys.exit(f"no browser: install one of {', '.join(BROWSERS)}")
    with tempfile.TemporaryDirectory(prefix="lab-") as scratch:
        root = Path(scratch)
        if len(sys.argv) > 3:
            source = Path(sys.argv[3]).resolve()
            # It may need what lies beside its folder.
            shutil.copytree(source.parent.parent, root / "files", ignore=shutil.ignore_patterns("target", "output", ".ipynb_checkpoints"))
            file = root / "files" / source.parent.name / source.name
            notebook = nbformat.read(file, as_version=4)
            for cell in notebook.cells:
                # What is seen is of this run.
                if cell.cell_type == "code":
                    cell.outputs, cell.execution_count = [], None
        else:
            file = root / "files" / "small.ipynb"
            file.parent.mkdir()
            notebook = small_notebook(sample)
        assert notebook.metadata.kernelspec.name == KERNEL, notebook.metadata
        nbformat.write(notebook, file)
        cells = sum(c.cell_type == "code" and bool(c.source.strip()) for c in notebook.cells)
        with server(root) as (address, token), sync_playwright() as driver:
            context = driver.chromium.launch_persistent_context(
                str(root / "profile"), executable_path=browser, headless=True, args=FLAGS, viewport={"width": 1280, "height": 1000}
            )
            page = Page(context.pages[0], folder)
            page.page.set_default_timeout(30_000)
            try:
                run(page, f"{address}/lab/tree/{file.relative_to(root / 'files')}?token={token}&reset", sample, cells, file)
            except Exception:
                page.picture("failure")
                print((root / "server.log").read_text()[-6000:], file=sys.stderr)
                raise
            finally:
                context.close()


def run(page, address, sample, cells, file):
    page.page.goto(address)
    expect(page.notebook).to_have_count(1)
    page.wait_idle()
    page.picture("open")

    page.command("Run", "Run All Cells")
    # Each cell that ran has a number.
    page.page.wait_for_function(
        "n => [...document.querySelectorAll('.jp-NotebookPanel .jp-CodeCell .jp-InputPrompt')].filter(p => /\\d/.test(p.textContent)).length >= n",
        arg=cells, timeout=LIMIT,
    )  # fmt: skip
    page.wait_idle()
    errors = [o for c in page.saved(file).cells if c.cell_type == "code" for o in c.outputs if o.output_type == "error"]
    assert not errors, f"cells failed: {errors}"
    outputs = page.notebook.locator(".jp-OutputArea-output")
    if sample["header"]:
        tables = outputs.locator("table")
        expect(tables.first).to_be_visible()
        headers = tables.locator("th").all_text_contents()
        if len(sys.argv) <= 3:
            assert sample["header"] in headers, headers
        assert headers and all(t.strip() for t in headers), headers
        tables.first.scroll_into_view_if_needed()
        page.picture("table")
        # Lab shows SVG as an image whose source is the picture.
        plot = page.notebook.locator('.jp-OutputArea-output[data-mime-type="image/svg+xml"]')
        expect(plot.first).to_be_visible()
        box = plot.first.locator("img, svg").first.bounding_box()
        assert box and box["width"] > 40 and box["height"] > 40, f"plot of size {box}"
        loaded = plot.first.locator("img, svg").first.evaluate("e => e.tagName.toLowerCase() === 'svg' || (e.complete && e.naturalWidth > 0)")
        assert loaded, "the plot is no picture that the browser can show"
        plot.first.scroll_into_view_if_needed()
        page.picture("plot")
        if KERNEL != "python3":
            # Its numbers fold out.
            numbers = outputs.locator("details").first
            numbers.locator("summary").click()
            expect(numbers.locator("td").first).to_be_visible()
            page.picture("numbers")
    print(f"ran {cells} cells, {outputs.count()} outputs")

    if sample.get("stale"):
        maker, reader, other = sample["stale"]
        made = page.new_cell(maker)
        page.page.keyboard.press("Control+Enter")
        page.wait_idle()
        read = page.new_cell(reader)
        place = page.notebook.locator(".jp-Cell").count() - 1
        page.page.keyboard.press("Control+Enter")
        page.wait_idle()
        read = page.notebook.locator(".jp-Cell").nth(place)
        expect(read.locator(".compresso-stale")).to_have_count(0)
        made = page.notebook.locator(".jp-Cell").nth(place - 1)
        made.locator(".cm-content").click()
        page.page.keyboard.press("Control+A")
        page.page.keyboard.type(other)
        page.page.keyboard.press("Control+Enter")
        expect(read.locator(".jp-OutputArea-output", has_text="stale: limit has changed since")).to_be_visible()
        read.scroll_into_view_if_needed()
        page.picture("stale")
        read.locator(".cm-content").click()
        page.page.keyboard.press("Control+Enter")
        page.wait_idle()
        expect(read.locator(".jp-OutputArea-output", has_text="stale")).to_have_count(0)
        print("a stale cell is marked until it runs again")

    if sample["variable"]:
        code, name, kind = sample["variable"]
        page.notebook.locator(".jp-DebuggerBugButton").click()
        page.new_cell(code)
        page.page.keyboard.press("Control+Enter")
        page.wait_idle()
        panel = page.page.locator(".jp-DebuggerSidebar .jp-DebuggerVariables")
        row = panel.locator(".jp-TreeItem", has_text=name).last
        expect(row).to_be_visible()
        expect(row.locator(".jp-DebuggerVariables-detail").first).to_have_text(kind)
        page.picture("variables")
        print(f"variables: {panel.inner_text().split()}")
        page.notebook.locator(".jp-DebuggerBugButton").click()

    if sample["complete"]:
        typed, wanted = sample["complete"]
        cell = page.new_cell(typed)
        page.page.keyboard.press("Tab")
        popup = page.page.locator(".jp-Completer:visible")
        line = cell.locator(".cm-line")
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and not popup.count() and wanted not in line.first.inner_text():
            time.sleep(0.1)
        assert popup.count(), f"no popup; the cell reads {line.all_inner_texts()}"
        items = popup.locator(".jp-Completer-item").all_inner_texts()
        assert any(wanted in i for i in items), items
        page.picture("completion")
        page.page.keyboard.press("Escape")
        print(f"completion of {typed}: {[i.split() for i in items][:6]}")

    if sample["help"]:
        typed, wanted = sample["help"]
        page.new_cell(typed)
        page.page.keyboard.press("Shift+Tab")
        tooltip = page.page.locator(".jp-Tooltip:visible")
        expect(tooltip).to_contain_text(wanted)
        page.picture("tooltip")
        print(f"tooltip: {len(tooltip.inner_text())} characters")
        page.page.keyboard.press("Escape")

    page.new_cell(sample["work"])
    page.page.keyboard.press("Control+Enter")
    expect(page.page.locator(".jp-StatusBar-Item", has_text="| Busy")).to_have_count(1)
    time.sleep(1.0)
    begin = time.monotonic()
    page.command("Kernel", "Interrupt Kernel")
    page.wait_idle(10_000)
    print(f"idle {time.monotonic() - begin:.1f} s after the interrupt, the clicks included")
    # Lab shows errors as it shows stderr.
    expect(page.notebook.locator(".jp-Cell").last.locator('.jp-OutputArea-output[data-mime-type="application/vnd.jupyter.stderr"]')).to_have_count(1)
    page.picture("interrupt")


if __name__ == "__main__":
    if KERNEL not in SAMPLES or len(sys.argv) < 3:
        sys.exit(f"usage: {sys.argv[0]} KERNEL FOLDER [NOTEBOOK], KERNEL one of {', '.join(SAMPLES)}")
    main()
