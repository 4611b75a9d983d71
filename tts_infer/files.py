"""Synthesis of files: one file in, one file out. Memory does not grow with their length."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tts_infer.arguments import checked
from tts_infer.config import MelConfig
from tts_infer.deprecated import renamed
from tts_infer.devices import device_lock
from tts_infer.dsp.mel import log_mel_error_db
from tts_infer.dsp.tiles import READ_FRAMES
from tts_infer.errors import FileError, InputError
from tts_infer.io.audio import read_audio, read_blocks, seconds_of
from tts_infer.io.codes import holds_integers
from tts_infer.io.feature_files import open_features
from tts_infer.io.features import prefix_errors
from tts_infer.io.inputs import Held, Source, hold, name_of
from tts_infer.io.notes import Note, SignalMeter, notes_of_output
from tts_infer.io.sources import Name, holds_features, is_path
from tts_infer.io.targets import require_audio
from tts_infer.io.writer import AudioWriter, SampleFormat, Target, audio_writer
from tts_infer.runtime.timing import StageRecord
from tts_infer.vocoder import Number, Vocoder


@dataclass(frozen=True)
class FileSynthesis:
    """The result of `synthesize_file`."""

    sample_rate: int
    samples: int
    frames: int
    clipped_samples: int
    stages: list[StageRecord]
    total_ms: float  # time of computing, without reading and writing
    log_mel_error_db: float | None  # difference of a copy from its input; None for features and very short copies
    notes: list[Note] = field(default_factory=list)  # what is odd: silence, cancelling channels, clipping

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
        """The report as a few lines of text, with a table of the stages.

        Args:
            vocoder: its name.
        """
        lines = [f"{self.seconds:.2f} s at {self.sample_rate} Hz, {vocoder}"]
        wide = max([10, *(2 + len(row["stage"]) for row in self.stages)])
        lines += [f"{'stage':<{wide}}{'device':<16}{'method':<10}{'ms':>9}{'share':>8}{'moved':>12}"]
        total = sum(row["ms"] for row in self.stages) or 1.0
        for row in self.stages:
            moved = f"{row['bytes']} B" if row["bytes"] else ""
            share = f"{100 * row['ms'] / total:.0f} %"
            lines += [
                f"{row['stage']:<{wide}}{row['device']:<16}{row['method']:<10}{row['ms']:>9.2f}{share:>8}{moved:>12}"
            ]
        lines += [f"total {self.total_ms:.2f} ms, {self.rtfx:.1f} x real time"]
        if self.clipped_samples:
            lines += [f"{self.clipped_samples} samples clipped to full scale; sample format float32 keeps them"]
        if self.log_mel_error_db is not None:
            lines += [f"log-mel error of the copy {self.log_mel_error_db:.2f} dB"]
        return "\n".join(lines + [f"note: {note.text}" for note in self.notes])


@checked()
def synthesize_file(
    vocoder: Vocoder,
    source: Source,
    target: Target,
    *,
    sample_format: SampleFormat = "pcm16",
    **conditions: Number,
) -> FileSynthesis:
    """Decode a file of features, or copy a file of audio. The output file is written whole or not at all.

    Long audio, and long features in .npy files, are read, decoded and written in pieces. Features in other files are
    read at once, decoded in pieces and written in pieces.

    Args:
        vocoder: decodes the features.
        source: audio, see `read_audio`, or one mel (.npy, .npz, .safetensors, .pt); for vocoders that take codes, also
            codes of (K, L).
        target: .wav or .flac, or what else `write_audio` takes.
        sample_format: how samples are stored.
        conditions: as for `Vocoder.synthesize`.

    Raises:
        FileError: a file cannot be read or written, or `target` is `source`.
        InputError, InputTypeError: see `Vocoder.decode` and `Vocoder.mel`; `source` holds a batch, or is too short to
            give any audio.
    """
    _refuse_same(source, target)
    with ExitStack() as stack:
        writer = _Metered(stack.enter_context(audio_writer(target, vocoder.sample_rate, sample_format)))
        stack.enter_context(prefix_errors(name_of(source)))
        if is_path(source) and holds_features(source):
            made = _decode(vocoder, Path(source), writer, conditions)
        else:
            made = _copy(vocoder, stack.enter_context(hold(source)), writer, conditions)
        require_audio(made.samples)
        return made


def _refuse_same(source: Source, target: Target) -> None:
    if not is_path(source) or not is_path(target) or not os.path.isfile(target) or not os.path.exists(source):
        return
    if os.path.samefile(source, target):
        text = "output {target} is the input itself; give another name"
        raise FileError(text, code="output-is-input", target=Path(target))


class _Metered:
    """A writer, and the meters of what is read and written."""

    def __init__(self, writer: AudioWriter) -> None:
        self.file, self.source, self.output = writer, SignalMeter(), SignalMeter()

    def write(self, audio: Tensor) -> None:
        """Shape: (T,)"""
        self.output.add(audio.cpu().numpy()[:, None])
        self.file.write(audio)

    def notes(self) -> list[Note]:
        return self.source.notes() + notes_of_output(self.output, self.file.samples, self.file.clipped_samples)


@checked()
def features_of_file(vocoder: Vocoder, source: Source) -> tuple[Tensor, dict[str, Any]]:
    """The features of a file, and the conditions that it says.

    Args:
        vocoder: what the features are for.
        source: as for `synthesize_file`.

    Shape: -> (1, C, L)
    Raises:
        FileError, InputError, InputTypeError: see `synthesize_file`.
    """
    with prefix_errors(name_of(source)):
        made, said = _features_of(vocoder, source)
        require_audio(vocoder.n_samples(made.shape[-1]))
        return made, said


def _features_of(vocoder: Vocoder, source: Source) -> tuple[Tensor, dict[str, Any]]:
    if not is_path(source) or not holds_features(source):
        return vocoder.mel(read_audio(source, vocoder.sample_rate).samples), {}
    features = _opened(vocoder, Path(source))
    if holds_integers(features):
        return vocoder.codes_to_features(features), vocoder.conditions_of(features)
    return vocoder.checked_features(features), {}


def _opened(vocoder: Vocoder, source: Path) -> Tensor | NDArray[Any]:
    """What a file of features holds for this vocoder, of one item. Shape: (1, C, L) or (C, L), or codes of (K, L)"""
    features = open_features(source, integers=vocoder.takes_codes)
    if vocoder.takes_codes and holds_integers(features):
        return _one_item(features)
    vocoder.features.require_shape(features.shape)
    if features.ndim == 3 and features.shape[0] != 1:
        raise InputError(
            "mel holds a batch of {batch}; expected one mel a file", code="mel-file-batch", batch=features.shape[0]
        )
    return features


def _decode(vocoder: Vocoder, source: Path, writer: _Metered, conditions: Mapping[str, Any]) -> FileSynthesis:
    features = _opened(vocoder, source)
    coded = vocoder.takes_codes and holds_integers(features)
    if coded:
        conditions = {**vocoder.conditions_of(features), **conditions}
    frames = features.shape[-1]
    if frames <= vocoder.max_frames:
        given: dict[str, Any] = {"codes" if coded else "features": features}
        result = vocoder.synthesize(**given, **conditions)
        writer.write(result.audio[0])
        return _report(vocoder, writer, frames, result.stages, result.total_ms)
    stream, pieces = vocoder.stream(timed=True, **conditions), _mel_pieces(source, features)
    del features  # see below
    for audio in stream.decode(map(vocoder.codes_to_features, pieces) if coded else pieces):
        writer.write(audio[0])
    return _report(vocoder, writer, frames, stream.stages, stream.total_ms)


def _one_item(codes: Any) -> Any:
    """The codes of a file without a batch axis. Shape: (K, L), (1, K, L) or (K, 1, L) -> (K, L)"""
    if codes.ndim == 3 and 1 in codes.shape[:2]:
        return codes[0] if codes.shape[0] == 1 else codes[:, 0]
    if codes.ndim != 2:
        text = "codes have shape {shape}; expected one item a file, (K, L)"
        raise InputError(text, code="codes-file-batch", shape=tuple(codes.shape))
    return codes


def _mel_pieces(source: Path, features: Tensor | NDArray[Any]) -> Iterator[Tensor | NDArray[Any]]:
    """The frames of a file in pieces of `READ_FRAMES`."""
    for start in range(0, features.shape[-1], READ_FRAMES):
        piece = features[..., start : start + READ_FRAMES]
        if isinstance(piece, np.memmap):  # map the file again: pages that were read count as memory until unmapped
            piece, features = np.array(piece), np.lib.format.open_memmap(source, mode="r")
        yield piece


def _copy(vocoder: Vocoder, source: Name | Held, writer: _Metered, conditions: Mapping[str, Any]) -> FileSynthesis:
    config = vocoder.mel_config
    if _is_short(source, vocoder):
        samples = read_audio(source, vocoder.sample_rate, writer.source).samples
        result = vocoder.synthesize(audio=samples, **conditions)
        writer.write(result.audio[0])
        error = None
        if result.audio.shape[-1]:
            error = log_mel_error_db(result.features, vocoder.mel(result.audio), config)
        return _report(vocoder, writer, result.features.shape[-1], result.stages, result.total_ms, error)
    mels, stream, check = vocoder.mel_stream(timed=True), vocoder.stream(timed=True, **conditions), vocoder.mel_stream()
    error_db = _MeanError(config)
    seconds = READ_FRAMES * vocoder.hop_length / vocoder.sample_rate
    blocks = read_blocks(source, vocoder.sample_rate, seconds, writer.source)
    for audio in stream.decode(error_db.seen(mels.compute(blocks))):
        writer.write(audio[0])
        error_db.add(1, check.push(audio))
    error_db.add(1, check.flush())
    spent_ms = mels.total_ms + stream.total_ms
    return _report(vocoder, writer, error_db.frames, mels.stages + stream.stages, spent_ms, error_db.mean)


def _is_short(source: Name | Held, vocoder: Vocoder) -> bool:
    seconds = seconds_of(source)
    return seconds is not None and seconds * vocoder.sample_rate <= vocoder.max_frames * vocoder.hop_length


class _MeanError:
    """`log_mel_error_db` of two log-mels that arrive in pieces of different lengths."""

    def __init__(self, config: MelConfig) -> None:
        self.frames = 0  # frames of the first mel so far
        self._config = config
        self._waiting: list[Tensor | None] = [None, None]
        self._sum, self._common = 0.0, 0

    def seen(self, mels: Iterator[Tensor]) -> Iterator[Tensor]:
        """Pass mels on, and add each to the first of the two."""
        for mel in mels:
            self.add(0, mel)
            yield mel

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


def _report(
    vocoder: Vocoder,
    writer: _Metered,
    frames: int,
    stages: list[StageRecord],
    total_ms: float,
    error_db: float | None = None,
) -> FileSynthesis:
    rate, file = vocoder.sample_rate, writer.file
    samples, clipped = file.samples, file.clipped_samples
    return FileSynthesis(rate, samples, frames, clipped, stages, total_ms, error_db, writer.notes())
