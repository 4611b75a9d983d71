"""Signal processing from operators that every device has: transforms, mels, filterbanks, refinement."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn


def register_constant(module: nn.Module, name: str, values: NDArray[np.float64]) -> None:
    """Register a window, basis or filterbank as a float32 buffer that is not part of the state dict.

    The values come from numpy in float64, so torch's default dtype and device have no influence on them.

    Args:
        module: gets the buffer, which then moves with it.
        name: of the buffer.
        values: of any shape.
    """
    module.register_buffer(name, torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)), persistent=False)
