"""What a kernel does with requests as they should be: `kernel_protocol.py KERNEL [TEST...]`."""

import base64
import threading
import time

from kernel_cases import KernelTest, main
from kernel_wire import Client, same_header


class Requests(KernelTest):
    """Every kind of request. `Exchange` checks busy and idle, parent headers and kind; `Message` the signature."""

    def test_kernel_info(self):
        for channel in ("shell", "control"):
            with self.subTest(channel):
                content = self.kernel.ask("kernel_info_request", channel=channel).content
                self.assertEqual(content["status"], "ok")
                for field in ("protocol_version", "implementation", "implementation_version", "banner"):
                    self.assertIsInstance(content[field], str)
                    self.assertTrue(content[field], field)
                about = content["language_info"]
                self.assertEqual((about["name"], about["file_extension"]), (self.language["name"], self.language["extension"]))
                self.assertIn("/", about["mimetype"])
                self.assertTrue(about["version"] and about["pygments_lexer"] and about["codemirror_mode"])
                for link in content["help_links"]:
                    self.assertTrue(link["text"] and link["url"].startswith("https://"), link)

    def test_every_kind_is_bracketed_and_answered(self):
        code = "1 + 1"
        requests = [
            ("complete_request", {"code": code, "cursor_pos": 1}),
            ("inspect_request", {"code": code, "cursor_pos": 1, "detail_level": 0}),
            ("inspect_request", {"code": code, "cursor_pos": 1, "detail_level": 1}),
            ("is_complete_request", {"code": code}),
            ("history_request", {"hist_access_type": "tail", "n": 3, "output": False, "raw": True}),
            ("comm_info_request", {}),
            ("comm_info_request", {"target_name": "none"}),
            ("execute_request", {"code": code, "silent": False}),
        ]
        for kind, content in requests:
            with self.subTest(kind, **content):
                got = self.kernel.ask(kind, content, timeout=self.patience).content
                if kind == "is_complete_request":
                    self.assertIn(got["status"], ("complete", "unknown"))
                else:
                    self.assertEqual(got["status"], "ok")
                if kind == "comm_info_request":
                    self.assertEqual(got["comms"], {})
        self.kernel.ask("interrupt_request", channel="control")

    def test_variables(self):
        code, name, kind = self.code("variable")
        self.run_code(code)

        def debug(command, **arguments):
            content = {"type": "request", "seq": 3, "command": command, "arguments": arguments}
            reply = self.kernel.ask("debug_request", content, channel="control", timeout=self.patience).content
            self.assertEqual((reply["type"], reply["request_seq"], reply["command"]), ("response", 3, command))
            return reply

        for command in ("debugInfo", "initialize", "attach"):
            self.assertTrue(debug(command)["success"], command)
        self.assertTrue(debug("debugInfo")["body"]["isStarted"])
        found = {v["name"]: v for v in debug("inspectVariables")["body"]["variables"]}
        self.assertEqual(found[name]["type"], kind)
        shown = debug("richInspectVariables", variableName=name)
        self.assertIn("text/plain", shown["body"]["data"])
        for command in ("richInspectVariables", "variables", "stepOver"):
            self.assertFalse(debug(command)["success"], command)
        debug("disconnect")

    def test_ids_differ_and_the_session_stays(self):
        for _ in range(3):
            self.kernel.ask("kernel_info_request")
        self.assert_well()
        headers = [m.header for m in self.kernel.client.seen]
        self.assertEqual(len({h["msg_id"] for h in headers}), len(headers))
        self.assertEqual(len({h["session"] for h in headers}), 1)

    def test_a_cell(self):
        code, wanted = self.code("value")
        hello = self.run_code(self.code("hello"))
        self.assertIn("hello, world", hello.text())
        e = self.run_code(code)
        [shown], [result] = e.of("execute_input"), e.of("execute_result")
        self.assertEqual(shown.content, {"code": code, "execution_count": e.content["execution_count"]})
        self.assertEqual(result.content["execution_count"], e.content["execution_count"])
        self.assertEqual(result.content["data"]["text/plain"], wanted)
        self.assertIsInstance(result.content["metadata"], dict)
        self.assertEqual(e.content["execution_count"], hello.content["execution_count"] + 1)
        self.assertEqual(e.iopub[1].type, "execute_input")

    def test_nothing_to_run(self):
        for code in ("", "   ", "\n\n"):
            with self.subTest(code=code):
                e = self.run_code(code)
                self.assertEqual((e.content["status"], e.outputs), ("ok", []))

    def test_an_error(self):
        for sample in ("error", "mistake"):
            with self.subTest(sample):
                e = self.run_code(self.code(sample))
                self.assertEqual(e.content["status"], "error")
                [shown] = e.of("error")
                for field in ("ename", "evalue", "traceback"):
                    self.assertEqual(shown.content[field], e.content[field])
                self.assertTrue(e.content["ename"] and e.content["evalue"])
                self.assertTrue(e.content["traceback"] and all(isinstance(l, str) for l in e.content["traceback"]))
                if sample == "error":
                    self.assertIn(self.language["says"], e.content["evalue"] + "\n".join(e.content["traceback"]))
                self.assertIn("execution_count", e.content)
        self.assert_well()

    def test_silent_shows_and_counts_nothing(self):
        before = self.run_code(self.code("nothing")).content["execution_count"]
        code, _ = self.code("value")
        self.run_code(self.code("define").format(7), silent=True)
        e = self.run_code(code, silent=True)
        self.assertEqual(e.content["status"], "ok")
        self.assertEqual(e.of("execute_input") + e.of("execute_result"), [])
        e = self.run_code(self.code("error"), silent=True)
        self.assertEqual((e.content["status"], e.of("execute_input")), ("error", []))
        # It ran.
        e = self.run_code(self.code("kept"))
        self.assertEqual(e.result(), "7")
        self.assertEqual(e.content["execution_count"] - before, 2 if not self.code("nothing").strip() and before == 0 else 1)

    def test_store_history_false_counts_nothing(self):
        code, wanted = self.code("value")
        before = self.run_code(code).content["execution_count"]
        e = self.run_code(code, store_history=False)
        self.assertEqual(e.result(), wanted)
        self.assertEqual(self.run_code(code).content["execution_count"], before + 1)

    def test_history_without_stored_cells(self):
        code, wanted = self.code("value")
        kept, dropped = f"{code} ", f" {code}"
        self.run_code(kept)
        self.run_code(dropped, store_history=False)
        request = {"hist_access_type": "tail", "n": 1, "output": False, "raw": True}
        [(_, line, text)] = self.kernel.ask("history_request", request).content["history"]
        self.assertEqual(text.strip(), code)
        self.assertNotEqual(text, dropped)
        [(_, again, (text, output))] = self.kernel.ask("history_request", {**request, "output": True}).content["history"]
        self.assertEqual((again, text.strip()), (line, code))
        self.assertIn(output, (None, wanted))

    def test_user_expressions(self):
        good, wanted = self.code("expression")
        wishes = {"good": good, "bad": self.code("bad_expression")}
        e = self.run_code("", user_expressions=wishes)
        self.assertEqual(e.content["status"], "ok")
        got = e.content["user_expressions"]
        self.assertEqual((got["good"]["status"], got["good"]["data"]["text/plain"]), ("ok", wanted))
        self.assertIn("metadata", got["good"])
        self.assertEqual(got["bad"]["status"], "error")
        self.assertTrue(got["bad"]["ename"] and got["bad"]["evalue"] and got["bad"]["traceback"])
        # Neither is an output of the cell.
        self.assertEqual(e.outputs, [])

    def test_cursor_positions_count_characters(self):
        typed, wanted = self.code("complete")
        for prefix in ("", self.code("wide_prefix")):
            code = prefix + typed
            with self.subTest(code=code):
                got = self.kernel.ask("complete_request", {"code": code, "cursor_pos": len(code)}).content
                self.assertIn(wanted, [m.split("(")[0] for m in got["matches"]])
                self.assertEqual((got["cursor_start"], got["cursor_end"]), (len(prefix), len(code)))
        typed, wanted = self.code("inspect")
        code = self.code("wide_prefix") + typed
        got = self.kernel.ask("inspect_request", {"code": code, "cursor_pos": len(code) - 1, "detail_level": 1}).content
        self.assertTrue(got["found"])
        self.assertIn(wanted, got["data"]["text/plain"])

    def test_inspection_of_nothing(self):
        got = self.kernel.ask("inspect_request", {"code": "", "cursor_pos": 0, "detail_level": 0}).content
        self.assertEqual((got["status"], got["found"], got["data"], got["metadata"]), ("ok", False, {}, {}))

    def test_plots_and_tables_are_rich(self):
        e = self.run_code(self.code("plot"))
        shown = [m.content["data"] for m in e.outputs]
        self.assertTrue(any(d.get("image/svg+xml", "").lstrip().startswith("<svg") for d in shown), shown)
        e = self.run_code(self.code("table"))
        shown = [m.content["data"] for m in e.outputs]
        self.assertTrue(any("<table" in d.get("text/html", "") for d in shown), shown)
        self.assertTrue(all(d.get("text/plain") for d in shown), shown)
        e = self.run_code(self.code("picture"))
        shown = [m.content["data"] for m in e.outputs]
        jpeg = [base64.b64decode(d["image/jpeg"], validate=True) for d in shown if "image/jpeg" in d]
        self.assertTrue(jpeg and all(j.startswith(b"\xff\xd8\xff") for j in jpeg), shown)


