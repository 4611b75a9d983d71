"""What a comparison found: the time of each stage, speed, memory, how far the audio is; and how that is shown."""

from __future__ import annotations

import re
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tts_infer.errors import FileError, InputError
from tts_infer.evaluation.metrics import Samples
from tts_infer.evaluation.systems import MAX_SECONDS, System, on_cpu
from tts_infer.io.audio import AudioClip, resample
from tts_infer.io.notes import Note
from tts_infer.io.sources import Name
from tts_infer.io.writer import write_audio
from tts_infer.runtime.timing import StageRecord

# The figures of a system as they are shown, and what they are.
FIGURES = {
    "ms": "median of all runs",
    "lowest to highest": "ms of all runs",
    "x real time": "seconds of audio per second, median",
    "peak MB": "memory that the first run needed at most, beyond the weights",
    "to input, dB": "mean absolute difference of the log-mels of audio and input",
    "to first, dB": "the same to the audio of the first system",
    "waveform": "largest difference from the first, of its peak; other phases may sound alike",
}
SHORTENED = Note.of("Only the first {seconds:.0f} s were used.", code="first-seconds", seconds=MAX_SECONDS)


@dataclass(frozen=True)
class Spread:
    """The median of several runs, and their ends."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True)
class Result:
    """What one system did.

    Attributes:
        label: its name.
        sample_rate, seconds: of the audio.
        ms: of a run; rtfx: seconds of audio per second of a run.
        stages: the stage report of the median run.
        peak_bytes: what the first run needed at most beyond the weights; None: the system does not say.
        error_to_input_db: mean absolute difference of the log-mels of audio and input, in its own convention.
        error_to_first_db: the same to the audio of the first system, in the first one's convention.
        difference_from_first: of the waveforms, the largest, relative to the first one's peak; None: other lengths or
            rates. Two systems with other phases may sound alike and differ by more than 1.
    """

    label: str
    sample_rate: int
    seconds: float
    ms: Spread
    rtfx: Spread
    stages: list[StageRecord]
    peak_bytes: int | None
    error_to_input_db: float | None
    error_to_first_db: float | None
    difference_from_first: float | None

    @property
    def cells(self) -> list[str]:
        """The label, and the values of `FIGURES`; "-" for what there is not."""
        megabytes = None if self.peak_bytes is None else self.peak_bytes / 1e6
        return [
            self.label,
            f"{self.ms.median:.2f}",
            f"{self.ms.low:.2f} to {self.ms.high:.2f}",
            f"{self.rtfx.median:.3g}",
            _or_dash(megabytes, ".1f"),
            _or_dash(self.error_to_input_db, ".2f"),
            _or_dash(self.error_to_first_db, ".2f"),
            _or_dash(self.difference_from_first, ".1e"),
        ]


def _or_dash(value: float | None, digits: str) -> str:
    return "-" if value is None else f"{value:{digits}}"


@dataclass(frozen=True)
class Sound:
    """What one system had and made: for ears and eyes.

    Attributes:
        original: at the rate of the mel's convention; None for a mel.
        sample_rate: of the audio.
        input_mel, mel: of the input and of the audio; None: the audio is too short for one frame.

    Shape: original and audio of (T,); mels of (n_mels, L)
    """

    system: System
    original: Samples | None
    audio: Samples
    sample_rate: int
    input_mel: Tensor
    mel: Tensor | None

    @classmethod
    def of(cls, system: System, original: Samples | None, audio: Samples, rate: int, input_mel: Tensor) -> Sound:
        """What a system made, with the mel of it."""
        return cls(system, original, audio, rate, input_mel, _mel_of(system, audio, rate))

    def at(self, rate: int) -> Samples:
        """The audio at another rate. Shape: (T,)"""
        return _at(self.audio, self.sample_rate, rate)

    def original_at(self, rate: int) -> Samples | None:
        """The original at another rate. Shape: (T,)"""
        return None if self.original is None else _at(self.original, self.system.config.sample_rate, rate)

    def mel_as(self, first: Sound) -> Tensor | None:
        """The mel of the audio in the convention of another sound. Shape: (n_mels, L)"""
        if self.system.config == first.system.config:
            return self.mel
        return _mel_of(first.system, self.audio, self.sample_rate)


def _at(samples: Samples, rate: int, wanted: int) -> Samples:
    """Samples at another rate. Shape: (T,)"""
    return samples if rate == wanted or not len(samples) else resample(AudioClip(samples, rate), wanted).samples


@torch.inference_mode()
def _mel_of(system: System, samples: Samples, rate: int) -> Tensor | None:
    """Shape: (T,) -> (n_mels, L); None: too short for one frame"""
    samples = _at(samples, rate, system.config.sample_rate)
    if len(samples) < system.config.hop_length:
        return None
    try:
        return on_cpu(system.mel(torch.from_numpy(samples)[None]))[0]
    except InputError as error:
        if error.code != "audio-too-short":
            raise
        return None


@dataclass(frozen=True)
class Comparison:
    """All systems on one input, in order.

    Attributes:
        source: the name of the input.
        copied: the input is audio: every run makes the mel, too, in the convention of the system.
        shortened: only the first 30 s were used.
        unavailable: what could not be measured -> why.
        input_notes: what is odd about the input.
    """

    source: str
    copied: bool
    shortened: bool
    runs: int
    threads: int
    results: tuple[Result, ...]
    sounds: tuple[Sound, ...]
    unavailable: dict[str, str]
    input_notes: tuple[Note, ...] = ()

    @property
    def description(self) -> str:
        """What every run did, in a sentence."""
        did = "copied, mel included" if self.copied else "decoded"
        runs, threads = self.runs, self.threads
        return (
            f"{self.source}: {self.results[0].seconds:.2f} s, {did}; "
            f"{runs} run{'s' * (runs != 1)} of each, in turns, on {threads} thread{'s' * (threads != 1)}"
        )

    @property
    def notes(self) -> list[str]:
        """What a reader of the figures must know, in sentences."""
        notes = [note.text for note in self.input_notes]
        return notes + [f"Not measured: {what}: {why}." for what, why in self.unavailable.items()]

    def as_dict(self) -> dict[str, Any]:
        """The figures as a dictionary that strict JSON can hold."""
        names = ("source", "copied", "shortened", "runs", "threads", "unavailable")
        return {name: getattr(self, name) for name in names} | {"results": [asdict(one) for one in self.results]}

    def write_audio(self, folder: Name) -> list[Path]:
        """Write the audio of each system into a folder, which is made if it is missing: "1 onednn.wav", ...

        Raises:
            FileError: the system refuses.
        """
        folder = Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            text, reason = "cannot make {folder}: {reason}", error.strerror or str(error)
            raise FileError(text, code="folder-not-made", folder=str(folder), reason=reason) from None
        paths = []
        for number, (one, sound) in enumerate(zip(self.results, self.sounds, strict=True), start=1):
            paths.append(folder / f"{number} {re.sub(r'[^-+=.()0-9A-Za-z ]', '_', one.label)[:80]}.wav")
            write_audio(paths[-1], sound.audio, one.sample_rate)
        return paths
