"""Makes foreign.onnx, the model of the notebooks foreign_onnx: a classifier of six shapes that PyTorch trained and exported.

    compresso eval 'save(dataset("shapes", #{ images: 1000, size: 128, classes: 6, seed: 7 }), "shapes/data.yaml")'
    python notebooks/foreign.py shapes notebooks/foreign.onnx
"""

import pathlib
import random
import sys

import onnx
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

SIZE = 64


def conv(i, o, k=1, s=1, groups=1, act=True):
    layers = [nn.Conv2d(i, o, k, s, k // 2, groups=groups, bias=False), nn.BatchNorm2d(o)]
    return nn.Sequential(*layers, nn.ReLU()) if act else nn.Sequential(*layers)


class Residual(nn.Module):
    """Two convolutions and a shortcut, with squeeze-and-excitation."""

    def __init__(self, c):
        super().__init__()
        self.body = nn.Sequential(conv(c, c, 3), conv(c, c, 3, act=False))
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(c, c // 4, 1), nn.ReLU(), nn.Conv2d(c // 4, c, 1), nn.Sigmoid())

    def forward(self, x):
        y = self.body(x)
        return torch.relu(x + y * self.gate(y))


class Shuffle(nn.Module):
    """Half of the channels goes through a depthwise block; then the halves are interleaved."""

    def __init__(self, c):
        super().__init__()
        h = c // 2
        self.body = nn.Sequential(conv(h, h), conv(h, h, 3, groups=h, act=False), conv(h, h))

    def forward(self, x):
        a, b = x.chunk(2, 1)
        x = torch.cat([a, self.body(b)], 1)
        n, c, h, w = x.shape
        return x.reshape(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


class Net(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.stem = conv(3, 24, 3, 2)
        self.stage1 = nn.Sequential(conv(24, 32, 3, 2), Residual(32))
        self.left, self.right = conv(32, 32, 3, 2), nn.Sequential(nn.MaxPool2d(2), conv(32, 32))
        self.stage2 = nn.Sequential(Shuffle(64), Shuffle(64))
        self.last = conv(64, 96)
        self.head = nn.Linear(96, classes)

    def forward(self, images):
        x = self.stage1(self.stem(images))
        x = self.stage2(torch.cat([self.left(x), self.right(x)], 1))
        return self.head(self.last(x).mean((2, 3)))


def crops(folder, split, per_object, rng):
    """Square pieces of the pictures around one object each."""
    pixels, labels = [], []
    for file in sorted((folder / "images" / split).iterdir()):
        image = Image.open(file).convert("RGB")
        side = image.width
        for line in (folder / "labels" / split / (file.stem + ".txt")).read_text().splitlines():
            c, x, y, w, h = map(float, line.split())
            for _ in range(per_object):
                half = max(w, h) * side * rng.uniform(0.6, 1.1)
                cx, cy = (v * side + rng.uniform(-0.15, 0.15) * half for v in (x, y))
                box = tuple(round(v) for v in (cx - half, cy - half, cx + half, cy + half))
                if min(box) < 0 or max(box) > side:
                    continue
                piece = image.crop(box).resize((SIZE, SIZE), Image.BILINEAR)
                pixels.append(torch.frombuffer(bytearray(piece.tobytes()), dtype=torch.uint8).view(SIZE, SIZE, 3))
                labels.append(int(c))
    return torch.stack(pixels).permute(0, 3, 1, 2).float() / 255, torch.tensor(labels)


def main():
    folder, out = pathlib.Path(sys.argv[1]), sys.argv[2]
    torch.manual_seed(0)
    x, y = crops(folder, "train", 1, random.Random(0))
    vx, vy = crops(folder, "val", 1, random.Random(1))
    net = Net(6)
    epochs, batch = 30, 32
    steps = epochs * (len(x) // batch)
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.006, total_steps=steps)
    for epoch in range(epochs):
        net.train()
        for at in torch.randperm(len(x)).split(batch)[: len(x) // batch]:
            images = x[at]
            images = images.flip(3) if torch.rand(()) < 0.5 else images
            images = torch.rot90(images, int(torch.randint(4, ())), (2, 3))
            images = (images * (0.7 + 0.6 * torch.rand(len(at), 3, 1, 1))).clamp(0, 1)
            loss = F.cross_entropy(net(images), y[at])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        net.eval()
        with torch.no_grad():
            print(epoch, round(loss.item(), 3), round((net(vx).argmax(1) == vy).float().mean().item(), 4), flush=True)
    sample = torch.zeros(1, 3, SIZE, SIZE)
    torch.onnx.export(net, sample, out, input_names=["images"], output_names=["scores"], dynamic_axes={"images": {0: "batch"}}, opset_version=17, dynamo=False)
    onnx.checker.check_model(onnx.load(out))


main()
