"""Reads packages for Core ML with coremltools and runs their programs, operation by operation, as the reference of MIL describes these.

    coreml_judge.py FOLDER

`NAME.mlpackage` has its inputs and expected outputs, in order, in `NAME.npz` (input_0, ..., output_0, ...). coremltools checks every
operation as it loads the program: types, sizes, which inputs there are; prediction needs macOS, so numbers are made here, with PyTorch.
Prints a JSON object: for each package either {"error": text} or {"outputs": {name: {"worst": largest difference over the largest expected
magnitude, "cosine": ...}}, "inputs": the features' descriptions, "version": the specification's, "operations": how many of each kind,
"about": the metadata}.
"""

import glob
import json
import logging
import math
import os
import sys
import warnings

warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)
# coremltools looks at PyTorch for its converters, which nothing here needs.
sys.modules["torch"] = None
import coremltools as ct
from coremltools.converters.mil.frontend.milproto.load import load

del sys.modules["torch"]
import numpy as np
import torch
import torch.nn.functional as F

torch.set_num_threads(1)
# Float16 is rounded after each operation, not inside of it.
TYPES = {"fp32": torch.float32, "fp16": torch.float16, "int32": torch.int32, "bool": torch.bool, "int8": torch.int8, "uint8": torch.uint8}


def unpacked(data, bits, count):
    """Numbers of so many bits, the lowest bits of a byte first."""
    stream = np.unpackbits(np.asarray(data, dtype=np.uint8), bitorder="little")[: count * bits].reshape(count, bits)
    return (stream.astype(np.int64) << np.arange(bits)).sum(1)


def along(values, rank, axis):
    values = np.asarray(values)
    return values.reshape([-1 if d == axis else 1 for d in range(rank)]) if values.ndim else values


def constexpr_affine_dequantize(quantized_data, zero_point, scale, axis):
    rank = quantized_data.ndim
    q = quantized_data.astype(np.float32) - along(zero_point, rank, axis).astype(np.float32)
    return (q * along(scale, rank, axis)).astype(scale.dtype)


def constexpr_lut_to_dense(indices, lut, shape):
    count = int(np.prod(shape))
    return lut[unpacked(indices, int(math.log2(len(lut))), count)].reshape(shape)


def constexpr_sparse_to_dense(nonzero_data, mask, shape):
    count = int(np.prod(shape))
    dense = np.zeros(count, nonzero_data.dtype)
    dense[unpacked(mask, 1, count) == 1] = nonzero_data
    return dense.reshape(shape)


def padded(x, pad, spatial, value):
    """Padding of the last axes: both ends of the first of them, then of the second."""
    pairs = [(int(pad[2 * i]), int(pad[2 * i + 1])) for i in range(spatial)]
    return F.pad(x, [n for pair in reversed(pairs) for n in pair], value=value)


def conv(x, weight, strides, pad_type, pad, dilations, groups, bias=None):
    assert pad_type == "custom"
    x = padded(x, pad, x.ndim - 2, 0.0)
    f = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}[x.ndim]
    return f(x, weight, bias, stride=list(strides), dilation=list(dilations), groups=int(groups))


def conv_transpose(x, weight, strides, pad_type, pad, dilations, groups, bias=None):
    assert pad_type == "custom"
    f = {3: F.conv_transpose1d, 4: F.conv_transpose2d}[x.ndim]
    y = f(x, weight, None, stride=list(strides), dilation=list(dilations), groups=int(groups))
    for d in range(x.ndim - 2):
        y = y.narrow(d + 2, int(pad[2 * d]), y.shape[d + 2] - int(pad[2 * d]) - int(pad[2 * d + 1]))
    return y if bias is None else y + bias.reshape([1, -1] + [1] * (x.ndim - 2))


def windows(x, kernel_sizes, strides):
    for d, (k, s) in enumerate(zip(kernel_sizes, strides)):
        x = x.unfold(d + 2, int(k), int(s))
    return x, list(range(x.ndim - len(kernel_sizes), x.ndim))


def max_pool(x, kernel_sizes, strides, pad_type, pad, ceil_mode):
    assert pad_type == "custom" and not ceil_mode
    x, axes = windows(padded(x, pad, x.ndim - 2, -math.inf), kernel_sizes, strides)
    return x.amax(axes)


