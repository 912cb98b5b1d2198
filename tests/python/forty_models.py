"""Writes models as people bring them, with seeded random weights, for forty_table.py.

    python forty_models.py DIR [PATTERN…]

For each model DIR holds NAME.onnx or NAME.pt, NAME.in.npz with inputs and NAME.out.npz with what onnxruntime gives for them (of a checkpoint: for
Ultralytics' own export of it), and NAME.json: the number of parameters that PyTorch counts, options for opening it, and how outputs are
compared. A file that is there already is left. PATTERN chooses by name, as in a shell. Needs torch, torchvision, ultralytics, onnx, onnxslim,
onnxruntime, and timm and onnxscript for the models that say so.
"""

import copy
import fnmatch
import json
import logging
import os
import re
import sys
import time
import warnings

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("YOLO_OFFLINE", "true")
warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import helper, numpy_helper

import forty_nets as nets

torch.set_num_threads(1)

# Name → what writes NAME.onnx or NAME.pt and gives what NAME.json says of it.
MODELS = {}


def model(name):
    def register(make):
        MODELS[name] = make
        return make

    return register


# ---- what is common to all


def parameters(net):
    """Elements of all parameters, each distinct one once."""
    return sum(p.numel() for p in net.parameters())


def folded_parameters(net, path):
    """What is left of them when the exporter has folded batch norms into convolutions: the biases of these."""
    nn = torch.nn
    convolutions = (nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d)
    count = 0
    for m in net.modules():
        own = sum(p.numel() for p in m.parameters(recurse=False))
        if isinstance(m, convolutions):
            count += m.weight.numel()
        elif not isinstance(m, nn.modules.batchnorm._BatchNorm):
            count += own
    graph = onnx.load(path).graph
    sizes = {t.name: int(np.prod(t.dims)) for t in graph.initializer}
    biases = {n.input[2] for n in graph.node if n.op_type in ("Conv", "ConvTranspose") and len(n.input) > 2 and n.input[2] in sizes}
    kept = {i for n in graph.node if n.op_type == "BatchNormalization" for i in n.input[1:3]}
    return count + sum(sizes[i] for i in biases | kept)


def numpy_type(onnx_type):
    return {"tensor(float16)": np.float16, "tensor(int64)": np.int64}.get(onnx_type, np.float32)


