"""Checks ONNX files with the onnx package: `check_onnx.py FILE...` prints one line per file, and fails if one is refused."""

import sys

import onnx

failed = False
for path in sys.argv[1:]:
    try:
        onnx.checker.check_model(path)
        model = onnx.load(path)
        # Inference of the onnx package knows neither other domains nor sparse constants.
        if all(o.domain in ("", "ai.onnx") for o in model.opset_import) and not model.graph.sparse_initializer:
            onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
        print("ok", path)
    except Exception as e:
        failed = True
        print("refused", path, e)
sys.exit(failed)
