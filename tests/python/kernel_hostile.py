"""What a kernel does with messages that are forged, broken or absurd: `kernel_hostile.py KERNEL [TEST...]`.

Nothing of it may be run, end the kernel, or be answered with anything but an error; the next good request is answered."""

import json

from kernel_cases import KernelTest, main
from kernel_wire import DELIMITER, encode

CHANNELS = ("shell", "control")
EXECUTE = {"silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": False, "stop_on_error": True}

# From the right signature.
FORGERIES = {
    "none": lambda right: b"",
    "short": lambda right: right[:-2],
    "long": lambda right: right + b"00",
    "one digit off": lambda right: (b"1" if right[:1] == b"0" else b"0") + right[1:],
    "zeros": lambda right: b"0" * 64,
    "not hexadecimal": lambda right: b"z" * 64,
    "not text": lambda right: bytes(range(128, 192)),
    "bytes": lambda right: bytes.fromhex(right.decode()),
    "huge": lambda right: right * 10000,
}


class Hostile(KernelTest):
    def setUp(self):
        super().setUp()
        self.client = self.kernel.client

    def parts(self, kind="kernel_info_request", content=None):
        """Header, its frames."""
        header = self.client.header(kind)
        return header, [encode(header), b"{}", b"{}", encode(content or {})]

    def mark(self, value):
        self.run_code(self.code("define").format(value))

    def assert_mark(self, value):
        self.assertEqual(self.value(self.code("kept")), str(value))

    def assert_goes_on(self):
        for channel in CHANNELS:
            self.kernel.ask("kernel_info_request", channel=channel)
        self.client.heartbeat()

    def assert_error_if_answered(self, header):
        """A request that could not be read has an error for an answer, or none; a front end may wait for the reply, so an idle
        alone needs no reply, but a reply needs its idle."""
        replies = [m for m in self.answers(header) if m.channel != "iopub"]
        for m in replies:
            self.assertEqual(m.content.get("status"), "error", str(m))
            self.assertTrue(m.content["ename"] and m.content["evalue"], str(m))
        states = [m.content["execution_state"] for m in self.answers(header) if m.type == "status"]
        self.assertIn(states, ([], ["busy", "idle"]))


class Signatures(Hostile):
    def test_forged_messages_are_dropped(self):
        self.mark(1)
        code = self.code("define").format(2)
        for channel in CHANNELS:
            for kind, content in (("execute_request", {"code": code, **EXECUTE}), ("shutdown_request", {"restart": False})):
                sent = []
                for name, forge in FORGERIES.items():
                    header, parts = self.parts(kind, content)
                    self.client.send_parts(channel, parts, forge(self.client.sign(parts)))
                    sent.append((name, header))
                self.assert_goes_on()
                self.settle(0.2)
                for name, header in sent:
                    self.assertEqual(self.answers(header), [], f"{channel} {kind}: signature {name}")
        self.assert_mark(1)

    def test_changed_parts_are_dropped(self):
        """A signature taken from a good message fits no other header, parent, metadata or content."""
        self.mark(1)
        for changed in range(4):
            header, parts = self.parts("execute_request", {"code": self.code("define").format(2), **EXECUTE})
            signature = self.client.sign(parts)
            value = json.loads(parts[changed])
            parts[changed] = encode({**value, "more": 1} if changed != 3 else {**value, "code": self.code("define").format(3)})
            self.client.send_parts("shell", parts, signature)
            self.settle(0.1)
            self.assertEqual(self.answers(header), [], f"part {changed}")
        self.assert_goes_on()
        self.assert_mark(1)

    def test_a_message_sent_twice_runs_once(self):
        """As in ipykernel: a signature seen before is dropped."""
        self.mark(1)
        header, parts = self.parts("execute_request", {"code": self.code("nothing"), **EXECUTE})
        for _ in range(3):
            self.client.send_parts("shell", parts)
        self.assert_goes_on()
        self.settle(0.2)
        replies = [m for m in self.answers(header) if m.channel == "shell"]
        self.assertEqual(len(replies), 1, "replays are answered")


