"""Write audio files, whole or not at all, at once or piece by piece."""

from __future__ import annotations

import os
import reprlib
import shutil
import struct
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import soundfile
from numpy.typing import NDArray
from torch import Tensor

from tts_infer.arguments import checked
from tts_infer.errors import FileError, InputError, InputTypeError
from tts_infer.io.audio import as_samples, to_int16
from tts_infer.io.comments import NO_COMMENTS, Comments, list_chunk
from tts_infer.io.inputs import name_of
from tts_infer.io.targets import (
    RATES_HZ,
    SampleFormat,
    check_format,
    check_writable,
    file_errors,
    require_place,
    suffix_of_target,
    whole_file,
)

__all__ = [
    "AudioWriter",
    "SampleFormat",
    "audio_writer",
    "check_writable",
    "require_place",
    "wav_header",
    "whole_file",
    "write_audio",
]

Target = str | os.PathLike[str] | BinaryIO
_MAX_WAV_BYTES = 2**32 - 1024  # the sizes in a header have 32 bits


@checked("sample_format", "comments")
def write_audio(
    path: Target,
    audio: Tensor | NDArray[np.floating],
    sample_rate: int,
    sample_format: SampleFormat = "pcm16",
    comments: Comments = NO_COMMENTS,
) -> int:
    """Write mono audio as WAV or FLAC, whole or not at all.

    Args:
        path: .wav or .flac; an existing file is replaced once the new one is complete. A pipe, or a file that is open
            for writing bytes, gets a WAV file, all at once at the end.
        audio: full scale 1.0; its level is not changed.
        sample_rate: in Hz.
        sample_format: "pcm16", or "float32" (WAV only).
        comments: what the file says of itself: "software", "artist" and "comment".

    Returns:
        The number of samples that were clipped to full scale; 0 for float32, which never clips.

    Shape: audio of (T,)
    Raises:
        FileError, InputError, InputTypeError: see `audio_writer` and `AudioWriter.write`.
    """
    with audio_writer(path, sample_rate, sample_format, comments) as writer:
        writer.write(audio)
    return writer.clipped_samples


class AudioWriter:
    """An open file, made by `audio_writer`."""

    def __init__(self, path: Path, encoder: _Wav | _Flac, sample_format: SampleFormat) -> None:
        self._path, self._encoder, self._sample_format = path, encoder, sample_format
        self.samples = 0
        self.clipped_samples = 0  # to full scale, so far

    def write(self, audio: Tensor | NDArray[np.floating]) -> None:
        """Append samples.

        Shape: (T,)
        Raises:
            FileError: the system refuses to write, or a WAV file becomes too long.
            InputError, InputTypeError: see `to_int16`; or audio has more than one dimension.
        """
        encoded, clipped = to_int16(audio) if self._sample_format == "pcm16" else (as_samples(audio), 0)
        if encoded.ndim != 1:
            text = "audio to write has shape {shape}; expected (T,), one channel of one item: give {part}"
            raise InputError(text, code="audio-not-1d", shape=encoded.shape, part=_one_channel(encoded.shape))
        self.samples += len(encoded)
        self.clipped_samples += clipped
        with file_errors(self._path):
            self._encoder.write(encoded)


def _one_channel(shape: tuple[int, ...]) -> str:
    """How to take one channel of audio of another shape than (T,): (B, T), or (T, channels) as soundfile has it."""
    if not shape:
        return "audio[None]"
    return "audio[:, 0]" if len(shape) == 2 and shape[1] < shape[0] else "audio" + "[0]" * (len(shape) - 1)


@contextmanager
def audio_writer(
    path: Target,
    sample_rate: int,
    sample_format: SampleFormat = "pcm16",
    comments: Comments = NO_COMMENTS,
) -> Iterator[AudioWriter]:
    """Write mono audio piece by piece, whole or not at all: `with audio_writer(...) as writer: writer.write(piece)`.

    The file gets its name when the body ends without an error. Its bytes depend only on the samples.

    Args:
        path, sample_rate, sample_format, comments: as for `write_audio`.

    Raises:
        FileError: see `check_writable`; or the system refuses to write.
        InputError: a sample rate that the format cannot hold, or a FLAC file without samples.
    """
    if not isinstance(path, (str, os.PathLike)):
        with _to_open_file(path, sample_rate, sample_format, comments) as writer:
            yield writer
        return
    check_writable(path, sample_format)
    path, suffix = Path(path), suffix_of_target(path)
    rate = _check_rate(sample_rate, suffix)
    with ExitStack() as stack:
        with file_errors(path):
            part = stack.enter_context(whole_file(path))
            file = open(part, "wb")  # noqa: SIM115  closed by the next line
            stack.callback(_close_quietly, file)
            encoder = _Wav(file, rate, sample_format, comments) if suffix == ".wav" else _Flac(file, rate, comments)
        yield AudioWriter(path, encoder, sample_format)
        with file_errors(path):
            encoder.finish()
            file.close()
            stack.close()  # the file gets its name


def _check_rate(sample_rate: Any, suffix: str) -> int:
    rates = RATES_HZ[suffix]
    if not isinstance(sample_rate, (int, np.integer)) or int(sample_rate) not in rates:
        text = "sample_rate is {rate}; a {suffix} file has a whole number of {least} to {most} Hz"
        given, least, most = reprlib.repr(sample_rate), rates[0], rates[-1]
        raise InputError(text, code="sample-rate-unwritable", rate=given, suffix=suffix, least=least, most=most)
    return int(sample_rate)  # a numpy number may overflow


