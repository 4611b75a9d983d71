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
# calls, which makes short signals slower. A matrix of fewer values is one block.
_BLOCKS, _SMALL = 6, 2**13


class BandedProduct(nn.Module):
    """Multiply by a constant matrix.

    Args:
        matrix: stored in float32, in buffers that are not part of a checkpoint.
        method: "matmul" is one product. "fft" cuts the columns of large matrices into blocks, and multiplies each block
            only by the rows in which it is not zero: less work in more calls, as with an FFT.

    Shape: (..., rows) -> (..., columns)
    """

    block0: Tensor  # further blocks are block1, block2, ...

    def __init__(self, matrix: NDArray[np.float64], method: SpectralMethod) -> None:
        super().__init__()
        is_one = method == "matmul" or matrix.size < _SMALL
        count, (self._rows, self.columns) = 1 if is_one else _BLOCKS, matrix.shape
        borders = [self.columns * i // count for i in range(count + 1)]
        self.cuts: list[int] = []
        for i, (start, stop) in enumerate(pairwise(borders)):
            columns = slice(start, stop)
            rows = slice(0, self._rows) if is_one else _used_rows(matrix[:, columns])
            register_constant(self, f"block{i}", matrix[rows, columns])
            self.cuts += [rows.start, rows.stop, start, stop]

    @property
    def matrix(self) -> Tensor:
        """The whole matrix. Shape: (rows, columns)"""
        whole: Tensor = self(torch.eye(self._rows, dtype=self.block0.dtype, device=self.block0.device))
        return whole

    @property
    def blocks(self) -> list[Tensor]:
        """What of the matrix is multiplied; `cuts` says where it stands."""
        return [block for block in self._buffers.values() if block is not None]

    def forward(self, x: Tensor) -> Tensor:
        return banded(x, self.blocks, self.cuts, self.columns, needs_new())


def needs_new() -> bool:
    """Whether products may not be written into a tensor: for gradients, and in a traced graph."""
    return torch.is_grad_enabled() or is_traced()


def banded(x: Tensor, blocks: list[Tensor], cuts: list[int], columns: int, new: bool) -> Tensor:
    """The product of `BandedProduct`.

    Args:
        blocks, cuts, columns: those of the product; a block has four cuts: its first row and the end of its rows, and
            the same of its columns.
        new: see `needs_new`.

    Shape: (..., rows) -> (..., columns)
    """
    flat, shape = x.flatten(0, -2), list(x.shape)[:-1] + [columns]  # noqa: RUF005  scripts have no stars
    if len(blocks) == 1:
        return torch.mm(flat, blocks[0]).view(shape)
    if new:
        joined = [flat[:, cuts[4 * i] : cuts[4 * i + 1]] @ blocks[i] for i in range(len(blocks))]
        return torch.cat(joined, dim=1).view(shape)
    out = flat.new_empty(flat.shape[0], columns)
    for i in range(len(blocks)):
        row, column = cuts[4 * i], cuts[4 * i + 2]
        rows, wide = flat.narrow(1, row, cuts[4 * i + 1] - row), out.narrow(1, column, cuts[4 * i + 3] - column)
        torch.mm(rows, blocks[i], out=wide)
    return out.view(shape)


def _used_rows(matrix: NDArray[np.float64]) -> slice:
    """The range of rows that contains all values that are not zero."""
    used = np.flatnonzero(matrix.any(axis=1))
    return slice(int(used[0]), int(used[-1]) + 1) if len(used) else slice(0, 0)
