"""What a mel is judged by when it is compared with a convention: statistics of a subset of its frames."""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

# Fewer frames than this (a third of a second) say too little about anything but the range.
LEAST_FRAMES = 32
# Places of about this number that a longer mel is judged by, each of three neighbouring frames.
PLACES = 48
# Frames that must sound.
_LEAST_SOUNDING = 20
# A frame sounds if its mean is above this part of the way from the lowest value to the loudest frame.
_ACTIVE = 0.3
# If this part of them sounds, all are taken, which needs no copies.
_NEARLY_ALL = 0.9
# Values that change by less lie at the log floor.
_STILL = 1e-5


class Statistics:
    """What a mel is judged by, in natural logarithms of magnitudes if its convention is right.

    Typical values are medians, so that a few onsets do not count.

    Attributes:
        low, high: the least and the largest value.
        heard: whether enough frames sound. If not, `frames` are all frames, and there are no typical values.
        frames: the frames that sound. Shape: (n_mels, n)
        mean, deviation: of their values.
        modulation: deviation over time of their mean over bins.
        change: typical first difference over time, in the low bins.
        bend, upper_bend: typical second difference over time, in the low bins and in the upper half.
        roughness: typical difference of neighbouring bins, in the upper half.

    Shape: mel of (n_mels, L)
    """

    def __init__(self, mel: Array, low: float, high: float) -> None:
        self.low, self.high, self.heard = low, high, False
        frames = mel.shape[1]
        short = frames < LEAST_FRAMES
        last, step = (frames, 1) if short else (frames - 2, max(1, round(frames / PLACES)))
        self._mel = mel
        self.frames = np.ascontiguousarray(mel[:, 0:last:step])
        over_time = self.frames.mean(0)
        sounding = over_time > low + _ACTIVE * (float(over_time.max()) - low)
        count = int(np.count_nonzero(sounding))
        self.heard = not short and count >= _LEAST_SOUNDING
        if self.heard and count < _NEARLY_ALL * len(sounding):
            self._listen(mel, np.flatnonzero(sounding) * step)
            over_time = over_time[sounding]
        elif self.heard:
            self._listen(mel, slice(0, last, step))
        self.mean, self.modulation = float(over_time.mean()), float(over_time.std())

    def _listen(self, mel: Array, places: slice | NDArray[np.intp]) -> None:
        """The statistics of the frames that sound, at these places."""
        if not isinstance(places, slice):
            self.frames = mel[:, places]
        quarter, half = len(mel) // 4, len(mel) // 2
        self.change, self.bend = _over_time(mel[:quarter], places)
        self.upper_bend = _over_time(mel[half::2], places)[1] or self.bend  # every other bin says as much
        upper = self.frames[half:]
        self.roughness = _typical(upper[1::2] - upper[: len(upper) // 2 * 2 : 2])

    @property
    def range(self) -> float:
        return self.high - self.low

    @cached_property
    def deviation(self) -> float:
        return float(self.frames.std())

    @cached_property
    def profile(self) -> Array:
        """Mean over time. Shape: (n_mels,)"""
        return np.asarray(self.frames.mean(1))

    @property
    def is_standardised(self) -> bool:
        """Whether mean 0 and deviation 1 are those of all frames, sounding or not."""
        return abs(float(self._mel.mean())) < 0.03 and abs(float(self._mel.std()) - 1) < 0.03

    @property
    def fluctuation(self) -> float:
        """Typical second difference over time, in all bins."""
        return math.sqrt(self.bend * self.upper_bend) if self.heard else 0.0

    @property
    def curvature(self) -> float:
        """The typical second difference over the typical first one. Values that were smoothed over time have less."""
        return self.bend / max(self.change, 1e-9) if self.heard else 0.0


def _over_time(rows: Array, places: slice | NDArray[np.intp]) -> tuple[float, float]:
    """Typical first and second difference over time."""
    if isinstance(places, slice):
        first, second, third = (rows[:, i : places.stop + i : places.step] for i in range(3))
    else:
        first, second, third = (rows[:, places + i] for i in range(3))
    change = second - first
    return _typical(change), _typical(third - second - change)


def _typical(values: Array) -> float:
    """The median size of the values that change; 0 if less than half of them do."""
    sizes = np.abs(values).ravel()
    middle = sizes.size // 2
    sizes.partition(middle)  # as np.median, which takes twice as long
    if sizes[middle] <= _STILL:
        return 0.0
    still = np.count_nonzero(sizes[:middle] <= _STILL)
    if still == 0:
        return float(sizes[middle])
    sizes = sizes[sizes > _STILL]
    sizes.partition(sizes.size // 2)
    return float(sizes[sizes.size // 2])
