"""How far a result is from what it should be: the one measure of every proof at run time."""

from __future__ import annotations

import math

import torch
from torch import Tensor

Results = Tensor | tuple[Tensor, ...]


def relative_error(got: Results, expected: Results) -> float:
    """Largest difference of one or several results, relative to the largest value of each.

    Infinite for other shapes; NaN if one is.
    """
    pairs = zip(*((x,) if isinstance(x, Tensor) else x for x in (got, expected)), strict=True)
    errors = [_relative_error(*pair) for pair in pairs]
    return math.nan if any(map(math.isnan, errors)) else max(errors)


def _relative_error(got: Tensor, expected: Tensor) -> float:
    if got.shape != expected.shape:
        return math.inf
    # silence has no peak, and is right where silence is expected
    peak = max(float(expected.abs().max()), torch.finfo(torch.float32).tiny)
    return float((got.float() - expected).abs().max()) / peak
