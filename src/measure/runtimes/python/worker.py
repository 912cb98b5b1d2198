"""Carries a model in a runtime that is a Python package: `python -c THIS RUNTIME HELLO`.

Requests and answers are the frames of the library's worker protocol, on standard input and output. Times are taken here, around
the runtime's own call alone.
"""

import json
import os
import struct
import sys
import threading
import time

# Nothing is imported from the folder in which the program was started.
sys.path[:] = [p for p in sys.path if p]
# openvino reports its use to its makers, by a process that it leaves behind.
sys.modules["openvino_telemetry"] = None

# Codes of ONNX's element types.
TYPES = {1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 9: "bool", 10: "float16", 11: "float64", 12: "uint32", 13: "uint64"}


class Unsupported(Exception):
    """The runtime refuses the model."""


class Openvino:
    """The CPU plugin, one stream."""

    def begin(self):
        import openvino

        self.core = openvino.Core()

    def load(self, path, threads, names):
        # Numbers stay float32 where the processor has shorter ones: what is compared computes in the same.
        options = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        self.model = self.core.compile_model(path, "CPU", options)
        self.request = self.model.create_infer_request()

    def feed(self, values):
        self.request.set_tensors({self.model.input(name): self.tensor(value) for name, value in values.items()})

    @staticmethod
    def tensor(value):
        import openvino

        return openvino.Tensor(value)

    def step(self):
        self.request.infer()

    def outputs(self):
        return {o.get_any_name(): self.request.get_tensor(o).data for o in self.model.outputs}


class Tflite:
    """LiteRT's interpreter with its XNNPACK kernels."""

    def begin(self):
        from ai_edge_litert import interpreter

        self.library = interpreter

    def load(self, path, threads, names):
        self.names = names
        self.model = self.library.Interpreter(model_path=path, num_threads=threads)
        self.model.allocate_tensors()
        self.into = {d["name"]: d for d in self.model.get_input_details()}

    def feed(self, values):
        import numpy

        for name, value in values.items():
            at = self.into[self.names["inputs"].get(name, name)]
            if name in self.names["channels_last"]:
                value = value.transpose(0, *range(2, value.ndim), 1)
            if name in self.names["floats"] and numpy.issubdtype(at["dtype"], numpy.integer):
                scale, zero = at["quantization"]
                limits = numpy.iinfo(at["dtype"])
                value = numpy.clip(numpy.rint(value / numpy.float32(scale)) + zero, limits.min, limits.max)
            self.model.set_tensor(at["index"], numpy.ascontiguousarray(value, at["dtype"]))

    def step(self):
        self.model.invoke()

    def outputs(self):
        names = {file: name for name, file in self.names["outputs"].items()}
        return {name: self.value(d, name) for d in self.model.get_output_details() for name in [names.get(d["name"], d["name"])]}

    def value(self, detail, name):
        import numpy

        value = self.model.get_tensor(detail["index"])
        if name in self.names["floats"] and numpy.issubdtype(value.dtype, numpy.integer):
            scale, zero = detail["quantization"]
            value = (value.astype("float32") - zero) * numpy.float32(scale)
        return value


class Ncnn:
    """Its CPU layers, in float32 where the file has float32."""

    def begin(self):
        import ncnn

        self.library = ncnn

    def load(self, path, threads, names):
        self.names = names
        self.net = self.library.Net()
        self.net.opt.num_threads = threads
        for option in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_storage"):
            setattr(self.net.opt, option, False)
        if self.net.load_param(path) != 0 or self.net.load_model(path.removesuffix(".param") + ".bin") != 0:
            raise Unsupported("the files cannot be loaded")

    def feed(self, values):
        self.fed = {self.names["inputs"][name]: self.blob(value[0]) for name, value in values.items()}

    def blob(self, value):
        import numpy

        # One of its own: one that is made of an array points into it.
        value = numpy.ascontiguousarray(value, "float32")
        if value.ndim < 4:
            return self.library.Mat(value).clone()
        c, d, h, w = value.shape
        return self.library.Mat(value.reshape(-1)).clone().reshape(w, h, d, c).clone()

    def step(self):
        with self.net.create_extractor() as extractor:
            for name, value in self.fed.items():
                extractor.input(name, value)
            self.made = {name: extractor.extract(file) for name, file in self.names["outputs"].items()}
        if any(status != 0 for status, _ in self.made.values()):
            raise Unsupported("a layer fails when it runs")

    def outputs(self):
        import numpy

        def array(blob):
            if blob.dims < 4:
                return numpy.array(blob)
            return numpy.array(blob.reshape(blob.w * blob.h * blob.d * blob.c)).reshape(blob.c, blob.d, blob.h, blob.w)

        return {name: array(value)[None] for name, (_, value) in self.made.items()}


