"""Speech from a text: a front end's voice, and a vocoder behind it if it is wanted or needed.

A text is spoken part by part. The parts are one signal: what follows the front end is a stream over all of them.
"""

from __future__ import annotations

import os
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
from tts_infer.frontends import FRONTENDS, find_voice
from tts_infer.frontends.frontend import AudioSpec, LoadedVoice, Part
from tts_infer.loading import load_vocoder
from tts_infer.runtime.pipeline import place_stages
from tts_infer.runtime.placement import PlacementSpec, make_placement
from tts_infer.runtime.timing import StageRecord, StageTimer, add_up
from tts_infer.streaming import StageStream
from tts_infer.vocoder import Vocoder

SPEEDS = (0.25, 4.0)
_LARGEST_SEED = 2**63 - 1


class TextLeftOutWarning(UserWarning):
    """Words or symbols of a text that a voice cannot read, and that are not spoken."""


@dataclass(frozen=True)
class Speech:
    """The result of `Speaker.speak`.

    Shape: audio of (1, T), on the device of the last stage
    """

    audio: Tensor
    sample_rate: int
    stages: list[StageRecord]
    total_ms: float  # wall time of the call
    first_audio_ms: float  # of it, until the first samples were there
    left_out: tuple[str, ...]  # words and symbols that the voice cannot read

    @property
    def seconds(self) -> float:
        """Seconds of audio."""
        return self.audio.shape[1] / self.sample_rate

    @property
    def rtfx(self) -> float:
        """Seconds of audio per second of compute."""
        return self.seconds / (self.total_ms / 1e3)


class Speaker:
    """A voice, ready to speak. Several threads may use one; `load_speaker` makes it.

    Attributes:
        voice: name of the voice, with its front end: "hibari/heart".
        vocoder: what decodes the features of the front end, or copies its audio; None: its audio is given as it is.
        sample_rate: of the audio, in Hz.
    """

    def __init__(
        self, name: str, voice: LoadedVoice, vocoder: Vocoder | None, placement: PlacementSpec, device: str
    ) -> None:
        self.voice, self.vocoder, self._voice = name, vocoder, voice
        if not isinstance(voice.gives, AudioSpec) and (vocoder is None or vocoder.features != voice.gives):
            raise InputError(
                "voice {name!r} gives features that need a vocoder of their convention; give vocoder=...",
                code="voice-needs-vocoder",
                name=name,
            )
        self.placement = make_placement(placement, device, stages=voice.stages)
        self._chain = place_stages(voice.stages, self.placement, "float32")
        self.sample_rate: int = voice.gives.sample_rate if vocoder is None else vocoder.sample_rate

    def stream(self, text: str, *, speed: float = 1.0, seed: int | None = None) -> SpeechStream:
        """Speak a text part by part: `for piece in speaker.stream(text): play(piece)`.

        Args:
            text: any; what is not sayable is left out with a `TextLeftOutWarning`.
            speed: 1.0 is the voice's own pace; 0.25 to 4.
            seed: of what is random; None: another one each time.

        Raises:
            InputError: the text is empty, or speed or seed is out of range. Later, from the stream: nothing in the text
                can be said, or a sentence cannot be read.
        """
        if not text.strip():
            raise InputError("the text is empty; give at least one word", code="text-empty")
        if not SPEEDS[0] <= speed <= SPEEDS[1]:
            least, most = SPEEDS
            text_ = "speed is {got!r}; allowed: {least} to {most}"
            raise InputError(text_, code="speed-range", got=speed, least=least, most=most)
        if seed is None:
            seed = int(np.random.SeedSequence().generate_state(1)[0])
        if not 0 <= seed <= _LARGEST_SEED:
            raise InputError("seed is {got!r}; allowed: 0 to {most}", code="seed-range", got=seed, most=_LARGEST_SEED)
        conditions = {
            "speed": torch.tensor([speed], dtype=torch.float32, device=CPU),
            "seed": torch.tensor([seed], dtype=torch.int64, device=CPU),
        }
        front = StageStream(self._chain, self._voice.takes, self._voice.gives.name, True, conditions)
        return SpeechStream(self._voice, front, self._after(), text, self.sample_rate)

    def speak(self, text: str, *, speed: float = 1.0, seed: int | None = None) -> Speech:
        """Speak a text, and report where the time went.

        Args:
            text, speed, seed: as for `stream`.

        Raises:
            InputError: see `stream`.
        """
        start = time.perf_counter()
        stream = self.stream(text, speed=speed, seed=seed)
        audio = torch.cat(list(stream), dim=1)
        total_ms = (time.perf_counter() - start) * 1e3
        return Speech(audio, self.sample_rate, stream.stages, total_ms, stream.first_audio_ms, stream.left_out)

    def _after(self) -> list[Step]:
        """What the output of the front end passes through, in order."""
        if self.vocoder is None:
            return []
        decoder = self.vocoder.stream(timed=True)
        gives = self._voice.gives
        if not isinstance(gives, AudioSpec):
            return [decoder]
        same = gives.sample_rate == self.sample_rate
        resampling: list[Step] = [] if same else [StreamingResampler(gives.sample_rate, self.sample_rate)]
        return [*resampling, self.vocoder.mel_stream(timed=True), decoder]