def session(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def record_runs(name, path, shape):
    """Inputs of the given shape, and what onnxruntime makes of them."""
    s = session(path)
    rng = np.random.default_rng(0)
    feeds = {i.name: nets.picture(shape, rng).astype(numpy_type(i.type)) for i in s.get_inputs()}
    np.savez(name + ".in.npz", **feeds)
    np.savez(name + ".out.npz", **{o.name: v for o, v in zip(s.get_outputs(), s.run(None, feeds))})


# ---- Ultralytics


def yolo(source):
    import ultralytics

    kind = ultralytics.RTDETR if "rtdetr" in source else ultralytics.YOLO
    net = kind(source, verbose=False) if "rtdetr" not in source else kind(source)
    if hasattr(net.model.model[-1], "one2one"):
        net.model.end2end = True
    # Sums of many branches grow.
    nets.lively(net.model, 1.0 if source.startswith(("yolov9", "yolov10", "yolo12", "yolo26")) else 1.4)
    return net


def fused_parameters(net):
    fused = copy.deepcopy(net.model).eval().float().fuse(verbose=False)
    # The exporter folds what `fuse` leaves: a norm becomes a bias.
    return used_parameters(fused) - sum(m.num_features for m in fused.modules() if isinstance(m, torch.nn.BatchNorm2d))


def used_parameters(net):
    """Without what is there for training alone, such as RT-DETR's embeddings of noisy boxes and scores of all decoder layers but the last."""
    layers = [int(n.split("dec_score_head.")[1].split(".")[0]) for n, _ in net.named_parameters() if "dec_score_head." in n]
    names = {n for n, _ in net.named_parameters()}

    def unused(n):
        # Where there are two heads, the one for training alone.
        return (
            "denoising" in n
            or "proto.semseg" in n
            or any(f"dec_score_head.{i}." in n for i in layers if i < max(layers))
            or re.sub(r"^(model\.\d+)\.", r"\1.one2one_", n) in names
        )

    return sum(p.numel() for n, p in net.named_parameters() if not unused(n))


def export_yolo(name, source, size, options):
    net = yolo(source)
    # One box per object, as published weights have it.
    options = {**({"end2end": True} if hasattr(net.model.model[-1], "one2one") else {}), **options}
    count = fused_parameters(net)
    path = net.export(format="onnx", imgsz=size, device="cpu", verbose=False, **{"simplify": False, **options})
    os.replace(path, name + ".onnx")
    record_runs(name, name + ".onnx", (1, 3, size, size))
    return {
        "params": count,
        "rows": bool(options.get("nms")) or any(f in source for f in ("v10", "26", "rtdetr")),
        "tolerance": 2e-2 if options.get("half") else 1e-4,
        "options": {"image_size": size} if options.get("dynamic") else {},
    }


def checkpoint(name, source, size):
    net = yolo(source)
    net.model.args = {**net.model.args, "imgsz": size} if isinstance(net.model.args, dict) else net.model.args
    count = used_parameters(net.model)
    net.save(name + ".pt")
    one = {"end2end": True} if hasattr(net.model.model[-1], "one2one") else {}
    path = type(net)(name + ".pt").export(format="onnx", imgsz=size, device="cpu", verbose=False, simplify=False, opset=17, **one)
    record_runs(name, path, (1, 3, size, size))
    os.remove(path)
    if "-cls" in source:
        # Exports give probabilities; opened for training, a classifier gives what the softmax takes.
        x = torch.from_numpy(np.load(name + ".in.npz")["images"])
        np.savez(name + ".out.npz", output0=type(net)(name + ".pt").model.float().eval()(x)[1].numpy())
    rows = any(f in source for f in ("v10", "26", "rtdetr"))
    return {"params": count, "rows": rows, "options": {"image_size": size}, "checkpoint": True}


RTDETR = """
nc: 5
backbone:
  - [-1, 1, HGStem, [8, 16]]
  - [-1, 2, HGBlock, [8, 32, 3]]
  - [-1, 1, DWConv, [32, 3, 2, 1, False]]
  - [-1, 2, HGBlock, [16, 48, 5, True, False]]
  - [-1, 1, DWConv, [48, 3, 2, 1, False]]
  - [-1, 2, HGBlock, [24, 64, 5, True, True]]
  - [-1, 1, DWConv, [64, 3, 2, 1, False]]
head:
  - [-1, 1, Conv, [32, 1, 1, None, 1, 1, False]]
  - [-1, 1, AIFI, [64, 4]]
  - [-1, 1, nn.Upsample, [None, 2, "nearest"]]
  - [5, 1, Conv, [32, 1, 1, None, 1, 1, False]]
  - [[-2, -1], 1, Concat, [1]]
  - [-1, 1, RepC3, [32]]
  - [[12, 8], 1, RTDETRDecoder, [nc, 32, 20, 4, 4, 2, 64]]
"""

# Name, source, image size, and how it is exported.
EXPORTS = [
    ("yolov5nu_op9", "yolov5n.yaml", 96, {"opset": 9}),
    ("yolov8n_op10", "yolov8n.yaml", 96, {"opset": 10}),
    ("yolov8n_dynamic_op11", "yolov8n.yaml", 96, {"opset": 11, "dynamic": True}),
    ("yolov8n_nms_op12", "yolov8n.yaml", 96, {"opset": 12, "nms": True}),
    ("yolov8n_half_op17", "yolov8n.yaml", 96, {"opset": 17, "half": True}),
    ("yolov8n_slim_op18", "yolov8n.yaml", 96, {"opset": 18, "simplify": True}),
    ("yolov8n-cls_op11", "yolov8n-cls.yaml", 64, {"opset": 11}),
    ("yolov8n-seg_op13", "yolov8n-seg.yaml", 96, {"opset": 13}),
    ("yolov8n-pose_op16", "yolov8n-pose.yaml", 96, {"opset": 16}),
    ("yolov8n-obb_op18", "yolov8n-obb.yaml", 96, {"opset": 18}),
    ("yolov9t_op15", "yolov9t.yaml", 96, {"opset": 15}),
    ("yolov10n_op13", "yolov10n.yaml", 160, {"opset": 13, "end2end": False}),
    ("yolov10n_dynamic_op19", "yolov10n.yaml", 160, {"opset": 19, "dynamic": True}),
    ("yolo11n_op20", "yolo11n.yaml", 96, {"opset": 20}),
    ("yolo11n_nms_dynamic_op17", "yolo11n.yaml", 96, {"opset": 17, "nms": True, "dynamic": True}),
    ("yolo11n-seg_nms_op16", "yolo11n-seg.yaml", 96, {"opset": 16, "nms": True}),
    ("yolo11n-pose_dynamic_op14", "yolo11n-pose.yaml", 96, {"opset": 14, "dynamic": True}),
    ("yolo11n-obb_nms_op17", "yolo11n-obb.yaml", 96, {"opset": 17, "nms": True}),
    ("yolo11n-cls_dynamic_op17", "yolo11n-cls.yaml", 64, {"opset": 17, "dynamic": True}),
    ("yolo12n_op16", "yolo12n.yaml", 96, {"opset": 16}),
    ("yolo12n_half_op19", "yolo12n.yaml", 96, {"opset": 19, "half": True}),
    ("yolo26n_op17", "yolo26n.yaml", 160, {"opset": 17}),
    ("yolo26n_dynamic_op20", "yolo26n.yaml", 160, {"opset": 20, "dynamic": True}),
    ("yolo26n-seg_op18", "yolo26n-seg.yaml", 160, {"opset": 18}),
    ("yolo26n-pose_op19", "yolo26n-pose.yaml", 160, {"opset": 19}),
    ("yolo26n-obb_op20", "yolo26n-obb.yaml", 160, {"opset": 20}),
    ("rtdetr_op16", "rtdetr-l-small.yaml", 128, {"opset": 16}),
    ("rtdetr_dynamic_op17", "rtdetr-l-small.yaml", 128, {"opset": 17, "dynamic": True}),
]
CHECKPOINTS = [
    ("yolov5nu_pt", "yolov5n.yaml", 96), ("yolov8n_pt", "yolov8n.yaml", 96), ("yolov8n-cls_pt", "yolov8n-cls.yaml", 64),
    ("yolov8n-seg_pt", "yolov8n-seg.yaml", 96), ("yolov8n-pose_pt", "yolov8n-pose.yaml", 96), ("yolov8n-obb_pt", "yolov8n-obb.yaml", 96),
    ("yolov9t_pt", "yolov9t.yaml", 96), ("yolov10n_pt", "yolov10n.yaml", 160), ("yolo11n_pt", "yolo11n.yaml", 96),
    ("yolo12n_pt", "yolo12n.yaml", 96), ("yolo26n_pt", "yolo26n.yaml", 160), ("yolo26n-seg_pt", "yolo26n-seg.yaml", 160),
    ("rtdetr_pt", "rtdetr-l-small.yaml", 128),
]
for name, source, size, options in EXPORTS:
    MODELS[name] = lambda name, source=source, size=size, options=options: export_yolo(name, source, size, options)
for name, source, size in CHECKPOINTS:
    MODELS[name] = lambda name, source=source, size=size: checkpoint(name, source, size)


# ---- torch.onnx.export of any network


def export(name, net, shape, opset, folded=True, dynamo=False, options=None, rows=False, args=None, computed=False, **more):
    """`folded`: as for inference, batch norms folded and constants computed; otherwise every parameter is as PyTorch has it."""
    x = torch.rand(shape)
    path = name + ".onnx"
    if dynamo:
        torch.onnx.export(net, (x,), path, opset_version=opset, dynamo=True, external_data=False, verbose=False, **more)
    else:
        kept = {} if folded else {"do_constant_folding": False, "training": torch.onnx.TrainingMode.PRESERVE}
        torch.onnx.export(net, args or (x,), path, opset_version=opset, dynamo=False, **kept, **more)
    record_runs(name, path, tuple(shape))
    counted = folded_parameters(net, path) if folded else parameters(net)
    # What the exporter computes from parameters (tables of relative positions) is stored in other sizes.
    if computed:
        counted = None
    return {"params": counted, "options": options or {}, "rows": rows}


def tv(kind, size, opset, settings=None, **how):
    def make(name):
        import torchvision

        net = torchvision.models.get_model(kind, weights=None, **(settings or {}))
        return export(name, nets.lively(net), (1, 3, size, size), opset, **how)

    return make


MODELS.update({
    "tv_resnet18_op11": tv("resnet18", 64, 11),
    "tv_resnet18_dynamo_op18": tv("resnet18", 64, 18, dynamo=True),
    "tv_mobilenet_v3_small_op13": tv("mobilenet_v3_small", 64, 13),
    "tv_shufflenet_v2_plain_op15": tv("shufflenet_v2_x0_5", 64, 15, folded=False),
    "tv_regnet_y_400mf_op17": tv("regnet_y_400mf", 64, 17),
    "tv_mnasnet0_5_op12": tv("mnasnet0_5", 64, 12),
    "tv_googlenet_op14": tv("googlenet", 64, 14, {"aux_logits": False, "init_weights": False}),
    "tv_efficientnet_b0_op20": tv("efficientnet_b0", 64, 20),
})


@model("tv_densenet_op16")
def densenet(name):
    import torchvision

    return export(name, nets.lively(torchvision.models.DenseNet(8, (3, 4, 4, 3), 16, 2)), (1, 3, 64, 64), 16)


def timm_model(kind, size, opset, settings=None, **how):
    def make(name):
        import timm

        net = timm.create_model(kind, pretrained=False, **(settings or {}))
        return export(name, nets.lively(net), (1, 3, size, size), opset, **how)

    return make


SWIN = {"img_size": 112, "embed_dim": 24, "depths": (1, 1, 2, 1), "num_heads": (2, 4, 8, 8)}
MODELS.update({
    "timm_vit_tiny_op17": timm_model("vit_tiny_patch16_224", 64, 17, {"img_size": 64, "depth": 3}, folded=False),
    "timm_vit_tiny_dynamo_op20": timm_model("vit_tiny_patch16_224", 64, 20, {"img_size": 64, "depth": 3}, dynamo=True),
    "timm_deit3_op14": timm_model("deit3_small_patch16_224", 64, 14, {"img_size": 64, "depth": 2}, folded=False),
    "timm_swin_op16": timm_model("swin_tiny_patch4_window7_224", 112, 16, SWIN, folded=False),
    "timm_swin_dynamo_op18": timm_model("swin_tiny_patch4_window7_224", 112, 18, SWIN, dynamo=True, computed=True),
    "timm_swinv2_op17": timm_model("swinv2_tiny_window8_256", 128, 17, {**SWIN, "img_size": 128}, folded=False),
    "timm_mobilevit_xxs_op15": timm_model("mobilevit_xxs", 96, 15),
    "timm_mobilevitv2_050_op17": timm_model("mobilevitv2_050", 96, 17),
    "timm_ghostnet_050_op12": timm_model("ghostnet_050", 64, 12),
    "timm_repvgg_a0_op13": timm_model("repvgg_a0", 64, 13),
    "timm_hrnet_w18_small_op11": timm_model("hrnet_w18_small", 64, 11),
    "timm_efficientnet_lite0_op18": timm_model("efficientnet_lite0", 64, 18),
    "timm_efficientnet_b0_dynamo_op18": timm_model("efficientnet_b0", 64, 18, dynamo=True),
    "timm_convnext_atto_op17": timm_model("convnext_atto", 64, 17, folded=False),
    "timm_convnextv2_atto_op16": timm_model("convnextv2_atto", 64, 16, folded=False),
    "timm_mobilenetv4_small_op19": timm_model("mobilenetv4_conv_small", 64, 19),
    "timm_levit_128s_op14": timm_model("levit_128s", 224, 14),
    "timm_pvt_v2_b0_op17": timm_model("pvt_v2_b0", 64, 17, folded=False),
    "timm_edgenext_xx_small_op17": timm_model("edgenext_xx_small", 96, 17, folded=False),
    "timm_efficientvit_b0_op16": timm_model("efficientvit_b0", 64, 16),
    "timm_poolformer_op15": timm_model("poolformer_s12", 64, 15, folded=False),
    "timm_mixer_op13": timm_model("mixer_s32_224", 224, 13, folded=False),
    "timm_resnest_op17": timm_model("resnest14d", 64, 17),
})


# ---- torchvision's detectors, with suppression inside


def detector(make):
    def written(name):
        import torchvision.models.detection as d
        from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

        backbone = resnet_fpn_backbone(backbone_name="resnet18", weights=None, norm_layer=torch.nn.BatchNorm2d, trainable_layers=5)
        net, opset, outputs = make(d, backbone, dict(min_size=128, max_size=128))
        nets.lively(net, 1.0)
        names = {"input_names": ["image"], "output_names": outputs}
        return export(name, net, (3, 128, 128), opset, rows=True, args=([torch.rand(3, 128, 128)],), options=FINISHED, **names)

    return written


FINISHED = {"decode": {"boxes": "boxes", "labels": "labels", "scores": "scores", "background": 0}, "classes": ["a", "b", "c"]}
LABELS_LAST = ["boxes", "scores", "labels"]


MODELS.update({
    "tv_fasterrcnn_op17": detector(lambda d, b, s: (d.FasterRCNN(b, 4, box_score_thresh=0.05, rpn_post_nms_top_n_test=50, **s), 17, ["boxes", "labels", "scores"])),
    "tv_retinanet_op11": detector(lambda d, b, s: (d.RetinaNet(b, 4, score_thresh=0.3, topk_candidates=50, **s), 11, LABELS_LAST)),
    "tv_fcos_op16": detector(lambda d, b, s: (d.FCOS(b, 4, score_thresh=0.2, topk_candidates=50, **s), 16, LABELS_LAST)),
})


@model("tv_ssdlite_op13")
def ssdlite(name):
    import torchvision

    net = torchvision.models.detection.ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=4, score_thresh=0.3)
    nets.lively(net, 1.0)
    names = {"input_names": ["image"], "output_names": LABELS_LAST}
    return export(name, net, (3, 320, 320), 13, rows=True, args=([torch.rand(3, 320, 320)],), options=FINISHED, **names)


