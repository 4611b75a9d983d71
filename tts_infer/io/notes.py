"""Notes of a report: what is odd about a signal, though it can be processed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tts_infer.arguments import checked
from tts_infer.errors import InputError
from tts_infer.sentences import Sentence

# Below this level (dBFS, root mean square) a signal is called silent.
SILENCE_DB = -90.0
# Channels cancel if their mean has this many dB less power than they have.
CANCELLING_DB = 15.0
# Samples this close to full scale are clipped; recordings with more than this share of them are heavily clipped.
CLIPPED = 0.999
CLIPPED_SHARE = 1e-3


@dataclass(frozen=True)
class Note:
    """One note: its code is the same in every language. The text is a `Sentence`, if values are in it."""

    code: str
    text: str

    @classmethod
    def of(cls, text: str, /, *, code: str, **fields: Any) -> Note:
        """A note with values in it; the arguments are those of `Sentence`."""
        return cls(code, Sentence(text, code=code, **fields))


class SignalMeter:
    """Measures a signal as its blocks pass."""

    def __init__(self) -> None:
        self._samples = self._clipped = self._channels = 0
        self._power = self._mono_power = 0.0
        self._remembered: list[Note] = []

    def remember(self, note: Note) -> None:
        """Take a note of something else about the input."""
        self._remembered.append(note)

    @checked()
    def add(self, block: NDArray[Any]) -> None:
        """Measure a block. Shape: (T, channels)

        Raises:
            InputError: another shape, or complex values.
        """
        if block.ndim != 2 or not block.shape[1] or not np.can_cast(block.dtype, np.float64):
            text = "block is {dtype} of shape {shape}; expected numbers of (T, channels)"
            raise InputError(text, code="meter-block", dtype=block.dtype, shape=block.shape)
        self._samples += len(block)
        self._channels = block.shape[1]
        self._power += float(np.square(block, dtype=np.float64).sum()) / block.shape[1]
        self._mono_power += float(np.square(block.mean(axis=1), dtype=np.float64).sum())
        self._clipped += int((np.abs(block) >= CLIPPED).any(axis=1).sum())

    @property
    def is_silent(self) -> bool:
        return self._power <= self._samples * 10 ** (SILENCE_DB / 10)

    def notes(self) -> list[Note]:
        """What is odd about an input."""
        if not self._samples:
            return []
        silent = Note.of("the input is silent (below {db:.0f} dBFS)", code="silent-input", db=SILENCE_DB)
        found = [silent] if self.is_silent else []
        if not self.is_silent and self._mono_power < self._power * 10 ** (-CANCELLING_DB / 10):
            text = "the {channels} channels of the input cancel each other in their mean; give one of them alone"
            found.append(Note.of(text, code="channels-cancel", channels=self._channels))
        share = self._clipped / self._samples
        if share > CLIPPED_SHARE:
            text = "{percent:.1f} % of the input is at full scale: it was clipped"
            found.append(Note.of(text, code="clipped-input", percent=100 * share))
        return found + self._remembered


def note_of_missing(seconds: float, missing_s: float, damage: str) -> Note:
    """What is said about audio that ends early.

    Args:
        seconds: that were read.
        missing_s: that there should be besides.
        damage: why reading ended; empty if the file just ends.
    """
    ends = {"seconds": seconds, "stated": seconds + missing_s}
    if missing_s > 0 and damage:
        text = "the input ends after {seconds:.2f} s, but states {stated:.2f} s: the rest is missing ({damage})"
        return Note.of(text, code="broken-input", damage=damage, **ends)
    if missing_s > 0:
        text = "the input ends after {seconds:.2f} s, but states {stated:.2f} s: the rest is missing"
        return Note.of(text, code="missing-input", **ends)
    text = "the input is damaged after {seconds:.2f} s ({damage}); everything before that was read"
    return Note.of(text, code="damaged-input", seconds=seconds, damage=damage)


@checked()
def notes_of_output(meter: SignalMeter, samples: int, clipped: int) -> list[Note]:
    """What is odd about an output.

    Args:
        meter: has measured the audio.
        samples, clipped: samples that were written, and how many of them were clipped.
    """
    found = [Note("silent-output", "the output is silent; is the mel of this vocoder's convention?")]
    found = found if samples and meter.is_silent else []
    if samples and clipped > CLIPPED_SHARE * samples:
        text = "{percent:.1f} % of the output was clipped to full scale; sample format float32 does not"
        found.append(Note.of(text, code="clipped-output", percent=100 * clipped / samples))
    return found
