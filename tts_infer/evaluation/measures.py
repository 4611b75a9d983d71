"""The measures of a copy: what each says, in which range, by which package, and how it is computed."""

from __future__ import annotations

import importlib.metadata
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from tts_infer.dsp.mel import log_mel_error_db
from tts_infer.errors import InputError, MissingPackageError, few, nearest
from tts_infer.evaluation.artefacts import FLOOR_DB, click_db, whistle_db
from tts_infer.evaluation.intervals import Interval
from tts_infer.evaluation.metrics import (
    level_difference_db,
    mel_cepstral_distortion_db,
    mr_stft_db,
    pesq_wb,
    pulse_ratio,
    short_stft_db,
    stoi,
    visqol_speech,
)
from tts_infer.evaluation.pair import Pair
from tts_infer.evaluation.pitch import (
    TRACKER_PACKAGES,
    PitchTracker,
    f0_rmse_cents,
    periodicity_error,
    voicing_f1,
)
from tts_infer.evaluation.speaker import speaker_similarity

OWN = "tts-infer"
_TRACKER = "tracker"
_ADVICE = {"high": "higher is better", "low": "lower is better", "0": "0 is best", "1": "1 is best"}


@dataclass(frozen=True)
class Measure:
    """A measure.

    Args:
        best: the value of a perfect copy, or the better end of the range.
        range: what it can be; infinite where it has no end.
        package: the distribution that computes it; "tracker": that of the pitch tracker.
        compute: NaN where the measure is not defined; raises MissingPackageError without its package.
    """

    key: str
    title: str
    unit: str
    digits: int
    best: Literal["high", "low", "0", "1"]
    range: tuple[float, float]
    package: str
    meaning: str
    compute: Callable[[Pair], float] = field(repr=False)

    @property
    def name(self) -> str:
        """The title with the unit."""
        return f"{self.title} ({self.unit})" if self.unit else self.title

    @property
    def advice(self) -> str:
        """Which values are better, in words."""
        return _ADVICE[self.best]

    @property
    def is_tracked(self) -> bool:
        """Whether a tracker of the pitch computes it."""
        return self.package == _TRACKER

    @property
    def difference_range(self) -> tuple[float, float]:
        """What the difference of two values can be."""
        width = self.range[1] - self.range[0]
        return -width, width

    def shortfall(self, value: float) -> float:
        """How far a value is from the best one, up to a constant: less is better."""
        if self.best in "01":
            return abs(value - float(self.best))
        return -value if self.best == "high" else value

    def text(self, value: float | None, sign: Literal["", "+"] = "") -> str:
        """A value in the digits of this measure; "-" if there is none. With sign "+", positive values have a sign."""
        return "-" if value is None else f"{value:{sign}.{self.digits}f}".replace("-", "−")

    def interval_text(self, interval: Interval | None, *, difference: bool = False) -> str:
        """A mean and its interval. Differences and measures that are best at 0 have a sign.

        The interval is "± half of its width", or its two ends if the end of the range has cut one side off.
        """
        if interval is None:
            return "-"
        sign: Literal["", "+"] = "+" if difference or self.best == "0" else ""
        mean = self.text(interval.mean, sign)
        if interval.low is None or interval.high is None:
            return mean
        below, above = (self.text(abs(end - interval.mean)) for end in (interval.low, interval.high))
        if below == above:
            return f"{mean} ± {above}"
        return f"{mean} ({self.text(interval.low, sign)} to {self.text(interval.high, sign)})"

    def measured_by(self, tracker: PitchTracker) -> str:
        """The package and its version."""
        name = TRACKER_PACKAGES[tracker] if self.is_tracked else self.package
        try:
            return f"{name} {importlib.metadata.version(name)}"
        except importlib.metadata.PackageNotFoundError:
            return name

    def as_dict(self) -> dict[str, Any]:
        """Everything but the function, for strict JSON."""
        document = asdict(self)
        del document["compute"]
        return document | {"range": [end if math.isfinite(end) else None for end in self.range]}


