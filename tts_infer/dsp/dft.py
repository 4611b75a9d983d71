"""The discrete Fourier transform of real frames, by products of real matrices or by an FFT.

    X[k] = sum_n x[n] exp(-2 pi i k n / n_fft)

A cosine or sine repeats its values in all four quarters of the frame, apart from the sign. With N = n_fft, H = N / 2
and k even,

    point      n    H - n    H + n    N - n
    cosine     c      c        c        c           for odd k the two in the middle change their sign
    sine       s     -s        s       -s

So the frame is first folded to a quarter of its points. Then even bins and odd bins each need one matrix of cosines and
one of sines. Each of these four matrices has an eighth of the entries of the full cosine matrix. They are computed in
float64 and stored as float32.
"""

from __future__ import annotations

import warnings
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tts_infer.config import SpectralMethod
from tts_infer.dsp import register_constant
from tts_infer.dsp.tiles import is_traced


def dft_basis(n_fft: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """cos and sin of 2 pi k n / n_fft, for k and n from 0 to n_fft // 2.

    k n is reduced modulo n_fft as an integer, so that every angle is small and exact. The sines of DC and Nyquist, and
    those at n = 0 and n_fft / 2, are exactly zero.

    Shape: two of (N, N), N = n_fft // 2 + 1; both symmetric
    """
    turn = np.arange(n_fft) * (2 * np.pi / n_fft)
    half = np.arange(n_fft // 2 + 1)
    index = np.outer(half, half) % n_fft
    cos, sin = np.cos(turn)[index], np.sin(turn)[index]
    sin[[0, -1]] = sin[:, [0, -1]] = 0.0
    return cos, sin


D = TypeVar("D", bound="_RealDFT")


class _RealDFT(nn.Module):
    """Base of both directions: the quarters of a frame, and the matrices of even and odd bins."""

    cos_even: Tensor
    cos_odd: Tensor
    sin_even: Tensor
    sin_odd: Tensor

    def __init__(self, n_fft: int, method: SpectralMethod) -> None:
        super().__init__()
        self.n_fft, self.method = n_fft, method

    @property
    def bases(self) -> list[Tensor]:
        """The matrices of cosines for even and odd bins, and those of sines; by FFT none."""
        return [matrix for matrix in self._buffers.values() if matrix is not None]

    def _by_products(self: D) -> D:
        """The same transform by matrix products, made within a trace: its matrices become constants there."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", torch.jit.TracerWarning)  # that they do
            return type(self)(self.n_fft, "matmul")

    def _keep_bases(self, weight: NDArray[np.float64] | float, inverse: bool) -> None:
        """Register the four matrices, from points to bins; or, inverse, from bins to points."""
        for name, basis, sign in zip(("cos", "sin"), dft_basis(self.n_fft), (1, -1), strict=True):
            matrix = sign * basis[:, : self.n_fft // 4 + 1] * weight
            for parity, bins in (("even", matrix[0::2]), ("odd", matrix[1::2])):
                register_constant(self, f"{name}_{parity}", bins if inverse else bins.T)


class RealDFT(_RealDFT):
    """Fourier transform of real frames.

    Args:
        n_fft: points of a frame, even.
        method: "matmul" (real numbers only) or "fft".

    Shape: (..., n_fft) -> real, imag of (..., N), N = n_fft // 2 + 1
    """

    def __init__(self, n_fft: int, method: SpectralMethod) -> None:
        super().__init__(n_fft, method)
        if method == "matmul":
            self._keep_bases(1.0, inverse=False)

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        if self.method == "fft" and torch.onnx.is_in_onnx_export():  # ONNX has no complex numbers
            real, imag = self._by_products().to(frames.device)(frames)
            return real, imag
        return real_dft(frames, self.bases, self.n_fft, is_traced())


class InverseRealDFT(_RealDFT):
    """Inverse Fourier transform to real frames. The imaginary parts of DC and Nyquist are ignored.

    Args:
        n_fft, method: as for `RealDFT`.

    Shape: real, imag of (..., N) -> (..., n_fft)
    """

    def __init__(self, n_fft: int, method: SpectralMethod) -> None:
        super().__init__(n_fft, method)
        if method == "matmul":
            weight = np.full((n_fft // 2 + 1, 1), 2.0 / n_fft)
            weight[0] = weight[-1] = 1.0 / n_fft  # DC and Nyquist have no mirrored bin
            self._keep_bases(weight, inverse=True)

    def forward(self, real: Tensor, imag: Tensor) -> Tensor:
        if self.method == "fft" and torch.onnx.is_in_onnx_export():  # as above
            inverse: Tensor = self._by_products().to(real.device)(real, imag)
            return inverse
        return inverse_dft(real, imag, self.bases, self.n_fft)


def interleaved(even: Tensor, odd: Tensor, bins: int, new: bool) -> Tensor:
    """even[0], odd[0], even[1], odd[1], ... Shape: (..., n), (..., n) or (..., n - 1) -> (..., bins)"""
    if new:
        return torch.stack([even, torch.constant_pad_nd(odd, [0, bins % 2])], dim=-1).flatten(-2)[..., :bins]
    out = even.new_empty(list(even.shape)[:-1] + [bins])  # noqa: RUF005  scripts have no stars
    out[..., 0::2] = even
    out[..., 1::2] = odd
    return out


def real_dft(frames: Tensor, bases: list[Tensor], n_fft: int, new: bool) -> tuple[Tensor, Tensor]:
    """The transform of `RealDFT`.

    Args:
        bases: those of the transform; none: by FFT.
        new: write nothing in place, as graphs need it.

    Shape: (..., n_fft) -> 2 x (..., N)
    """
    if len(bases) == 0:
        spectrum = torch.fft.rfft(frames)
        # complex numbers interleave both parts in memory; what follows is faster on contiguous tensors
        return torch.real(spectrum).contiguous(), torch.imag(spectrum).contiguous()
    bins, first = n_fft // 2 + 1, n_fft // 4 + 1  # the first quarter ends at n = H / 2
    second = bins - first
    # the later quarters lack points that earlier ones have
    a, b, c, d = torch.split(frames, [first, second, second - 1, first - 1], -1)
    b = torch.constant_pad_nd(b.flip(-1), [0, first - second])
    c, d = torch.constant_pad_nd(c, [1, first - second]), torch.constant_pad_nd(d.flip(-1), [1, 0])
    outer, inner = a + d, b + c
    real = interleaved(torch.matmul(outer + inner, bases[0]), torch.matmul(outer - inner, bases[1]), bins, new)
    outer, inner = a - d, b - c
    imag = interleaved(torch.matmul(outer - inner, bases[2]), torch.matmul(outer + inner, bases[3]), bins, new)
    return real, imag


def inverse_dft(real: Tensor, imag: Tensor, bases: list[Tensor], n_fft: int) -> Tensor:
    """The transform of `InverseRealDFT`; `bases` as for `real_dft`. Shape: 2 x (..., N) -> (..., n_fft)"""
    if len(bases) == 0:
        return torch.fft.irfft(torch.complex(real, imag), n_fft)
    even, odd = torch.matmul(real[..., 0::2], bases[0]), torch.matmul(real[..., 1::2], bases[1])
    outer_cos, inner_cos = even + odd, even - odd
    even, odd = torch.matmul(imag[..., 0::2], bases[2]), torch.matmul(imag[..., 1::2], bases[3])
    outer_sin, inner_sin = even + odd, odd - even
    second = n_fft // 2 - n_fft // 4
    return torch.cat(
        [
            outer_cos + outer_sin,
            (inner_cos + inner_sin)[..., :second].flip(-1),
            (inner_cos - inner_sin)[..., 1:second],
            (outer_cos - outer_sin)[..., 1:].flip(-1),
        ],
        dim=-1,
    )
