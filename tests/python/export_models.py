"""Exports networks with seeded random weights to ONNX and runs them in onnxruntime, for tests/models.rs.

    python export_models.py DIR

For each model DIR holds NAME.onnx and NAME.npz with its inputs (input_0, …) and onnxruntime's outputs (output_0, …) of
one run, and for models with a dynamic batch NAME.batch3.npz of another. DIR/models.json lists them, with the number of
parameters after batch norms are folded. A model is made again only when this script or a package has changed.
"""

import hashlib
import importlib.metadata
import json
import os
import shutil
import sys

PACKAGES = ["torch", "torchvision", "ultralytics", "onnx", "onnxruntime"]


def randomize(model, torch):
    """Gives batch norms and biases numbers that a trained network could have, no two alike: the exporter merges equal ones."""
    for m in model.modules():
        if isinstance(m, (torch.nn.Conv2d, torch.nn.Linear)) and m.bias is not None:
            torch.nn.init.uniform_(m.bias, -0.3, 0.3)
        if isinstance(m, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(m.weight, 0.6, 1.4)
            torch.nn.init.uniform_(m.bias, -0.3, 0.3)
            torch.nn.init.uniform_(m.running_mean, -0.3, 0.3)
            torch.nn.init.uniform_(m.running_var, 0.6, 1.4)
    return model.eval()


def folded_parameters(model, torch):
    """Weights and biases of convolutions and linear layers, and a bias where a batch norm was folded in."""
    nn = torch.nn
    own = sum(p.numel() for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear)) for p in m.parameters())
    return own + sum(m.num_features for m in model.modules() if isinstance(m, nn.BatchNorm2d))


