"""A Jupyter front end on bare ZeroMQ, for tests: frames are built, signed and checked here, by the text of the protocol."""

import contextlib
import hashlib
import hmac
import itertools
import json
import os
import socket
import subprocess
import tempfile
import time
import uuid
from datetime import datetime, timezone
from pathlib import Path

import zmq

CHANNELS = ("shell", "control", "stdin", "iopub", "hb")
DELIMITER = b"<IDS|MSG>"
# Fields of what is published, all of them needed.
PUBLISHED = {
    "status": {"execution_state"},
    "stream": {"name", "text"},
    "execute_input": {"code", "execution_count"},
    "execute_result": {"data", "metadata", "execution_count"},
    "display_data": {"data", "metadata"},
    "update_display_data": {"data", "metadata", "transient"},
    "error": {"ename", "evalue", "traceback"},
    "clear_output": {"wait"},
}
# How long an answer may take that needs no work. A first one may wait for a language that starts on a busy machine.
PATIENCE = 90.0


def specification(name):
    """The folder of a kernel, looked up where Jupyter does, and its kernel.json."""
    from jupyter_client.kernelspec import KernelSpecManager

    folder = Path(KernelSpecManager().get_kernel_spec(name).resource_dir)
    return folder, json.loads((folder / "kernel.json").read_text())


# Below those that systems give out by themselves, and others in each process: nobody takes them before the kernel does.
PORTS = itertools.count(10_000 + os.getpid() % 200 * 100)


def free_ports(count):
    ports = []
    while len(ports) < count:
        with socket.socket() as s, contextlib.suppress(OSError):
            port = next(PORTS)
            s.bind(("127.0.0.1", port))
            ports.append(port)
    return ports


def connection(key="a8c5-of-the-tests", **changes):
    """The content of a connection file."""
    ports = dict(zip((f"{c}_port" for c in CHANNELS), free_ports(len(CHANNELS))))
    return {"transport": "tcp", "ip": "127.0.0.1", "key": key, "signature_scheme": "hmac-sha256", **ports, **changes}


def encode(value):
    return json.dumps(value).encode()


def same_header(a, b):
    """Equal, but that a date may be written in another way."""
    moment = lambda h: datetime.fromisoformat(h["date"])
    return {**a, "date": ""} == {**b, "date": ""} and moment(a) == moment(b)


class ProtocolError(AssertionError):
    """The kernel sent what the protocol forbids."""


class Message:
    """A message as it came, with its signature verified."""

    def __init__(self, channel, frames, key):
        self.channel, self.frames, self.time = channel, frames, time.monotonic()
        if DELIMITER not in frames:
            raise ProtocolError(f"{channel}: no delimiter in {frames}")
        at = frames.index(DELIMITER)
        self.identities, signature, parts = frames[:at], frames[at + 1], frames[at + 2 :]
        if len(parts) < 4:
            raise ProtocolError(f"{channel}: {len(parts)} parts instead of 4 or more: {frames}")
        try:
            self.header, self.parent, self.metadata, self.content = (json.loads(p) for p in parts[:4])
        except ValueError as e:
            raise ProtocolError(f"{channel}: {e} in {frames}") from None
        self.buffers = parts[4:]
        wanted = hmac.new(key, b"".join(parts[:4]), hashlib.sha256).hexdigest().encode() if key else b""
        if signature != wanted:
            raise ProtocolError(f"{channel}: signature {signature!r} instead of {wanted!r} on {self}")
        for name in ("msg_id", "session", "username", "date", "msg_type", "version"):
            if not isinstance(self.header.get(name), str):
                raise ProtocolError(f"{channel}: header without '{name}': {self}")
        if not all(isinstance(p, dict) for p in (self.parent, self.metadata, self.content)):
            raise ProtocolError(f"{channel}: a part is not an object: {self}")
        if (wanted := PUBLISHED.get(self.type)) and set(self.content) - {"transient"} != wanted - {"transient"}:
            raise ProtocolError(f"{channel}: {self.type} with the fields {sorted(self.content)} instead of {sorted(wanted)}")
        if datetime.fromisoformat(self.header["date"]).tzinfo is None:
            raise ProtocolError(f"{channel}: date without time zone: {self}")
        if not self.header["version"].startswith("5."):
            raise ProtocolError(f"{channel}: version {self.header['version']}")

    @property
    def type(self):
        return self.header["msg_type"]

    @property
    def parent_id(self):
        return self.parent.get("msg_id")

    def is_status(self, state):
        return self.type == "status" and self.content.get("execution_state") == state

    def __str__(self):
        text = json.dumps(self.content, ensure_ascii=False)
        text = text if len(text) < 400 else f"{text[:400]}… ({len(text)} characters)"
        parent = f"{self.parent.get('msg_type', 'no parent')} {str(self.parent_id or '')[:8]}"
        return f"<- {self.channel:7} {self.header.get('msg_type')} ({parent}) {text}"