class Queue(KernelTest):
    def test_an_error_aborts_what_is_queued(self):
        code, wanted = self.code("value")
        self.run_code(self.code("define").format(1))
        work = self.kernel.send_code(self.code("work").format(0.5))
        bad = self.kernel.send_code(self.code("error"))
        after = [self.kernel.send_code(self.code("define").format(2)), self.kernel.send_code(code)]
        info = self.kernel.client.send("shell", "kernel_info_request", {})
        self.assertEqual(self.kernel.collect(work, timeout=self.patience).content["status"], "ok")
        self.assertEqual(self.kernel.collect(bad, timeout=self.patience).content["status"], "error")
        for header in after:
            e = self.kernel.collect(header, timeout=self.patience)
            self.assertEqual(e.content["status"], "aborted")
            self.assertEqual(e.outputs + e.of("execute_input"), [])
        self.assertEqual(self.kernel.collect(info).content["status"], "ok")
        # What comes after the error was answered runs again.
        self.assertEqual(self.value(self.code("kept")), "1")
        self.assertEqual(self.value(code), wanted)

    def test_what_is_sent_after_the_idle_of_an_error_runs(self):
        code, wanted = self.code("value")
        for _ in range(3 if self.patience > 60 else 50):
            self.run_code(self.code("error"))
            e = self.run_code(code)
            self.assertEqual((e.content["status"], e.result()), ("ok", wanted))

    def test_stop_on_error_false_goes_on(self):
        code, wanted = self.code("value")
        bad = self.kernel.send_code(self.code("error"), stop_on_error=False)
        after = self.kernel.send_code(code)
        self.assertEqual(self.kernel.collect(bad, timeout=self.patience).content["status"], "error")
        self.assertEqual(self.kernel.collect(after, timeout=self.patience).result(), wanted)

    def test_cells_run_in_their_order(self):
        headers = [self.kernel.send_code(self.code("define").format(i)) for i in range(8)]
        last = self.kernel.send_code(self.code("kept"))
        counts = [self.kernel.collect(h, timeout=self.patience).content["execution_count"] for h in headers]
        self.assertEqual(counts, list(range(counts[0], counts[0] + 8)))
        self.assertEqual(self.kernel.collect(last, timeout=self.patience).result(), "7")

    def test_two_front_ends(self):
        """Replies go to who asked; iopub to all."""
        other = Client(self.kernel.info)
        try:
            self.settle(0.5)
            header = other.send("shell", "kernel_info_request", {})
            other.collect(header)
            self.settle(0.2)
            self.assertEqual([m.channel for m in self.answers(header)], ["iopub"] * 2)
            self.assert_well()
        finally:
            other.close()


