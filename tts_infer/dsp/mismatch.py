"""Does a mel belong to its vocoder's convention? A wrong one decodes to noise, so it gets one warning that names it.

The test is made to be silent on every mel of the right convention, and to speak where a mel cannot be of it. It looks
at four things, all taken from a subset of the frames:

- Range. A log-mel of audio within full scale lies between the log floor and a ceiling that follows from the window and
  the filterbank.
- Scale. The logarithm of a noisy magnitude fluctuates from frame to frame by an amount that depends on nothing but the
  logarithm's base: the second difference over time is 0.4 on average for natural logarithms of magnitudes, twice that
  for powers, 0.43 of that for log10. Tones and smoothed mels fluctuate less, so a small fluctuation alone says nothing.
- Fingerprint. Low mel filters are about as narrow as one STFT bin, so their sums differ irregularly. These differences
  show in the mean over time of every mel, and tell one filterbank from another.
- Level and deviation, for mels that were mapped to 0..1, or to mean 0 and deviation 1.

The thresholds are measured by benchmarks/conventions.py, which prints the false alarms and the detections.
"""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tts_infer.config import MelConfig
from tts_infer.dsp.conventions import convention_name
from tts_infer.dsp.fingerprints import ceiling, describe, likelihood, rivals
from tts_infer.dsp.mel_statistics import Array, Statistics, groups_of

# Items of a batch that are looked at.
ITEMS = 4

# Units below the log floor, or above the ceiling, that a network's prediction may reach.
_BELOW, _ABOVE = 2.0, 1.0
# Decibels of a clip span 60 and more, natural logarithms at most 25.
_DECIBEL_RANGE = 40.0
# Bounds of the fluctuation over time. Of the right scale it is 0.25 to 0.53, of log10 0.125 to 0.22.
_TINY, _TINY_LOUD, _SMALL, _LARGE, _HUGE = 0.125, 0.16, 0.24, 0.55, 1.3
# What has more fluctuation than this is not normalised.
_OWN = 0.33
# Noise-like sounds, of more curvature, fluctuate more.
_OF_NOISE = 0.3
# Curvature over change from frame to frame. Smoothed mels have less; clicks and tones have more.
_SMOOTH, _CLICKS = 0.97, 1.47
# Modulation over deviation. That of speech is larger; stationary sounds have little, whatever their scale.
_STATIONARY = 0.25
# The mean of log10 and normalised mels is above this.
_LEAST_MEAN = -4.5
# Twice the logarithm of the likelihood ratio of two fingerprints.
_LIKELIHOOD = 10.5

_CONVERT = "convert it with tts_infer.convert_mel(mel, from_={unit!r}, to=vocoder.mel_config)"
_COMPUTE = "compute it with tts_infer.LogMel(vocoder.mel_config), or use a vocoder of the mel's convention"
_UNDO = "undo that with tts_infer.convert_mel(mel, from_=MelUnit(scale, offset), to=vocoder.mel_config)"
# kind -> what it looks like, what to do
_KINDS = {
    "decibels": ("decibels", _CONVERT.format(unit="decibels")),
    "floor": ("a logarithm with a lower floor", _CONVERT.format(unit="ln")),
    "power": ("a mel of powers", "compute it from magnitudes (power=1), see tts_infer.LogMel(vocoder.mel_config)"),
    "level": ("a mel of louder filters (without norm, or of powers)", _COMPUTE),
    "linear": ("a linear mel, without a logarithm", _CONVERT.format(unit="linear")),
    "unit-range": ("a mel mapped to 0..1 or -1..1", _UNDO),
    "scaled": ("a logarithm times 0.1", _CONVERT.format(unit="x0.1")),
    "log10": ("a log10 or a normalised mel", _CONVERT.format(unit="log10") + ", or undo the normalisation"),
    "normalised": ("a mel normalised to mean 0 and deviation 1", _UNDO),
    "filterbank": ("a mel of another filterbank ({rival})", _COMPUTE),
}


class MelConventionWarning(UserWarning):
    """A mel does not belong to the convention of its vocoder.

    Attributes:
        code: the name of the sentence, the same in every language.
        text: the sentence, a format string for `fields`.
        fields: the values in the sentence; `kind` is a key of the table of kinds.
    """

    def __init__(self, text: str, code: str, fields: Mapping[str, Any]) -> None:
        self.text, self.code, self.fields = text, code, dict(fields)
        super().__init__(text.format(**fields))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.text, self.code, self.fields)


