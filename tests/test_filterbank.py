"""Banded products are products, whatever the matrix holds and however it is cut."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tts_infer.config import MelConfig, SpectralMethod
from tts_infer.dsp.filterbank import BandedProduct
from tts_infer.dsp.mel import mel_filterbank

FILTERS = mel_filterbank(MelConfig())
MATRICES = {
    "filters": FILTERS,
    "spread": np.ascontiguousarray(FILTERS.T),
    "dense": np.linspace(-1, 1, 7 * 5).reshape(7, 5),
    "empty columns": np.pad(np.ones((6, 3)), ((0, 0), (4, 4))),
    "nothing": np.zeros((4, 9)),
    "fewer columns than blocks": np.ones((3, 2)),
}


@pytest.mark.parametrize("method", ["matmul", "fft"])
@pytest.mark.parametrize("shape", [(2, 5), (1, 0), (3,)])
@pytest.mark.parametrize("matrix", MATRICES.values(), ids=MATRICES)
def test_it_is_the_product(matrix: NDArray[np.float64], shape: tuple[int, ...], method: SpectralMethod) -> None:
    product = BandedProduct(matrix, method)
    x = torch.randn(*shape, len(matrix), generator=torch.Generator().manual_seed(0))
    expected = x.double() @ torch.from_numpy(matrix)
    assert torch.equal(product.matrix, torch.from_numpy(matrix).float())
    assert product(x).shape == expected.shape
    # float32 sums of 513 products of order 1
    assert torch.allclose(product(x).double(), expected, atol=1e-5)


def test_zeros_are_left_out() -> None:
    held = {m: sum(b.numel() for b in BandedProduct(FILTERS, m).buffers()) for m in ("matmul", "fft")}
    assert held["fft"] < 0.4 * held["matmul"] and held["matmul"] == FILTERS.size
    assert not BandedProduct(FILTERS, "fft").state_dict()