class WhileACellRuns(KernelTest):
    def begin(self, seconds):
        """Starts a cell that works, and waits until it does."""
        header = self.kernel.send_code(self.code("work").format(float(seconds)))
        self.kernel.client.wait("execute_input", lambda: any(m.type == "execute_input" for m in self.answers(header)))
        time.sleep(1.5 if self.patience > 60 else 0.2)
        return header

    def test_control_and_heartbeat_are_answered(self):
        cell = self.begin(4)
        for _ in range(3):
            self.kernel.client.heartbeat(1.0)
            self.kernel.ask("kernel_info_request", channel="control", timeout=1.0)
        self.assertFalse([m for m in self.answers(cell) if m.channel == "shell"], "the cell was over")
        e = self.kernel.collect(cell, timeout=self.patience)
        self.assertEqual(e.content["status"], "ok")

    def test_interrupt(self):
        self.run_code(self.code("define").format(3))
        cell = self.begin(60)
        queued = self.kernel.send_code(self.code("define").format(4))
        # Nothing orders messages of two sockets: it has to be there before the interrupt is.
        time.sleep(0.5)
        begin = time.monotonic()
        e = self.kernel.ask("interrupt_request", channel="control", timeout=2.0)
        self.assertEqual(e.content, {"status": "ok"})
        cell = self.kernel.collect(cell, timeout=5.0)
        self.assertEqual(cell.content["status"], "error")
        self.assertLess(time.monotonic() - begin, 3.0)
        self.assertEqual(self.kernel.collect(queued, timeout=self.patience).content["status"], "aborted")
        # An interrupt takes neither the state nor the next cell.
        self.assertEqual(self.value(self.code("kept")), "3")

    def test_an_interrupt_of_nothing_does_nothing(self):
        self.kernel.ask("interrupt_request", channel="control")
        self.assert_well()
        for _ in range(5):
            self.kernel.ask("interrupt_request", channel="control")
        self.assert_well()

    def test_interrupts_at_any_time(self):
        """Interrupts that race with the end of cells: each cell ends in one way, and the kernel lives."""
        stop = threading.Event()
        code, wanted = self.code("value")
        headers = [self.kernel.send_code(self.code("work").format(0.02), stop_on_error=False) for _ in range(20)]
        interrupts = []
        for _ in range(20):
            interrupts.append(self.kernel.client.send("control", "interrupt_request", {}))
            stop.wait(0.01)
        for header in headers:
            self.assertIn(self.kernel.collect(header, timeout=self.patience).content["status"], ("ok", "error", "aborted"))
        for header in interrupts:
            self.kernel.collect(header, "control")
        self.assertEqual(self.value(code), wanted)


