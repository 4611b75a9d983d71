"""What a mel is judged by when it is compared with a convention: statistics of a subset of its frames."""

from __future__ import annotations

import math
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Statistics:
    """What a mel is judged by, in natural logarithms of magnitudes if its convention is right."""

    low: float
    high: float
    mean: float
    deviation: float
    # of the frames that sound; of mels with too few of these they are unknown
    modulation: float = 0.0  # deviation over time of the mean over bins
    fluctuation: float = 0.0  # typical second difference over time
    curvature: float = 0.0  # typical second difference over typical first difference, in the low bins
    profile: NDArray[np.float64] | None = None  # mean over time. Shape: (n_mels,)

    @property
    def range(self) -> float:
        return self.high - self.low


def groups_of(mel: Tensor) -> Array:
    """Three neighbouring frames of up to `GROUPS` places; of short mels all frames. On the CPU.

    Shape: (B, C, L) -> (B, 3, C, n), or (B, 1, C, L) if L < LEAST_FRAMES
    """
    frames = mel.shape[2]
    if frames < LEAST_FRAMES:
        parts = [mel]
    elif frames <= 3 * GROUPS:
        parts = [mel[:, :, i : frames - 2 + i] for i in range(3)]
    else:
        step = frames // GROUPS
        parts = [mel[:, :, i : step * GROUPS : step] for i in range(3)]
    groups: Array = torch.stack(parts, 1).cpu().numpy()
    return groups


def statistics(groups: Array, low: float, high: float) -> Statistics:
    """Shape: (3, n_mels, n), or (1, n_mels, n) of short mels, of which only range, mean and deviation are known"""
    first = groups[0]
    mean, deviation = float(first.mean()), float(first.std())
    over_time = first.mean(0)
    active = over_time > low + _ACTIVE * (float(over_time.max()) - low)
    if len(groups) == 1 or active.sum() < _LEAST_SOUNDING:
        return Statistics(low, high, mean, deviation)
    sounding = groups[:, :, active]
    fluctuation, curvature = _fluctuation(sounding)
    profile = sounding[0].mean(1, dtype=np.float64)
    modulation = float(over_time.std())
    return Statistics(low, high, mean, deviation, modulation, fluctuation, curvature, profile)


def _fluctuation(groups: Array) -> tuple[float, float]:
    """Typical second difference over time, and its ratio to the first difference in the low bins.

    Medians, so that a few onsets do not count; without values that do not change, which lie at the log floor.
    """
    quarter, half = groups.shape[1] // 4, groups.shape[1] // 2
    first, second, third = groups
    changes = np.abs(second - first)
    bends = np.abs(first - 2 * second + third)
    low = _typical(bends[:quarter])
    high = _typical(bends[half:]) or low  # all at the log floor
    return math.sqrt(low * high), low / max(_typical(changes[:quarter]), 1e-9)


def _typical(values: Array) -> float:
    moving = values[values > 1e-5]
    return float(np.median(moving)) if moving.size > values.size / 2 else 0.0
