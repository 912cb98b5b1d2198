"""Runs the reference implementation of a zoo architecture on given weights.

usage: zoo_reference.py ARCH.yaml CLASSES WEIGHTS.npz INPUT.npz OUTPUT.npz

WEIGHTS holds our constants by name; each must exist in the reference's state dict with the same shape and each of the
reference's must be given. INPUT holds `images`. OUTPUT gets `output0` (decoded boxes and class probabilities) of a
detector, the logits of a classifier.
"""
import sys

import numpy as np
import torch
from ultralytics.nn.tasks import ClassificationModel, DetectionModel

arch, classes, weights, inputs, output = sys.argv[1:6]
kind = ClassificationModel if "-cls" in arch else DetectionModel
model = kind(arch, nc=int(classes), verbose=False).eval()
state = model.state_dict()
given = {k: torch.from_numpy(v) for k, v in np.load(weights).items()}
ignored = {k for k in state if k.endswith("num_batches_tracked") or ".dfl." in k}
missing, unexpected = state.keys() - given.keys() - ignored, given.keys() - state.keys()
assert not missing and not unexpected, f"missing {sorted(missing)[:5]}, unexpected {sorted(unexpected)[:5]}"
for k, v in given.items():
    assert state[k].shape == v.shape, f"{k}: {tuple(state[k].shape)} there, {tuple(v.shape)} here"
    state[k] = v
model.load_state_dict(state)
x = torch.from_numpy(np.load(inputs)["images"])
with torch.no_grad():
    if kind is DetectionModel:
        y = model(x)[0]
    else:
        # The linear layer's result, before the softmax of evaluation.
        seen = []
        model.model[-1].linear.register_forward_hook(lambda module, args, out: seen.append(out))
        model(x)
        y = seen[0]
np.savez(output, output0=y.numpy())
