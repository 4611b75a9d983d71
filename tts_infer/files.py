"""From disk to disk: one file in, one file out, in memory that does not grow with their length."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tts_infer.config import MelConfig
from tts_infer.deprecated import renamed
from tts_infer.devices import device_lock
from tts_infer.dsp.mel import log_mel_error_db
from tts_infer.errors import FileError, InputError
from tts_infer.io.audio import read_audio, read_blocks, seconds_of
from tts_infer.io.features import open_features, prefix_errors, require_mel_shape
from tts_infer.io.sources import holds_features
from tts_infer.io.writer import AudioWriter, SampleFormat, audio_writer
from tts_infer.runtime.timing import StageRecord
from tts_infer.vocoder import PIECE_FRAMES, Vocoder

# Frames that are read at once, of what is long. More brings no speed here and costs memory.
_BLOCK_FRAMES = 1024


@dataclass(frozen=True)
class FileSynthesis:
    """What `synthesize_file` did."""

    sample_rate: int
    samples: int
    frames: int
    clipped_samples: int
    stages: list[StageRecord]
    total_ms: float  # of computing: reading and writing not included
    log_mel_error_db: float | None  # of a copy from its input; None for features, and a copy too short to have one

    @property
    def seconds(self) -> float:
        """Seconds of audio."""
        return self.samples / self.sample_rate

    @property
    def rtfx(self) -> float:
        """Seconds of audio per second of compute."""
        return self.seconds / (self.total_ms / 1e3)

    xrt = renamed("xrt", "rtfx")

    def as_text(self, vocoder: str) -> str:
        """A few lines for people, the stages as a table.

        Args:
            vocoder: name of what decoded.
        """
        lines = [f"{self.seconds:.2f} s at {self.sample_rate} Hz, {vocoder}"]
        lines += [f"{'stage':<10}{'device':<16}{'method':<10}{'ms':>9}{'share':>8}{'moved':>12}"]
        total = sum(row["ms"] for row in self.stages) or 1.0
        for row in self.stages:
            moved = f"{row['bytes']} B" if row["bytes"] else ""
            share = f"{100 * row['ms'] / total:.0f} %"
            lines += [f"{row['stage']:<10}{row['device']:<16}{row['method']:<10}{row['ms']:>9.2f}{share:>8}{moved:>12}"]
        lines += [f"total {self.total_ms:.2f} ms, {self.rtfx:.1f} x real time"]
        if self.clipped_samples:
            lines += [f"{self.clipped_samples} samples clipped to full scale; sample format float32 keeps them"]
        if self.log_mel_error_db is not None:
            lines += [f"log-mel error of the copy {self.log_mel_error_db:.2f} dB"]
        return "\n".join(lines)


def synthesize_file(
    vocoder: Vocoder,
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    sample_format: SampleFormat = "pcm16",
) -> FileSynthesis:
    """Decode a file of features, or copy a file of audio, into a file that is written whole or not at all.

    What is long is read, decoded and written in pieces: audio of every kind, and features in .npy files. Features of
    other kinds are read at once, and written in pieces.

    Args:
        vocoder: what decodes.
        source: audio, or one mel (.npy, .npz, .safetensors, .pt).
        target: .wav or .flac.
        sample_format: how samples are stored.

    Raises:
        FileError: a file that cannot be read or written, or `target` is `source`.
        InputError, InputTypeError: see `Vocoder.decode` and `Vocoder.mel`, with the name of `source`; or it holds a
            batch.
    """
    source, target = Path(source), Path(target)
    if os.path.exists(target) and os.path.exists(source) and os.path.samefile(source, target):
        raise FileError(f"output {target} is the input itself; give another name")
    run = _decode if holds_features(source) else _copy
    with audio_writer(target, vocoder.sample_rate, sample_format) as writer, prefix_errors(source):
        return run(vocoder, source, writer)


def _decode(vocoder: Vocoder, source: Path, writer: AudioWriter) -> FileSynthesis:
    features = open_features(source)
    require_mel_shape(features.shape, vocoder.n_mels)
    if features.ndim == 3 and features.shape[0] != 1:
        raise InputError(f"mel holds a batch of {features.shape[0]}; expected one mel a file")
    frames = features.shape[-1]
    if frames <= PIECE_FRAMES:
        result = vocoder.synthesize(features)
        writer.write(result.audio[0])
        return _report(vocoder, writer, frames, result.stages, result.total_ms)
    stream, clock = vocoder.stream(timed=True), _Clock()
    for start in range(0, frames, _BLOCK_FRAMES):
        piece = features[..., start : start + _BLOCK_FRAMES]
        if isinstance(piece, np.memmap):  # anew: what was read counts as memory of this process until it is unmapped
            piece, features = np.array(piece), open_features(source)
        with clock:
            audio = stream.push(piece)
        writer.write(audio[0])
    with clock:
        audio = stream.flush()
    writer.write(audio[0])
    return _report(vocoder, writer, frames, stream.stages, clock.ms)


def _copy(vocoder: Vocoder, source: Path, writer: AudioWriter) -> FileSynthesis:
    config = vocoder.mel_config
    if _is_short(source, config):
        result = vocoder.synthesize(audio=read_audio(source, config.sample_rate).samples)
        writer.write(result.audio[0])
        error = None
        if result.audio.shape[-1]:
            error = log_mel_error_db(result.features, vocoder.mel(result.audio), config)
        return _report(vocoder, writer, result.features.shape[-1], result.stages, result.total_ms, error)
    mels, stream, clock = vocoder.mel_stream(timed=True), vocoder.stream(timed=True), _Clock()
    check, error_db = vocoder.mel_stream(), _MeanError(config)
    for samples in _blocks(source, config):
        with clock:
            mel = mels.flush() if samples is None else mels.push(samples)
            audios = [stream.push(mel)]
            if samples is None:
                audios.append(stream.flush())
        error_db.add(0, mel)
        for audio in audios:
            writer.write(audio[0])
            error_db.add(1, check.push(audio))
    error_db.add(1, check.flush())
    return _report(vocoder, writer, error_db.frames, mels.stages + stream.stages, clock.ms, error_db.mean)


def _is_short(source: Path, config: MelConfig) -> bool:
    return (seconds_of(source) or 0) * config.sample_rate <= PIECE_FRAMES * config.hop_length


def _blocks(source: Path, config: MelConfig) -> Iterator[NDArray[np.float32] | None]:
    """Blocks of samples, and None at the end."""
    seconds = _BLOCK_FRAMES * config.hop_length / config.sample_rate
    yield from read_blocks(source, config.sample_rate, seconds)
    yield None


class _MeanError:
    """`log_mel_error_db` of two log-mels that arrive in pieces, not at the same time."""

    def __init__(self, config: MelConfig) -> None:
        self.frames = 0  # of the first
        self._config = config
        self._waiting: list[Tensor | None] = [None, None]
        self._sum, self._common = 0.0, 0

    def add(self, which: int, mel: Tensor) -> None:
        self.frames += 0 if which else mel.shape[-1]
        with device_lock(mel.device):
            before = self._waiting[which]
            self._waiting[which] = mel if before is None else torch.cat([before, mel], -1)
            self._compare(*self._waiting)

    def _compare(self, first: Tensor | None, second: Tensor | None) -> None:
        common = 0 if first is None or second is None else min(first.shape[-1], second.shape[-1])
        if first is not None and second is not None and common:
            self._sum += common * log_mel_error_db(first[..., :common], second[..., :common], self._config)
            self._common += common
            self._waiting = [first[..., common:], second[..., common:]]

    @property
    def mean(self) -> float | None:
        return self._sum / self._common if self._common else None


class _Clock:
    """Adds up the time of its bodies."""

    def __init__(self) -> None:
        self.ms = 0.0

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.ms += (time.perf_counter() - self._start) * 1e3


def _report(
    vocoder: Vocoder,
    writer: AudioWriter,
    frames: int,
    stages: list[StageRecord],
    total_ms: float,
    error_db: float | None = None,
) -> FileSynthesis:
    rate = vocoder.sample_rate
    return FileSynthesis(rate, writer.samples, frames, writer.clipped_samples, stages, total_ms, error_db)
