"""What a filterbank that the field uses looks like through other eyes: judges of the wrong mels that it is given.

A judge knows one kind of wrong mel, and is asked two questions. Is the mel typical of its kind: do the statistics of
all bands lie where those of its kind lie? And do they speak for its kind more than for right mels? Both answers must
be yes. What is unlike speech is not typical of any kind, so sounds that nobody has thought of raise no alarm.

What tells kinds apart is physics. The wider a filter, the more bins of the spectrum it averages, so the less its band
fluctuates: `bend`, band by band. How much neighbours share depends on their overlap in bins: `likeness`. Harmonics
leave ripples in the bands that part them: `roughness`. What single frames say is summed up by a `listener`. The files
are made by `python -m benchmarks.conventions_fit`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from tts_infer.config import MelConfig
from tts_infer.dsp.conventions import CONVENTIONS
from tts_infer.dsp.evidence import scale_values
from tts_infer.dsp.fingerprints import rivals
from tts_infer.dsp.listener import Listener
from tts_infer.dsp.mel_statistics import Array, Statistics

FOLDER = Path(__file__).parent.parent / "assets" / "conventions"
# A statistic that lies further off its mean than this many deviations counts as this many.
FAR = 3.0
ARRAYS = ("mean", "deviation", "weights", "strangeness", "bias", "limit", "least", "most")
LISTENER = ("hidden", "offsets", "kinds", "biases")
FILTERBANK = "filterbank"
# Frames that must sound.
LEAST_SOUNDING = 32


@dataclass(frozen=True)
class Judge:
    """What is known of one kind of wrong mel.

    Args:
        kind: "power", "log10", or FILTERBANK and a number in `rivals`.
        mean, precision: of each statistic, over mels of that kind; precision is 1 / deviation. Shape: (values,)
        weights: what a statistic says for that kind. Shape: (values,)
        strangeness: what the mean square of deviations says.
        bias: the sum that is needed.
        limit: mean square of deviations that is typical still.
        least, most: between which fluctuation and curvature are typical.
    """

    kind: str
    mean: Array
    precision: Array
    weights: Array
    strangeness: float
    bias: float
    limit: float
    least: tuple[float, float]
    most: tuple[float, float]

    def may_be(self, fluctuation: float, curvature: float) -> bool:
        """Whether the mel bends as much as those of this kind do; most right mels do not."""
        return self.least[0] < fluctuation < self.most[0] and self.least[1] < curvature < self.most[1]

    def score(self, values: Array) -> float:
        """Above 0: a mel of this kind. Shape: (values,)"""
        off = (values - self.mean) * self.precision
        np.minimum(np.maximum(off, -FAR, out=off), FAR, out=off)
        strange = float(off @ off) / len(off)
        if strange > self.limit:
            return -math.inf
        return float(off @ self.weights) + self.strangeness * strange - self.bias


@dataclass(frozen=True)
class Judges:
    """All judges of one filterbank, and the listener, to whom all of them listen."""

    config: MelConfig
    listener: Listener
    all: tuple[Judge, ...]

    def __call__(self, given: Statistics) -> tuple[str, MelConfig | None] | None:
        """The kind of wrong mel that this one is, and its filterbank if that is what differs; None: it may be right."""
        nature = given.fluctuation, given.curvature
        asked = [judge for judge in self.all if judge.may_be(*nature)]
        if not asked or given.frames.shape[1] < LEAST_SOUNDING:
            return None
        values = curves(given, self.config, self.listener(given.ripples))
        best, kind = 0.0, None
        for judge in asked:
            score = judge.score(values)
            best, kind = (score, judge.kind) if score > best else (best, kind)
        if kind is None or not kind.startswith(FILTERBANK):
            return None if kind is None else (kind, None)
        return FILTERBANK, rivals(self.config)[int(kind.removeprefix(FILTERBANK))]


def curves(given: Statistics, config: MelConfig, heard: Array) -> Array:
    """All statistics by band, in logarithms, then sizes and levels, then what the listener says of each kind.

    Shape: (kinds,) -> (values,)
    """
    bands = np.concatenate([given.bend, given.roughness, given.change])
    logs = np.log(np.maximum(bands, np.float32(1e-3), out=bands), out=bands)
    sizes = np.array(scale_values(given, config), np.float32)
    return np.concatenate([given.level - np.float32(given.mean), logs, given.likeness, sizes, heard])


@lru_cache(16)
def judges_of(config: MelConfig) -> Judges | None:
    """The judges of a filterbank; None: it has none."""
    wanted = _filterbank(config)
    paths = (FOLDER / f"{name}.npz" for name, known in CONVENTIONS.items() if _filterbank(known) == wanted)
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        return None
    with np.load(path, allow_pickle=False) as file:
        columns = [file[name].astype(np.float32) for name in ARRAYS]
        names = file["names"].tolist()
        listener = Listener(*(file[name].astype(np.float32) for name in LISTENER))
    judges = []
    for kind, mean, deviation, weights, *numbers, least, most in zip(names, *columns, strict=True):
        strangeness, bias, limit = map(float, numbers)
        ends = tuple(least.tolist()), tuple(most.tolist())
        judges.append(Judge(kind, mean, 1 / deviation, weights, strangeness, bias, limit, *ends))
    return Judges(config, listener, tuple(judges))


def _filterbank(config: MelConfig) -> MelConfig:
    """What of a convention its bands depend on."""
    f_max = config.f_max or config.sample_rate / 2
    win_length = config.win_length or config.n_fft
    return replace(config, f_max=f_max, win_length=win_length, power_eps=0.0, padding="same", log_floor=1e-5)