RUNTIMES = {"openvino": Openvino, "tflite": Tflite, "ncnn": Ncnn}


def resident(field):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(field + ":"))


class Worker:
    def __init__(self, runtime):
        self.runtime = RUNTIMES[runtime]()
        self.before = None

    def open(self, order, _):
        import numpy

        self.runtime.begin()
        try:
            with open("/proc/self/clear_refs", "w") as file:
                file.write("5")
            self.before = resident("VmRSS")
        except OSError:
            pass
        opened = {"load_ms": 0.0, "first_ms": 0.0}
        start = time.perf_counter()
        try:
            self.runtime.load(order["file"], order["threads"], order["names"])
        except Exception as e:
            raise Unsupported(f"{type(e).__name__}: {e}") from e
        opened["load_ms"] = (time.perf_counter() - start) * 1e3
        if order["inputs"]:
            random = numpy.random.default_rng(order["seed"])
            noise = {}
            for i in order["inputs"]:
                kind = TYPES[i["element"]]
                floats = kind.startswith("float")
                noise[i["name"]] = random.random(i["dims"], "float32").astype(kind) if floats else numpy.zeros(i["dims"], kind)
            self.runtime.feed(noise)
            start = time.perf_counter()
            self.runtime.step()
            opened["first_ms"] = (time.perf_counter() - start) * 1e3
        return {"opened": opened}, {}

    def step(self, order, _):
        times = []
        for _ in range(order["runs"]):
            start = time.perf_counter()
            self.runtime.step()
            times.append((time.perf_counter() - start) * 1e3)
        return {"times": times}, {}

    def run_for(self, order, _):
        end, runs = time.perf_counter() + order["seconds"], 0
        while time.perf_counter() < end:
            self.runtime.step()
            runs += 1
        return {"ran": runs}, {}

    def run(self, _, values):
        self.runtime.feed(values)
        self.runtime.step()
        return "outputs", self.runtime.outputs()

    def profile(self, _, __):
        raise Unsupported("this runtime does not tell the times of its steps")

    def peak(self, _, __):
        if self.before is None:
            return {"peak": None}, {}
        peak = resident("VmHWM")
        return {"peak": {"added": max(0, peak - self.before), "process": peak, "steady": max(0, resident("VmRSS") - self.before)}}, {}


def exactly(stream, size):
    data = stream.read(size)
    if len(data) != size:
        # The parent has gone.
        os._exit(0)
    return data


def read(stream):
    import numpy

    head = exactly(stream, 8)
    text = json.loads(exactly(stream, struct.unpack("<I", head[4:])[0]))
    values = {t["name"]: numpy.frombuffer(exactly(stream, t["bytes"]), TYPES[t["element"]]).reshape(t["dims"]) for t in text["tensors"]}
    return text["message"], values


def write(stream, message, values):
    codes = {name: code for code, name in TYPES.items()}
    tensors, bodies = [], []
    for name, value in values.items():
        body = value.tobytes()
        tensors.append({"name": name, "element": codes[value.dtype.name], "dims": list(value.shape), "bytes": len(body)})
        bodies.append(body)
    text = json.dumps({"message": message, "tensors": tensors}).encode()
    stream.write(b"cmpr" + struct.pack("<I", len(text)) + text)
    for body in bodies:
        stream.write(body)
    stream.flush()


def failure(kind, e):
    lines = [line.strip() for line in str(e).splitlines() if line.strip()]
    return {"failed": {"kind": kind, "message": " ".join(lines)[:1000] or type(e).__name__, "places": [], "hint": None, "cause": None}}


def main():
    # What libraries print goes to standard error.
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    write(output, {"hello": json.loads(sys.argv[2])}, {})
    import queue

    requests = queue.Queue()

    def listen():
        # A thread of its own, so that the end of the input ends the process amid a run.
        while True:
            requests.put(read(sys.stdin.buffer))

    threading.Thread(target=listen, daemon=True).start()
    worker = Worker(sys.argv[1])
    while True:
        message, values = requests.get()
        what, order = (message, None) if isinstance(message, str) else next(iter(message.items()))
        try:
            write(output, *getattr(worker, what)(order, values))
        except Unsupported as e:
            write(output, failure("Unsupported", f"{sys.argv[1]} refuses the model: {e}"), {})
        except Exception as e:
            write(output, failure("Internal", f"{sys.argv[1]}: {type(e).__name__}: {e}"), {})


main()
