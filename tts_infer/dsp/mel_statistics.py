"""What a mel is judged by when it is compared with a convention: statistics of a subset of its frames, band by band."""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

# Fewer frames than this (a third of a second) say too little about anything but the range.
LEAST_FRAMES = 32
# Places of about this number that a longer mel is judged by, each of three neighbouring frames.
PLACES = 96
# Frames that must sound.
_LEAST_SOUNDING = 20
# A frame sounds if its mean is above this part of the way from the lowest value to the loudest frame.
_ACTIVE = 0.3
# If this part of them sounds, all are taken, which needs no copies.
_NEARLY_ALL = 0.9
# Values that change by less lie at the log floor.
_STILL = 1e-5
# Changes above this multiple of the typical one count as that multiple when neighbouring bands are compared.
_MOST = 4.0
# Bands that are narrow enough to show single harmonics, and what second differences over them do not exceed.
RIPPLED, _STEEPEST = 50, 3.0


class Statistics:
    """What a mel is judged by, in natural logarithms of magnitudes if its convention is right.

    A typical size is the square of the mean root of sizes: that of noise is its median, and a few onsets do not count.

    Attributes:
        low, high: the least and the largest value.
        heard: whether enough frames sound. If not, `frames` are all frames, and there are no values by band.
        frames: the frames that sound. Shape: (n_mels, n)
        mean: of their values.
        modulation: deviation over time of their mean over bands.
        level: mean over time of each band. Shape: (n_mels,)
        change: typical first difference over time, in the low quarter of the bands. Shape: (n_mels // 4,)
        bend: typical second difference over time. 0 where most values lie at the log floor. Shape: (n_mels,)
        roughness: typical second difference over bands. Shape: (n_mels - 2,)
        likeness: correlation of the bends of neighbouring bands. Shape: (n_mels - 1,)

    Shape: mel of (n_mels, L)
    """

    def __init__(self, mel: Array, low: float, high: float) -> None:
        self.low, self.high, self.heard = low, high, False
        frames = mel.shape[1]
        short = frames < LEAST_FRAMES
        last, step = (frames, 1) if short else (frames - 2, max(1, round(frames / PLACES)))
        self._mel = mel
        self.frames = np.ascontiguousarray(mel[:, 0:last:step])
        over_time = mean(self.frames, 0)
        sounding = over_time > low + _ACTIVE * (float(over_time.max()) - low)
        count = int(np.count_nonzero(sounding))
        self.heard = not short and count >= _LEAST_SOUNDING
        if self.heard and count < _NEARLY_ALL * len(sounding):
            places = np.flatnonzero(sounding) * step
            self.frames, over_time = mel[:, places], over_time[sounding]
            self._listen(mel[:, places + 1], mel[:, places + 2])
        elif self.heard:
            self._listen(mel[:, 1 : last + 1 : step], mel[:, 2 : last + 2 : step])
        self.mean = float(over_time.sum()) / len(over_time)
        self.modulation = _deviation(over_time, self.mean)

    def _listen(self, second: Array, third: Array) -> None:
        """The statistics by band of the frames that sound, and of the two that follow each of them."""
        first = self.frames
        self._following = second, third
        quarter = len(first) // 4
        bends = third - second
        bends -= second
        bends += first
        sizes = np.abs(bends)
        moving = mean((sizes > _STILL).astype(np.float32))
        ours = np.where(moving > 0.5, moving, np.float32(np.inf))
        self.level = mean(first)
        self.bend = np.square(mean(np.sqrt(sizes, out=sizes)) / ours)
        self.change = np.square(mean(np.sqrt(np.abs(second[:quarter] - first[:quarter]))) / ours[:quarter])
        rough = first[2:] - first[1:-1]
        rough -= first[1:-1]
        rough += first[:-2]
        self.roughness = np.square(mean(np.sqrt(np.abs(rough, out=rough), out=rough)))
        bends *= (1 / np.maximum(self.bend, np.float32(1e-3)))[:, None]
        bends.clip(-_MOST, _MOST, out=bends)
        spread = mean(np.square(bends))
        self.likeness = mean(bends[1:] * bends[:-1]) / (np.sqrt(spread[1:] * spread[:-1]) + np.float32(1e-6))

    @property
    def ripples(self) -> Array:
        """Second differences over the low bands, of the frames that sound and of the two that follow each of them.

        Shape: (3 (RIPPLED - 2), n)
        """
        parts = [np.diff(part[:RIPPLED], 2, axis=0) for part in (self.frames, *self._following)]
        return np.concatenate(parts).clip(-_STEEPEST, _STEEPEST)

    @property
    def range(self) -> float:
        return self.high - self.low

    @cached_property
    def deviation(self) -> float:
        return _deviation(self.frames, self.mean)

    @property
    def is_standardised(self) -> bool:
        """Whether mean 0 and deviation 1 are those of all frames, sounding or not."""
        return abs(float(self._mel.mean())) < 0.01 and abs(float(self._mel.std()) - 1) < 0.01

    @cached_property
    def sizes(self) -> tuple[float, ...]:
        """Typical change, bend, bend of the upper half, roughness of the upper half; deviation and modulation."""
        half, quarter = len(self.bend) // 2, len(self.change)
        change, bend = _overall(self.change), _overall(self.bend[:quarter])
        upper = _overall(self.bend[half:]) or bend
        return change, bend, upper, _overall(self.roughness[half:]), self.deviation, self.modulation

    @property
    def fluctuation(self) -> float:
        """Typical second difference over time, in all bands."""
        return math.sqrt(self.sizes[1] * self.sizes[2]) if self.heard else 0.0

    @property
    def curvature(self) -> float:
        """The typical second difference over the typical first one. Values that were smoothed over time have less."""
        return self.sizes[1] / max(self.sizes[0], 1e-9) if self.heard else 0.0


def mean(values: Array, axis: int = 1) -> Array:
    """The mean over time, or over bands.

    Not as a product with ones: numpy's BLAS computes larger products by threads of its own, which then spin for a while
    and keep cores from torch's. A decode behind the check took three times as long.
    """
    return np.asarray(np.add.reduce(values, axis) * np.float32(1 / values.shape[axis]))


def _deviation(values: Array, mean: float) -> float:
    """As np.std, in a quarter of its time."""
    off = values - np.float32(mean)
    return math.sqrt(float(np.vdot(off, off)) / off.size)


def _overall(sizes: Array) -> float:
    """Their mean, without bands that lie at the log floor; 0 if most bands do."""
    heard = int(np.count_nonzero(sizes))
    return float(sizes.sum()) / heard if heard > len(sizes) / 2 else 0.0
