"""The transform of frames against numpy's in float64."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch

from tts_infer.config import SpectralMethod
from tts_infer.dsp.dft import InverseRealDFT, RealDFT, dft_basis

METHODS = get_args(SpectralMethod)
# quarters that meet in a point (multiples of 4) and between two, down to those without a point
SIZES = [2, 4, 6, 8, 10, 12, 1000, 1002, 1024, 2048]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("n_fft", SIZES)
def test_transform_is_its_formula(n_fft: int, method: SpectralMethod) -> None:
    frames = torch.randn(2, 5, n_fft, generator=torch.Generator().manual_seed(n_fft))
    expected = np.fft.rfft(frames.double().numpy())
    real, imag = RealDFT(n_fft, method)(frames)
    assert real.shape == imag.shape == expected.shape
    # float32 sums of n_fft products against float64
    assert np.abs(real.numpy() + 1j * imag.numpy() - expected).max() <= 1e-6 * np.abs(expected).max()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("n_fft", SIZES)
def test_inverse_is_its_formula(n_fft: int, method: SpectralMethod) -> None:
    real, imag = torch.randn(2, 2, 5, n_fft // 2 + 1, generator=torch.Generator().manual_seed(n_fft))
    expected = np.fft.irfft(real.double().numpy() + 1j * imag.double().numpy(), n_fft)
    frames = InverseRealDFT(n_fft, method)(real, imag)
    assert frames.shape == expected.shape
    # float32 sums of n_fft + 2 products against float64
    assert np.abs(frames.numpy() - expected).max() <= 1e-6 * np.abs(expected).max()


def test_gradients_flow_through_products() -> None:
    frames = torch.randn(3, 12, generator=torch.Generator().manual_seed(0)).requires_grad_()
    real, imag = RealDFT(12, "matmul")(frames)
    InverseRealDFT(12, "matmul")(real, imag).square().sum().backward()
    # the inverse undoes the transform, so the sum is that of the frames' squares; float32, a dozen products
    assert frames.grad is not None and torch.allclose(frames.grad, 2 * frames.detach(), atol=1e-5)


def test_bases_are_exact_where_they_must_be() -> None:
    cos, sin = dft_basis(1024)
    assert cos.shape == sin.shape == (513, 513)
    assert not sin[[0, -1]].any() and not sin[:, [0, -1]].any()
    assert np.array_equal(cos[-1], np.resize([1.0, -1.0], 513))
    # rows of a discrete cosine basis are orthogonal, to the rounding of float64
    full = np.concatenate([cos, cos[:, 1:-1][:, ::-1]], axis=1)
    assert np.allclose(full @ full.T / 512, np.diag(np.r_[2.0, np.ones(511), 2.0]), atol=1e-12)
