"""Notes of a report: what is odd about a signal, though it can be processed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tts_infer.arguments import checked
from tts_infer.errors import InputError

# Below this level (dBFS, root mean square) a signal is called silent.
SILENCE_DB = -90.0
# Channels cancel if their mean has this many dB less power than they have.
CANCELLING_DB = 15.0
# Samples this close to full scale are clipped; recordings with more than this share of them are heavily clipped.
CLIPPED = 0.999
CLIPPED_SHARE = 1e-3


@dataclass(frozen=True)
class Note:
    """One note: its code is the same in every language."""

    code: str
    text: str


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
        found = [Note("silent-input", f"the input is silent (below {SILENCE_DB:.0f} dBFS)")] if self.is_silent else []
        if not self.is_silent and self._mono_power < self._power * 10 ** (-CANCELLING_DB / 10):
            text = f"the {self._channels} channels of the input cancel each other in their mean; give one of them alone"
            found.append(Note("channels-cancel", text))
        share = self._clipped / self._samples
        if share > CLIPPED_SHARE:
            found.append(Note("clipped-input", f"{100 * share:.1f} % of the input is at full scale: it was clipped"))
        return found + self._remembered


def note_of_missing(seconds: float, missing_s: float, damage: str) -> Note:
    """What is said about audio that ends early.

    Args:
        seconds: that were read.
        missing_s: that there should be besides.
        damage: why reading ended; empty if the file just ends.
    """
    why = f" ({damage})" if damage else ""
    if missing_s > 0:
        states = f"states {seconds + missing_s:.2f} s: the rest is missing{why}"
        return Note("missing-input", f"the input ends after {seconds:.2f} s, but {states}")
    return Note("damaged-input", f"the input is damaged after {seconds:.2f} s{why}; everything before that was read")


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
        text = (
            f"{100 * clipped / samples:.1f} % of the output was clipped to full scale; sample format float32 does not"
        )
        found.append(Note("clipped-output", text))
    return found
