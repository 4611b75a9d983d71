"""Audio for event loops: frames of one length, as they are made. Workers compute, so the loop is never held up."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from tts_infer.arguments import checked
from tts_infer.errors import InputError, InputTypeError
from tts_infer.io.audio import to_int16
from tts_infer.io.targets import require_audio
from tts_infer.runtime import workers
from tts_infer.streaming import Array, StreamingDecoder

T = TypeVar("T")
LiveSource = Array | Iterable[Array] | AsyncIterable[Array]
TextSource = str | Iterable[str] | AsyncIterable[str]
Pcm = NDArray[np.int16]

# Frames that are decoded at once. In longer pieces a frame costs little less, but the first audio comes later.
PIECE_FRAMES = 64


class Spoken(Iterator[Tensor], Protocol):
    """The audio of a text, piece by piece, each computed when it is asked for. Shape: (1, T) each

    Attributes:
        left_out: words and symbols so far that the voice cannot read.
    """

    @property
    def left_out(self) -> tuple[str, ...]: ...


@runtime_checkable
class Speaks(Protocol):
    """What makes audio of a text.

    Attributes:
        sample_rate: in Hz.
    """

    @property
    def sample_rate(self) -> int: ...

    def stream(self, text: str, *, speed: float = 1.0) -> Spoken: ...


@dataclass
class Meter:
    """What was made so far: samples, how many of them were clipped to full scale, and words that were not spoken."""

    samples: int = 0
    clipped_samples: int = 0
    left_out: tuple[str, ...] = ()

    def counted(self, audio: Tensor) -> Pcm:
        """Audio as 16-bit samples, counted. Shape: (1, T) -> (T,)"""
        samples, clipped = to_int16(audio[0])
        self.samples += len(samples)
        self.clipped_samples += clipped
        return samples


class LiveAudio(AsyncIterator[Pcm]):
    """Frames of 16-bit audio as it is made: `async for frame in vocoder.astream(mels): await send(frame)`.

    Every frame has the same length. Silence fills up the last one.

    The loop only hands frames on: a worker computes, a thread of its own waits for a source that is not asynchronous.
    Nothing is computed before it is asked for, so a slow reader makes the source wait. Who stops (`break`, a cancelled
    task, `aclose`) frees the stream; what a worker computes at that moment is dropped.

    Args:
        pieces: audio as it is made, (T,) each; see `decoded` and `spoken`.
        meter: counts it.
        sample_rate: of the audio, in Hz.
        frame_ms: length of a frame.

    Shape: frames (frame_ms / 1000 * sample_rate,)
    Raises:
        InputError: a frame is not a whole number of samples, 1 or more; or a frame is asked for after one that a
            cancelled task waited for. And what the pieces raise.
    """

    def __init__(
        self, pieces: AsyncGenerator[Pcm, None], meter: Meter, sample_rate: int, frame_ms: float = 20.0
    ) -> None:
        self._meter, self._frames = meter, _cut(pieces, frame_samples(sample_rate, frame_ms))
        self._is_cut = False

    @property
    def clipped_samples(self) -> int:
        """Samples so far that were clipped to full scale."""
        return self._meter.clipped_samples

    @property
    def left_out(self) -> tuple[str, ...]:
        """Words and symbols so far that the voice cannot read."""
        return self._meter.left_out

    async def __anext__(self) -> Pcm:
        if self._is_cut:
            text = "this audio was cut off, because the task that waited for it was cancelled or timed out; begin anew"
            raise InputError(text, code="live-cut")
        try:
            return await self._frames.__anext__()
        except asyncio.CancelledError:
            self._is_cut = True
            raise

    async def aclose(self) -> None:
        """Stop, and free the stream."""
        await self._frames.aclose()


@checked("stream", "frame_ms")
def live_mels(stream: StreamingDecoder, mels: LiveSource, sample_rate: int, frame_ms: float = 20.0) -> LiveAudio:
    """Decode mels while they arrive; see `LiveAudio`.

    Args:
        stream: decodes. It belongs to this audio alone.
        mels: one mel, or pieces of one as they come: an iterable, or an asynchronous one.
        sample_rate, frame_ms: see `LiveAudio`.

    Raises:
        InputError, InputTypeError: see `LiveAudio` and, while it runs, `decoded`.
    """
    meter = Meter()
    return LiveAudio(decoded(stream, mels, meter), meter, sample_rate, frame_ms)


@checked()
def live_speech(speaker: Speaks, texts: TextSource, frame_ms: float = 20.0, speed: float = 1.0) -> LiveAudio:
    """Speak texts while they arrive, as a language model writes them; see `LiveAudio`.

    Args:
        speaker: a voice.
        texts: one text, or several, sentences at best: an iterable, or an asynchronous one.
        frame_ms: see `LiveAudio`.
        speed: as the speaker takes it.

    Raises:
        InputError, InputTypeError: see `LiveAudio`; and, while it runs, no text, or what the speaker refuses.
    """
    meter = Meter()
    return LiveAudio(spoken(speaker, texts, meter, speed), meter, speaker.sample_rate, frame_ms)


def frame_samples(sample_rate: int, frame_ms: float) -> int:
    """Samples of a frame.

    Raises:
        InputError: they are not a whole number, 1 or more.
    """
    samples = frame_ms * sample_rate / 1000
    if not (1 <= samples < math.inf and abs(samples - round(samples)) < 1e-6):
        text = "frame_ms is {frame_ms:g}, which is {samples:g} samples at {rate} Hz; give a whole number of samples"
        raise InputError(text, code="live-frame-ms", frame_ms=frame_ms, samples=samples, rate=sample_rate)
    return round(samples)


async def compute(task: Callable[[], T]) -> T:
    """Let a worker compute. Of a cancelled caller, a task that waits is dropped, and one that runs ends unheard."""
    return await asyncio.wrap_future(workers.submit(task))


async def decoded(stream: StreamingDecoder, mels: LiveSource, meter: Meter) -> AsyncGenerator[Pcm, None]:
    """Decode a source of mels.

    Args:
        stream, mels: see `live_mels`.
        meter: counts what is made.

    Shape: pieces (1, C, L) or (C, L) -> (T,), T > 0
    Raises:
        InputError: a batch of several mels; no mel, or too short a one; and see `StreamingDecoder.push`.
        InputTypeError: mels cannot be iterated; and see `StreamingDecoder.push`.
    """
    source = [mels] if isinstance(mels, (Tensor, np.ndarray)) else mels
    async with aclosing(_iterated(source, "mels")) as pieces:
        async for mel in pieces:
            for piece in _split(mel):
                samples = await compute(partial(_pushed, stream, piece, meter))
                if len(samples):
                    yield samples
    samples = await compute(lambda: meter.counted(stream.flush()))
    require_audio(meter.samples)
    if len(samples):
        yield samples


async def spoken(speaker: Speaks, texts: TextSource, meter: Meter, speed: float = 1.0) -> AsyncGenerator[Pcm, None]:
    """Speak a source of texts.

    Args:
        speaker, texts, speed: see `live_speech`.
        meter: counts what is made.

    Shape: (T,) each, T > 0
    Raises:
        InputError, InputTypeError: see `live_speech`.
    """
    async with aclosing(_iterated([texts] if isinstance(texts, str) else texts, "texts")) as source:
        async for text in source:
            pieces = await compute(partial(speaker.stream, text, speed=speed))
            take = partial(_next_samples, pieces, meter, meter.left_out)
            while (samples := await compute(take)) is not None:
                if len(samples):
                    yield samples
    if not meter.samples:
        raise InputError("there is no text; give at least one word", code="live-no-text")


def _next_samples(pieces: Spoken, meter: Meter, left_out: tuple[str, ...]) -> Pcm | None:
    """The next piece of audio; None after the last. Shape: (T,)

    Args:
        pieces, meter: what is spoken, and what counts it.
        left_out: of the texts before.
    """
    audio = next(pieces, None)
    meter.left_out = left_out + pieces.left_out
    return None if audio is None else meter.counted(audio)


def _split(mel: Array) -> Iterator[Array]:
    """A mel in pieces of `PIECE_FRAMES`; what is no mel stays whole, and is refused by the stream."""
    shape = tuple(getattr(mel, "shape", ()))
    if len(shape) == 3 and shape[0] != 1:
        text = "a piece has shape {shape}; live audio is one signal: give (1, C, L) or (C, L)"
        raise InputError(text, code="live-batch", shape=shape)
    if len(shape) not in (2, 3) or shape[-1] <= PIECE_FRAMES:
        yield mel
        return
    for start in range(0, shape[-1], PIECE_FRAMES):
        yield mel[..., start : start + PIECE_FRAMES]


def _pushed(stream: StreamingDecoder, piece: Array, meter: Meter) -> Pcm:
    """Push a piece: the samples that are due. Shape: (1, C, L) or (C, L) -> (T,)"""
    return meter.counted(stream.push(piece))


async def _cut(pieces: AsyncGenerator[Pcm, None], size: int) -> AsyncGenerator[Pcm, None]:
    """Frames of `size` samples; zeros fill up the last. Shape: pieces (T,) -> (size,)"""
    held = np.empty(0, np.int16)
    async with aclosing(pieces):
        async for samples in pieces:
            held = np.concatenate([held, samples])
            whole = len(held) // size * size
            for start in range(0, whole, size):
                yield held[start : start + size]
            held = held[whole:]
    if len(held):
        yield np.pad(held, (0, size - len(held)))


async def _iterated(source: Iterable[T] | AsyncIterable[T], what: str) -> AsyncGenerator[T, None]:
    """The items of a source. One that is not asynchronous may wait or compute, so it has a thread of its own."""
    if isinstance(source, AsyncIterable):
        async for item in source:
            yield item
        return
    if not isinstance(source, Iterable):
        text = "{what} are a {kind}; expected an iterable, asynchronous or not"
        raise InputTypeError(text, code="live-source", what=what, kind=type(source).__name__)
    items, thread = iter(source), ThreadPoolExecutor(1, "tts-infer-source")
    try:
        while (found := await asyncio.get_running_loop().run_in_executor(thread, _next, items)) is not None:
            yield found[0]
    finally:
        thread.shutdown(wait=False)


def _next(items: Iterator[T]) -> tuple[T] | None:
    """The next item, as a tuple; None after the last. No future can hold a StopIteration."""
    for item in items:
        return (item,)
    return None
