"""Prints figures of a kernel: `kernel_figures.py KERNEL`: time until it is ready, of trivial cells, from an interrupt of a training
to idle, and memory over 2,000 cells. On an idle machine, please."""

import statistics
import sys
import time

from kernel_cases import KERNEL, LANGUAGES
from kernel_endurance import MB, memory
from kernel_wire import Kernel


def spread(seconds):
    """Median and worst of 20."""
    ordered = sorted(seconds)
    return f"median {statistics.median(ordered) * 1000:.1f} ms, p95 {ordered[int(len(ordered) * 0.95)] * 1000:.1f} ms, {len(ordered)} times"


def timed(kernel, code):
    begin = time.monotonic()
    e = kernel.run(code, 300.0)
    if e.content["status"] != "ok":
        sys.exit(f"{code} failed:\n" + "\n".join(e.content.get("traceback", [])))
    return time.monotonic() - begin


def ready():
    """Seconds from the start of the process to its first answer, and to the value of a first cell."""
    kernel = Kernel(KERNEL, wait=False)
    try:
        first = kernel.ready()
        timed(kernel, LANGUAGE["value"][0])
        return first, time.monotonic() - kernel.begun
    finally:
        kernel.close()


def interrupts(kernel, times):
    """Seconds from the request to the cell's idle, at different moments of a training."""
    for code in LANGUAGE["prepare_training"]:
        timed(kernel, code)
    for i in range(times):
        header = kernel.send_code(LANGUAGE["training"])
        kernel.client.wait("the first epoch's note", lambda: any(m.type == "stream" and m.parent_id == header["msg_id"] and "epoch" in m.content["text"] for m in kernel.client.seen), 120.0)
        time.sleep(0.13 * i)
        begin = time.monotonic()
        kernel.client.send("control", "interrupt_request", {})
        kernel.collect(header, timeout=30.0)
        yield time.monotonic() - begin


def main():
    starts = [ready() for _ in range(10 if KERNEL == "compresso-rhai" else 3)]
    print(f"ready:        {spread([s[0] for s in starts])}")
    print(f"first value:  {spread([s[1] for s in starts])}")
    kernel = Kernel(KERNEL)
    small = 300 if KERNEL == "compresso-rhai" else 20
    timed(kernel, LANGUAGE["value"][0])
    # At rest the kernel reads what the cells that follow need.
    time.sleep(5.0)
    opening = [timed(kernel, code) for code in LANGUAGE["prepare_training"] or []]
    print("first cells that use the library: " + ", ".join(f"{seconds:.2f} s" for seconds in opening))
    print(f"trivial cell: {spread([timed(kernel, LANGUAGE['value'][0]) for _ in range(small)])}")
    if LANGUAGE["training"]:
        print(f"interrupt:    {spread(list(interrupts(kernel, 8)))}")
        kernel.close()
        kernel = Kernel(KERNEL)
    cells = [*(LANGUAGE["cells"] or []), LANGUAGE["hello"], LANGUAGE["value"][0]]
    done, figures = 0, []
    for count in (100, 500, 1000, 1500, 2000):
        while done < count:
            timed(kernel, cells[done % len(cells)].replace("NUMBER", str(done)))
            kernel.client.seen.clear()
            kernel.client.trace.clear()
            done += 1
        figures.append(f"{memory(kernel) / MB:.1f} MB after {count} cells")
    print("memory:       " + ", ".join(figures))
    kernel.close()


if __name__ == "__main__":
    if KERNEL not in LANGUAGES:
        sys.exit(f"usage: {sys.argv[0]} KERNEL, one of {', '.join(LANGUAGES)}")
    LANGUAGE = LANGUAGES[KERNEL]
    main()
