"""Audio files, written whole or not at all, as one piece or as it is made."""

from __future__ import annotations

import errno
import os
import secrets
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Literal, get_args

import numpy as np
import soundfile
from numpy.typing import NDArray
from torch import Tensor

from tts_infer.errors import FileError, InputError, TTSInferError
from tts_infer.io.audio import as_samples, reason_of, to_int16

SampleFormat = Literal["pcm16", "float32"]
_RATES = {".wav": range(1, 2**30), ".flac": range(1, 655351)}  # of the containers that can be written
_MAX_WAV_BYTES = 2**32 - 1024  # its sizes are of 32 bits
_SUBTYPES = {"pcm16": "PCM_16", "float32": "FLOAT"}
_LONGEST_STEM = 200  # bytes, of the 255 that file systems allow a name


def check_format(path: str | os.PathLike[str], sample_format: SampleFormat = "pcm16") -> None:
    """The part of `check_writable` that looks at names alone.

    Raises:
        FileError: the extension is neither .wav nor .flac, there is no such sample format, or FLAC is asked to hold
            floats.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in _RATES:
        raise FileError(f"cannot write {path}: extension {Path(path).suffix!r}; allowed: {', '.join(_RATES)}")
    if sample_format not in get_args(SampleFormat):
        raise FileError(f"sample format {sample_format!r}; allowed: {', '.join(get_args(SampleFormat))}")
    if suffix == ".flac" and sample_format == "float32":
        raise FileError(f"cannot write {path}: FLAC holds integers only; use pcm16, or a .wav file")


def check_writable(path: str | os.PathLike[str], sample_format: SampleFormat = "pcm16") -> None:
    """Refuse early what `write_audio` would refuse late.

    Raises:
        FileError: see `check_format`; or the folder does not exist, or the system allows no such name.
    """
    check_format(path, sample_format)
    require_place(Path(path))


def require_place(path: Path) -> None:
    """Refuse a name that no file can have here.

    Raises:
        FileError: the folder does not exist, the name is that of a folder, or the system allows no such name.
    """
    with _refusals(path), suppress(FileNotFoundError):
        os.lstat(path)
    if not os.path.isdir(path.parent):
        raise FileError(f"cannot write {path}: no such folder: {path.parent}")
    if os.path.isdir(path):
        raise FileError(f"cannot write {path}: it is a folder")


def write_audio(
    path: str | os.PathLike[str],
    audio: Tensor | NDArray[np.floating],
    sample_rate: int,
    sample_format: SampleFormat = "pcm16",
) -> int:
    """Write mono audio as WAV or FLAC, whole or not at all.

    Args:
        path: .wav or .flac; an existing file is replaced once the new one is complete.
        audio: full scale 1.0; its level is not changed.
        sample_rate: in Hz.
        sample_format: "pcm16", or "float32" (WAV only).

    Returns:
        How many samples were clipped to full scale: 0 for float32, which clips nothing.

    Shape: audio of (T,)
    Raises:
        FileError: see `check_writable`; or the system refuses to write.
        InputError, InputTypeError: see `to_int16` and `audio_writer`; or audio is not of one dimension.
    """
    with audio_writer(path, sample_rate, sample_format) as writer:
        writer.write(audio)
    return writer.clipped_samples


class AudioWriter:
    """What `audio_writer` gives."""

    def __init__(self, path: Path, encoder: _Wav | _Flac, sample_format: SampleFormat) -> None:
        self._path, self._encoder, self._sample_format = path, encoder, sample_format
        self.samples = 0
        self.clipped_samples = 0  # to full scale, so far

    def write(self, audio: Tensor | NDArray[np.floating]) -> None:
        """Add samples.

        Shape: (T,)
        Raises:
            FileError: the system refuses to write.
            InputError, InputTypeError: see `to_int16`; or audio is not of one dimension.
        """
        encoded, clipped = to_int16(audio) if self._sample_format == "pcm16" else (as_samples(audio), 0)
        if encoded.ndim != 1:
            raise InputError(f"audio to write has shape {encoded.shape}; expected (T,)")
        self.samples += len(encoded)
        self.clipped_samples += clipped
        with _refusals(self._path):
            self._encoder.write(encoded)


@contextmanager
def audio_writer(
    path: str | os.PathLike[str], sample_rate: int, sample_format: SampleFormat = "pcm16"
) -> Iterator[AudioWriter]:
    """Write mono audio as it is made, whole or not at all: `with audio_writer(...) as writer: writer.write(piece)`.

    The file has its name once the body has ended without an error. What it holds depends on the samples alone.

    Args:
        path, sample_rate, sample_format: as for `write_audio`.

    Raises:
        FileError: see `check_writable`; or the system refuses to write.
        InputError: a rate that no file can state, or no samples for a FLAC file.
    """
    check_writable(path, sample_format)
    path = Path(path)
    rates = _RATES[path.suffix.lower()]
    if not isinstance(sample_rate, (int, np.integer)) or int(sample_rate) not in rates:
        raise InputError(
            f"sample_rate is {sample_rate!r}; a {path.suffix} file has a whole number of {rates[0]} to {rates[-1]} Hz"
        )
    with ExitStack() as stack:
        with _refusals(path):
            part = stack.enter_context(whole_file(path))
            file = open(part, "wb")  # noqa: SIM115  closed below, where a refusal is told
            stack.callback(_close_unheard, file)
            # of numpy's numbers, some overflow
            encoder = (_Wav if path.suffix.lower() == ".wav" else _Flac)(file, int(sample_rate), sample_format)
            stack.callback(encoder.abandon)
        yield AudioWriter(path, encoder, sample_format)
        with _refusals(path):
            encoder.finish()
            file.close()
            stack.close()


def _close_unheard(file: BinaryIO) -> None:
    """To close is to write what was buffered, and to be refused once more."""
    with suppress(OSError):
        file.close()


@contextmanager
def _refusals(path: Path) -> Iterator[None]:
    try:
        yield
    except (soundfile.LibsndfileError, OSError, ValueError) as error:  # ValueError: a name with a NUL in it
        if isinstance(error, TTSInferError):
            raise
        raise FileError(f"cannot write {path}: {reason_of(error)}") from None


class _Wav:
    """Header and samples by our own hands: libsndfile would put the time of day into float files."""

    def __init__(self, file: BinaryIO, sample_rate: int, sample_format: SampleFormat) -> None:
        self._file, self._sample_rate, self._sample_format = file, sample_rate, sample_format
        self._data_bytes = 0
        file.write(self._header())

    def write(self, samples: NDArray[Any]) -> None:
        self._data_bytes += samples.nbytes
        if self._data_bytes > _MAX_WAV_BYTES:
            raise OSError(errno.EFBIG, "a WAV file holds at most 4 GiB; use .flac")
        self._file.write(np.ascontiguousarray(samples, samples.dtype.newbyteorder("<")).data)

    def finish(self) -> None:
        self._file.seek(0)
        self._file.write(self._header())

    def abandon(self) -> None:
        """Nothing is held."""

    def _header(self) -> bytes:
        kind, width = (1, 2) if self._sample_format == "pcm16" else (3, 4)
        rate = self._sample_rate
        chunks = b"fmt " + struct.pack("<IHHIIHH", 16, kind, 1, rate, rate * width, width, 8 * width)
        if kind == 3:  # formats that are not PCM say how many samples they hold
            chunks += b"fact" + struct.pack("<II", 4, self._data_bytes // width)
        chunks += b"data" + struct.pack("<I", self._data_bytes)
        return b"RIFF" + struct.pack("<I", 4 + len(chunks) + self._data_bytes) + b"WAVE" + chunks


class _Flac:
    """libsndfile's encoder."""

    def __init__(self, file: BinaryIO, sample_rate: int, sample_format: SampleFormat) -> None:
        self._sink = _Sink(file)
        self._sound = soundfile.SoundFile(self._sink, "w", sample_rate, 1, _SUBTYPES[sample_format], format="FLAC")

    def write(self, samples: NDArray[Any]) -> None:
        with self._sink.honest():
            self._sound.write(samples)

    def finish(self) -> None:
        if not self._sound.frames:  # it would not even get a header; and with one, 0 means that the length is unknown
            raise InputError("a FLAC file cannot hold an empty waveform; write a .wav file")
        with self._sink.honest():
            self._sound.close()

    def abandon(self) -> None:
        self._sink.closed = True
        with suppress(soundfile.LibsndfileError):
            self._sound.close()


