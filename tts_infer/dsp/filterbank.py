"""Products with a banded matrix, one that is zero far from its diagonal, such as a filterbank."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tts_infer.config import SpectralMethod
from tts_infer.dsp import register_constant
from tts_infer.dsp.tiles import is_traced

# With 100 HTK filters of 513 bins, six blocks need a fifth of the multiplications of one. More blocks need more
# calls, which makes short signals slower.
_BLOCKS = 6


class BandedProduct(nn.Module):
    """Multiply by a constant matrix.

    Args:
        matrix: stored in float32, in buffers that are not part of a checkpoint.
        method: "matmul" is one product. "fft" cuts the columns into blocks, and multiplies each block only by the rows
            in which it is not zero: less work in more calls, as with an FFT.

    Shape: (..., rows) -> (..., columns)
    """

    block0: Tensor  # further blocks are block1, block2, ...

    def __init__(self, matrix: NDArray[np.float64], method: SpectralMethod) -> None:
        super().__init__()
        count, (self._rows, self._columns) = 1 if method == "matmul" else _BLOCKS, matrix.shape
        borders = [self._columns * i // count for i in range(count + 1)]
        self._blocks: list[tuple[str, slice, slice]] = []
        for i, (start, stop) in enumerate(pairwise(borders)):
            columns = slice(start, stop)
            rows = slice(0, self._rows) if method == "matmul" else _used_rows(matrix[:, columns])
            register_constant(self, f"block{i}", matrix[rows, columns])
            self._blocks.append((f"block{i}", rows, columns))

    @property
    def matrix(self) -> Tensor:
        """The whole matrix. Shape: (rows, columns)"""
        whole = self.block0.new_zeros(self._rows, self._columns)
        for block, rows, columns in self._cut():
            whole[rows, columns] = block
        return whole

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(0, -2)
        if torch.is_grad_enabled() or is_traced():  # neither takes products that are written into a tensor
            out = torch.cat([flat[:, rows] @ block for block, rows, _ in self._cut()], dim=1)
        else:
            out = flat.new_empty(flat.shape[0], self._columns)
            for block, rows, columns in self._cut():
                torch.mm(flat[:, rows], block, out=out[:, columns])
        return out.view(*x.shape[:-1], self._columns)

    def _cut(self) -> list[tuple[Tensor, slice, slice]]:
        """The blocks, and the rows and columns of the matrix where they stand."""
        return [(getattr(self, name), rows, columns) for name, rows, columns in self._blocks]


def _used_rows(matrix: NDArray[np.float64]) -> slice:
    """The range of rows that contains all values that are not zero."""
    used = np.flatnonzero(matrix.any(axis=1))
    return slice(int(used[0]), int(used[-1]) + 1) if len(used) else slice(0, 0)
