"""Speech as it is made: a text passes a front end part by part, and what follows is a stream over all parts."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import soxr
import torch
from torch import Tensor

from tts_infer.devices import CPU
from tts_infer.errors import InputError, few
from tts_infer.frontends.frontend import LoadedVoice, Part
from tts_infer.runtime import workers
from tts_infer.runtime.timing import StageRecord, StageTimer, add_up
from tts_infer.streaming import StageStream


class TextLeftOutWarning(UserWarning):
    """Words or symbols of a text that a voice cannot read, and that are not spoken."""


@dataclass(frozen=True, kw_only=True)
class SpeechReport:
    """What was spoken, and where the time went."""

    voice: str
    vocoder: str | None  # None: the voice's own audio
    sample_rate: int
    seconds: float  # of audio
    stages: list[StageRecord]
    total_ms: float  # wall time of the call
    first_audio_ms: float  # of it, until the first samples were there
    left_out: tuple[str, ...]  # words and symbols that the voice cannot read
    clipped_samples: int = 0  # in a file of whole numbers

    @property
    def rtfx(self) -> float:
        """Seconds of audio per second of compute."""
        return self.seconds / (self.total_ms / 1e3)


@dataclass(frozen=True, kw_only=True)
class Speech(SpeechReport):
    """The result of `Speaker.speak`.

    Shape: audio of (1, T), on the device of the last stage
    """

    audio: Tensor


class Step(Protocol):
    """A stream between the front end and the listener."""

    @property
    def stages(self) -> list[StageRecord]: ...
    @property
    def is_on_cpu(self) -> bool: ...
    def push(self, values: Tensor, /) -> Tensor: ...
    def flush(self) -> Tensor: ...


class SpeechStream(Iterator[Tensor]):
    """The pieces of a spoken text, each computed when it is asked for. Made by `Speaker.stream`.

    Shape: (1, T) each, T >= 1

    Attributes:
        sample_rate: in Hz.
        first_audio_ms: time of computing until the first samples were there; 0 before that.
        samples: so far.
        total_ms: time of computing so far, without what the listener takes between two pieces.
    """

    def __init__(
        self, voice: LoadedVoice, front: StageStream, after: Sequence[Step], text: str, sample_rate: int
    ) -> None:
        self._reading, self._parts = voice.reading, voice.read(text)
        self._front, self._after, self._text = front, after, text
        self._read_records: list[StageRecord] = []
        self._left_out: list[str] = []
        self._spoken = self._ended = False
        self._on_cpu = front.is_on_cpu and all(step.is_on_cpu for step in after)
        self.sample_rate, self.samples, self.first_audio_ms, self.total_ms = sample_rate, 0, 0.0, 0.0

    @property
    def stages(self) -> list[StageRecord]:
        """The stage report so far."""
        return [*self._read_records, *self._front.stages, *(record for step in self._after for record in step.stages)]

    @property
    def left_out(self) -> tuple[str, ...]:
        """Words and symbols so far that the voice cannot read."""
        return tuple(self._left_out)

    def __next__(self) -> Tensor:
        start = time.perf_counter()
        try:
            while not self._ended:
                # a part passes all stages in one worker, if the machine is busy: each change of thread is a wait
                audio = workers.alone(self._advance) if self._on_cpu else self._advance()
                if self._ended:
                    self._judge()
                if audio is not None and audio.shape[1]:
                    if not self.first_audio_ms:
                        self.first_audio_ms = self.total_ms + (time.perf_counter() - start) * 1e3
                    self.samples += audio.shape[1]
                    return audio
            raise StopIteration
        finally:
            self.total_ms += (time.perf_counter() - start) * 1e3

    def _advance(self) -> Tensor | None:
        """Speak the next part, or end."""
        part = self._next_part()
        if part is None:
            self._ended = True
            return self._flushed() if self._spoken else None
        self._left_out += part.left_out
        if part.tensor is None:
            return None
        self._spoken = True
        values = self._front.advance(part.tensor)
        for step in self._after:
            values = step.push(values)
        return values

    def _next_part(self) -> Part | None:
        stage, library = self._reading
        timer = StageTimer(enabled=True)
        with timer.stage(stage, CPU, library):
            part = next(self._parts, None)
        self._read_records = add_up([self._read_records, timer.records]) if self._read_records else timer.records
        return part

    def _flushed(self) -> Tensor | None:
        """What the steps still hold."""
        left: Tensor | None = None
        for step in self._after:
            left = step.flush() if left is None else torch.cat([step.push(left), step.flush()], dim=-1)
        return left

    def _judge(self) -> None:
        """Say what was not said."""
        if not self._spoken:
            text = few([self._text.strip()])
            raise InputError("there is nothing to say in {text!r}; give at least one word", code="text-mute", text=text)
        if self._left_out:
            text = f"left out of the speech, because the voice cannot read it: {few(self._left_out)}"
            warnings.warn(text, TextLeftOutWarning, stacklevel=3)


class StreamingResampler:
    """Audio at another rate, piece by piece: the pieces are one signal.

    Args:
        from_hz, to_hz: sample rates.
    """

    def __init__(self, from_hz: int, to_hz: int) -> None:
        self._stream = soxr.ResampleStream(from_hz, to_hz, 1, dtype="float32", quality="HQ")
        self._records: list[StageRecord] = []
        self.is_on_cpu = True

    @property
    def stages(self) -> list[StageRecord]:
        """The stage report of all pieces."""
        return [record.copy() for record in self._records]

    def push(self, audio: Tensor) -> Tensor:
        """Add samples, and return those that are complete. Shape: (1, T) -> (1, T')"""
        return self._resampled(audio, last=False)

    def flush(self) -> Tensor:
        """The samples that are left. Shape: -> (1, T)"""
        return self._resampled(torch.zeros(1, 0, dtype=torch.float32, device=CPU), last=True)

    def _resampled(self, audio: Tensor, last: bool) -> Tensor:
        timer = StageTimer(enabled=True)
        (samples,) = timer.move((audio,), CPU)
        with timer.stage("resample", CPU, "soxr"):
            made = torch.from_numpy(self._stream.resample_chunk(samples[0].numpy(), last=last))[None]
        records = timer.records[-1:]
        self._records = add_up([self._records, records]) if self._records else records
        return made


def joined(pieces: Sequence[Tensor]) -> Tensor:
    """The pieces of a stream as one signal. Shape: (1, T) each -> (1, T)"""
    if pieces[0].device != CPU:
        return torch.cat(list(pieces), dim=1)
    # torch would share the copy between its threads, which wait for each other on a busy machine
    return torch.from_numpy(np.concatenate([piece.numpy() for piece in pieces], axis=1))