def avg_pool(x, kernel_sizes, strides, pad_type, pad, ceil_mode, exclude_padding_from_average):
    assert pad_type == "custom" and not ceil_mode
    spatial = x.ndim - 2
    ones = padded(torch.ones_like(x), pad, spatial, 0.0 if exclude_padding_from_average else 1.0)
    x, axes = windows(padded(x, pad, spatial, 0.0), kernel_sizes, strides)
    return x.sum(axes) / windows(ones, kernel_sizes, strides)[0].sum(axes)


def grid(mode, size, to):
    i = torch.arange(to, dtype=torch.float64)
    if mode == "STRICT_ALIGN_CORNERS":
        at = i * (size - 1) / (to - 1)
    elif mode == "DEFAULT":
        at = i * (size - size / to) / (to - 1)
    else:
        assert mode == "UNALIGN_CORNERS"
        at = i * size / to + 0.5 * size / to - 0.5
    return at.clamp(0, size - 1)


def interpolated(x, axis, at):
    first = at.floor().long()
    shape = [-1 if d == axis % x.ndim else 1 for d in range(x.ndim)]
    part = (at - first).to(x.dtype).reshape(shape)
    second = (first + 1).clamp(max=x.shape[axis] - 1)
    return x.index_select(axis, first) * (1 - part) + x.index_select(axis, second) * part


def resize_bilinear(x, target_size_height, target_size_width, sampling_mode):
    for axis, to in ((-2, target_size_height), (-1, target_size_width)):
        if x.shape[axis] != to:
            x = interpolated(x, axis, grid(sampling_mode, x.shape[axis], int(to)))
    return x


def upsample_nearest_neighbor(x, scale_factor_height, scale_factor_width):
    return x.repeat_interleave(int(scale_factor_height), -2).repeat_interleave(int(scale_factor_width), -1)


def resample(x, coordinates, sampling_mode, padding_mode, padding_value, coordinates_mode, align_corners):
    assert sampling_mode == "bilinear" and coordinates_mode == "normalized_minus_one_to_one" and padding_value == 0
    padding = {"constant": "zeros", "border": "border"}[padding_mode]
    return F.grid_sample(x, coordinates, "bilinear", padding, bool(align_corners))


def prelu(x, alpha):
    return torch.where(x > 0, x, x * alpha.reshape([1, -1] + [1] * (x.ndim - 2)))


def batch_norm(x, mean, variance, gamma, beta, epsilon):
    c = lambda v: v.reshape([1, -1] + [1] * (x.ndim - 2))
    return c(gamma) * (x - c(mean)) / torch.sqrt(c(variance) + float(epsilon)) + c(beta)


def layer_norm(x, axes, epsilon, gamma=None, beta=None):
    axes = [int(a) for a in axes]
    shape = [n if d in axes else 1 for d, n in enumerate(x.shape)]
    y = (x - x.mean(axes, True)) / torch.sqrt(x.var(axes, unbiased=False, keepdim=True) + float(epsilon))
    y = y if gamma is None else y * gamma.reshape(shape)
    return y if beta is None else y + beta.reshape(shape)


def instance_norm(x, gamma, beta, epsilon):
    c = lambda v: v.reshape([1, -1] + [1] * (x.ndim - 2))
    return layer_norm(x, list(range(2, x.ndim)), epsilon) * c(gamma) + c(beta)


