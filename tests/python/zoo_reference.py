"""Runs the reference implementation of a zoo architecture on given weights.

usage: zoo_reference.py MODEL CLASSES WEIGHTS.npz INPUT.npz OUTPUT.npz

WEIGHTS holds our constants by name; each must exist in the reference's state dict with the same shape and each of the
reference's must be given. INPUT holds `images`. OUTPUT gets `output0` (decoded boxes and class probabilities) of a
detector, the logits of a classifier. MODEL is a name of ultralytics or torchvision.
"""
import sys

import numpy as np
import torch
import torchvision
from ultralytics.nn.tasks import ClassificationModel, DetectionModel

arch, classes, weights, inputs, output = sys.argv[1:6]
if hasattr(torchvision.models, arch):
    model = getattr(torchvision.models, arch)(weights=None, num_classes=int(classes))
else:
    model = (ClassificationModel if "-cls" in arch else DetectionModel)(f"{arch}.yaml", nc=int(classes), verbose=False)
model.eval()
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
    if isinstance(model, ClassificationModel):
        # The linear layer's result, before the softmax of evaluation.
        seen = []
        model.model[-1].linear.register_forward_hook(lambda module, args, out: seen.append(out))
        model(x)
        y = seen[0]
    else:
        y = model(x)
        y = y[0] if isinstance(y, tuple) else y
np.savez(output, output0=y.numpy())
