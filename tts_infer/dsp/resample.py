"""Audio at twice or half its sample rate, by the windowed sinc of torchaudio, from operators that every device has."""

from __future__ import annotations

import math

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from tts_infer.dsp import register_constant

_ZEROS, _ROLLOFF = 6, 0.99  # zero crossings on each side, and the cutoff as a share of the lower Nyquist frequency


def taps(old: int, new: int) -> tuple[NDArray[np.float64], int]:
    """The filters from `old` to `new` samples, and how many samples before the first one they reach.

    Shape: -> (new, taps)
    Source: pytorch/audio functional.py _get_sinc_resample_kernel, by its defaults.
    """
    base = min(old, new) * _ROLLOFF
    reach = math.ceil(_ZEROS * old / base)
    t = (np.arange(-reach, reach + old)[None] / old - np.arange(new)[:, None] / new) * base
    t = t.clip(-_ZEROS, _ZEROS)
    return np.sinc(t) * np.cos(t * math.pi / _ZEROS / 2) ** 2 * base / old, reach


class Resampled(nn.Module):
    """Audio at `new / old` times its sample rate.

    Args:
        old, new: without a common factor.

    Shape: (B, T) -> (B, ceil(T new / old))
    Source: torchaudio.functional.resample, by its defaults.
    """

    taps: Tensor

    def __init__(self, old: int, new: int) -> None:
        super().__init__()
        self.old, self.new = old, new
        filters, self.reach = taps(old, new)
        register_constant(self, "taps", filters[:, None])

    def extra_repr(self) -> str:
        return f"{self.old} to {self.new}"

    def forward(self, audio: Tensor) -> Tensor:
        padded = F.pad(audio[:, None], (self.reach, self.reach + self.old))
        found = F.conv1d(padded, self.taps, stride=self.old).transpose(1, 2).flatten(1)
        return found[:, : -(-audio.shape[1] * self.new // self.old)]