# ---- detectors of other makers


@model("yolox_style_op11")
def yolox(name):
    net = nets.lively(nets.YoloxStyle())
    decode = {"format": "cxcywh", "objectness": True, "strides": [8, 16, 32]}
    return export(name, net, (1, 3, 96, 96), 11, options={"decode": decode, "classes": ["a", "b", "c", "d"]})


@model("nanodet_style_op12")
def nanodet(name):
    net = nets.lively(nets.NanoDetStyle())
    decode = {"format": "ltrb", "bins": 8, "strides": [8, 16, 32], "scores_first": True}
    return export(name, net, (1, 3, 96, 96), 12, options={"decode": decode, "classes": ["a", "b", "c", "d", "e"]})


@model("ssd_priors_op14")
def ssd(name):
    net = nets.lively(nets.SsdStyle())
    decode = {
        "boxes": "boxes", "scores": "scores", "background": 0, "format": "cxcywh",
        "strides": nets.SSD_STRIDES, "shapes": nets.SSD_SHAPES, "variances": [0.1, 0.1, 0.2, 0.2],
    }
    options = {"decode": decode, "classes": ["a", "b", "c"]}
    return export(name, net, (1, 3, 96, 96), 14, options=options, output_names=["boxes", "scores"])


# ---- as Paddle's converter writes them: every weight a node, names with dots, open batches


