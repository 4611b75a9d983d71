"""What speaks for a wrong scale or a wrong filterbank: few statistics, weighed, for filterbanks without `judges`.

Each weighing is linear, and holds only within a gate: outside of it are sounds that say nothing about the question,
such as tones. The weights were fitted by `python -m benchmarks.conventions_fit` on speech and on synthetic sounds; 0 is
above all right mels there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from tts_infer.config import MelConfig
from tts_infer.dsp import harmonics
from tts_infer.dsp.fingerprints import bends_of, ceiling, irregularity, rivals
from tts_infer.dsp.mel_statistics import Statistics


@dataclass(frozen=True)
class Weighing:
    """A linear function of statistics; above 0, the mel is wrong."""

    weights: tuple[float, ...]
    bias: float

    def __call__(self, values: tuple[float, ...]) -> float:
        return self.bias + sum(weight * value for weight, value in zip(self.weights, values, strict=True))


# For each wrong scale: filters without norm, and of equal area. The values are those of `scale_values`.
SCALES: dict[str, tuple[Weighing, Weighing]] = {
    "power": (
        Weighing((32.72, -19.6, 2.52, 1.77, -9.09, -2.66, 3.77, -3.41), -9.14),
        Weighing((27.42, -16.67, 4.41, 1.1, -6.18, 0.92, 3.92, -5.26), -30.66),
    ),
    "log10": (
        Weighing((-1.18, 4.75, -1.12, -8.55, 2.63, 2.44, -6.41, 6.94), 13.39),
        Weighing((-1.47, -10.84, 6.17, -7.71, 0.74, 2.24, -1.82, 8.25), 25.76),
    ),
}
# Our filterbank -> the other one: (mel scale, mel scale). The values are those of `filterbank_values`.
FILTERBANKS: dict[tuple[str, str], Weighing] = {
    ("htk", "slaney"): Weighing((17.99, 44.66, 0.09, -0.35), -9.35),
    ("slaney", "htk"): Weighing((61.22, 12.57, 4.17, 1.38), 4.18),
}


def may_be_of_scale(kind: str, given: Statistics) -> bool:
    """The gates of `SCALES`.

    The logarithm of a noisy magnitude fluctuates from frame to frame by an amount that depends on nothing but the
    logarithm's base: the second difference over time is 0.4 on average for natural logarithms of magnitudes, twice
    that for powers, 0.43 of that for log10. Smoothed mels bend less than they change; clicks and tones bend more.
    """
    if kind == "power":
        return 0.88 < given.curvature < 1.6 and 0.4 < given.fluctuation < 1.5
    if not (1.03 < given.curvature < 1.63 and 0.1 < given.fluctuation < 0.31):
        return False
    return given.modulation > 0.2 * given.deviation and given.deviation < 1.5  # stationary sounds say nothing


def may_be_of_other_filterbank(given: Statistics) -> bool:
    """The gate of `FILTERBANKS`: held notes, which may miss every mel bin, are outside."""
    return given.curvature < 1.62 and 0.2 < given.fluctuation < 0.55


def scale_values(given: Statistics, config: MelConfig) -> tuple[float, ...]:
    """Sizes, in logarithms, and levels below the ceiling. A wrong scale multiplies all sizes by one number."""
    top = ceiling(config)
    return (*(math.log(max(size, 1e-3)) for size in given.sizes), given.high - top, given.mean - top)


def filterbank_values(given: Statistics, config: MelConfig) -> dict[MelConfig, tuple[float, ...]]:
    """For each rival: what harmonics and irregular low filters say, and levels below our ceiling."""
    others = rivals(config)
    pitch = harmonics.preference(given.frames, config, others) if others else []
    cheap = _cheap_values(given, config)
    return {other: (even, *cheap[other]) for other, even in zip(others, pitch, strict=True)}


class Evidence:
    """What is asked of a mel whose filterbank has no judges.

    Args:
        config: the filterbank.
    """

    def __init__(self, config: MelConfig) -> None:
        self._config = config

    def __call__(self, given: Statistics) -> tuple[str, MelConfig | None] | None:
        """The kind of wrong mel that this one is, and its filterbank if that is what differs; None: it may be right."""
        for kind, weighings in SCALES.items():
            if may_be_of_scale(kind, given):
                weigh = weighings[self._config.norm is not None]
                return (kind, None) if weigh(scale_values(given, self._config)) > 0 else None
        rival = other_filterbank(given, self._config)
        return None if rival is None else ("filterbank", rival)


def other_filterbank(given: Statistics, config: MelConfig) -> MelConfig | None:
    """The filterbank of another convention, if it explains the mel clearly better than our own.

    The harmonics are asked only if they could decide: they cost most.
    """
    if not may_be_of_other_filterbank(given):
        return None
    possible: dict[MelConfig, tuple[Weighing, tuple[float, ...]]] = {}
    for other, values in _cheap_values(given, config).items():
        weigh = FILTERBANKS.get((config.mel_scale, other.mel_scale))
        if weigh is not None and weigh((harmonics.MOST, *values)) > 0 and given.high <= ceiling(other) + 1:
            possible[other] = weigh, values
    if not possible:
        return None
    pitch = harmonics.preference(given.frames, config, tuple(possible))
    answers = zip(possible.items(), pitch, strict=True)
    return next((other for (other, (weigh, values)), even in answers if weigh((even, *values)) > 0), None)


def _cheap_values(given: Statistics, config: MelConfig) -> dict[MelConfig, tuple[float, float, float]]:
    bends, heard = bends_of(given.level, given.low)
    top = ceiling(config)
    levels = given.high - top, given.mean - top
    return {other: (irregularity(bends, heard, config, other), *levels) for other in rivals(config)}