class ConventionCheck:
    """Compares mels with one convention.

    Args:
        config: the vocoder's convention.
    """

    def __init__(self, config: MelConfig) -> None:
        self.config = config
        self._floor = math.log(config.log_floor) / config.power
        self._ceiling = ceiling(replace(config, power=1))

    def __call__(self, mel: Tensor, lengths: Sequence[int] | None = None) -> MelConventionWarning | None:
        """Judge a batch by its first items.

        Args:
            mel: finite values, on any device. An accelerator is waited for once.
            lengths: valid frames of each item; None: all.

        Shape: (B, n_mels, L)
        Returns:
            The warning that the first wrong item deserves; None if all may be of the convention.
        """
        if mel.shape[2] == 0:
            return None
        if lengths is None:
            items: Iterable[Array] = groups_of(mel[:ITEMS])
        else:
            first = lengths[: ITEMS if mel.device.type == "cpu" else 1]  # each item is a wait for an accelerator
            items = (groups_of(mel[i : i + 1, :, :n])[0] for i, n in enumerate(first))
        for item in items:
            if (kind := self._kind(item)) is not None:
                return self._warning(*kind, item)
        return None

    def warn(self, mel: Tensor, lengths: Sequence[int] | None = None) -> None:
        """Warn if a batch does not belong to the convention; the warning points at the caller of this package."""
        found = self(mel, lengths)
        if found is not None:
            warnings.warn(found, stacklevel=_level_of_caller())

    def _kind(self, groups: Array) -> tuple[str, str] | None:
        """The kind of mismatch, and the name of the other filterbank if it is one. Shape: (3, n_mels, n)"""
        power = self.config.power
        least, most = torch.from_numpy(groups).aminmax()  # numpy is slower between torch's operators
        low, high = least.item() / power, most.item() / power
        short = len(groups) == 1
        if short and low >= self._floor - _BELOW and (low < 0 or high <= 1) and high <= self._ceiling + _ABOVE:
            return None  # the usual case of short pieces, which must cost next to nothing
        given = Statistics(groups if power == 1 else groups / np.float32(power), low, high)
        kind, rival = self._out_of_range(given), None
        if kind is None and not short and given.range > 0.05:
            kind = _of_wrong_scale(given)
            rival = None if kind else self._rival(given)
        return ("filterbank", rival) if rival else None if kind is None else (kind, "")

    def _out_of_range(self, given: Statistics) -> str | None:
        if given.low < self._floor - _BELOW:
            if given.range > _DECIBEL_RANGE or given.high < self._floor - _BELOW:
                return "decibels"
            return "power" if given.fluctuation > _LARGE else "floor"
        if given.low >= 0 and given.deviation > 0.7 * given.mean and given.range > 0.05:
            return "linear"
        if given.high > self._ceiling + _ABOVE:
            return "power" if given.fluctuation > _LARGE and self.config.power == 1 else "level"
        return None

    def _rival(self, given: Statistics) -> str | None:
        """The filterbank of another convention, if it explains the profile over bins clearly better than our own."""
        profile = given.profile
        if profile is None:
            return None
        for rival in rivals(self.config):
            fits = given.high * self.config.power <= ceiling(rival) + _ABOVE
            if fits and likelihood(profile, given.low, self.config, rival) > _LIKELIHOOD:
                return describe(rival)
        return None

    def _warning(self, kind: str, rival: str, groups: Array) -> MelConventionWarning:
        looks, remedy = _KINDS[kind]
        name = convention_name(self.config) or "its own convention"
        fields = {
            "kind": kind,
            "looks": looks.format(rival=rival),
            "low": round(float(groups.min()), 2),
            "high": round(float(groups.max()), 2),
            "expected": name,
            "remedy": remedy,
        }
        text = "mel looks like {looks} ({low} to {high}), but the vocoder takes {expected}; {remedy}, or pass "
        text += "check_convention=False (--no-convention-check) if it is right"
        return MelConventionWarning(text, f"mel-looks-{kind}", fields)


class FirstSecond:
    """Checks the first second of a mel that arrives in pieces, once.

    Args:
        check: the vocoder's check; None: nothing is checked.
    """

    def __init__(self, check: ConventionCheck | None) -> None:
        self._check, self._pieces, self._frames = check, list[Tensor](), 0

    def push(self, piece: Tensor) -> None:
        """Add frames. Shape: (B, n_mels, L)"""
        if self._check is None:
            return
        self._pieces.append(piece[:ITEMS])
        self._frames += piece.shape[2]
        if self._frames >= self._check.config.sample_rate / self._check.config.hop_length:
            self.end()

    def end(self) -> None:
        """Check what has come, if that was not done yet."""
        check, self._check = self._check, None
        if check is not None and self._pieces:
            check.warn(torch.cat(self._pieces, 2))
        self._pieces = []


def _level_of_caller() -> int:
    """The stack level of the first frame outside of the package, for `warnings.warn` in the caller of this function."""
    inside = (str(Path(__file__).parents[1]), str(Path(torch.__file__).parent))  # torch's decorators stand between
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(inside):
        level, frame = level + 1, frame.f_back
    return level


def _of_wrong_scale(given: Statistics) -> str | None:
    """Whether the fluctuation over time is that of another logarithm or scale."""
    natural = _SMOOTH < given.curvature < _CLICKS
    large = _LARGE + _OF_NOISE * max(0.0, given.curvature - 1.25)
    if large < given.fluctuation < _HUGE and natural:
        return "power"
    if given.fluctuation >= _OWN:
        return None
    if given.deviation > 1.5 or given.modulation < _STATIONARY * given.deviation or given.mean < _LEAST_MEAN:
        return None  # music, stationary sounds, quiet sounds
    if given.fluctuation < _TINY and given.deviation < 0.45 and given.range < 2.2:
        return "unit-range" if given.low >= -0.02 or given.range > 1.9 else "scaled"
    if abs(given.mean) < 0.06 and abs(given.deviation - 1) < 0.04 and natural:
        return "normalised"
    # loud noise, smoothed, fluctuates as little as a log10 of speech
    least = _TINY if given.high < 3.7 else _TINY_LOUD
    return "log10" if least < given.fluctuation < _SMALL and given.deviation < 1.3 and natural else None
