"""The lowest bins of a spectrum: the spectrum of the same signal at a lower rate, of which all sizes are a fraction."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from tts_infer.config import MelConfig
from tts_infer.dsp.frames import hann_window
from tts_infer.dsp.istft import ISTFT
from tts_infer.dsp.mel import mel_filterbank

# A lowest band ends no lower, in Hz: below are the strongest harmonics of a voice.
_LEAST_HZ = 1300
# The width of the main lobe of a Hann window of n_fft samples, in bins. Nearer to its end, the band has bins of peaks
# that may lie above it.
_LOBE = 4


@dataclass(frozen=True)
class Band:
    """The lowest bins, and the filters of a mel that see nothing else.

    Attributes:
        divisor: of the rate, and of all sizes.
        bins: how many are computed. The last one is at half of the lower rate.
        mels: how many filters.
        edge: how many bins are taken: those that no other filter sees, and no peak from above reaches.
    """

    divisor: int
    bins: int
    mels: int
    edge: int

    @classmethod
    @lru_cache(maxsize=16)  # every refinement of a vocoder asks for it
    def lowest(cls, mel: MelConfig) -> Band | None:
        """The band of a convention; None if its sizes cannot be divided, or nothing could be taken from it."""
        sizes, filters = (mel.n_fft, mel.hop_length, mel.win_length or mel.n_fft), mel_filterbank(mel)
        divisor = 1
        while mel.sample_rate / (4 * divisor) >= _LEAST_HZ and _divides(2 * divisor, *sizes):
            divisor *= 2
        n_fft, _, win_length = sizes
        bins = n_fft // (2 * divisor) + 1
        end = max(0, bins - 1 - math.ceil(_LOBE * n_fft / win_length))
        mels = _first(filters[end:].any(axis=0))
        edge = min(end, _first(filters[:, mels:].any(axis=1)))
        return None if divisor == 1 or mels == 0 or edge == 0 else cls(divisor, bins, mels, edge)

    def istft(self, istft: ISTFT) -> ISTFT:
        """The inverse transform at the lower rate."""
        n_fft, hop_length, win_length = (
            size // self.divisor for size in (istft.n_fft, istft.hop_length, istft.win_length)
        )
        return ISTFT(n_fft, hop_length, win_length, istft.padding, istft.method)


def _first(marks: Any) -> int:
    """Index of the first mark; how many there are if none is set. Shape: (n,)"""
    return int(np.argmax(marks)) if marks.any() else len(marks)


def _divides(divisor: int, n_fft: int, hop_length: int, win_length: int) -> bool:
    """Whether a signal at the lower rate has the same frames, under the same window."""
    if n_fft % (2 * divisor) or hop_length % divisor or win_length % divisor:
        return False
    lower = hann_window(win_length // divisor, n_fft // divisor)
    return bool(np.allclose(lower, hann_window(win_length, n_fft)[::divisor], atol=1e-12))