class Frames(Hostile):
    def test_frames_that_are_no_json(self):
        broken = [b"", b"{", b"}", b"nonsense", b"{'a': 1}", b"\xff\xfe\x00", b'{"a": "\xc3"}', b'{"a": 1} {"b": 2}', b"[" * 5000, b'{"a":' * 5000, b"NaN", b"\x00" * 64]
        for channel in CHANNELS:
            for place in range(4):
                for bad in broken:
                    with self.subTest(channel=channel, place=place, bad=bad[:20]):
                        header, parts = self.parts("execute_request", {"code": "1", **EXECUTE})
                        parts[place] = bad
                        self.client.send_parts(channel, parts)
                        if place == 0:
                            continue
                        self.client.pump(0)
                        self.assert_error_if_answered(header)
        self.assert_goes_on()
        self.assert_well()

    def test_frames_that_are_no_objects(self):
        for channel in CHANNELS:
            for place in range(4):
                for value in ([], [1], 1, -0.5, "text", None, True):
                    if place == 1 and value in ([], None):
                        continue
                    header, parts = self.parts("complete_request", {"code": "1", "cursor_pos": 1})
                    parts[place] = encode(value)
                    self.client.send_parts(channel, parts)
        self.assert_goes_on()
        self.assert_well()

    def test_headers_without_their_fields(self):
        for channel in CHANNELS:
            for field in ("msg_id", "session", "username", "date", "msg_type", "version"):
                for value in (None, 5, [], {}, "", "x" * 10000, "no\0thing", "drop"):
                    header, parts = self.parts()
                    header[field] = value
                    if value == "drop":
                        del header[field]
                    self.client.send_parts(channel, [encode(header), *parts[1:]])
        self.assert_goes_on()
        self.assert_well()

    def test_frames_that_are_missing(self):
        header, parts = self.parts()
        signature = self.client.sign(parts)
        full = [DELIMITER, signature, *parts]
        for channel in CHANNELS:
            for count in range(1, len(full)):
                self.client.send_frames(channel, full[:count])
            self.client.send_frames(channel, [b""])
            self.client.send_frames(channel, [b""] * 12)
            self.client.send_frames(channel, full[1:])
            self.client.send_frames(channel, [DELIMITER] * 6)
            self.client.send_frames(channel, [DELIMITER, self.client.sign([]), *[b""] * 4])
            # Fewer parts than four, with the right signature of these.
            for count in range(4):
                self.client.send_parts(channel, parts[:count])
        self.assert_goes_on()
        self.settle(0.2)
        self.assertEqual(self.answers(header), [])
        self.assert_well()

    def test_many_and_large_frames(self):
        header, parts = self.parts()
        self.client.send_parts("shell", parts, buffers=[b""] * 1000 + [bytes(32 << 20)])
        self.assertEqual(self.client.collect(header, timeout=self.patience, alive=self.kernel.alive).content["status"], "ok")
        # Identities of a route of proxies come back as they were.
        header, parts = self.parts()
        self.client.send_frames("shell", [b"proxy", b"other", DELIMITER, self.client.sign(parts), *parts])
        self.client.wait("reply along the route", lambda: [m for m in self.answers(header) if m.identities == [b"proxy", b"other"]])
        self.assert_goes_on()

    def test_a_large_cell(self):
        code, wanted = self.code("value")
        comment = {"python": "#"}.get(self.language["name"], "//") + " " + "é" * (4 << 20) + "\n"
        self.assertEqual(self.value(comment + code), wanted)
        self.assert_well()

    def test_garbage_on_every_port(self):
        """Bytes that are not ZeroMQ's, on the ports of a running kernel."""
        import socket

        for channel in ("shell", "control", "stdin", "iopub", "hb"):
            for garbage in (b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 200, bytes(64), b"\xff\x00\x00\x00\x00\x00\x00\x00\x01\x7f\x03\x00NULL" + b"\xff" * 100):
                with socket.create_connection(("127.0.0.1", self.client.info[f"{channel}_port"]), timeout=5) as s:
                    s.sendall(garbage)
        self.assert_goes_on()
        self.assert_well()


