"""Windows, bases and filterbanks: what a module computes once and no checkpoint holds."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn


def keep_constant(module: nn.Module, name: str, values: NDArray[np.float64]) -> None:
    """Give a module a float32 buffer that moves with it and is not part of its state.

    From numpy, and so in float64 until now, whatever torch's default dtype and device are.
    """
    module.register_buffer(name, torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)), persistent=False)
