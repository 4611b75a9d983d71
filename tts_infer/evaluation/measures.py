"""The measures of a copy: how each is shown, and how each is computed from the original and its copy."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from torch import Tensor

from tts_infer.config import MelConfig
from tts_infer.dsp.mel import log_mel_error_db
from tts_infer.errors import InputError, MissingPackageError
from tts_infer.evaluation.intervals import Interval
from tts_infer.evaluation.metrics import (
    PERCEPTUAL_RATE,
    Samples,
    level_difference_db,
    mel_cepstral_distortion_db,
    mr_stft_db,
    pesq_wb,
    pulse_ratio,
    short_stft_db,
    stoi,
)
from tts_infer.evaluation.pitch import PitchTrack, PitchTracker, periodicity_error, track_pitch, voicing_f1
from tts_infer.io.audio import AudioClip, resample


@dataclass(frozen=True)
class Measure:
    """How a measure is shown. `best` is the value of a perfect copy, or the better end of the scale."""

    key: str
    title: str
    unit: str
    digits: int
    best: Literal["high", "low", "0", "1"]
    meaning: str

    @property
    def name(self) -> str:
        """The title with the unit."""
        return f"{self.title} ({self.unit})" if self.unit else self.title

    def text(self, value: float | None, sign: Literal["", "+"] = "") -> str:
        """A value in the digits of this measure; "-" if there is none. With sign "+", positive values have a sign."""
        return "-" if value is None else f"{value:{sign}.{self.digits}f}".replace("-", "−")

    def interval_text(self, interval: Interval | None, *, difference: bool = False) -> str:
        """A mean and the half width of its interval. Differences and measures that are best at 0 have a sign."""
        if interval is None:
            return "-"
        mean = self.text(interval.mean, "+" if difference or self.best == "0" else "")
        return mean if interval.half_width is None else f"{mean} ± {self.text(interval.half_width)}"


MEASURES = (
    Measure("pesq_wb", "PESQ", "MOS", 2, "high", "wide band, ITU-T P.862.2, at 16 kHz: 1 to 4.64"),
    Measure("stoi", "STOI", "", 3, "high", "intelligibility, at 16 kHz: at most 1"),
    Measure("log_mel_error_db", "Log-mel", "dB", 2, "low", "mean absolute difference, in the vocoder's convention"),
    Measure("log_mel_l1", "Log-mel L1", "Np", 3, "low", "the same in units of the log-mel, natural logarithm"),
    Measure("mr_stft_db", "MR-STFT", "dB", 2, "low", "mean absolute difference, windows of 512, 1024, 2048"),
    Measure("short_stft_db", "STFT 5 ms", "dB", 2, "low", "the same with one window of 5.3 ms"),
    Measure("mcd_db", "MCD", "dB", 2, "low", "mel cepstral distortion, c1 to c13 of an 80-band log-mel at 16 kHz"),
    Measure("periodicity_error", "Periodicity", "", 3, "low", "root mean square error, as in the Vocos paper"),
    Measure("vuv_f1", "V/UV F1", "", 3, "high", "voiced against unvoiced frames, as in the Vocos paper"),
    Measure("pulse_ratio", "Pulse ratio", "", 2, "1", "peakiness of the 1.5 to 4 kHz envelope, copy to original"),
    Measure("level_db", "Level", "dB", 2, "0", "root mean square, copy to original"),
)


class Signal:
    """A signal. What several measures need of it is computed once.

    Shape: samples of (T,)
    """

    def __init__(self, samples: Samples, sample_rate: int, tracker: PitchTracker) -> None:
        self.samples = samples
        self.sample_rate = sample_rate
        self._tracker = tracker

    @cached_property
    def at_16k(self) -> Samples:
        if not len(self.samples):
            return self.samples
        return resample(AudioClip(self.samples, self.sample_rate), PERCEPTUAL_RATE).samples

    @cached_property
    def track(self) -> PitchTrack:
        if self._tracker == "none":
            raise MissingPackageError("no pitch tracker was asked for", code="no-pitch-tracker")
        return track_pitch(self.at_16k, self._tracker)


def measure(
    original: Signal, copy: Signal, mels: tuple[Tensor, Tensor] | None, config: MelConfig
) -> tuple[dict[str, float | None], dict[str, str]]:
    """Compute every measure over the samples that both signals have.

    Args:
        original, copy: at one sample rate. A copy is shorter than its original by less than a hop.
        mels: the log-mels of both; None if the copy is too short for one frame.
        config: the convention of the mels.

    Returns:
        The value of each measure, None if it is not defined; and for each measure that needs a package that is not
        installed, the reason.
    """
    rate = original.sample_rate
    x, y = _common(original.samples, copy.samples)
    x16, y16 = _common(original.at_16k, copy.at_16k)
    computed: dict[str, Callable[[], float]] = {
        "pesq_wb": lambda: pesq_wb(x16, y16),
        "stoi": lambda: stoi(x16, y16),
        "log_mel_error_db": lambda: _log_mel_error(mels, config),
        "log_mel_l1": lambda: _log_mel_error(mels, config) / config.db_per_unit,
        "mr_stft_db": lambda: mr_stft_db(x, y),
        "short_stft_db": lambda: short_stft_db(x, y, rate),
        "mcd_db": lambda: mel_cepstral_distortion_db(x16, y16),
        "periodicity_error": lambda: periodicity_error(original.track, copy.track),
        "vuv_f1": lambda: voicing_f1(original.track, copy.track),
        "pulse_ratio": lambda: pulse_ratio(x, y, rate),
        "level_db": lambda: level_difference_db(x, y),
    }
    values: dict[str, float | None] = {}
    missing: dict[str, str] = {}
    for key, compute in computed.items():
        try:
            value = compute()
        except MissingPackageError as error:
            missing[key], value = str(error), math.nan
        values[key] = value if math.isfinite(value) else None
    return values, missing


def _common(first: Samples, second: Samples) -> tuple[Samples, Samples]:
    samples = min(len(first), len(second))
    return first[:samples], second[:samples]


def _log_mel_error(mels: tuple[Tensor, Tensor] | None, config: MelConfig) -> float:
    try:
        return math.nan if mels is None else log_mel_error_db(*mels, config)
    except InputError as error:
        if error.code != "mels-incomparable":  # that is: no common frame
            raise
        return math.nan