class Contents(Hostile):
    def test_unknown_kinds(self):
        for channel in CHANNELS:
            for kind in ("frobnicate_request", "execute_reply", "status", "stream", "input_reply", "comm_msg", "comm_close", "usage_request", "create_subshell_request"):
                header = self.client.send(channel, kind, {"comm_id": "none", "data": {}})
                self.settle(0.05)
                self.assert_error_if_answered(header)
        self.assert_goes_on()
        self.assert_well()

    def test_debuggers_that_ask_nonsense(self):
        """Answers of a debugger say whether they succeeded in their own words."""
        wrong = [{}, {"command": 5}, {"command": "frobnicate"}, {"command": "variables"}, {"command": "variables", "arguments": 7},
                 {"command": "variables", "arguments": {"variablesReference": 10**30}}, {"command": "richInspectVariables", "arguments": {"variableName": []}}]  # fmt: skip
        for content in wrong:
            reply = self.kernel.ask("debug_request", content, channel="control").content
            self.assertFalse(reply["success"], str(content))
            self.assertTrue(reply["message"], str(content))
        self.assert_goes_on()
        self.assert_well()

    def test_a_comm_of_an_unknown_target_is_closed(self):
        header = self.client.send("shell", "comm_open", {"comm_id": "c1", "target_name": "nobody", "data": {}})
        m = self.client.wait("comm_close on iopub", lambda: [m for m in self.answers(header) if m.type == "comm_close"])[0]
        self.assertEqual((m.channel, m.content["comm_id"]), ("iopub", "c1"))
        self.assertEqual(self.kernel.ask("comm_info_request").content["comms"], {})

    def test_contents_of_wrong_types(self):
        wrong = {
            "execute_request": [{}, {"code": 5}, {"code": None}, {"code": ["a"]}, {"code": "1", "silent": "yes"}, {"code": "1", "user_expressions": [1]},
                                {"code": "", "user_expressions": {"a": 5}}, {"code": "1", "store_history": 7}],
            "complete_request": [{}, {"code": 5, "cursor_pos": 0}, {"code": "a"}, {"code": "a", "cursor_pos": "a"}, {"code": "a", "cursor_pos": -1},
                                 {"code": "a", "cursor_pos": 1.5}, {"code": "a", "cursor_pos": 10**30}, {"code": "é", "cursor_pos": 10**9}, {"code": None, "cursor_pos": None}],
            "inspect_request": [{}, {"code": "a", "cursor_pos": -5, "detail_level": 0}, {"code": "é🚀", "cursor_pos": 99, "detail_level": 9}, {"code": "a", "cursor_pos": 0, "detail_level": "x"}],
            "is_complete_request": [{}, {"code": 1}, {"code": {}}],
            "history_request": [{}, {"hist_access_type": "x"}, {"hist_access_type": "tail", "n": -1, "output": False, "raw": True},
                                {"hist_access_type": "range", "session": 10**12, "start": -9, "stop": 10**12, "output": False, "raw": True},
                                {"hist_access_type": "search", "pattern": "[", "n": 1, "output": False, "raw": True},
                                {"hist_access_type": "tail", "n": "many", "output": 1, "raw": 1}],
            "comm_info_request": [{"target_name": 5}],
            "comm_open": [{}, {"comm_id": 1, "target_name": 2, "data": 3}],
            "interrupt_request": [{"more": 1}],
            "kernel_info_request": [{"more": [1, {"deep": None}]}],
        }  # fmt: skip
        for kind, contents in wrong.items():
            for content in contents:
                with self.subTest(kind=kind, content=content):
                    channel = "control" if kind == "interrupt_request" else "shell"
                    header = self.client.send(channel, kind, content)
                    self.kernel.ask("kernel_info_request", channel=channel, timeout=self.patience)
                    states = [m.content["execution_state"] for m in self.answers(header) if m.type == "status"]
                    self.assertIn(states, ([], ["busy", "idle"]))
                    for m in self.answers(header):
                        if m.channel != "iopub":
                            self.assertIn(m.content.get("status"), ("ok", "error", "invalid", "unknown", "complete", "incomplete"), str(m))
        self.assert_well()

    def test_numbers_of_front_ends(self):
        """A cursor beyond the code is its end, one inside of a character its beginning."""
        for code, cursor in (("", 5), ("a", 1000), ("🚀", 1), ("\r\n\t", 2)):
            for kind in ("complete_request", "inspect_request"):
                with self.subTest(kind=kind, code=code, cursor=cursor):
                    got = self.kernel.ask(kind, {"code": code, "cursor_pos": cursor, "detail_level": 0}).content
                    self.assertEqual(got["status"], "ok")
                    if kind == "complete_request":
                        self.assertTrue(0 <= got["cursor_start"] <= got["cursor_end"] <= max(len(code), cursor), got)

    def test_stdin_that_nobody_asked_for(self):
        for content in ({}, {"value": 5}, {"value": None}, {"status": "ok", "value": "x" * (1 << 20)}):
            self.client.send("stdin", "input_reply", content)
        self.client.send_frames("stdin", [b"junk"])
        self.client.send_frames("stdin", [DELIMITER])
        self.assert_goes_on()
        self.assert_well()

    def test_a_flood(self):
        headers = [self.client.send("shell", "complete_request", {"code": "a", "cursor_pos": 1}) for _ in range(300)]
        for header in headers:
            self.client.collect(header, timeout=self.patience, alive=self.kernel.alive)
        self.assert_goes_on()


if __name__ == "__main__":
    main()
