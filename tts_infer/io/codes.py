"""Codes, and features that another network makes: checked like mels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tts_infer.dsp.checks import native
from tts_infer.errors import InputError, InputTypeError
from tts_infer.io.features import as_float_tensor, check_values

_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def as_latents(features: Tensor | NDArray[Any], channels: int, piece: bool = False) -> Tensor:
    """Check features that another network made, and give them their batch axis.

    Args:
        features: floating point, on any device.
        channels: values of a frame.
        piece: a part of longer features, which may be empty (L = 0).

    Shape: (B, C, L) or (C, L) -> (B, C, L), float32
    Raises:
        InputTypeError: not a dense floating-point array or tensor.
        InputError: wrong rank or number of channels; empty; or NaN or infinite values.
    """
    tensor = as_float_tensor(features, "features")
    require_latent_shape(tensor.shape, channels)
    check_values(tensor, "features", piece, math.inf)
    return tensor.unsqueeze(0) if tensor.ndim == 2 else tensor


def require_latent_shape(shape: Sequence[int], channels: int) -> None:
    """Check the shape of features that another network made, as `as_latents` does.

    Raises:
        InputError: wrong rank or number of channels.
    """
    if len(shape) not in (2, 3) or shape[-2] != channels:
        text = "features have shape {shape}; expected (B, {channels}, L) or ({channels}, L)"
        raise InputError(text, code="features-shape", shape=tuple(shape), channels=channels)


def as_codes(codes: Tensor | NDArray[Any], codebooks: int, bins: int) -> Tensor:
    """Check the codes of a codec.

    Args:
        codes: whole numbers, on any device.
        codebooks: the most codes a frame, K.
        bins: codes to choose from.

    Shape: (K, L) or (K, B, L) -> (B, K, L), int64
    Raises:
        InputTypeError: not a dense array or tensor of whole numbers.
        InputError: wrong rank; empty; more codebooks than there are; or a code that is negative or too large.
    """
    integers = holds_integers(codes)
    tensor = torch.from_numpy(native(codes, np.int64)) if isinstance(codes, np.ndarray) and integers else codes
    if not integers or not isinstance(tensor, Tensor) or tensor.layout != torch.strided:
        text = "codes are {kind}; expected a dense tensor or array of whole numbers"
        kind = str(getattr(codes, "dtype", type(codes).__name__))
        raise InputTypeError(text, code="codes-type", kind=kind)
    shape = tuple(tensor.shape)
    if tensor.ndim not in (2, 3) or not 0 < shape[0] <= codebooks or 0 in shape:
        text = "codes have shape {shape}; expected (K, L) or (K, B, L), with K up to {codebooks} codebooks and L over 0"
        raise InputError(text, code="codes-shape", shape=shape, codebooks=codebooks)
    low, high = (int(value) for value in tensor.aminmax())
    if low < 0 or high >= bins:
        text = "codes reach from {low} to {high}; allowed: 0 to {most}"
        raise InputError(text, code="codes-range", low=low, high=high, most=bins - 1)
    tensor = tensor.long()
    return tensor.unsqueeze(0) if tensor.ndim == 2 else tensor.transpose(0, 1)


def holds_integers(value: Any) -> bool:
    """Whether an array or tensor holds whole numbers, as codes do."""
    if isinstance(value, Tensor):
        return value.dtype in _INTEGERS
    return isinstance(value, np.ndarray) and value.dtype.kind in "iu"
