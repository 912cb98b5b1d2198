"""Scores of channels by torch-pruning, for src/compress/prune/tests/torch_pruning.rs.

    python tests/python/prune_scores.py tests/fixtures/prune/scores.json

Two nets of two convolutions and a linear layer, one with batch norms and one with biases, and four images. The loss is half the square of
the outputs' norm, per image.
"""

import json
import sys

import torch
import torch_pruning as tp
from torch import nn
from torch_pruning.pruner import importance

torch.manual_seed(0)


class Net(nn.Module):
    def __init__(self, norms):
        super().__init__()
        self.a = nn.Conv2d(3, 6, 3, padding=1, bias=not norms)
        self.b = nn.Conv2d(6, 5, 3, padding=1, bias=not norms)
        self.na = nn.BatchNorm2d(6) if norms else nn.Identity()
        self.nb = nn.BatchNorm2d(5) if norms else nn.Identity()
        self.c = nn.Linear(5, 4)

    def forward(self, x):
        x = torch.relu(self.na(self.a(x)))
        x = torch.relu(self.nb(self.b(x)))
        return self.c(x.mean((2, 3)))


def scores(net, x, judge):
    graph = tp.DependencyGraph().build_dependency(net, x[:1])
    groups = []
    for layer in (net.a, net.b):
        every = list(range(layer.out_channels))
        groups.append(judge(graph.get_pruning_group(layer, tp.prune_conv_out_channels, idxs=every)).tolist())
    return groups


def loss(y):
    return 0.5 * (y * y).sum() / len(y)


def main(path):
    pixels = torch.randint(0, 256, (4, 3, 8, 8))
    x = pixels.double() / 255
    found = {"pixels": pixels.tolist(), "nets": []}
    for norms in (True, False):
        net = Net(norms).double().eval()
        for norm in (net.na, net.nb):
            if norms:
                nn.init.uniform_(norm.weight, -1.5, 1.5)
                nn.init.normal_(norm.bias)
                nn.init.normal_(norm.running_mean)
                nn.init.uniform_(norm.running_var, 0.5, 2.0)
        plain = dict(group_reduction="mean", normalizer=None)
        judges = {
            "group_l1": importance.GroupMagnitudeImportance(p=1, **plain),
            "group_l2": importance.GroupMagnitudeImportance(p=2, **plain),
            "group_l2 mean": importance.GroupMagnitudeImportance(p=2, group_reduction="mean", normalizer="mean"),
            "group_l2 max": importance.GroupMagnitudeImportance(p=2, group_reduction="mean", normalizer="max"),
        }
        if norms:
            judges["batchnorm"] = importance.BNScaleImportance(normalizer=None)
        result = {name: scores(net, x, judge) for name, judge in judges.items()}
        # Of the layer alone: the groups above begin with it.
        first = dict(group_reduction="first", normalizer=None)
        if not norms:
            result["l1"] = scores(net, x, importance.GroupMagnitudeImportance(p=1, **first))
            result["l2 squared"] = scores(net, x, importance.GroupMagnitudeImportance(p=2, **first))
            result["lamp"] = scores(net, x, importance.LAMPImportance(group_reduction="first"))
            # Its exponent is applied to the weights before the distance: 1 leaves their sizes.
            net_of_sizes = Net(norms).double().eval()
            net_of_sizes.load_state_dict({n: p.abs() if n.endswith("weight") else p for n, p in net.state_dict().items()})
            result["fpgm of sizes"] = scores(net_of_sizes, x, importance.FPGMImportance(p=1, **first))
            net.zero_grad()
            loss(net(x)).backward()
            result["group_taylor"] = scores(net, x, importance.GroupTaylorImportance(**plain))
            # Its accumulate_grad keeps the last image only, so each image is judged alone; the score is linear in the squares.
            each = []
            for image in x:
                net.zero_grad()
                loss(net(image[None])).backward()
                for p in net.parameters():
                    p.grad.data = p.grad.pow(2)
                # Without accumulated squares it takes the gradients for them.
                each.append(scores(net, x, importance.GroupHessianImportance(**plain)))
            result["group_hessian"] = [torch.tensor(group).mean(0).tolist() for group in zip(*each)]
        state = {n: {"shape": list(p.shape), "values": p.flatten().tolist()} for n, p in net.state_dict().items() if p.dim()}
        found["nets"].append({"state": state, "scores": result})
    with open(path, "w") as file:
        json.dump(found, file)


if __name__ == "__main__":
    main(sys.argv[1])