class Exchange:
    """A request with all that answered it."""

    def __init__(self, header, reply, iopub):
        self.header, self.reply, self.iopub = header, reply, iopub
        states = [m.content["execution_state"] for m in iopub if m.type == "status"]
        if states != ["busy", "idle"] or not iopub[0].is_status("busy") or not iopub[-1].is_status("idle"):
            raise ProtocolError(f"{header['msg_type']}: not bracketed by one busy and one idle: {[m.type for m in iopub]}, {states}")
        for m in [reply, *iopub]:
            if not same_header(m.parent, header):
                raise ProtocolError(f"parent header {m.parent} is not the request's header {header}")
        expected = header["msg_type"].replace("_request", "_reply")
        if reply.type != expected:
            raise ProtocolError(f"{reply.type} instead of {expected}")

    @property
    def content(self):
        return self.reply.content

    @property
    def outputs(self):
        return [m for m in self.iopub if m.type not in ("status", "execute_input")]

    def of(self, kind):
        return [m for m in self.iopub if m.type == kind]

    def text(self, name="stdout"):
        return "".join(m.content["text"] for m in self.of("stream") if m.content["name"] == name)

    def result(self, mime="text/plain"):
        results = self.of("execute_result")
        return results[-1].content["data"].get(mime) if results else None


class Client:
    """Sockets to a kernel. `seen` has all messages from it, `trace` the lines of both directions."""

    def __init__(self, info):
        self.info, self.key = info, info["key"].encode()
        self.session, self.seen, self.trace = uuid.uuid4().hex, [], []
        self.context = zmq.Context()
        self.sockets = {}
        identity = uuid.uuid4().hex.encode()
        for channel, kind in zip(CHANNELS, (zmq.DEALER, zmq.DEALER, zmq.DEALER, zmq.SUB, zmq.REQ)):
            s = self.sockets[channel] = self.context.socket(kind)
            s.linger = 0
            if kind == zmq.DEALER:
                s.identity = identity
            if kind == zmq.SUB:
                s.subscribe(b"")
            s.connect(f"tcp://{info['ip']}:{info[f'{channel}_port']}")
        self.poller = zmq.Poller()
        for channel in ("shell", "control", "stdin", "iopub"):
            self.poller.register(self.sockets[channel], zmq.POLLIN)

    def close(self):
        self.context.destroy(linger=0)

    def header(self, kind):
        date = datetime.now(timezone.utc).isoformat().replace("+00:00", "Z")
        return {"msg_id": uuid.uuid4().hex, "session": self.session, "username": "tests", "date": date, "msg_type": kind, "version": "5.4"}

    def sign(self, parts):
        return hmac.new(self.key, b"".join(parts), hashlib.sha256).hexdigest().encode() if self.key else b""

    def send_parts(self, channel, parts, signature=None, buffers=()):
        """Sends header, parent, metadata, content as they are, signed unless a signature is given."""
        self.send_frames(channel, [DELIMITER, self.sign(parts) if signature is None else signature, *parts, *buffers])

    def send_frames(self, channel, frames):
        self.trace.append(f"-> {channel:7} {len(frames)} frames " + " ".join(repr(f[:160]) for f in frames))
        self.sockets[channel].send_multipart(frames)

    def send(self, channel, kind, content, parent=None, signature=None):
        header = self.header(kind)
        self.trace.append(f"-> {channel:7} {kind} {header['msg_id'][:8]} {json.dumps(content)[:400]}")
        parts = [encode(header), encode(parent or {}), b"{}", encode(content)]
        frames = [DELIMITER, self.sign(parts) if signature is None else signature, *parts]
        self.sockets[channel].send_multipart(frames)
        return header

    def pump(self, timeout):
        """Takes in what is there, after waiting for something for so many seconds."""
        ready = dict(self.poller.poll(max(0, timeout) * 1000))
        for channel, s in self.sockets.items():
            while s in ready:
                try:
                    m = Message(channel, s.recv_multipart(zmq.NOBLOCK), self.key)
                except zmq.Again:
                    break
                self.seen.append(m)
                self.trace.append(str(m))

    def wait(self, what, found, timeout=PATIENCE, alive=None):
        """Waits until `found` gives something true, and gives it."""
        end = time.monotonic() + timeout
        while not (value := found()):
            left = end - time.monotonic()
            if alive and not alive():
                raise ProtocolError(f"the kernel ended while this was awaited: {what}")
            if left <= 0:
                raise ProtocolError(f"within {timeout:.1f} s did not come: {what}")
            self.pump(min(left, 0.25))
        return value

    def collect(self, header, channel="shell", timeout=PATIENCE, alive=None):
        """Waits for the reply to a request and its idle."""
        mine = lambda: [m for m in self.seen if m.parent_id == header["msg_id"]]
        reply = lambda: next((m for m in mine() if m.channel == channel and m.type.endswith("_reply")), None)
        idle = lambda: any(m.channel == "iopub" and m.is_status("idle") for m in mine())
        self.wait(f"reply to {header['msg_type']} {header['msg_id'][:8]} on {channel}", reply, timeout, alive)
        self.wait(f"idle of {header['msg_type']} {header['msg_id'][:8]}", idle, timeout, alive)
        return Exchange(header, reply(), [m for m in mine() if m.channel == "iopub"])

    def ready(self, timeout=60.0, alive=None):
        """Waits until requests are answered and the subscription to iopub stands; gives the time of the first answer."""
        end, first = time.monotonic() + timeout, None
        while True:
            header = self.send("shell", "kernel_info_request", {})
            mine = lambda: [m for m in self.seen if m.parent_id == header["msg_id"]]
            self.wait("reply to kernel_info_request", lambda: any(m.channel == "shell" for m in mine()), end - time.monotonic(), alive)
            first = first or time.monotonic()
            with contextlib.suppress(ProtocolError):
                self.wait("idle", lambda: any(m.is_status("idle") for m in mine()), 0.1, alive)
                return first
            if time.monotonic() > end:
                raise ProtocolError("no status on iopub")

    def heartbeat(self, timeout=2.0):
        """Seconds until the heartbeat's echo."""
        s, token, begin = self.sockets["hb"], uuid.uuid4().bytes, time.monotonic()
        s.send(token)
        if not s.poll(timeout * 1000):
            raise ProtocolError(f"no heartbeat within {timeout} s")
        if (echo := s.recv()) != token:
            raise ProtocolError(f"the heartbeat answers {echo!r} instead of the bytes sent")
        return time.monotonic() - begin


