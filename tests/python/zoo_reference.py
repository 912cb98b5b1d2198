"""Runs the reference implementation of zoo architectures on given weights.

usage: zoo_reference.py CLASSES FOLDER MODEL...

MODEL is a name of ultralytics or torchvision. FOLDER/MODEL/weights.npz holds our constants by name; each must exist in the
reference's state dict with the same shape and each of the reference's must be given. x.npz beside it holds `images`. y.npz
gets `output0`: decoded boxes and class probabilities of a detector, the logits of a classifier.
"""
import sys

import numpy as np
import torch
import torchvision
from ultralytics.nn.tasks import ClassificationModel, DetectionModel


def output(arch, classes, folder):
    if hasattr(torchvision.models, arch):
        model = getattr(torchvision.models, arch)(weights=None, num_classes=classes)
    else:
        model = (ClassificationModel if "-cls" in arch else DetectionModel)(f"{arch}.yaml", nc=classes, verbose=False)
    model.eval()
    state = model.state_dict()
    given = {k: torch.from_numpy(v) for k, v in np.load(f"{folder}/weights.npz").items()}
    ignored = {k for k in state if k.endswith("num_batches_tracked") or ".dfl." in k}
    missing, unexpected = state.keys() - given.keys() - ignored, given.keys() - state.keys()
    assert not missing and not unexpected, f"missing {sorted(missing)[:5]}, unexpected {sorted(unexpected)[:5]}"
    for k, v in given.items():
        assert state[k].shape == v.shape, f"{k}: {tuple(state[k].shape)} there, {tuple(v.shape)} here"
        state[k] = v
    model.load_state_dict(state)
    x = torch.from_numpy(np.load(f"{folder}/x.npz")["images"])
    if isinstance(model, ClassificationModel):
        # The linear layer's result, before the softmax of evaluation.
        seen = []
        model.model[-1].linear.register_forward_hook(lambda module, args, out: seen.append(out))
        model(x)
        return seen[0]
    y = model(x)
    return y[0] if isinstance(y, tuple) else y


if __name__ == "__main__":
    for arch in sys.argv[3:]:
        folder = f"{sys.argv[2]}/{arch}"
        with torch.no_grad():
            np.savez(f"{folder}/y.npz", output0=output(arch, int(sys.argv[1]), folder).numpy())