class _Sink:
    """The file as libsndfile sees it. What the system says is kept, because libsndfile forgets it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._refusal: OSError | None = None
        self.closed = False

    def write(self, data: bytes) -> int:
        if self.closed or self._refusal is not None:
            return 0
        try:
            return self._file.write(data)
        except OSError as refusal:
            self._refusal = refusal
            return 0

    def read(self, size: int) -> bytes:
        return b""

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        try:
            return 0 if self.closed else self._file.seek(offset, whence)
        except OSError as refusal:  # what was buffered is written first
            self._refusal = self._refusal or refusal
            return 0

    def tell(self) -> int:
        return 0 if self.closed else self._file.tell()

    @contextmanager
    def honest(self) -> Iterator[None]:
        """Raise what the system said instead of what became of it: an assertion, an unknown error, or nothing."""
        try:
            yield
        except (AssertionError, soundfile.LibsndfileError) as error:
            raise self._refusal or OSError(errno.EIO, f"the encoder failed: {error}") from None
        if self._refusal is not None:
            raise self._refusal


@contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary name beside `path`; it takes the name `path` if the body succeeds, and is removed if not."""
    path = Path(path)
    part = path.with_name(f".{part_stem(path.name)}.{secrets.token_hex(4)}.part")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def part_stem(name: str) -> str:
    """What the temporary names of a file have between their first dot and their last two: its name, or so much of it
    as leaves room for them.
    """
    return os.fsencode(name)[:_LONGEST_STEM].decode(errors="ignore")