_INF = math.inf
MEASURES = (
    Measure(
        "pesq_wb", "PESQ", "MOS", 2, "high", (1.0, 4.65), "pesq",
        "wide band, ITU-T P.862.2, at 16 kHz: 1 to 4.64",
        lambda pair: pesq_wb(*pair.common_16k),
    ),
    Measure(
        "visqol", "ViSQOL", "MOS", 2, "high", (1.0, 5.0), "visqol-python",
        "speech mode, 16 kHz, polynomial mapping scaled to 5, not the lattice: an identical copy has 5",
        lambda pair: visqol_speech(*pair.common_16k),
    ),
    Measure(
        "stoi", "STOI", "", 3, "high", (-1.0, 1.0), "pystoi",
        "intelligibility, at 16 kHz: at most 1",
        lambda pair: stoi(*pair.common_16k),
    ),
    Measure(
        "dnsmos_ovrl", "DNSMOS OVRL", "MOS", 2, "high", (1.0, 5.0), "speechmos",
        "overall quality by DNSMOS P.835, of the copy alone; recordings have about 3.3",
        lambda pair: pair.copy.opinions.overall,
    ),
    Measure(
        "dnsmos_sig", "DNSMOS SIG", "MOS", 2, "high", (1.0, 5.0), "speechmos",
        "the same for the voice",
        lambda pair: pair.copy.opinions.signal,
    ),
    Measure(
        "dnsmos_bak", "DNSMOS BAK", "MOS", 2, "high", (1.0, 5.0), "speechmos",
        "the same for the background",
        lambda pair: pair.copy.opinions.background,
    ),
    Measure(
        "speaker_similarity", "Speaker", "", 3, "high", (0.0, 1.0), "Resemblyzer",
        "cosine of the embeddings of both voices",
        lambda pair: speaker_similarity(*pair.common_16k),
    ),
    Measure(
        "log_mel_error_db", "Log-mel", "dB", 2, "low", (0.0, _INF), OWN,
        "mean absolute difference, in the vocoder's convention",
        lambda pair: _log_mel_error(pair),
    ),
    Measure(
        "log_mel_l1", "Log-mel L1", "Np", 3, "low", (0.0, _INF), OWN,
        "the same in units of the log-mel, natural logarithm",
        lambda pair: _log_mel_error(pair) / pair.config.db_per_unit,
    ),
    Measure(
        "mr_stft_db", "MR-STFT", "dB", 2, "low", (0.0, _INF), OWN,
        "mean absolute difference, windows of 512, 1024, 2048",
        lambda pair: mr_stft_db(*pair.common),
    ),
    Measure(
        "short_stft_db", "STFT 5 ms", "dB", 2, "low", (0.0, _INF), OWN,
        "the same with one window of 5.3 ms",
        lambda pair: short_stft_db(*pair.common, pair.sample_rate),
    ),
    Measure(
        "mcd_db", "MCD", "dB", 2, "low", (0.0, _INF), OWN,
        "mel cepstral distortion, c1 to c13 of an 80-band log-mel at 16 kHz",
        lambda pair: mel_cepstral_distortion_db(*pair.common_16k),
    ),
    Measure(
        "periodicity_error", "Periodicity", "", 3, "low", (0.0, 1.0), _TRACKER,
        "root mean square error, as in the Vocos paper",
        lambda pair: periodicity_error(*pair.tracks),
    ),
    Measure(
        "vuv_f1", "V/UV F1", "", 3, "high", (0.0, 1.0), _TRACKER,
        "voiced against unvoiced frames, as in the Vocos paper",
        lambda pair: voicing_f1(*pair.tracks),
    ),
    Measure(
        "f0_rmse_cents", "F0 RMSE", "cents", 1, "low", (0.0, _INF), _TRACKER,
        "root mean square error of the pitch, over frames voiced in both; an octave has 1200",
        lambda pair: f0_rmse_cents(*pair.tracks),
    ),
    Measure(
        "pulse_ratio", "Pulse ratio", "", 2, "1", (0.0, _INF), OWN,
        "peakiness of the 1.5 to 4 kHz envelope, copy to original",
        lambda pair: pulse_ratio(*pair.common, pair.sample_rate),
    ),
    Measure(
        "whistle_db", "Whistle", "dB", 1, "low", (FLOOR_DB, _INF), OWN,
        f"steady tones that the original lacks, relative to the original; {FLOOR_DB:.0f}: none",
        lambda pair: whistle_db(*pair.common, pair.sample_rate),
    ),
    Measure(
        "start_click_db", "Start click", "dB", 1, "low", (FLOOR_DB, _INF), OWN,
        f"step at the first sample that the original lacks, relative to the original; {FLOOR_DB:.0f}: none",
        lambda pair: click_db(*pair.common, pair.sample_rate, (0,)),
    ),
    Measure(
        "seam_click_db", "Seam click", "dB", 1, "low", (FLOOR_DB, _INF), OWN,
        "the same, largest, where pieces are joined",
        lambda pair: math.nan if pair.seams is None else click_db(*pair.common, pair.sample_rate, pair.seams),
    ),
    Measure(
        "level_db", "Level", "dB", 2, "0", (-_INF, _INF), OWN,
        "root mean square, copy to original",
        lambda pair: level_difference_db(*pair.common),
    ),
)  # fmt: skip


def chosen_measures(keys: Sequence[str] | None) -> tuple[Measure, ...]:
    """The measures of these keys, in the order of the table; None: all.

    Raises:
        InputError: there is no such measure.
    """
    known = [one.key for one in MEASURES]
    unknown = [key for key in keys or () if key not in known]
    if unknown:
        raise InputError(
            "measure {key!r} is unknown; allowed: {allowed}",
            code="measure-unknown",
            key=unknown[0],
            allowed=few(nearest(unknown[0], known), 8),
        )
    return tuple(one for one in MEASURES if keys is None or one.key in keys)


def measure(pair: Pair, measures: Sequence[Measure] = MEASURES) -> tuple[dict[str, float | None], dict[str, str]]:
    """Compute measures over the samples that original and copy have in common.

    Returns:
        The value of each measure, None if it is not defined; and for each measure that needs a package that is not
        installed, the reason.
    """
    values: dict[str, float | None] = {}
    missing: dict[str, str] = {}
    for one in measures:
        try:
            value = one.compute(pair)
        except MissingPackageError as error:
            missing[one.key], value = str(error), math.nan
        values[one.key] = value if math.isfinite(value) else None
    return values, missing


def _log_mel_error(pair: Pair) -> float:
    try:
        return math.nan if pair.mels is None else log_mel_error_db(*pair.mels, pair.config)
    except InputError as error:
        if error.code != "mels-incomparable":  # that is: no common frame
            raise
        return math.nan
