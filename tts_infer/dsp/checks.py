"""What the transforms refuse, before torch does with pages of text. Traces skip it: checks would fix their sizes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray
from torch import Tensor

from tts_infer.dsp.tiles import is_traced
from tts_infer.errors import InputError, InputTypeError

Extremes = tuple[float, float]  # the lowest and the largest value


def require_floats(value: Any, what: str, axes: tuple[int, ...], expected: str) -> None:
    """Refuse what is no tensor of floats with one of so many axes and at least one item.

    Args:
        value: of a caller.
        what: its name, for messages.
        axes: how many it may have.
        expected: their names, for messages.

    Raises:
        InputTypeError, InputError: it is none.
    """
    if is_traced():
        return
    if not isinstance(value, Tensor) or not value.is_floating_point():
        kind = f"a tensor of {value.dtype}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
        text = "{what} is {kind}; expected a tensor of floats of shape {expected}"
        raise InputTypeError(text, code="no-float-tensor", what=what, kind=kind, expected=expected)
    require_dense(value, what)
    if value.ndim not in axes or value.shape[0] == 0:
        text = "{what} has shape {shape}; expected {expected}, at least one item"
        raise InputError(text, code="tensor-shape", what=what, shape=tuple(value.shape), expected=expected)


def is_dense(tensor: Tensor) -> bool:
    """Whether a tensor holds a value for each place."""
    return tensor.layout == torch.strided and not tensor.is_nested and not tensor.is_meta


def require_dense(tensor: Tensor, what: str) -> None:
    """Refuse a tensor that does not hold a value for each place.

    Args:
        tensor: of a caller.
        what: its name, for messages.

    Raises:
        InputTypeError: it does not.
    """
    if not is_dense(tensor):
        text = "{what} is a sparse, nested or meta tensor; expected a dense one: give its .to_dense()"
        raise InputTypeError(text, code="not-dense", what=what)


def native(array: NDArray[Any], dtype: DTypeLike) -> NDArray[Any]:
    """An array as torch takes it: of this dtype, of this machine's byte order, writeable, and in order."""
    made = np.require(array, dtype, ["C", "W", "E"])
    # numpy says of few values that they are in order, whatever their strides; torch refuses negative ones
    return made.copy() if any(stride < 0 for stride in made.strides) else made


def require_spectrum(real: Any, imag: Any, bins: int) -> None:
    """Refuse what is no spectrum.

    Shape: 2 x (B, N, L)
    Raises:
        InputTypeError, InputError: the parts are no floats, or not both of that shape.
    """
    for name, part in (("real", real), ("imag", imag)):
        require_floats(part, name, (3,), f"(B, {bins}, L)")
    if not is_traced() and (real.shape[1] != bins or imag.shape != real.shape):
        text = "the spectrum has parts of shape {real} and {imag}; expected (B, {bins}, L) twice"
        shapes = tuple(real.shape), tuple(imag.shape)
        raise InputError(text, code="spectrum-shape", real=shapes[0], imag=shapes[1], bins=bins)
