"""A-weighting: a filter that hears as the ear does, for losses that should."""

from __future__ import annotations

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from tts_infer.dsp import register_constant

# Poles of the analog filter in Hz, and its gain at 1 kHz in dB: IEC/CD 1672.
_POLES_HZ = (20.598997, 20.598997, 107.65265, 737.86223, 12194.217, 12194.217)
_GAIN_DB = 1.9997
_POINTS = 512  # of the response that the filter is fitted to
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(4)


def a_weighting_taps(sample_rate: float, taps: int = 101) -> NDArray[np.float64]:
    """A symmetric FIR filter, nearest to the response of the A-weighting by least squares.

    The response is known at 512 points; between points 2 i and 2 i + 1 it is a straight line. The error is integrated
    over these 256 bands, and not over the gaps between them.

    Shape: (taps,), taps odd
    Source: auraloss 0.4 perceptual.py FIRFilter, which uses scipy.signal's bilinear, freqz and firls.
    """
    turns = np.pi * np.arange(_POINTS) / _POINTS
    s = 2j * sample_rate * np.tan(turns / 2)  # the bilinear transform
    poles = 2 * np.pi * np.array(_POLES_HZ)
    response = np.abs(poles[-1] ** 2 * 10 ** (_GAIN_DB / 20) * s**4 / np.prod(s[:, None] + poles, axis=1))
    inside = (1 + _NODES) / 2  # Gauss's points of a band from 0 to 1
    start, step = turns[0::2, None], np.diff(turns[:2])
    low, high = response[0::2, None], response[1::2, None]
    where, wanted = (start + inside * step).ravel(), (low + inside * (high - low)).ravel()
    weights = np.sqrt(np.tile(_WEIGHTS, _POINTS // 2))
    waves = np.cos(np.outer(where, np.arange(taps // 2 + 1)))
    half, *_ = np.linalg.lstsq(waves * weights[:, None], wanted * weights, rcond=None)
    return np.concatenate([half[:0:-1] / 2, half[:1], half[1:] / 2])


class AWeighting(nn.Module):
    """The A-weighting as a filter of 101 taps.

    Args:
        sample_rate: of the audio.

    Shape: (B, T) -> (B, T)
    """

    taps: Tensor

    def __init__(self, sample_rate: float) -> None:
        super().__init__()
        register_constant(self, "taps", a_weighting_taps(sample_rate)[None, None])

    def forward(self, audio: Tensor) -> Tensor:
        return F.conv1d(audio[:, None], self.taps, padding=self.taps.shape[2] // 2)[:, 0]