@contextmanager
def _to_open_file(
    file: BinaryIO, sample_rate: int, sample_format: SampleFormat, comments: Comments
) -> Iterator[AudioWriter]:
    """A writer whose file is copied to an open one when the body ends without an error."""
    if not callable(getattr(file, "write", None)):
        text = "output is a {kind}; expected a path, or a file that is open for writing bytes"
        raise InputTypeError(text, code="target-type", kind=type(file).__name__)
    with ExitStack() as stack:
        with file_errors(Path(name_of(file))):
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="tts-infer-"))
        made = Path(folder, "part.wav")
        with audio_writer(made, sample_rate, sample_format, comments) as writer:
            yield writer
        with file_errors(Path(name_of(file))), open(made, "rb") as content:
            try:
                shutil.copyfileobj(content, file)
                file.flush()
            except TypeError:  # it takes text
                text = "output {path} takes text; open it for writing bytes"
                raise InputTypeError(text, code="target-not-binary", path=name_of(file)) from None


def _close_quietly(file: BinaryIO) -> None:
    """Close a file after an error; closing flushes the buffer, and may fail with the same error again."""
    with suppress(OSError):
        file.close()


@checked("sample_format", "comments")
def wav_header(
    sample_rate: int, samples: int, sample_format: SampleFormat = "pcm16", comments: Comments = NO_COMMENTS
) -> bytes:
    """Make everything of a mono WAV file but its samples.

    libsndfile is not used, for two reasons: a pipe needs the header before the samples, and libsndfile stores the time
    of day in float files (turned off, this leaves a PAD chunk), so that equal samples would give unequal files.

    Raises:
        FileError: more samples than a WAV file holds, or no such sample format.
        InputError: no WAV file has such a rate, or so few samples.
    """
    _check_rate(sample_rate, ".wav")
    check_format("a.wav", sample_format)
    if not isinstance(samples, (int, np.integer)) or isinstance(samples, bool) or samples < 0:
        text = "samples is {got}; allowed: a whole number, 0 or more"
        raise InputError(text, code="samples-count", got=reprlib.repr(samples))
    kind, width = (1, 2) if sample_format == "pcm16" else (3, 4)
    size = samples * width
    if size > _MAX_WAV_BYTES:
        text = "a WAV file holds at most 4 GiB, {samples} samples are more; use FLAC, or raw samples (--raw)"
        raise FileError(text, code="wav-too-long", samples=samples)
    chunks = b"fmt " + struct.pack("<IHHIIHH", 16, kind, 1, sample_rate, sample_rate * width, width, 8 * width)
    if kind == 3:  # formats that are not PCM state the number of samples
        chunks += b"fact" + struct.pack("<II", 4, samples)
    chunks += list_chunk(comments)
    chunks += b"data" + struct.pack("<I", size)
    return b"RIFF" + struct.pack("<I", 4 + len(chunks) + size) + b"WAVE" + chunks


class _Wav:
    """A header, samples, and at the end the header again with the number of samples."""

    def __init__(self, file: BinaryIO, sample_rate: int, sample_format: SampleFormat, comments: Comments) -> None:
        self._file, self._sample_rate, self._sample_format = file, sample_rate, sample_format
        self._comments = comments
        self._samples = 0
        file.write(self._header())

    def write(self, samples: NDArray[Any]) -> None:
        self._samples += len(samples)
        self._header()  # refuses too many
        self._file.write(np.ascontiguousarray(samples, samples.dtype.newbyteorder("<")).data)

    def finish(self) -> None:
        self._file.seek(0)
        self._file.write(self._header())

    def _header(self) -> bytes:
        return wav_header(self._sample_rate, self._samples, self._sample_format, self._comments)


class _Flac:
    """libsndfile's encoder. It writes to memory, because it does not report what the system says about a file."""

    def __init__(self, file: BinaryIO, sample_rate: int, comments: Comments) -> None:
        self._file, self._memory = file, _Memory()
        self._sound = soundfile.SoundFile(self._memory, "w", sample_rate, 1, "PCM_16", format="FLAC")
        for name, text in comments.items():
            setattr(self._sound, name, text)

    def write(self, samples: NDArray[Any]) -> None:
        self._sound.write(samples)
        self._flush()

    def finish(self) -> None:
        if not self._sound.frames:  # libsndfile would write nothing; in a header, 0 means an unknown length
            raise InputError("a FLAC file cannot hold an empty waveform; write a .wav file", code="flac-empty")
        self._sound.close()
        self._flush()

    def _flush(self) -> None:
        for position, data in self._memory.writes:
            if position != self._file.tell():
                self._file.seek(position)
            self._file.write(data)
        self._memory.writes.clear()


class _Memory:
    """A file for libsndfile that keeps a list of what to write where."""

    def __init__(self) -> None:
        self.writes: list[tuple[int, bytes]] = []
        self._position = self._size = 0

    def write(self, data: bytes) -> int:
        self.writes.append((self._position, data))
        self._position += len(data)
        self._size = max(self._size, self._position)
        return len(data)

    def read(self, size: int) -> bytes:
        return b""

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._position = offset + (0, self._position, self._size)[whence]
        return self._position

    def tell(self) -> int:
        return self._position
