"""What speaks for a wrong scale or a wrong filterbank: few statistics, weighed.

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
        Weighing((29.63, -15.33, 8.48, 2.22, -9.62, -2.06, 3.38, -2.79), 5.79),
        Weighing((16.62, -5.37, 8.47, 0.76, -12.89, -1.6, 4.68, -4.85), -12.4),
    ),
    "log10": (
        Weighing((-12.2, 5.49, 5.95, -16.75, 1.5, 1.95, -5.89, 6.67), -11.66),
        Weighing((-5.69, 2.12, 1.78, -3.58, 0.9, 2.23, -3.51, 6.72), 20.36),
    ),
}
# Our filterbank -> the other one: (mel scale, mel scale). The values are those of `filterbank_values`.
FILTERBANKS: dict[tuple[str, str], Weighing] = {
    ("htk", "slaney"): Weighing((13.86, 34.31, 0.29, -0.7), -11.55),
    ("slaney", "htk"): Weighing((34.97, 28.39, 2.28, 0.49), 0.6),
    ("slaney", "slaney"): Weighing((139.52, 31.45, 0.81, -0.7), -9.6),  # HiFi-GAN's and BigVGAN's 80 bins
}


def may_be_of_scale(kind: str, given: Statistics) -> bool:
    """The gates of `SCALES`.

    The logarithm of a noisy magnitude fluctuates from frame to frame by an amount that depends on nothing but the
    logarithm's base: the second difference over time is 0.4 on average for natural logarithms of magnitudes, twice
    that for powers, 0.43 of that for log10. Smoothed mels bend less than they change; clicks and tones bend more.
    """
    if kind == "power":
        return 0.88 < given.curvature < 1.5 and 0.45 < given.fluctuation < 1.3
    if not (0.97 < given.curvature < 1.63 and 0.1 < given.fluctuation < 0.31 and given.roughness < 0.27):
        return False
    return given.modulation > 0.2 * given.deviation and given.deviation < 1.5  # stationary sounds say nothing


def may_be_of_other_filterbank(given: Statistics) -> bool:
    """The gate of `FILTERBANKS`: held notes, which may miss every mel bin, are outside."""
    return given.curvature < 1.62 and 0.2 < given.fluctuation < 0.55


def scale_values(given: Statistics, config: MelConfig) -> tuple[float, ...]:
    """Sizes, in logarithms, and levels below the ceiling. A wrong scale multiplies all sizes by one number."""
    top = ceiling(config)
    sizes = given.change, given.bend, given.upper_bend, given.roughness, given.deviation, given.modulation
    return (*(math.log(max(size, 1e-3)) for size in sizes), given.high - top, given.mean - top)


def filterbank_values(given: Statistics, config: MelConfig) -> dict[MelConfig, tuple[float, ...]]:
    """For each rival: what harmonics and irregular low filters say, and levels below our ceiling."""
    others = rivals(config)
    pitch = harmonics.preference(given.frames, config, others) if others else []
    cheap = _cheap_values(given, config)
    return {other: (even, *cheap[other]) for other, even in zip(others, pitch, strict=True)}


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
    bends, heard = bends_of(given.profile, given.low)
    top = ceiling(config)
    levels = given.high - top, given.mean - top
    return {other: (irregularity(bends, heard, config, other), *levels) for other in rivals(config)}
