"""A crossover of two signals: the low band of one, the high band of the other, by one Fourier transform of the whole.

The filter's fade is a few bins of the whole signal wide. So its impulse response is as long as the signal: every sample
depends on all others, and there are no pieces.

Without an FFT, a transform of n = rows x columns samples is one of the rows' length, a turn of phases, and one of the
columns' length (Cooley and Tukey): two products with small matrices.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tts_infer.config import SpectralMethod
from tts_infer.devices import CPU

_COLUMNS = 512  # at most
_FADE_BINS = 8


def passed(samples: int, share: float) -> NDArray[np.float64]:
    """The gain of every bin of a high pass whose cubic fade is `_FADE_BINS` wide.

    Args:
        samples: of the signal.
        share: the cutoff, as a share of the Nyquist frequency.

    Shape: -> (samples // 2 + 1,)
    Source: ysharma3501/LinaCodec, src/linacodec/vocoder/linkwitz.py.
    """
    bins = samples // 2 + 1
    middle = int(share * bins)
    begin, end = max(0, middle - _FADE_BINS // 2), min(bins, middle + _FADE_BINS // 2)
    x = np.linspace(0, 1, end - begin)
    return np.concatenate([np.zeros(begin), 3 * x**2 - 2 * x**3, np.ones(bins - end)])


class HighPass(nn.Module):
    """The band above a cutoff, of whole signals.

    Args:
        share: the cutoff, as a share of the Nyquist frequency.
        method: "matmul" (real numbers only) or "fft".

    Shape: (B, T) -> (B, T)
    """

    def __init__(self, share: float, method: SpectralMethod) -> None:
        super().__init__()
        self.share, self.method = share, method

    def extra_repr(self) -> str:
        return f"{self.share}, {self.method}"

    def forward(self, x: Tensor) -> Tensor:
        samples = x.shape[1]
        if samples == 0:
            return x
        if self.method == "fft":
            gains = _on(x.device, passed(samples, self.share).astype(np.float32))
            return torch.fft.irfft(torch.fft.rfft(x) * gains, samples)
        return self._by_products(x)

    def _by_products(self, x: Tensor) -> Tensor:
        """With t = columns r + p and the bin k = q + rows s, t k / n = r q / rows + p q / n + p s / columns + r s.

        Only half of the q are computed: those of the others are their conjugates, and count by the weights of `_bases`.
        """
        tables = _bases(x.shape[1], self.share)
        row_cos, row_sin, turn_cos, turn_sin, cos, sin, gains = (_on(x.device, one) for one in tables)
        blocks = x.reshape(x.shape[0], -1, cos.shape[0])
        real, imag = torch.matmul(row_cos, blocks), -torch.matmul(row_sin, blocks)
        real, imag = real * turn_cos + imag * turn_sin, imag * turn_cos - real * turn_sin
        real, imag = (
            torch.matmul(real, cos) + torch.matmul(imag, sin),
            torch.matmul(imag, cos) - torch.matmul(real, sin),
        )
        real, imag = real * gains, imag * gains
        real, imag = (
            torch.matmul(real, cos) - torch.matmul(imag, sin),
            torch.matmul(imag, cos) + torch.matmul(real, sin),
        )
        real, imag = real * turn_cos - imag * turn_sin, imag * turn_cos + real * turn_sin
        back = torch.matmul(row_cos.T, real) - torch.matmul(row_sin.T, imag)
        return back.reshape(x.shape)


def _on(device: torch.device, values: NDArray[np.float32]) -> Tensor:
    tensor = torch.from_numpy(values)
    return tensor if device == CPU else tensor.to(device)


@lru_cache(maxsize=2)
def _bases(samples: int, share: float) -> tuple[NDArray[np.float32], ...]:
    """What `HighPass._by_products` multiplies by: computed in float64 of angles that are reduced as integers.

    Shape: cos, sin of rows (Q, rows), of turns (Q, columns), of columns (columns, columns), gains (Q, columns)
    """
    columns = math.gcd(samples, _COLUMNS)
    rows = samples // columns
    q, r, p = np.arange(rows // 2 + 1), np.arange(rows), np.arange(columns)
    bins = q[:, None] + rows * p
    weights = np.where((q == 0) | (2 * q == rows), 1.0, 2.0)[:, None] / samples
    gains = passed(samples, share)[np.minimum(bins, samples - bins)] * weights
    angles = (np.outer(q, r) % rows / rows, np.outer(q, p) / samples, np.outer(p, p) % columns / columns)
    waves = [wave(2 * np.pi * angle) for angle in angles for wave in (np.cos, np.sin)]
    return tuple(one.astype(np.float32) for one in (*waves, gains))
