"""What only Rust cells have: a process that runs them, which may be killed, and tensors that cells share.
`kernel_rust.py compresso-rust [Child Cells]`, and for the cells of the Rhai kernel `kernel_rust.py compresso-rhai Magic`."""

import os
import signal
import time

import psutil
from kernel_cases import KernelTest, main


class Child(KernelTest):
    def child(self):
        """The process that runs cells: of the kernel's children the one that stays."""
        children = psutil.Process(self.kernel.process.pid).children()
        self.assertEqual(len(children), 1, children)
        return children[0].pid

    def assert_recovered(self, before):
        self.assert_well()
        self.assertNotEqual(self.child(), before)
        # Values went with the process; functions are compiled anew.
        self.assertEqual(self.run_code("kept").content["status"], "error")
        self.assertEqual(self.value("twice(21)"), "42")
        # The session in it is a whole one.
        self.assertEqual(self.run_code('table("Sizes", &["layer"], [["one"]])').content["status"], "ok")

    def prepare(self):
        self.run_code("let kept = 5;")
        self.run_code("fn twice(n: u32) -> u32 { n * 2 }")
        return self.child()

    def test_a_killed_process_is_reported_and_recovered(self):
        before = self.prepare()
        os.kill(before, signal.SIGKILL)
        time.sleep(0.2)
        e = self.run_code("kept")
        self.assertEqual(e.content["status"], "error")
        self.assertIn("killed", e.content["evalue"] + "".join(e.content["traceback"]))
        self.assert_recovered(before)

    def test_a_process_killed_while_a_cell_runs(self):
        before = self.prepare()
        header = self.kernel.send_code('println!("begun"); loop { std::hint::spin_loop() }')
        self.kernel.client.wait("begun", lambda: any(m.type == "stream" for m in self.answers(header)), self.patience, self.kernel.alive)
        os.kill(before, signal.SIGKILL)
        e = self.kernel.collect(header, timeout=self.patience)
        self.assertEqual((e.content["status"], e.content["ename"]), ("error", "ProcessKilled"))
        self.assert_recovered(before)

    def test_a_cell_that_is_deaf_to_interrupts_ends_with_its_process(self):
        before = self.prepare()
        header = self.kernel.send_code('println!("begun"); loop { std::hint::spin_loop() }')
        self.kernel.client.wait("begun", lambda: any(m.type == "stream" for m in self.answers(header)), self.patience, self.kernel.alive)
        self.kernel.ask("interrupt_request", channel="control", timeout=2.0)
        self.assertEqual(self.kernel.collect(header, timeout=15.0).content["status"], "error")
        self.assert_recovered(before)

    def test_variables_survive_a_panic(self):
        before = self.prepare()
        e = self.run_code('let list: Vec<u32> = vec![]; println!("{}", list[3]);')
        self.assertEqual((e.content["status"], e.content["ename"]), ("error", "Panic"))
        self.assertIn("index out of bounds", e.content["evalue"])
        self.assertEqual((self.value("kept"), self.child()), ("5", before))


class Cells(KernelTest):
    def test_tensors_of_cells_are_of_one_library(self):
        """Ids differ, and gradients go through cells: see the notes on linking in docs."""
        opening = "use candle_core::{Device, Tensor, Var};"
        self.run_code(opening)
        for name in ("a", "b"):
            e = self.run_code(f"let {name} = Var::new(&[2f32, 3.0], &Device::Cpu)?;")
            self.assertEqual(e.content["status"], "ok", e.content)
        ids = {self.value(f'format!("{{:?}}", {name}.id())') for name in ("a", "b")}
        self.assertEqual(len(ids), 2, ids)
        for code in ("let product = (a.as_tensor() * b.as_tensor())?;", "let total = product.sum_all()?;", "let gradients = total.backward()?;"):
            e = self.run_code(code)
            self.assertEqual(e.content["status"], "ok", e.content)
        self.assertEqual(self.value("gradients.get(&a).unwrap().to_vec1::<f32>()?"), "[2.0, 3.0]")

    def test_errors_of_the_compiler_have_their_place(self):
        e = self.run_code('let ok = 1;\nlet wrong: i32 = "text";\n')
        text = "\n".join(e.content["traceback"])
        self.assertEqual(e.content["status"], "error")
        self.assertIn("mismatched types", e.content["evalue"] + text)
        self.assertIn("2", text)
        self.assertIn("^", text)

    def test_a_question_mark_shows_the_librarys_error(self):
        e = self.run_code('model("yolov9000", default())?;')
        self.assertEqual(e.content["status"], "error")
        self.assertIn("yolov9000", e.content["evalue"])
        self.assert_well()


class Magic(KernelTest):
    """`%%rust` in the Rhai kernel: Rust cells beside Rhai's, with variables of their own."""

    def rust(self, code):
        return self.kernel.run(f"%%rust\n{code}", 120.0)

    def test_rust_beside_rhai(self):
        self.run_code("let x = 3;")
        self.assertEqual(self.rust("let y = 20;\ny + 1").result(), "21")
        self.assertEqual(self.rust("y * 2").result(), "40")
        self.assertEqual(self.value("x"), "3")
        self.assertEqual(self.run_code("y").content["status"], "error")
        e = self.rust('let n: u32 = "text";')
        self.assertEqual((e.content["status"], e.content["ename"]), ("error", "CompileError"))
        self.assertIn(":2:14", "".join(e.content["traceback"]), "the line of the cell, the magic's counted")
        [plot] = self.rust("plot([1.0, 4.0])").of("execute_result")
        self.assertIn("image/svg+xml", plot.content["data"])

    def test_interrupt(self):
        self.rust("let kept = 5;")
        header = self.kernel.send_code('%%rust\nprintln!("begun"); loop { ctx().check()?; }')
        self.kernel.client.wait("begun", lambda: any(m.type == "stream" for m in self.answers(header)), 120.0, self.kernel.alive)
        self.kernel.ask("interrupt_request", channel="control", timeout=2.0)
        self.assertEqual(self.kernel.collect(header, timeout=10.0).content["ename"], "Cancelled")
        self.assertEqual(self.rust("kept").result(), "5")
        self.assert_well()


if __name__ == "__main__":
    main()
