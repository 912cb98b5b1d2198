"""Builds a plan of TensorRT for RTX: `python -c THIS FOLDER ONNX PLAN`, with the profile of open sizes in the folder's manifest.json.

The last line of standard output is what came of it, as JSON.
"""

import json
import os
import sys

# Nothing is imported from the folder in which the program was started.
sys.path[:] = [p for p in sys.path if p]


def build(folder, onnx, plan):
    import tensorrt_rtx_bindings as trt

    logger = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(logger)
    network = builder.create_network()
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(os.path.join(folder, onnx)):
        return {"error": "; ".join(str(parser.get_error(i)) for i in range(parser.num_errors))}
    config = builder.create_builder_config()
    with open(os.path.join(folder, "manifest.json"), encoding="utf-8") as file:
        manifest = json.load(file)
    if manifest["profile"]:
        profile = builder.create_optimization_profile()
        for name, shapes in manifest["profile"].items():
            profile.set_shape(name, *(tuple(shapes[k]) for k in ("min", "opt", "max")))
        config.add_optimization_profile(profile)
    if manifest["workspace_mib"]:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, manifest["workspace_mib"] << 20)
    if manifest["sparse"]:
        config.set_flag(trt.BuilderFlag.SPARSE_WEIGHTS)
    made = builder.build_serialized_network(network, config)
    if made is None:
        return {"error": "the builder gave no plan, see build.log"}
    part = os.path.join(folder, plan + ".part")
    with open(part, "wb") as file:
        file.write(made)
    os.replace(part, os.path.join(folder, plan))
    return {"version": trt.__version__}


if __name__ == "__main__":
    made = build(*sys.argv[1:4])
    print(json.dumps(made), flush=True)
    sys.exit("error" in made)
