"""Detectors and readers of text for forty_models.py, small, in the manner of published ones: YOLOX, NanoDet, SSD, and Paddle's."""

import math

import torch
import torch.nn.functional as F
from torch import nn


def conv(c, k, kernel=3, stride=1, groups=1, act=nn.ReLU):
    layers = [nn.Conv2d(c, k, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(k)]
    return nn.Sequential(*layers, *([act()] if act else []))


def separable(c, k, kernel=3, stride=1, act=nn.Hardswish):
    return nn.Sequential(conv(c, c, kernel, stride, c, act), conv(c, k, 1, act=act))


class Pyramid(nn.Module):
    """Maps of 1/8, 1/16 and 1/32 of the image, joined from coarse to fine and back."""

    def __init__(self, width=32, act=nn.SiLU, resize=None):
        super().__init__()
        w = width
        self.resize = resize
        self.stem = nn.Sequential(conv(3, w // 2, 3, 2, act=act), conv(w // 2, w, 3, 2, act=act))
        self.stages = nn.ModuleList(nn.Sequential(conv(w, w, 3, 2, act=act), conv(w, w, 3, act=act)) for _ in range(3))
        self.up = nn.ModuleList(conv(2 * w, w, act=act) for _ in range(2))
        self.down = nn.ModuleList(conv(2 * w, w, act=act) for _ in range(2))
        self.step = nn.ModuleList(conv(w, w, 3, 2, act=act) for _ in range(2))

    def forward(self, x):
        x = self.stem(x)
        levels = []
        for stage in self.stages:
            x = stage(x)
            levels.append(x)
        a, b, c = levels

        def larger(v, like):
            if self.resize == "to size":
                return F.interpolate(v, size=like.shape[-2:], mode="bilinear", align_corners=False)
            return F.interpolate(v, scale_factor=2.0, mode="nearest")

        b = self.up[0](torch.cat((larger(c, b), b), 1))
        a = self.up[1](torch.cat((larger(b, a), a), 1))
        b = self.down[0](torch.cat((self.step[0](a), b), 1))
        c = self.down[1](torch.cat((self.step[1](b), c), 1))
        return a, b, c


class Focus(nn.Module):
    """Four pixels of a square become channels, by slices."""

    def forward(self, x):
        return torch.cat((x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2]), 1)


class YoloxStyle(nn.Module):
    """Decoupled heads; `[batch, cells, 5 + classes]` of raw offsets from grid cells, objectness and classes as probabilities."""

    def __init__(self, classes=4, width=32):
        super().__init__()
        self.focus, self.first = Focus(), conv(12, 3, act=nn.SiLU)
        self.body = Pyramid(width)
        each = lambda make: nn.ModuleList(make() for _ in range(3))
        self.stems = each(lambda: conv(width, width, 1, act=nn.SiLU))
        self.for_class, self.for_box = each(lambda: conv(width, width, act=nn.SiLU)), each(lambda: conv(width, width, act=nn.SiLU))
        self.classes = each(lambda: nn.Conv2d(width, classes, 1))
        self.boxes, self.objects = each(lambda: nn.Conv2d(width, 4, 1)), each(lambda: nn.Conv2d(width, 1, 1))

    def forward(self, x):
        x = F.interpolate(self.first(self.focus(x)), scale_factor=2.0, mode="nearest")
        found = []
        for i, level in enumerate(self.body(x)):
            y = self.stems[i](level)
            c, b = self.for_class[i](y), self.for_box[i](y)
            found.append(torch.cat((self.boxes[i](b), self.objects[i](b).sigmoid(), self.classes[i](c).sigmoid()), 1).flatten(2))
        return torch.cat(found, 2).permute(0, 2, 1)


class NanoDetStyle(nn.Module):
    """One head for all levels but its norms; `[batch, cells, classes + 4 · bins]`: probabilities, then distances to the four sides as
    logits of bins."""

    def __init__(self, classes=5, bins=8, width=32):
        super().__init__()
        self.body = Pyramid(width, nn.LeakyReLU, "to size")
        self.towers = nn.ModuleList(nn.Sequential(separable(width, width, 5), separable(width, width, 5)) for _ in range(3))
        self.head = nn.Conv2d(width, classes + 4 * bins, 1)
        self.classes = classes

    def forward(self, x):
        found = []
        for tower, level in zip(self.towers, self.body(x)):
            scores, distances = self.head(tower(level)).split([self.classes, self.head.out_channels - self.classes], 1)
            found.append(torch.cat((scores.sigmoid(), distances), 1).flatten(2))
        return torch.cat(found, 2).permute(0, 2, 1)


# Pixels per cell of each level, and the shapes of a cell's priors, in pixels.
SSD_STRIDES = [8, 16, 32]
SSD_SHAPES = [[[16, 16], [24, 12], [12, 24]], [[36, 36], [50, 26], [26, 50]], [[72, 72], [96, 52], [52, 96]]]


class SsdStyle(nn.Module):
    """Two outputs: offsets from priors `[batch, priors, 4]`, and scores with a background `[batch, priors, 1 + classes]`."""

    def __init__(self, classes=3, width=32):
        super().__init__()
        self.body = Pyramid(width, nn.ReLU6)
        shapes = len(SSD_SHAPES[0])
        self.boxes = nn.ModuleList(nn.Conv2d(width, 4 * shapes, 3, 1, 1) for _ in range(3))
        self.scores = nn.ModuleList(nn.Conv2d(width, (1 + classes) * shapes, 3, 1, 1) for _ in range(3))
        self.numbers = 1 + classes

    def forward(self, x):
        boxes, scores = [], []
        for level, b, s in zip(self.body(x), self.boxes, self.scores):
            boxes.append(b(level).permute(0, 2, 3, 1).reshape(x.shape[0], -1, 4))
            scores.append(s(level).permute(0, 2, 3, 1).reshape(x.shape[0], -1, self.numbers))
        return torch.cat(boxes, 1), torch.cat(scores, 1).softmax(-1)


class Squeeze(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.down, self.up = nn.Conv2d(c, c // 4, 1), nn.Conv2d(c // 4, c, 1)

    def forward(self, x):
        return x * F.hardsigmoid(self.up(F.relu(self.down(F.adaptive_avg_pool2d(x, 1)))))


class LcNet(nn.Module):
    """A classifier of depthwise separable blocks, some with channel attention."""

    def __init__(self, classes=10):
        super().__init__()
        plan = [(16, 1, 3, False), (32, 2, 3, False), (32, 1, 3, False), (64, 2, 5, False), (96, 2, 5, True)]
        layers, c = [conv(3, 16, 3, 2, act=nn.Hardswish)], 16
        for k, stride, kernel, attends in plan:
            layers += [conv(c, c, kernel, stride, c, nn.Hardswish), *([Squeeze(c)] if attends else []), conv(c, k, 1, act=nn.Hardswish)]
            c = k
        self.body = nn.Sequential(*layers)
        self.last, self.out = nn.Conv2d(c, 160, 1, bias=False), nn.Linear(160, classes)

    def forward(self, x):
        x = F.hardswish(self.last(F.adaptive_avg_pool2d(self.body(x), 1))).flatten(1)
        return self.out(x).softmax(-1)


class TextRegions(nn.Module):
    """A map of where text is, at the size of the image: pyramid, sum at one size, transposed convolutions (DB)."""

    def __init__(self, width=24):
        super().__init__()
        self.body = Pyramid(width, nn.Hardswish)
        self.join = conv(3 * width, width)
        self.up = nn.Sequential(
            nn.ConvTranspose2d(width, width, 2, 2), nn.BatchNorm2d(width), nn.ReLU(), nn.ConvTranspose2d(width, 1, 2, 2)
        )

    def forward(self, x):
        a, b, c = self.body(x)
        b, c = F.interpolate(b, scale_factor=2.0, mode="nearest"), F.interpolate(c, scale_factor=4.0, mode="nearest")
        y = self.up(self.join(torch.cat((a, b, c), 1)))
        return F.interpolate(y, scale_factor=2.0, mode="bilinear", align_corners=False).sigmoid()


class TextReader(nn.Module):
    """Rows of letters: convolutions to a height of 1, a recurrent layer in both directions, letters by a softmax (CRNN)."""

    def __init__(self, letters=20, width=32):
        super().__init__()
        self.body = nn.Sequential(
            conv(3, 16, 3, 2, act=nn.Hardswish), separable(16, width, 3, (2, 1)), separable(width, width, 3, (2, 1)),
            separable(width, 2 * width, 5, (2, 1)), nn.AvgPool2d((2, 1)),
        )
        self.rows = nn.LSTM(2 * width, 24, 2, bidirectional=True, batch_first=True)
        self.out = nn.Linear(48, letters)

    def forward(self, x):
        x = self.body(x).squeeze(2).permute(0, 2, 1)
        return self.out(self.rows(x)[0]).softmax(-1)


class PicoDet(nn.Module):
    """Scores `[batch, classes, cells]` and finished boxes `[batch, cells, 4]`, the expectation of bins taken inside."""

    def __init__(self, classes=4, bins=8, width=32):
        super().__init__()
        self.body = Pyramid(width, nn.Hardswish)
        self.towers = nn.ModuleList(separable(width, width, 5) for _ in range(3))
        self.scores = nn.ModuleList(nn.Conv2d(width, classes, 1) for _ in range(3))
        self.sides = nn.ModuleList(nn.Conv2d(width, 4 * bins, 1) for _ in range(3))
        self.bins = bins
        self.register_buffer("steps", torch.arange(bins, dtype=torch.float32))

    def forward(self, x):
        boxes, scores = [], []
        for stride, level, tower, s, d in zip((8, 16, 32), self.body(x), self.towers, self.scores, self.sides):
            y = tower(level)
            h, w = y.shape[-2:]
            scores.append(s(y).sigmoid().flatten(2))
            sides = d(y).reshape(-1, 4, self.bins, h * w).permute(0, 3, 1, 2).softmax(-1) @ self.steps
            rows, columns = torch.meshgrid(torch.arange(h) + 0.5, torch.arange(w) + 0.5, indexing="ij")
            centre = torch.stack((columns, rows), -1).reshape(1, -1, 2)
            boxes.append(torch.cat((centre - sides[..., :2], centre + sides[..., 2:]), -1) * stride)
        return torch.cat(boxes, 1), torch.cat(scores, 2)


def picture(shape, rng):
    """Patches of colour with some noise, 0 to 1: noise alone looks the same everywhere to a network."""
    *rest, h, w = shape
    patches = rng.random((*rest, -(-h // 16), -(-w // 16))).repeat(16, -2).repeat(16, -1)
    return 0.8 * patches[..., :h, :w] + 0.2 * rng.random(shape)


def lively(model, gain=1.4):
    """Random weights under which values keep about their size through the layers, and statistics that no two channels share."""
    torch.manual_seed(0)
    for m in model.modules():
        if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.affine:
            for t, low, high in ((m.weight, 0.6, 1.4), (m.bias, -0.3, 0.3), (m.running_mean, -0.3, 0.3), (m.running_var, 0.6, 1.4)):
                nn.init.uniform_(t, low, high)
        elif type(m).__name__.endswith(("LayerNorm", "GroupNorm", "LayerNorm2d", "GroupNorm1")):
            for t, low, high in ((getattr(m, "weight", None), 0.6, 1.4), (getattr(m, "bias", None), -0.3, 0.3)):
                if t is not None:
                    nn.init.uniform_(t, low, high)
        elif isinstance(m, (nn.Conv2d, nn.Linear, nn.ConvTranspose2d)):
            if m.weight.requires_grad:
                reads = m.weight[:, 0].numel() if isinstance(m, nn.ConvTranspose2d) else m.weight[0].numel()
                nn.init.normal_(m.weight, 0, (1 if isinstance(m, nn.Linear) else gain) / math.sqrt(max(reads, 1)))
            if isinstance(m.bias, torch.Tensor):
                nn.init.uniform_(m.bias, -0.2, 0.2)
    for name, p in model.named_parameters():
        if name.endswith("in_proj_weight"):
            nn.init.normal_(p.data, 0, 1 / math.sqrt(p.shape[1]))
        elif p.requires_grad and p.numel() > 1 and p.data.min() == p.data.max():
            # Scales of layers start tiny and many others at 0 or 1; exporters store equal tensors once.
            low, high = (0.3, 1.0) if 0 < p.data.flatten()[0] else (-0.2, 0.2)
            nn.init.uniform_(p.data, low, high)
    return model.eval()