class Step(Protocol):
    """A stream between the front end and the listener."""

    @property
    def stages(self) -> list[StageRecord]: ...
    def push(self, values: Tensor, /) -> Tensor: ...
    def flush(self) -> Tensor: ...


class SpeechStream(Iterator[Tensor]):
    """The pieces of a spoken text, each computed when it is asked for. Made by `Speaker.stream`.

    Shape: (1, T) each, T >= 1

    Attributes:
        sample_rate: in Hz.
        first_audio_ms: time of computing until the first samples were there; 0 before that.
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
        self.sample_rate, self.first_audio_ms, self.total_ms = sample_rate, 0.0, 0.0

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
                audio = self._advance()
                if audio is not None and audio.shape[1]:
                    if not self.first_audio_ms:
                        self.first_audio_ms = self.total_ms + (time.perf_counter() - start) * 1e3
                    return audio
            raise StopIteration
        finally:
            self.total_ms += (time.perf_counter() - start) * 1e3

    def _advance(self) -> Tensor | None:
        """Speak the next part, or end."""
        part = self._next_part()
        if part is None:
            self._ended = True
            self._judge()
            return self._flushed()
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
            warnings.warn(text, TextLeftOutWarning, stacklevel=4)


class StreamingResampler:
    """Audio at another rate, piece by piece: the pieces are one signal.

    Args:
        from_hz, to_hz: sample rates.
    """

    def __init__(self, from_hz: int, to_hz: int) -> None:
        self._stream = soxr.ResampleStream(from_hz, to_hz, 1, dtype="float32", quality="HQ")
        self._records: list[StageRecord] = []

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


def load_speaker(
    voice: str | None = None,
    *,
    vocoder: str | os.PathLike[str] | Vocoder | None = None,
    device: str = "auto",
    placement: PlacementSpec = None,
) -> Speaker:
    """Load a voice, ready to speak.

    Args:
        voice: a name from `list_voices`, also with its front end: "hibari/heart"; None: the first.
        vocoder: what decodes the voice's features, or copies its audio: a vocoder, or a name as for `load_vocoder`;
            None: the voice's own audio.
        device: of the stages that `placement` does not name, and of a vocoder that is loaded here.
        placement: of the voice's stages, see `make_placement`.

    Raises:
        VoiceNotFoundError: no such voice, or it must be downloaded first.
        MissingPackageError: the package of the front end is not installed.
        InputError: the voice gives features, and there is no vocoder of their convention.
        PlacementError, VocoderNotFoundError, ...: see `make_placement` and `load_vocoder`.
    """
    front_end, found = find_voice(voice)
    loaded = FRONTENDS[front_end].load(found.name)
    if vocoder is not None and not isinstance(vocoder, Vocoder):
        vocoder = load_vocoder(vocoder, device=device)
    return Speaker(f"{front_end}/{found.name}", loaded, vocoder, placement, device)


def speak(
    text: str,
    voice: str | None = None,
    *,
    vocoder: str | os.PathLike[str] | Vocoder | None = None,
    speed: float = 1.0,
    seed: int | None = None,
    device: str = "auto",
    placement: PlacementSpec = None,
) -> Speech:
    """Speak a text. For many texts, `load_speaker` loads the voice once.

    Args:
        text, speed, seed: as for `Speaker.stream`.
        voice, vocoder, device, placement: as for `load_speaker`.

    Raises:
        InputError, VoiceNotFoundError, MissingPackageError, ...: see `load_speaker` and `Speaker.stream`.
    """
    return load_speaker(voice, vocoder=vocoder, device=device, placement=placement).speak(text, speed=speed, seed=seed)


def speak_stream(
    text: str,
    voice: str | None = None,
    *,
    vocoder: str | os.PathLike[str] | Vocoder | None = None,
    speed: float = 1.0,
    seed: int | None = None,
    device: str = "auto",
    placement: PlacementSpec = None,
) -> SpeechStream:
    """Speak a text piece by piece, as the pieces are made: `for piece in speak_stream(text): play(piece)`.

    Args:
        text, voice, vocoder, speed, seed, device, placement: as for `speak`.

    Raises:
        InputError, VoiceNotFoundError, MissingPackageError, ...: see `load_speaker` and `Speaker.stream`.
    """
    return load_speaker(voice, vocoder=vocoder, device=device, placement=placement).stream(text, speed=speed, seed=seed)
