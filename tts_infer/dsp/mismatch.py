"""Does a mel belong to its vocoder's convention? A wrong one decodes to noise, so it gets one warning that names it.

The test is made to be silent on every mel of the right convention, and to speak where a mel cannot be of it. It looks
at a subset of the frames:

- Range. A log-mel of audio within full scale lies between the log floor and a ceiling that follows from the window and
  the filterbank.
- Scale and filterbank, see `judges`, and `evidence` for filterbanks that have none.
- Level and deviation, for mels that were mapped to 0..1, or to mean 0 and deviation 1.

benchmarks/conventions.py prints the false alarms and the detections.
"""

from __future__ import annotations

import math
import reprlib
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tts_infer.config import MelConfig
from tts_infer.devices import CPU, device_lock
from tts_infer.dsp.checks import Extremes, is_dense
from tts_infer.dsp.conventions import convention, convention_name
from tts_infer.dsp.evidence import Evidence
from tts_infer.dsp.fingerprints import ceiling, describe
from tts_infer.dsp.judges import judges_of
from tts_infer.dsp.mel_statistics import LEAST_FRAMES, Array, Statistics
from tts_infer.errors import InputTypeError

# Items of a batch that are looked at.
ITEMS = 4

# Units below the log floor, or above the ceiling, that a network's prediction may reach.
_BELOW, _ABOVE = 2.0, 1.0
# Decibels of a clip span 60 and more, natural logarithms at most 25.
_DECIBEL_RANGE = 40.0
# Powers fluctuate more than this.
_LARGE = 0.55
# What has less fluctuation, and a deviation below the other, was mapped to a small range.
_TINY, _NARROW = 0.125, 0.45
# The largest value of mels that were mapped to -1..1, and what rounding may add.
_UNIT = 1.02
# Few right mels have less fluctuation, and none of them was seen to have mean 0 and deviation 1 by chance, too.
_CALM = 0.33

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
        self.config = convention(config)
        self._floor = math.log(config.log_floor) / config.power
        self._magnitudes = replace(config, power=1)
        self._ceiling = ceiling(self._magnitudes)

    def __call__(self, mel: Tensor, lengths: Sequence[int] | None = None) -> MelConventionWarning | None:
        """Judge a batch by its first items.

        Args:
            mel: finite values, on any device. An accelerator is waited for once.
            lengths: valid frames of each item; None: all.

        Shape: (B, n_mels, L)
        Returns:
            The warning that the first wrong item deserves; None if all may be of the convention.

        Raises:
            InputTypeError: the mel is no tensor of this shape.
        """
        if not isinstance(mel, Tensor) or mel.ndim != 3 or not is_dense(mel):
            text = "mel is {got}; expected a dense tensor of (B, n_mels, L)"
            raise InputTypeError(text, code="mel-check-type", got=reprlib.repr(getattr(mel, "shape", mel)))
        return self._found(mel.detach(), lengths)

    def warn(self, mel: Tensor, lengths: Sequence[int] | None = None, extremes: Extremes | None = None) -> None:
        """Warn if a batch does not belong to the convention; the warning points at the caller of this package.

        Args:
            mel, lengths: as for a call.
            extremes: the lowest and the largest value, if they are known.
        """
        warning = self._found(mel, lengths, extremes)
        if warning is not None:
            warnings.warn(warning, stacklevel=level_of_caller())

    def _found(
        self, mel: Tensor, lengths: Sequence[int] | None, extremes: Extremes | None = None
    ) -> MelConventionWarning | None:
        batch, _, frames = mel.shape
        if mel.numel() == 0:
            return None
        if extremes is not None and batch == 1 and self._is_usual(frames, *extremes):
            return None
        if lengths is None:
            items = iter(mel[:ITEMS].float().cpu())
        else:
            first = lengths[: ITEMS if mel.device.type == "cpu" else 1]  # each item is a wait for an accelerator
            items = (mel[i, :, :n].float().cpu() for i, n in enumerate(first) if n)
        for item in items:
            low, high = (value.item() for value in item.aminmax())
            if not self._is_usual(item.shape[1], low, high) and (kind := self._kind(item, low, high)) is not None:
                return self._warning(*kind, low, high)
        return None

    def _is_usual(self, frames: int, low: float, high: float) -> bool:
        """Whether it is a short piece with usual values, which must cost next to nothing."""
        low, high = low / self.config.power, high / self.config.power
        within = low >= self._floor - _BELOW and high <= self._ceiling + _ABOVE
        return frames < LEAST_FRAMES and within and (low < 0 or high <= 1)

    def _kind(self, mel: Tensor, low: float, high: float) -> tuple[str, str] | None:
        """The kind of mismatch, and the name of the other filterbank if it is one. Shape: (n_mels, L)"""
        power = self.config.power
        low, high = low / power, high / power
        values: Array = mel.numpy()
        given = Statistics(values if power == 1 else values / np.float32(power), low, high)
        kind = self._out_of_range(given)
        if kind is None and given.heard and given.range > 0.05:
            kind = self._mapped(given)
            return self._suspicion(given) if kind is None else (kind, "")
        return None if kind is None else (kind, "")

    def _suspicion(self, given: Statistics) -> tuple[str, str] | None:
        """Whether it looks like another logarithm, a normalised mel, or another filterbank."""
        if given.fluctuation < _CALM and given.is_standardised:
            return "normalised", ""
        judges = judges_of(self._magnitudes) if self.config.power == 1 else None
        found = (judges or Evidence(self._magnitudes))(given)
        if found is None:
            return None
        kind, rival = found
        return kind, "" if rival is None else describe(rival)

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

    def _mapped(self, given: Statistics) -> str | None:
        """Whether its values were mapped to a small range."""
        calm = given.fluctuation < _TINY and given.deviation < _NARROW and given.range < 2.2
        if not calm or given.modulation <= 0.2 * given.deviation:
            return None
        in_unit_range = given.low >= -_UNIT and given.high <= _UNIT
        if in_unit_range and (given.low >= 1 - _UNIT or given.range > 1.9):
            return "unit-range"
        # right mels of smoothed noise are as calm, but mostly elsewhere
        may_be_scaled = given.low >= 0.1 * (self._floor - _BELOW) and given.high <= 0.1 * (self._ceiling + _ABOVE)
        return "scaled" if may_be_scaled else None

    def _warning(self, kind: str, rival: str, low: float, high: float) -> MelConventionWarning:
        looks, remedy = _KINDS[kind]
        name = convention_name(self.config) or "its own convention"
        fields = {
            "kind": kind,
            "looks": looks.format(rival=rival),
            "low": round(low, 2),
            "high": round(high, 2),
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
        self._pieces.append(piece[:ITEMS].clone())  # the caller may use the memory again
        self._frames += piece.shape[2]
        if self._frames >= self._check.config.sample_rate / self._check.config.hop_length:
            self.end()

    def end(self) -> None:
        """Check what has come, if that was not done yet."""
        check, self._check = self._check, None
        if check is not None and self._pieces:
            with device_lock(*(piece.device for piece in self._pieces)):
                check.warn(torch.cat([piece.to(CPU) for piece in self._pieces], 2))
        self._pieces = []


def level_of_caller() -> int:
    """The stack level of the first frame outside of the package, for `warnings.warn` in the caller of this function."""
    inside = (str(Path(__file__).parents[1]), str(Path(torch.__file__).parent))  # torch's decorators stand between
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(inside):
        level, frame = level + 1, frame.f_back
    return level