def fastest_det(torch):
    """A detector of FastestDet's kind: channel-shuffling backbone, one fused scale, decoupled depthwise head."""
    nn = torch.nn

    def conv(c, k, kernel, stride=1, groups=1, act=True):
        layers = [nn.Conv2d(c, k, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(k)]
        return nn.Sequential(*layers, *([nn.ReLU(inplace=True)] if act else []))

    class Unit(nn.Module):
        def __init__(self, c, k, stride):
            super().__init__()
            self.stride = stride
            half = k // 2
            side = c if stride == 2 else half
            self.main = nn.Sequential(
                conv(side, half, 1), conv(half, half, 3, stride, half, act=False), conv(half, half, 1)
            )
            self.skip = nn.Sequential(conv(c, c, 3, 2, c, act=False), conv(c, half, 1)) if stride == 2 else None

        def forward(self, x):
            if self.stride == 2:
                return torch.cat((self.skip(x), self.main(x)), 1)
            b, c, h, w = x.shape
            x = x.reshape(b * c // 2, 2, h * w).permute(1, 0, 2).reshape(2, -1, c // 2, h, w)
            return torch.cat((x[0], self.main(x[1])), 1)

    def stage(c, k, n):
        return nn.Sequential(Unit(c, k, 2), *[Unit(k, k, 1) for _ in range(n)])

    def separable(c, k):
        return nn.Sequential(conv(c, c, 5, 1, c), conv(c, k, 1, act=False))

    class Detector(nn.Module):
        def __init__(self, classes=8):
            super().__init__()
            self.stem = nn.Sequential(conv(3, 24, 3, 2), nn.MaxPool2d(3, 2, 1))
            self.stages = nn.ModuleList([stage(24, 48, 3), stage(48, 96, 7), stage(96, 192, 3)])
            self.pool = nn.AvgPool2d(3, 2, 1)
            self.up = nn.Upsample(scale_factor=2, mode="nearest")
            self.reduce = conv(336, 96, 1)
            self.branches = nn.ModuleList([nn.Sequential(*[conv(96, 96, 5, 1, 96) for _ in range(i)]) for i in (1, 2, 3)])
            self.mix = conv(288, 96, 1, act=False)
            self.objects, self.boxes, self.classes = separable(96, 1), separable(96, 4), separable(96, classes)

        def forward(self, x):
            x = self.stem(x)
            features = []
            for s in self.stages:
                x = s(x)
                features.append(x)
            a, b, c = features
            y = self.reduce(torch.cat((self.pool(a), b, self.up(c)), 1))
            y = torch.relu(y + self.mix(torch.cat([branch(y) for branch in self.branches], 1)))
            objects, boxes = torch.sigmoid(self.objects(y)), torch.tanh(self.boxes(y))
            return torch.cat((objects, boxes, torch.softmax(self.classes(y), 1)), 1)

    return Detector()


def main(out):
    with open(__file__, "rb") as f:
        stamp = " ".join(importlib.metadata.version(p) for p in PACKAGES) + " " + hashlib.sha256(f.read()).hexdigest()[:16]
    index = os.path.join(out, "models.json")
    if os.path.exists(index):
        with open(index) as f:
            if json.load(f)["stamp"] == stamp:
                return
    shutil.rmtree(out, ignore_errors=True)
    os.makedirs(out)
    os.chdir(out)

    import numpy as np
    import onnxruntime
    import torch
    import torchvision
    import ultralytics

    models = []

    def record(name, parameters, dynamic=False):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 2
        session = onnxruntime.InferenceSession(name + ".onnx", options, providers=["CPUExecutionProvider"])
        rng = np.random.default_rng(len(models))
        for batch in [1, 3] if dynamic else [1]:
            feeds = {}
            for i in session.get_inputs():
                shape = [batch if not isinstance(d, int) and k == 0 else d for k, d in enumerate(i.shape)]
                feeds[i.name] = rng.random(shape, dtype=np.float32)
            outputs = session.run(None, feeds)
            arrays = {f"input_{k}": v for k, v in enumerate(feeds.values())}
            arrays.update({f"output_{k}": v for k, v in enumerate(outputs)})
            np.savez(name + (".npz" if batch == 1 else f".batch{batch}.npz"), **arrays)
        models.append({"name": name, "dynamic": dynamic, "parameters": parameters})

    def export(name, model, opset, size, dynamic=False):
        model = randomize(model, torch)
        axes = {"images": {0: "batch"}, "output": {0: "batch"}} if dynamic else None
        torch.onnx.export(
            model, (torch.zeros(1, 3, size, size),), name + ".onnx", opset_version=opset, dynamo=False,
            input_names=["images"], output_names=["output"], dynamic_axes=axes,
        )
        record(name, folded_parameters(model, torch), dynamic)

    torch.manual_seed(0)
    zoo = torchvision.models
    export("fastestdet_op12", fastest_det(torch), 12, 96)
    export("fastestdet_dynamic_op17", fastest_det(torch), 17, 96, dynamic=True)
    export("resnet18_op13", zoo.resnet18(weights=None), 13, 64)
    export("mobilenet_v2_op12", zoo.mobilenet_v2(weights=None), 12, 64)
    export("mobilenet_v3_small_op17", zoo.mobilenet_v3_small(weights=None), 17, 64)
    export("shufflenet_v2_x0_5_op15", zoo.shufflenet_v2_x0_5(weights=None), 15, 64)
    export("shufflenet_v2_x0_5_dynamic_op17", zoo.shufflenet_v2_x0_5(weights=None), 17, 64, dynamic=True)
    export("squeezenet1_1_op14", zoo.squeezenet1_1(weights=None), 14, 64)

    for source, opset, dynamic in [
        ("yolov5n", 12, False),
        ("yolov8n", 17, False),
        ("yolov8n", 17, True),
        ("yolo11n", 20, False),
        ("yolo11n", 12, True),
    ]:
        yolo = ultralytics.YOLO(source + ".yaml", task="detect", verbose=False)
        yolo.model = randomize(yolo.model, torch)
        parameters = folded_parameters(yolo.model, torch)
        path = yolo.export(format="onnx", imgsz=96, opset=opset, dynamic=dynamic, simplify=False, device="cpu", verbose=False)
        name = f"{source}{'_dynamic' if dynamic else ''}_op{opset}"
        os.replace(path, name + ".onnx")
        if dynamic:
            # Height and width are dynamic too; the runs use one size.
            import onnx

            model = onnx.load(name + ".onnx")
            for axis in (2, 3):
                model.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = 96
            onnx.save(model, name + ".onnx")
        record(name, parameters, dynamic)

    with open("models.json", "w") as f:
        json.dump({"stamp": stamp, "models": models}, f)


if __name__ == "__main__":
    main(os.path.abspath(sys.argv[1]))
