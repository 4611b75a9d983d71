"""Weights in fewer bits. Those of the blocks are rounded first, so that torch computes with the same ones.

The graph makes float32 of them while a runtime loads it, and computes as before: the file is smaller, decodes are not
slower, and pieces and batches stay exact.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tts_infer.stages import Stage

ExportDType = Literal["float32", "float16", "int8"]
_LEAST = 1024  # values of a tensor from which on fewer bits are worth a node
_LEAST_OF_PRODUCTS = 16384  # the same for weights that are rounded: smaller ones cost quality and save nothing
_LARGEST = 127  # of int8
_SCALE_BITS = 11  # of the scale's mantissa: a product with 7 bits then fits into the 24 of float32


def round_blocks(stages: Sequence[Stage], dtype: ExportDType) -> int:
    """Round the large weights of the blocks in place, and say how many values that were.

    Blocks are the modules that a network repeats. Those at its ends (the embedding, the head) stay: they are few, and
    rounding them costs more.

    Args:
        stages: of the copy that is exported; those that may run in half precision have blocks.
        dtype: what the weights must fit into. "int8" has a scale for each output channel.
    """
    found = 0
    for stage in stages if dtype != "float32" else ():
        for name, module in stage.module.named_modules() if stage.half else ():
            if not isinstance(module, (nn.Linear, nn.Conv1d)) or not re.search(r"\.\d+\.", f"{name}."):
                continue
            if module.weight.numel() >= _LEAST_OF_PRODUCTS:
                found += module.weight.numel()
                module.weight.data = _rounded(module.weight.data, dtype)
    return found


def _rounded(weight: Tensor, dtype: ExportDType) -> Tensor:
    """Shape: (out, ...) -> the same"""
    if dtype == "float16":
        return weight.half().float()
    peaks = weight.abs().flatten(1).amax(1).reshape(-1, *[1] * (weight.ndim - 1))
    mantissa, exponent = torch.frexp(peaks.clamp_min(torch.finfo(torch.float16).tiny) / _LARGEST)
    scale = torch.ldexp(torch.ceil(mantissa * 2**_SCALE_BITS), exponent - _SCALE_BITS)
    return (weight / scale).round() * scale


def stored_exactly(proto: Any, kinds: Iterable[Literal["float16", "int8"]] = ("int8", "float16")) -> Any:
    """A graph whose weights are stored in the first of these kinds that holds them exactly."""
    import onnx

    made, added = [], []
    for tensor in proto.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.size < _LEAST:
            continue
        parts = next((found for kind in kinds if (found := _EXACT[kind](values)) is not None), None)
        if parts is None:
            continue
        name, (small, *scales) = tensor.name, parts
        tensor.CopyFrom(onnx.numpy_helper.from_array(small, f"{name}_small"))
        wide = f"{name}_wide" if scales else name
        made.append(onnx.helper.make_node("Cast", [f"{name}_small"], [wide], to=onnx.TensorProto.FLOAT))
        for scale in scales:
            added.append(onnx.numpy_helper.from_array(scale, f"{name}_scale"))
            made.append(onnx.helper.make_node("Mul", [wide, f"{name}_scale"], [name]))
    nodes = [*made, *proto.graph.node]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    proto.graph.initializer.extend(added)
    return proto


def _as_float16(values: NDArray[np.float32]) -> tuple[NDArray[Any], ...] | None:
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    return (half,) if np.array_equal(half.astype(np.float32), values) else None


def _as_int8(values: NDArray[np.float32]) -> tuple[NDArray[Any], ...] | None:
    """Whole numbers and their scales, one for each channel of the last axis, as products have it, or of the first."""
    for channels in (values.ndim - 1, 0) if values.ndim > 1 else ():
        others = tuple(axis for axis in range(values.ndim) if axis != channels)
        peaks = np.abs(values).max(axis=others, keepdims=True)  # 127 times the scale, if there is one
        scale = np.where(peaks == 0, np.float32(1), peaks / np.float32(_LARGEST)).astype(np.float32)
        small = np.rint(values / scale)
        if np.abs(small).max() <= _LARGEST and np.array_equal((small * scale).astype(np.float32), values):
            return small.astype(np.int8), scale
    return None


_EXACT = {"float16": _as_float16, "int8": _as_int8}