def as_paddle(path):
    m = onnx.load(path)
    g = m.graph
    held = [helper.make_node("Constant", [], [t.name], value=numpy_helper.from_array(numpy_helper.to_array(t), t.name)) for t in g.initializer]
    del g.initializer[:]
    del g.value_info[:]
    for node in reversed(held):
        g.node.insert(0, node)
    for v in list(g.input) + list(g.output):
        v.type.tensor_type.shape.dim[0].dim_param = "batch"
    onnx.save(m, path)


def paddle(net, shape, opset):
    def make(name):
        n = nets.lively(net())
        # Multiplied as a weight is, the numbers of PicoDet's bins count as one.
        counted_too = sum(b.numel() for k, b in n.named_buffers() if k == "steps")
        said = export(name, n, shape, opset, input_names=["x"], dynamic_axes={"x": {0: "batch"}})
        as_paddle(name + ".onnx")
        record_runs(name, name + ".onnx", shape)
        return {**said, "params": said["params"] + counted_too}

    return make


MODELS.update({
    "paddle_lcnet_op11": paddle(nets.LcNet, (1, 3, 64, 64), 11),
    "paddle_text_regions_op11": paddle(nets.TextRegions, (1, 3, 96, 96), 11),
    "paddle_text_reader_op14": paddle(nets.TextReader, (1, 3, 32, 96), 14),
    "paddle_picodet_op16": paddle(nets.PicoDet, (1, 3, 96, 96), 16),
})


def main(out, patterns):
    os.makedirs(out, exist_ok=True)
    os.chdir(out)
    with open("rtdetr-l-small.yaml", "w") as f:
        f.write(RTDETR)
    failed = 0
    for name, make in MODELS.items():
        if os.path.exists(name + ".json") or not any(fnmatch.fnmatch(name, p) for p in patterns):
            continue
        start = time.time()
        torch.manual_seed(0)
        try:
            with torch.no_grad():
                said = make(name)
        except Exception as e:
            failed += 1
            print(f"{name}: not written: {type(e).__name__}: {str(e)[:300]}", flush=True)
            continue
        file = name + (".pt" if said.get("checkpoint") else ".onnx")
        with open(name + ".json", "w") as f:
            json.dump({"name": name, "file": file, **said}, f)
        print(f"{name}: {said['params']} parameters, {os.path.getsize(file) / 1e6:.1f} MB, {time.time() - start:.1f} s", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(1 if main(os.path.abspath(sys.argv[1]), sys.argv[2:] or ["*"]) else 0)
