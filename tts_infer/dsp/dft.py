"""The discrete Fourier transform of real frames, by products of real matrices or by an FFT.

    X[k] = sum_n x[n] exp(-2 pi i k n / n_fft)

One quarter of the points is enough for a cosine or a sine. With N = n_fft, H = N / 2 and k even,

    point      n    H - n    H + n    N - n
    cosine     c      c        c        c           for odd k the two in the middle change their sign
    sine       s     -s        s       -s

So even and odd bins have a matrix each, for cosines and for sines, and each of the four has an eighth of the entries
that cosines of all bins at all points have. They are computed in float64 from angles reduced as integers, and stored as
float32.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from tts_infer.config import SpectralMethod
from tts_infer.dsp import register_constant


def dft_basis(n_fft: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """cos and sin of 2 pi k n / n_fft, for k and n from 0 to n_fft // 2.

    k n is reduced modulo n_fft while still an integer, so that no angle is ever large; the sines of DC and Nyquist are
    exactly zero, and so are those at n = 0 and n_fft / 2.

    Shape: two of (N, N), N = n_fft // 2 + 1; both symmetric
    """
    turn = np.arange(n_fft) * (2 * np.pi / n_fft)
    half = np.arange(n_fft // 2 + 1)
    index = np.outer(half, half) % n_fft
    cos, sin = np.cos(turn)[index], np.sin(turn)[index]
    sin[[0, -1]] = sin[:, [0, -1]] = 0.0
    return cos, sin


class _RealDFT(nn.Module):
    """What both directions share: how a frame falls into quarters, and the matrices of even and odd bins."""

    cos_even: Tensor
    cos_odd: Tensor
    sin_even: Tensor
    sin_odd: Tensor

    def __init__(self, n_fft: int, method: SpectralMethod) -> None:
        super().__init__()
        self.n_fft, self.method = n_fft, method
        half = n_fft // 2
        first = half // 2 + 1  # points of a quarter, with n = 0 and, where there is one, n = H / 2: its own mirror
        second = half + 1 - first
        self.quarters = [first, second, second - 1, first - 1]  # n = H, H + 0 and N - 0 are there already

    def _keep_bases(self, weight: NDArray[np.float64] | float, inverse: bool) -> None:
        """Keep what turns points into bins; or, inverse, bins into points."""
        for name, basis, sign in zip(("cos", "sin"), dft_basis(self.n_fft), (1, -1), strict=True):
            matrix = sign * basis[:, : self.quarters[0]] * weight
            for parity, bins in (("even", matrix[0::2]), ("odd", matrix[1::2])):
                register_constant(self, f"{name}_{parity}", bins if inverse else bins.T)


class RealDFT(_RealDFT):
    """The transform of frames.

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
        if self.method == "fft":
            spectrum = torch.fft.rfft(frames, dim=-1)
            # every other number of it: whatever follows is faster on numbers that lie side by side
            return spectrum.real.contiguous(), spectrum.imag.contiguous()
        lone = self.quarters[0] - self.quarters[1]
        a, b, c, d = frames.split(self.quarters, dim=-1)
        b, c, d = F.pad(b.flip(-1), (0, lone)), F.pad(c, (1, lone)), F.pad(d.flip(-1), (1, 0))
        outer, inner = a + d, b + c
        real = _interleave(torch.matmul(outer + inner, self.cos_even), torch.matmul(outer - inner, self.cos_odd))
        outer, inner = a - d, b - c
        imag = _interleave(torch.matmul(outer - inner, self.sin_even), torch.matmul(outer + inner, self.sin_odd))
        return real, imag


class InverseRealDFT(_RealDFT):
    """The inverse transform. The imaginary parts of DC and Nyquist count as zero.

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
        if self.method == "fft":
            return torch.fft.irfft(torch.complex(real, imag), self.n_fft, dim=-1)
        even, odd = torch.matmul(real[..., 0::2], self.cos_even), torch.matmul(real[..., 1::2], self.cos_odd)
        outer_cos, inner_cos = even + odd, even - odd
        even, odd = torch.matmul(imag[..., 0::2], self.sin_even), torch.matmul(imag[..., 1::2], self.sin_odd)
        outer_sin, inner_sin = even + odd, odd - even
        second = self.quarters[1]
        return torch.cat(
            [
                outer_cos + outer_sin,
                (inner_cos + inner_sin)[..., :second].flip(-1),
                (inner_cos - inner_sin)[..., 1:second],
                (outer_cos - outer_sin)[..., 1:].flip(-1),
            ],
            dim=-1,
        )


def _interleave(even: Tensor, odd: Tensor) -> Tensor:
    """Every other number from `even`, which begins. Shape: (..., n), (..., n) or (..., n - 1) -> (..., their sum)"""
    out = even.new_empty(*even.shape[:-1], even.shape[-1] + odd.shape[-1])
    out[..., 0::2], out[..., 1::2] = even, odd
    return out
