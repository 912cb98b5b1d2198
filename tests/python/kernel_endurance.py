"""How a kernel holds out: `kernel_endurance.py KERNEL [TEST...]`.

Memory over 2,000 cells, an interrupt of a training, many outputs. Limits are generous: the figures are printed by kernel_figures.py."""

import time

import psutil
from kernel_cases import KernelTest, main

MB = 1 << 20


def memory(kernel):
    """Bytes of the kernel's process and its children that are its own."""
    process = psutil.Process(kernel.process.pid)
    return sum(p.memory_full_info().uss for p in [process, *process.children(recursive=True)])


class Endurance(KernelTest):
    def test_memory_stays_flat(self):
        cells = [*self.code("cells"), self.code("hello"), self.code("error"), self.code("mistake")]
        warm, more, allowed = self.code("endurance")
        for i in range(warm + more):
            if i == warm:
                before = memory(self.kernel)
            self.run_code(cells[i % len(cells)].replace("NUMBER", str(i)))
            self.kernel.client.seen.clear()
            del self.kernel.client.trace[:-40]
        grown = memory(self.kernel) - before
        print(f"memory {before / MB:.1f} MB after {warm} cells, {grown / MB:+.1f} MB after {more} more")
        self.assertLess(grown, allowed * MB)

    def test_interrupt_of_a_training(self):
        for code in self.code("prepare_training"):
            self.assertEqual(self.run_code(code).content["status"], "ok")
        header = self.kernel.send_code(self.code("training"))
        begin = time.monotonic()
        self.kernel.client.wait("the first epoch's note", lambda: any("epoch" in m.content["text"] for m in self.answers(header) if m.type == "stream"), 300.0, self.kernel.alive)
        first = time.monotonic() - begin
        begin = time.monotonic()
        self.kernel.ask("interrupt_request", channel="control", timeout=2.0)
        e = self.kernel.collect(header, timeout=10.0)
        took = time.monotonic() - begin
        print(f"first epoch after {first:.1f} s, idle {took:.2f} s after the interrupt")
        self.assertLess(took, 5.0)
        self.assertEqual((e.content["status"], e.content["ename"]), ("error", "Cancelled"))
        # The last whole epoch stays; progress came as one output that changed, at most five times a second.
        self.assertTrue(self.value(self.code("trained")))
        updates = [m.time for m in e.of("update_display_data")]
        self.assertLessEqual(len(updates), 2 + 5 * (updates[-1] - updates[0]) if updates else 0)
        self.assertLessEqual(len(e.of("display_data")), 1)

    def test_many_outputs_arrive_in_order(self):
        e = self.run_code(self.code("count"))
        self.assertEqual(e.text().split(), [str(i) for i in range(5000)])


if __name__ == "__main__":
    main()
