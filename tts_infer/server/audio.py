"""Answers that are audio: sent while it is made, or when it is whole."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial

from tts_infer.dsp.mismatch import ConventionCheck
from tts_infer.errors import few
from tts_infer.io.comments import NO_COMMENTS, Comments
from tts_infer.live import Meter, Pcm, compute, decoded, spoken
from tts_infer.server.admission import Admission
from tts_infer.server.bodies import DecodeRequest, SpeechRequest, array_of
from tts_infer.server.encoders import CONTENT_TYPES, SENT_WHILE_MADE, AudioFormat, encoder, size_of
from tts_infer.server.exchange import Exchange
from tts_infer.server.metrics import Metrics
from tts_infer.speaker import Speaker
from tts_infer.vocoder import Vocoder
from tts_infer.vocoders.features import MelSpec

WARNING = "x-tts-infer-warning"


@dataclass(frozen=True)
class Audio:
    """What an answer is made of.

    Attributes:
        pieces: 16-bit audio as it is made, (T,) each.
        sample_rate: in Hz.
        meter: counts it.
        samples: how many there will be; None: nobody knows yet.
        notes: further headers of the answer, once the first audio is there.
        comments: what a file of it says of itself.
    """

    pieces: AsyncGenerator[Pcm, None]
    sample_rate: int
    meter: Meter
    samples: int | None = None
    notes: Callable[[], dict[str, str]] = dict
    comments: Comments = field(default_factory=lambda: NO_COMMENTS)


async def decoded_audio(vocoder: Vocoder, body: bytes, asked: DecodeRequest) -> Audio:
    """The audio of a mel that was sent as a .npy file.

    Raises:
        InputError, InputTypeError: it is no array, or see `Vocoder.decode`.
    """

    def prepared() -> Audio:
        mel = vocoder.checked_features(array_of(body), check_convention=False)
        doubt = ConventionCheck(vocoder.mel_config)(mel) if isinstance(vocoder.features, MelSpec) else None
        notes = {} if doubt is None else warning(str(doubt))
        pieces = decoded(vocoder.stream(refine=asked.refine), mel, meter)
        return Audio(pieces, vocoder.sample_rate, meter, vocoder.n_samples(mel.shape[2]), notes.copy)

    meter = Meter()
    return await compute(prepared)


def spoken_audio(speaker: Speaker, asked: SpeechRequest) -> Audio:
    """The audio of a text. What the voice cannot read is told, as far as it is known by the first audio."""

    def notes() -> dict[str, str]:
        return warning(f"the voice cannot read, and left out: {few(meter.left_out)}") if meter.left_out else {}

    meter = Meter()
    return Audio(
        spoken(speaker, asked.input, meter, asked.speed), speaker.sample_rate, meter, None, notes, speaker.comments
    )


def warning(text: str) -> dict[str, str]:
    """The header that warns. Headers are ASCII."""
    return {WARNING: text.encode("ascii", "backslashreplace").decode()}


async def send_audio(
    exchange: Exchange, audio: Audio, audio_format: AudioFormat, streams: bool, admission: Admission, metrics: Metrics
) -> None:
    """Send audio while it is made, or when it is whole.

    Args:
        exchange: where to.
        audio, audio_format: what, and as what.
        streams: whether to send it while it is made, if the format allows it.
        admission: gives a place among the answers that are computed.
        metrics: counts what was sent.

    Raises:
        InputError: too many requests wait; the format cannot be made; or the input gives no audio.
        ReaderGoneError: the client does not read.
    """
    start, is_first = time.perf_counter(), True
    streams = streams and audio_format in SENT_WHILE_MADE
    output = encoder(audio_format, audio.sample_rate, audio.samples if streams else None, audio.comments)
    headers = {"content-type": CONTENT_TYPES[audio_format], "x-sample-rate": str(audio.sample_rate)}
    async with admission.place(), aclosing(audio.pieces) as pieces:
        async for samples in pieces:
            await compute(partial(output.write, samples))
            if is_first:
                metrics.first_audio(time.perf_counter() - start)
                is_first = False
            if streams:
                if not exchange.status:
                    await exchange.begin(200, headers | audio.notes() | _length(size_of(audio_format, audio.samples)))
                await exchange.write(output.taken())
        await compute(output.finish)
        rest = output.taken()
        if not exchange.status:
            await exchange.begin(200, headers | audio.notes() | _length(len(rest)))
        await exchange.write(rest, last=True)
    metrics.audio_s += audio.meter.samples / audio.sample_rate
    metrics.clipped_samples += audio.meter.clipped_samples


def _length(size: int | None) -> dict[str, str]:
    return {} if size is None else {"content-length": str(size)}
