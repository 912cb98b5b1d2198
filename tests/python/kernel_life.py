"""How a kernel begins and ends, and where it listens: `kernel_life.py KERNEL [TEST...]`."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

import psutil
from kernel_cases import KERNEL, LANGUAGES, main
from kernel_wire import CHANNELS, Client, Kernel, connection, specification

LANGUAGE = LANGUAGES[KERNEL]
# How long an end may take.
END = 5.0


class Life(unittest.TestCase):
    @contextlib.contextmanager
    def kernel(self, *args, **options):
        k = Kernel(KERNEL, *args, **options)
        try:
            yield k
        except Exception as e:
            e.add_note(k.trace())
            raise
        finally:
            k.close()

    def assert_ends(self, k, seconds=END):
        try:
            return k.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the process still runs after {seconds} s") from None

    def assert_works(self, k):
        code, wanted = LANGUAGE["value"]
        self.assertEqual(k.run(code, LANGUAGE["patience"]).result(), wanted)

    def test_shutdown(self):
        for channel in ("control", "shell"):
            for restart in (False, True):
                with self.subTest(channel=channel, restart=restart), self.kernel() as k:
                    self.assert_works(k)
                    children = psutil.Process(k.process.pid).children(recursive=True)
                    header = k.client.send(channel, "shutdown_request", {"restart": restart})
                    found = lambda: [m for m in k.client.seen if m.parent_id == header["msg_id"] and m.type == "shutdown_reply" and m.channel == channel]
                    [reply] = k.client.wait("shutdown_reply", found)
                    self.assertEqual(reply.content, {"status": "ok", "restart": restart})
                    self.assertEqual(self.assert_ends(k), 0)
                    _, alive = psutil.wait_procs(children, timeout=END)
                    self.assertEqual(alive, [], "children outlive the kernel")

    def test_shutdown_while_a_cell_runs(self):
        with self.kernel() as k:
            header = k.send_code(LANGUAGE["work"].format(60.0))
            k.client.wait("execute_input", lambda: [m for m in k.client.seen if m.type == "execute_input" and m.parent_id == header["msg_id"]])
            time.sleep(0.5)
            k.client.send("control", "shutdown_request", {"restart": False})
            self.assertEqual(self.assert_ends(k), 0)

    def test_termination(self):
        """The signal that a front end sends when a shutdown takes too long."""
        with self.kernel() as k:
            k.process.send_signal(signal.SIGTERM)
            self.assert_ends(k)

    def test_ctrl_c_is_an_interrupt(self):
        """A terminal sends it to the front end and the kernel alike."""
        with self.kernel() as k:
            k.process.send_signal(signal.SIGINT)
            time.sleep(0.3)
            self.assert_works(k)
            header = k.send_code(LANGUAGE["work"].format(60.0))
            k.client.wait("execute_input", lambda: [m for m in k.client.seen if m.type == "execute_input" and m.parent_id == header["msg_id"]])
            time.sleep(1.5 if LANGUAGE["patience"] > 60 else 0.3)
            k.process.send_signal(signal.SIGINT)
            self.assertEqual(k.collect(header, timeout=END).content["status"], "error")
            self.assert_works(k)

    def test_a_kernel_whose_parent_vanished_ends(self):
        """A front end that was killed has sent nothing; the kernel sees that JPY_PARENT_PID is no more."""
        _, spec = specification(KERNEL)
        info = connection()
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "connection.json"
            file.write_text(json.dumps(info))
            argv = [a.replace("{connection_file}", str(file)) for a in spec["argv"]]
            program = (
                "import os, subprocess, sys, time\n"
                "child = subprocess.Popen(sys.argv[1:], env={**os.environ, 'JPY_PARENT_PID': str(os.getpid())}, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)\n"
                "print(child.pid, flush=True)\n"
                "time.sleep(600)\n"
            )
            parent = subprocess.Popen([sys.executable, "-c", program, *argv], stdout=subprocess.PIPE, env={**os.environ, **spec.get("env", {})})
            client = Client(info)
            kernel = psutil.Process(int(parent.stdout.readline()))
            try:
                client.ready()
                self.assertTrue(kernel.is_running())
                parent.kill()
                parent.wait()
                end = time.monotonic() + END
                ended = lambda: not kernel.is_running() or kernel.status() == psutil.STATUS_ZOMBIE
                while not ended() and time.monotonic() < end:
                    time.sleep(0.05)
                self.assertTrue(ended(), f"it still runs {END} s after its parent was killed")
            finally:
                parent.kill()
                parent.stdout.close()
                client.close()
                with contextlib.suppress(psutil.NoSuchProcess):
                    kernel.kill()

    def test_it_listens_on_the_ports_of_the_file_at_the_loopback_only(self):
        with self.kernel() as k:
            self.assert_works(k)
            process = psutil.Process(k.process.pid)
            listening = [c.laddr for p in [process, *process.children(recursive=True)] for c in p.net_connections("inet") if c.status == psutil.CONN_LISTEN]
            wanted = {k.info[f"{c}_port"] for c in CHANNELS}
            self.assertLessEqual(wanted, {a.port for a in listening})
            self.assertEqual({a.ip for a in listening}, {"127.0.0.1"})
            if KERNEL != "python3":
                self.assertEqual({a.port for a in listening}, wanted)
            for address in (a.address for i in psutil.net_if_addrs().values() for a in i if a.family == socket.AF_INET and not a.address.startswith("127.")):
                with self.assertRaises(OSError, msg=f"reachable at {address}"):
                    socket.create_connection((address, k.info["shell_port"]), timeout=1).close()

    def test_without_a_key_messages_are_not_signed(self):
        with self.kernel(connection(key="")) as k:
            self.assert_works(k)

    def assert_refuses(self, content, *words):
        """A connection file that it cannot serve: an end with an error in words that say why."""
        _, spec = specification(KERNEL)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "connection.json"
            if content is not None:
                file.write_text(content if isinstance(content, str) else json.dumps(content))
            argv = [a.replace("{connection_file}", str(file)) for a in spec["argv"]]
            out = subprocess.run(argv, capture_output=True, text=True, timeout=30, env={**os.environ, **spec.get("env", {})})
            self.assertNotIn(out.returncode, (0, 101), out)
            self.assertNotIn("panicked", out.stderr)
            for word in words:
                self.assertIn(word, out.stderr)

    def test_connection_files_that_cannot_be_served(self):
        good = connection()
        without = {k: v for k, v in good.items() if k != "shell_port"}
        cases = {
            "missing": (None, "connection.json"),
            "empty": ("", "connection.json"),
            "no JSON": ("{", "connection.json"),
            "a list": ("[1]", "connection.json"),
            "a port too few": (without, "shell_port"),
            "a port too large": ({**good, "hb_port": 70000},),
            "a port in words": ({**good, "hb_port": "many"},),
            "another scheme": ({**good, "signature_scheme": "hmac-md5"}, "hmac-md5"),
            "another transport": ({**good, "transport": "pigeon"}, "pigeon"),
            "no address": ({**good, "ip": "nowhere at all"},),
        }
        for name, (content, *words) in cases.items():
            with self.subTest(name):
                self.assert_refuses(content, *words)

    def test_a_port_that_is_taken(self):
        info = connection()
        with socket.socket() as s:
            s.bind(("127.0.0.1", info["iopub_port"]))
            s.listen()
            self.assert_refuses(info, str(info["iopub_port"]))

    def test_two_kernels_do_not_meet(self):
        with self.kernel() as a, self.kernel() as b:
            a.run(LANGUAGE["define"].format(1), LANGUAGE["patience"])
            b.run(LANGUAGE["define"].format(2), LANGUAGE["patience"])
            for k, wanted in ((a, "1"), (b, "2")):
                self.assertEqual(k.run(LANGUAGE["kept"], LANGUAGE["patience"]).result(), wanted)
                self.assertEqual({m.header["session"] for m in k.client.seen}, {k.client.seen[0].header["session"]})


if __name__ == "__main__":
    main()
