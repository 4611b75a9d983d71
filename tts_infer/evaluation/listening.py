"""Listening tests: what is played, and what the answers say.

ABX asks whether two systems can be told apart, MUSHRA how good several systems are. A row is one answer. Rows are kept
as CSV, and everything that is said of a test is computed from its rows.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Final, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from tts_infer.errors import InputError
from tts_infer.evaluation.intervals import Interval, mean_interval

Side = Literal["a", "b"]
Samples = NDArray[np.float32]

REFERENCE: Final = "reference"  # the original, hidden among the systems
ANCHOR: Final = "anchor"  # the original without what is above 3.5 kHz
ANCHOR_HZ = 3500.0
_TRANSITION_HZ = 500.0
_ATTENUATION_DB = 60.0
# Who gives the hidden reference less than 90 in more than 15 % of the trials does not hear what is asked for.
# Source: ITU-R BS.1534-3, on screening after a test
_REFERENCE_SCORE = 90.0
_MOST_MISSED = 0.15


@dataclass(frozen=True)
class AbxTrial:
    """One answer to the question whether X is A or B."""

    clip: str
    trial: int
    a: str
    b: str
    x: Side
    answer: Side


@dataclass(frozen=True)
class MushraScore:
    """What one system was given in one trial, from 0 (bad) to 100 (as the reference)."""

    clip: str
    trial: int
    system: str
    score: float


Row = TypeVar("Row", AbxTrial, MushraScore)


@dataclass(frozen=True)
class AbxResult:
    """How often X was told, and how likely that is at least for somebody who guesses."""

    trials: int
    correct: int
    p_value: float


@dataclass(frozen=True)
class MushraResult:
    """Mean scores of the systems with their intervals, and whether the listener found the hidden reference."""

    scores: dict[str, Interval]
    reliable: bool


def abx_result(rows: Sequence[AbxTrial]) -> AbxResult:
    """Count the right answers of an ABX test.

    Args:
        rows: at least one.

    Raises:
        InputError: there is no row.
    """
    _check(rows)
    correct = sum(row.answer == row.x for row in rows)
    return AbxResult(len(rows), correct, guess_probability(correct, len(rows)))


def guess_probability(correct: int, trials: int) -> float:
    """The probability of at least so many right answers by guessing: sum over k >= correct of C(n, k) / 2^n.

    The one-sided exact binomial test, in whole numbers until the last division.
    """
    return sum(math.comb(trials, k) for k in range(correct, trials + 1)) / 2**trials


def mushra_result(rows: Sequence[MushraScore]) -> MushraResult:
    """Average the scores of each system.

    The intervals are over the rows of a system: over listeners, clips and trials, as far as there are several.

    Args:
        rows: at least one. Without rows of the hidden reference, the listener counts as not reliable.

    Raises:
        InputError: there is no row.
    """
    _check(rows)
    by_system: dict[str, list[float]] = {}
    for row in rows:
        by_system.setdefault(row.system, []).append(row.score)
    means = {system: mean_interval(scores) for system, scores in by_system.items()}
    found = by_system.get(REFERENCE, [])
    missed = sum(score < _REFERENCE_SCORE for score in found)
    reliable = bool(found) and missed <= _MOST_MISSED * len(found)
    return MushraResult({system: mean for system, mean in means.items() if mean is not None}, reliable)


def _check(rows: Sequence[object]) -> None:
    if not rows:
        raise InputError("there are no answers yet; finish at least one trial", code="listening-no-rows")


def listening_csv(rows: Sequence[AbxTrial] | Sequence[MushraScore]) -> str:
    """Rows of one kind as CSV, with a head."""
    _check(rows)
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(rows[0])])
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    return text.getvalue()


def read_listening_csv(text: str, kind: type[Row]) -> list[Row]:
    """Rows from CSV, as `listening_csv` writes them.

    Args:
        text: with a head.
        kind: of the rows.

    Raises:
        InputError: see `listening_row`.
    """
    return [listening_row(row, kind) for row in csv.DictReader(io.StringIO(text))]


def listening_row(given: Any, kind: type[Row]) -> Row:
    """A row from values that somebody sent.

    Args:
        given: a dictionary with the fields of the row; numbers may be texts.
        kind: of the row.

    Raises:
        InputError: a field is missing, or its value is out of bounds.
    """
    try:
        values: dict[str, Any] = {name: str(given[name])[:200] for name in ("clip", *_TEXTS[kind])}
        return kind(trial=int(given["trial"]), **values, **_rest(given, kind))
    except (KeyError, TypeError, ValueError) as error:
        names = ", ".join(field.name for field in fields(kind))
        text = "an answer of a listening test is wrong at {reason}; expected {names}, each score of 0 to 100"
        raise InputError(text, code="listening-row", reason=str(error)[:60], names=names) from None


_TEXTS: dict[type, tuple[str, ...]] = {AbxTrial: ("a", "b"), MushraScore: ("system",)}


def _rest(given: Any, kind: type) -> dict[str, Any]:
    if kind is AbxTrial:
        sides = {name: given[name] for name in ("x", "answer")}
        if not set(sides.values()) <= {"a", "b"}:
            raise ValueError(f"x {sides['x']}, answer {sides['answer']}")
        return sides
    score = float(given["score"])
    if not 0 <= score <= 100:
        raise ValueError(f"score {score}")
    return {"score": score}


def level_matched(sounds: Sequence[Samples]) -> list[Samples]:
    """Give all sounds the length of the shortest and the root mean square of the first.

    Neither loudness nor length then tells systems apart. If a peak would be clipped, all are made softer by one factor.

    Args:
        sounds: full scale 1.0, all at one rate. A silent one stays silent.

    Shape: each (T,)
    """
    length = min(len(sound) for sound in sounds)
    cut = [np.asarray(sound[:length], np.float32) for sound in sounds]
    levels = [float(np.sqrt(np.mean(np.square(sound, dtype=np.float64)))) for sound in cut]
    gains = [levels[0] / level if level else 1.0 for level in levels]
    peak = max(gain * float(np.abs(sound).max()) for gain, sound in zip(gains, cut, strict=True))
    softer = 1 / max(1.0, peak)
    return [sound * np.float32(softer * gain) for gain, sound in zip(gains, cut, strict=True)]


def low_passed(samples: Samples, sample_rate: int, cutoff_hz: float = ANCHOR_HZ) -> Samples:
    """Remove what is above a frequency, without delay: the anchor of MUSHRA.

    A sinc of 250 Hz more, in a Kaiser window for 60 dB at 500 Hz above the cut-off. Below it, gains are within 0.1 dB.

    Args:
        samples: full scale 1.0.
        sample_rate: in Hz.
        cutoff_hz: the highest frequency that stays.

    Shape: (T,) -> (T,)
    Raises:
        InputError: the rate is too low for the filter.
    Source: ITU-R BS.1534-3, on anchors: at most 0.1 dB to 3.5 kHz, 25 dB at 4 kHz, 50 dB at 4.5 kHz.
    """
    stop_hz = cutoff_hz + _TRANSITION_HZ
    if sample_rate < 2 * stop_hz:
        text = "an anchor of {cutoff:.0f} Hz needs a sample rate of {least:.0f} Hz or more; got {rate}"
        raise InputError(text, code="anchor-rate", cutoff=cutoff_hz, least=2 * stop_hz, rate=sample_rate)
    width = 2 * math.pi * _TRANSITION_HZ / sample_rate
    half = math.ceil((_ATTENUATION_DB - 7.95) / (2.285 * width) / 2)  # Kaiser's formula
    beta = 0.1102 * (_ATTENUATION_DB - 8.7)
    share = 2 * (cutoff_hz + _TRANSITION_HZ / 2) / sample_rate
    taps = share * np.sinc(share * np.arange(-half, half + 1)) * np.kaiser(2 * half + 1, beta)
    size = 1 << (len(samples) + len(taps)).bit_length()
    made = np.fft.irfft(np.fft.rfft(samples, size) * np.fft.rfft(taps, size), size)
    return made[half : half + len(samples)].astype(np.float32)