class Kernel:
    """A kernel's process with a client."""

    def __init__(self, name, info=None, environment=None, timeout=60.0, wait=True):
        _, spec = specification(name)
        self.info = info or connection()
        self.folder = tempfile.TemporaryDirectory(prefix="kernel-")
        self.file = Path(self.folder.name) / "connection.json"
        self.file.write_text(json.dumps(self.info))
        argv = [a.replace("{connection_file}", str(self.file)) for a in spec["argv"]]
        self.errors = open(Path(self.folder.name) / "stderr", "w+b")
        env = {**os.environ, **spec.get("env", {}), **(environment or {})}
        self.begun = time.monotonic()
        self.process = subprocess.Popen(argv, cwd=self.folder.name, env=env, stdin=subprocess.DEVNULL, stdout=self.errors, stderr=self.errors)
        self.client = Client(self.info)
        if wait:
            try:
                self.ready(timeout)
            except ProtocolError as e:
                e.add_note(self.trace())
                self.close()
                raise

    def ready(self, timeout=60.0):
        """Waits until the kernel answers; gives the seconds since the start."""
        return self.client.ready(timeout, self.alive) - self.begun

    def alive(self):
        return self.process.poll() is None

    def ask(self, kind, content=None, channel="shell", timeout=PATIENCE):
        return self.client.collect(self.client.send(channel, kind, content or {}), channel, timeout, self.alive)

    def send_code(self, code, **options):
        content = {"code": code, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": False, "stop_on_error": True}
        return self.client.send("shell", "execute_request", {**content, **options})

    def run(self, code, timeout=PATIENCE, **options):
        return self.client.collect(self.send_code(code, **options), "shell", timeout, self.alive)

    def collect(self, header, channel="shell", timeout=PATIENCE):
        return self.client.collect(header, channel, timeout, self.alive)

    def said(self):
        """What the process wrote on its own stdout and stderr."""
        self.errors.flush()
        return (Path(self.folder.name) / "stderr").read_text(errors="replace")

    def trace(self, lines=40):
        return "\n".join(["messages, newest last:", *self.client.trace[-lines:], f"process: {self.process.poll()}", self.said()[-4000:]])

    def close(self):
        # Asked to end, it takes its files away.
        self.process.terminate()
        try:
            self.process.wait(5.0)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.client.close()
        self.errors.close()
        self.folder.cleanup()
