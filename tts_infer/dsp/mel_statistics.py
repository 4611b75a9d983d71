"""What a mel is judged by when it is compared with a convention: statistics of a subset of its frames."""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float32]

# Fewer frames than this (a third of a second) say too little about anything but the range.
LEAST_FRAMES = 32
# Groups of three neighbouring frames that a longer mel is judged by.
GROUPS = 64
# Frames that must sound.
_LEAST_SOUNDING = 20
# A frame sounds if its mean is above this part of the way from the lowest value to the loudest frame.
_ACTIVE = 0.3


class Statistics:
    """What a mel is judged by, in natural logarithms of magnitudes if its convention is right.

    What most mels need is computed at once, the rest when it is asked for. Of mels with too few frames that sound,
    fluctuation, curvature, modulation and profile are unknown: 0 or None.

    Attributes:
        low, high: the least and the largest value.
        fluctuation: typical second difference over time.
        curvature: typical second difference over typical first difference, in the low bins.

    Shape: groups of (3, n_mels, n), or (1, n_mels, n) of short mels
    """

    def __init__(self, groups: Array, low: float, high: float) -> None:
        self.low, self.high = low, high
        self._first = groups[0]
        self.fluctuation = self.curvature = 0.0
        self._sounding: Array | None = None
        if len(groups) == 1:
            return
        over_time = self._over_time
        active = over_time > low + _ACTIVE * (float(over_time.max()) - low)
        count = int(np.count_nonzero(active))
        if count >= _LEAST_SOUNDING:
            sounding = groups if count == len(active) else groups[:, :, active]
            self._sounding = sounding[0]
            self.fluctuation, self.curvature = _fluctuation(sounding)

    @property
    def range(self) -> float:
        return self.high - self.low

    @cached_property
    def _over_time(self) -> Array:
        """Mean over bins. Shape: (n,)"""
        return np.asarray(self._first.mean(0))

    @property
    def modulation(self) -> float:
        """Deviation over time of the mean over bins."""
        return 0.0 if self._sounding is None else float(self._over_time.std())

    @cached_property
    def mean(self) -> float:
        return float(self._first.mean())

    @cached_property
    def deviation(self) -> float:
        return float(self._first.std())

    @property
    def profile(self) -> Array | None:
        """Mean over time. Shape: (n_mels,)"""
        return None if self._sounding is None else np.asarray(self._sounding.mean(1))


def groups_of(mel: Tensor) -> Array:
    """Three neighbouring frames of about `GROUPS` places; of short mels all frames. On the CPU.

    Shape: (B, C, L) -> (B, 3, C, n), or (B, 1, C, L) if L < LEAST_FRAMES
    """
    frames = mel.shape[2]
    step = max(1, frames // GROUPS)
    short = frames < LEAST_FRAMES
    parts = mel.unsqueeze(1) if short else torch.stack([mel[:, :, i : frames - 2 + i : step] for i in range(3)], 1)
    groups: Array = parts.cpu().numpy()
    return groups


def _fluctuation(groups: Array) -> tuple[float, float]:
    """Typical second difference over time, and its ratio to the first difference in the low bins.

    Medians, so that a few onsets do not count; without values that do not change, which lie at the log floor.
    """
    quarter, half = groups.shape[1] // 4, groups.shape[1] // 2
    first, second, third = groups[:, :quarter]
    change = second - first
    low = _typical(third - second - change)
    first, second, third = groups[:, half::2]  # every other bin says as much
    high = _typical(first - 2 * second + third) or low  # all at the log floor
    return math.sqrt(low * high), low / max(_typical(change), 1e-9)


def _typical(values: Array) -> float:
    sizes = np.abs(values)
    moving = sizes[sizes > 1e-5]
    if moving.size <= sizes.size / 2:
        return 0.0
    moving.partition(moving.size // 2)  # as np.median, which takes twice as long
    return float(moving[moving.size // 2])