def local_response_norm(x, size, alpha, beta, k):
    squares = F.pad((x * x).transpose(1, -1), [(int(size) - 1) // 2] * 2).unfold(-1, int(size), 1).sum(-1).transpose(1, -1)
    return x / (float(k) + float(alpha) / int(size) * squares) ** float(beta)


def slice_by_index(x, begin, end, stride=None):
    stride = stride if stride is not None else [1] * x.ndim
    return x[tuple(slice(int(b), int(e), int(s)) for b, e, s in zip(begin, end, stride))]


def pad(x, pad, mode, constant_val):
    pairs = [(0, 0)] * (x.ndim - len(pad) // 2) + [(int(a), int(b)) for a, b in np.asarray(pad).reshape(-1, 2)]
    kind = {"constant": "constant", "reflect": "reflect", "replicate": "edge"}[mode]
    settings = {"constant_values": float(constant_val)} if mode == "constant" else {}
    return torch.from_numpy(np.pad(x.numpy(), pairs, kind, **settings))


def gather(x, indices, axis, batch_dims=0):
    assert batch_dims == 0
    assert int(indices.min()) >= 0
    return torch.from_numpy(np.take(x.numpy(), indices.numpy(), int(axis)))


def gather_along_axis(x, indices, axis):
    assert int(indices.min()) >= 0
    return x.gather(int(axis), indices.long())


def gather_nd(x, indices, batch_dims):
    lead = int(batch_dims)
    flat = x.reshape([-1] + list(x.shape[lead:]))
    picked = indices.reshape([flat.shape[0], -1, indices.shape[-1]]).long()
    rows = [torch.stack([v[tuple(i)] for i in at]) for v, at in zip(flat, picked)]
    return torch.stack(rows).reshape(list(indices.shape[:-1]) + list(x.shape[lead + indices.shape[-1] :]))


def topk(x, k, axis, ascending, sort=True, return_indices=True):
    return tuple(x.topk(int(k), int(axis), largest=not ascending, sorted=True))


def cumsum(x, axis, exclusive, reverse):
    axis = int(axis)
    x = x.flip(axis) if reverse else x
    y = x.cumsum(axis, dtype=x.dtype)
    y = y - x if exclusive else y
    return y.flip(axis) if reverse else y


def space_to_depth(x, block_size):
    n, c, h, w = x.shape
    b = int(block_size)
    return x.reshape(n, c, h // b, b, w // b, b).permute(0, 3, 5, 1, 2, 4).reshape(n, c * b * b, h // b, w // b)


def depth_to_space(x, block_size):
    n, c, h, w = x.shape
    b = int(block_size)
    return x.reshape(n, b, b, c // (b * b), h, w).permute(0, 3, 4, 1, 5, 2).reshape(n, c // (b * b), h * b, w * b)


def quantize(input, scale, output_dtype, zero_point=None, axis=None):
    at = lambda v: torch.as_tensor(along(v, input.ndim, axis)).float()
    low, high = (-128, 127) if output_dtype == "int8" else (0, 255)
    zero = at(zero_point) if zero_point is not None else 0
    return (torch.round(input.float() / at(scale)) + zero).clamp(low, high)


def dequantize(input, scale, zero_point=None, axis=None):
    at = lambda v: torch.as_tensor(along(v, input.ndim, axis)).float()
    return (input.float() - (at(zero_point) if zero_point is not None else 0)) * at(scale)


def matmul(x, y, transpose_x, transpose_y):
    x = x.transpose(-1, -2) if transpose_x else x
    return x @ (y.transpose(-1, -2) if transpose_y else y)


def gelu(x, mode):
    return F.gelu(x, approximate={"EXACT": "none", "TANH_APPROXIMATION": "tanh"}[mode])


def reduction(f):
    return lambda x, axes, keep_dims: f(x, [int(a) for a in axes], bool(keep_dims))


def product(x, axes, keep):
    for a in sorted(axes, reverse=True):
        x = x.prod(a, keepdim=keep, dtype=x.dtype)
    return x


def listed(v):
    return [int(i) for i in v]


def floor_div(x, y):
    return torch.div(x, y, rounding_mode="floor")


OPERATIONS = {
    f.__name__: f
    for f in (
        conv, conv_transpose, max_pool, avg_pool, resize_bilinear, upsample_nearest_neighbor, resample, prelu, batch_norm, layer_norm,
        instance_norm, local_response_norm, slice_by_index, pad, gather, gather_along_axis, gather_nd, topk, cumsum, space_to_depth,
        depth_to_space, quantize, dequantize, matmul, gelu, floor_div,
    )
} | {
    "linear": lambda x, weight, bias: F.linear(x, weight, bias),
    "relu": F.relu, "relu6": F.relu6, "sigmoid": torch.sigmoid, "tanh": torch.tanh, "softplus": F.softplus, "softsign": F.softsign,
    "silu": F.silu, "exp": torch.exp, "sqrt": torch.sqrt, "floor": torch.floor, "ceil": torch.ceil, "round": torch.round, "erf": torch.erf,
    "sin": torch.sin, "cos": torch.cos, "tan": torch.tan, "asin": torch.asin, "acos": torch.acos, "atan": torch.atan, "sinh": torch.sinh,
    "cosh": torch.cosh, "atanh": torch.atanh, "abs": torch.abs, "sign": torch.sign, "logical_not": torch.logical_not,
    "identity": lambda x: x, "log": lambda x, epsilon: torch.log(x + float(epsilon)),
    "elu": lambda x, alpha: F.elu(x, float(alpha)), "leaky_relu": lambda x, alpha: F.leaky_relu(x, float(alpha)),
    "thresholded_relu": lambda x, alpha: torch.where(x >= float(alpha), x, torch.zeros_like(x)),
    "sigmoid_hard": lambda x, alpha, beta: (float(alpha) * x + float(beta)).clamp(0, 1),
    "clip": lambda x, alpha, beta: x.clamp(float(alpha), float(beta)),
    "softmax": lambda x, axis: torch.softmax(x, int(axis)),
    "add": torch.add, "sub": torch.sub, "mul": torch.mul, "real_div": torch.div, "pow": torch.pow, "mod": torch.remainder,
    "maximum": torch.maximum, "minimum": torch.minimum, "equal": torch.eq, "not_equal": torch.ne, "greater": torch.gt,
    "greater_equal": torch.ge, "less": torch.lt, "less_equal": torch.le, "logical_and": torch.logical_and, "logical_or": torch.logical_or,
    "logical_xor": torch.logical_xor, "select": lambda cond, a, b: torch.where(cond, a, b),
    "cast": lambda x, dtype: (x != 0 if dtype == "bool" else x.to(TYPES[str(dtype)])),
    "reshape": lambda x, shape: x.reshape(listed(shape)), "transpose": lambda x, perm: x.permute(listed(perm)),
    "squeeze": lambda x, axes=None: x.reshape([]) if axes is None else x.squeeze(listed(axes)),
    "tile": lambda x, reps: x.repeat(listed(reps)), "reverse": lambda x, axes: x.flip(listed(axes)),
    "concat": lambda values, axis, interleave: torch.cat(list(values), int(axis)),
    "split": lambda x, split_sizes, axis: tuple(x.split(listed(split_sizes), int(axis))),
    "pixel_shuffle": lambda x, upscale_factor: F.pixel_shuffle(x, int(upscale_factor)),
    "reduce_mean": reduction(torch.mean), "reduce_max": reduction(torch.amax), "reduce_min": reduction(torch.amin),
    "reduce_sum": reduction(lambda x, a, k: x.sum(a, k, dtype=x.dtype)), "reduce_prod": reduction(product),
    "reduce_l1_norm": reduction(lambda x, a, k: x.abs().sum(a, k)), "reduce_l2_norm": reduction(lambda x, a, k: (x * x).sum(a, k).sqrt()),
    "reduce_sum_square": reduction(lambda x, a, k: (x * x).sum(a, k)), "reduce_log_sum": reduction(lambda x, a, k: x.sum(a, k).log()),
    "reduce_log_sum_exp": reduction(torch.logsumexp),
    "reduce_argmax": lambda x, axis, keep_dims: x.argmax(int(axis), bool(keep_dims)),
    "reduce_argmin": lambda x, axis, keep_dims: x.argmin(int(axis), bool(keep_dims)),
}
CONSTANTS = {f.__name__: f for f in (constexpr_affine_dequantize, constexpr_lut_to_dense, constexpr_sparse_to_dense)}
# Inputs of these names are numbers and texts, not tensors.
SETTINGS = {
    "strides", "pad_type", "pad", "dilations", "groups", "kernel_sizes", "ceil_mode", "exclude_padding_from_average", "axis", "axes", "keep_dims",
    "shape", "perm", "reps", "split_sizes", "num_splits", "interleave", "begin", "end", "stride", "mode", "constant_val", "dtype", "sampling_mode",
    "target_size_height", "target_size_width", "scale_factor_height", "scale_factor_width", "transpose_x", "transpose_y", "epsilon", "k",
    "ascending", "sort", "return_indices", "exclusive", "reverse", "output_dtype", "scale", "zero_point", "size", "batch_dims", "block_size",
    "upscale_factor", "padding_mode", "padding_value", "coordinates_mode", "align_corners", "begin_mask", "end_mask", "squeeze_mask",
}


def tensor(value):
    return torch.from_numpy(np.array(value))


def run(program, feeds):
    values = dict(feeds)
    counts = {}
    function = program.functions["main"]
    for op in function.operations:
        kind = op.op_type
        if kind == "const":
            continue
        counts[kind] = counts.get(kind, 0) + 1
        given = {name: var for name, var in op.inputs.items() if var is not None}
        if kind in CONSTANTS:
            made = CONSTANTS[kind](**{name: var.val for name, var in given.items()})
            # The format's own makers decode the same.
            assert np.allclose(op.materialized_val_inference().astype("f4"), made.astype("f4"), rtol=2e-3, atol=1e-6), op.name
            results = (torch.from_numpy(np.ascontiguousarray(made)),)
        else:
            read = lambda var: values[var.name] if var.name in values else tensor(var.val)
            alpha = kind in ("elu", "leaky_relu", "thresholded_relu", "sigmoid_hard", "clip", "local_response_norm")
            of = lambda name, var: var.val if name in SETTINGS or (alpha and name in ("alpha", "beta")) else read(var)
            args = {}
            for name, var in given.items():
                if isinstance(var, (list, tuple)):
                    args[name] = [read(v) for v in var]
                elif not (name in ("begin_mask", "end_mask", "squeeze_mask", "num_splits") and var.val is None):
                    args[name] = of(name, var)
            halves = [v.dtype == torch.float16 for v in args.values() if isinstance(v, torch.Tensor)]
            if any(halves) and kind not in ("cast", "identity", "reshape", "transpose", "select", "concat", "gather"):
                args = {n: v.float() if isinstance(v, torch.Tensor) and v.dtype == torch.float16 else v for n, v in args.items()}
            # PyTorch's own functions have other names for their tensors.
            plain = set(args) <= {"x", "y"}
            results = OPERATIONS[kind](*(args[n] for n in ("x", "y") if n in args)) if plain else OPERATIONS[kind](**args)
            results = results if isinstance(results, tuple) else (results,)
        for var, result in zip(op.outputs, results):
            expected = [int(n) for n in var.shape] if var.rank else []
            assert list(result.shape) == expected, f"{op.name} ({kind}) makes {list(result.shape)}, declared {expected}"
            values[var.name] = result.to(TYPES[ct.converters.mil.mil.types.builtin_to_string(var.dtype)]).contiguous()
    return [values[var.name] for var in function.outputs], counts


def compare(got, expected):
    if list(got.shape) != list(expected.shape):
        return {"error": f"is {list(got.shape)}, expected {list(expected.shape)}"}
    a, b = got.astype("f8").ravel(), expected.astype("f8").ravel()
    if not np.array_equal(np.isfinite(a), np.isfinite(b)):
        return {"error": "is infinite or not a number elsewhere"}
    a, b = a[np.isfinite(a)], b[np.isfinite(b)]
    scale = np.abs(b).max(initial=1e-3)
    norms = np.linalg.norm(a) * np.linalg.norm(b)
    cosine = float(a @ b / norms) if norms > 0 else 1.0
    return {"worst": float(np.abs(a - b).max(initial=0.0) / scale), "cosine": cosine}


def judge(path):
    model = ct.models.MLModel(path, skip_model_load=True)
    spec = model.get_spec()
    program = load(spec, spec.specificationVersion, file_weights_dir=model.weights_dir)
    stored = np.load(path[: -len(".mlpackage")] + ".npz")
    description = spec.description
    feeds = {}
    for i, (feature, (name, var)) in enumerate(zip(description.input, program.functions["main"].inputs.items())):
        assert feature.name == name, f"the feature {feature.name} is the input {name}"
        feeds[name] = torch.from_numpy(stored[f"input_{i}"]).to(TYPES[ct.converters.mil.mil.types.builtin_to_string(var.dtype)])
        if feature.type.WhichOneof("Type") == "multiArrayType":
            assert list(feature.type.multiArrayType.shape) == list(var.shape)
    made, counts = run(program, feeds)
    names = [o.name for o in program.functions["main"].outputs]
    assert names == [f.name for f in description.output], f"{names} are given out, {[f.name for f in description.output]} described"
    for feature, result in zip(description.output, made):
        kind = {torch.float32: 65568, torch.float16: 65552, torch.int32: 131104}[result.dtype]
        assert feature.type.multiArrayType.dataType == kind and list(feature.type.multiArrayType.shape) == list(result.shape), feature.name
    return {
        "outputs": {n: compare(m.numpy(), stored[f"output_{i}"]) for i, (n, m) in enumerate(zip(names, made))},
        "inputs": [" ".join(str(f.type).split()) for f in description.input],
        "version": spec.specificationVersion,
        "operations": counts,
        "about": dict(description.metadata.userDefined),
    }


def main(folder):
    found = {}
    for path in sorted(glob.glob(os.path.join(folder, "*.mlpackage"))):
        try:
            verdict = judge(path)
        except Exception as e:
            verdict = {"error": f"{type(e).__name__}: {e}"}
        found[os.path.basename(path)[: -len(".mlpackage")]] = verdict
    print("\n" + json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
