#!/usr/bin/env python3
"""INT8 by other quantizers, from real calibration images: the files that scripts/quantizers.rhai judges beside this program's.

  quantizers.py MODEL.onnx IMAGES OUT [--seeds 3] [--images 100] [--exclude PREFIX] [--classify]

IMAGES is a folder of training images (searched below, too), of which each seed draws its own. They are letterboxed for a detector; for a classifier
(--classify) resized and normalised as ImageNet's. Writes OUT/onnxruntime-SEED.onnx, OUT/onnxruntime-part-SEED.onnx, in which nodes whose names
begin with PREFIX stay in float (what its documentation advises for the head of a detector), and OUT/nncf-SEED.onnx. Needs the packages
onnx, onnxruntime, pillow, sympy and, for its files, nncf.
"""
import argparse, logging, os, pathlib, random, sys, tempfile

import numpy as np, onnx, onnxruntime as ort
from onnxruntime import quantization as q
from onnxruntime.quantization.shape_inference import quant_pre_process
from PIL import Image

p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
p.add_argument("model"), p.add_argument("folder"), p.add_argument("out")
p.add_argument("--seeds", type=int, default=3)
p.add_argument("--images", type=int, default=100)
p.add_argument("--exclude", help="names of nodes that stay in float begin with this")
p.add_argument("--classify", action="store_true")
a = p.parse_args()

feed = ort.InferenceSession(a.model, providers=["CPUExecutionProvider"]).get_inputs()[0]
height, width = (n if isinstance(n, int) else 640 for n in feed.shape[2:4])
files = sorted(f for f in pathlib.Path(a.folder).rglob("*") if f.suffix.lower() in (".jpg", ".jpeg", ".png", ".bmp"))
os.makedirs(a.out, exist_ok=True)
names = [n.name for n in onnx.load(a.model).graph.node]
part = [n for n in names if a.exclude and n.startswith(a.exclude)]
if a.exclude and not part:
    sys.exit(f"no node's name begins with {a.exclude}; there are {', '.join(names[:5])}, …")


def read(file):
    image = Image.open(file).convert("RGB")
    if a.classify:
        values = np.asarray(image.resize((width, height), Image.BILINEAR), np.float32) / 255
        values = (values - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    else:
        share = min(width / image.width, height / image.height)
        size = round(image.width * share), round(image.height * share)
        canvas = Image.new("RGB", (width, height), (114, 114, 114))
        canvas.paste(image.resize(size, Image.BILINEAR), ((width - size[0]) // 2, (height - size[1]) // 2))
        values = np.asarray(canvas, np.float32) / 255
    return values.transpose(2, 0, 1)[None].astype(np.float32)


class Reader(q.CalibrationDataReader):
    def __init__(self, images):
        self.left = iter(images)

    def get_next(self):
        image = next(self.left, None)
        return None if image is None else {feed.name: image}


for seed in range(a.seeds):
    images = [read(f) for f in random.Random(seed).sample(files, min(a.images, len(files)))]
    with tempfile.TemporaryDirectory() as folder:
        ready = os.path.join(folder, "ready.onnx")
        quant_pre_process(a.model, ready)
        for name, left in [("onnxruntime", []), ("onnxruntime-part", part)][: 2 if part else 1]:
            kinds = {"quant_format": q.QuantFormat.QDQ, "activation_type": q.QuantType.QUInt8, "weight_type": q.QuantType.QInt8}
            out = os.path.join(a.out, f"{name}-{seed}.onnx")
            q.quantize_static(ready, out, Reader(images), per_channel=True, reduce_range=True, nodes_to_exclude=left, **kinds)
            print(out, flush=True)
    try:
        import nncf
    except ImportError:
        print("nncf is not installed: no files of it")
        continue
    logging.getLogger("nncf").setLevel(logging.ERROR)
    model = onnx.load(a.model)
    made = nncf.quantize(model, nncf.Dataset(images, lambda x: {feed.name: x}), preset=nncf.QuantizationPreset.MIXED, subset_size=len(images))
    out = os.path.join(a.out, f"nncf-{seed}.onnx")
    onnx.save(made, out)
    print(out, flush=True)
