"""By which filterbank are the harmonics of a mel evenly spaced? A voice's are even in hertz, so only by the right one.

A filterbank says where its bins lie in hertz. A frame of a voiced sound has maxima at the multiples of its pitch: along
its low bins it follows cos(2 pi hz / pitch). Read by another filterbank, the spacing widens or narrows, and no pitch
fits as well. Sounds without a pitch fit both alike.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from tts_infer.config import MelConfig
from tts_infer.dsp.mel import filter_centres

Array = NDArray[np.float32]

# Bins above the first, which lies at the lowest pitches. Higher filters are too wide to part harmonics.
BINS = slice(1, 44)
# Pitches in hertz, of low and high voices.
_PITCHES = np.geomspace(75, 330, 40)
# What a pitch need not explain: a polynomial of this degree along the bins.
_TREND = 3
# Part of a frame's energy that no pitch explains, at least; it keeps one frame from deciding alone.
_REST = 0.02
# What `preference` does not exceed for the voices that we have heard.
MOST = 0.6


def preference(frames: Array, own: MelConfig, others: tuple[MelConfig, ...]) -> list[float]:
    """How much better each other filterbank explains the harmonics than our own, as a mean log ratio over frames.

    Args:
        frames: log-mel frames that sound. Shape: (n_mels, n)
        own, others: filterbanks of n_mels.
    """
    low = frames[BINS]
    parts = np.square(_projections(own, others) @ low)
    trend = _TREND + 1
    energy = np.einsum("bn,bn->n", low, low) - parts[:trend].sum(0) + np.float32(1e-9)
    best = parts[trend:].reshape(1 + len(others), len(_PITCHES), -1).max(1)
    rests = np.log(1 + _REST - np.minimum(best / energy, 1)).mean(1)  # of what the best pitch leaves
    return [float(rests[0] - rest) for rest in rests[1:]]


@lru_cache(64)
def _projections(own: MelConfig, others: tuple[MelConfig, ...]) -> Array:
    """Unit vectors: the trend, then for each filterbank one cosine for each pitch. Shape: (vectors, bins)"""
    rows: list[NDArray[np.float64]] = []
    for config in (own, *others):
        hz = filter_centres(config)[BINS]
        trend, _ = np.linalg.qr(np.vander(np.linspace(-1, 1, len(hz)), _TREND + 1))
        combs = np.cos(2 * np.pi * hz[:, None] / _PITCHES)
        combs -= trend @ (trend.T @ combs)
        rows += [*([] if rows else [trend.T]), (combs / np.linalg.norm(combs, axis=0)).T]
    return np.concatenate(rows).astype(np.float32)