class Stdin(KernelTest):
    def asked(self, header):
        """Waits for the question of a cell."""
        found = lambda: next((m for m in self.answers(header) if m.channel == "stdin"), None)
        m = self.kernel.client.wait("input_request on stdin", found, self.patience, self.kernel.alive)
        self.assertEqual(m.type, "input_request")
        self.assertTrue(same_header(m.parent, header), m.parent)
        return m

    def answer(self, question, value, **options):
        self.kernel.client.send("stdin", "input_reply", {"status": "ok", "value": value}, parent=question.header, **options)

    def test_a_question_and_its_answer(self):
        self.ask_and_answer("ask", False, "hello Ada")

    def test_a_question_for_a_secret(self):
        self.ask_and_answer("ask_secret", True, "3 letters")

    def ask_and_answer(self, sample, secret, said):
        header = self.kernel.send_code(self.code(sample), allow_stdin=True)
        question = self.asked(header)
        self.assertEqual(question.content["password"], secret)
        self.assertTrue(question.content["prompt"].endswith("? "))
        # Answers with a bad signature and messages of another kind are none.
        self.answer(question, "Eve", signature=b"0" * 64)
        self.kernel.client.send("stdin", "other_reply", {"value": "Eve"}, parent=question.header)
        self.answer(question, "Ada")
        self.assertIn(said, self.kernel.collect(header, timeout=self.patience).text())

    def test_a_late_answer_answers_nothing(self):
        self.code("ask")
        self.kernel.client.send("stdin", "input_reply", {"status": "ok", "value": "late"})
        self.settle(0.2)
        header = self.kernel.send_code(self.code("ask"), allow_stdin=True)
        question = self.asked(header)
        self.answer(question, "Ada")
        self.assertIn("hello Ada", self.kernel.collect(header, timeout=self.patience).text())

    def test_without_a_front_end_that_takes_input(self):
        e = self.run_code(self.code("ask"), allow_stdin=False)
        self.assertEqual(e.content["status"], "error")
        self.assertEqual([m for m in self.kernel.client.seen if m.channel == "stdin"], [])
        self.assert_well()

    def test_interrupt_of_a_question(self):
        header = self.kernel.send_code(self.code("ask"), allow_stdin=True)
        self.asked(header)
        self.kernel.client.heartbeat()
        self.kernel.ask("kernel_info_request", channel="control", timeout=1.0)
        self.kernel.ask("interrupt_request", channel="control")
        self.assertEqual(self.kernel.collect(header, timeout=5.0).content["status"], "error")
        self.assert_well()


if __name__ == "__main__":
    main()
