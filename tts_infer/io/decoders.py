"""Audio files as blocks of samples: by libsndfile; what it does not know, by PyAV, which the extra `av` installs.

Both read forward once, to the last sample that is there, whatever a header says.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from contextlib import closing, contextmanager
from types import ModuleType
from typing import Any, BinaryIO, Protocol

import numpy as np
import soundfile
from numpy.typing import NDArray

from tts_infer.errors import FileError, MissingPackageError, TTSInferError, require_package
from tts_infer.io.chains import links
from tts_infer.io.inputs import Held, Source, name_of, opened
from tts_infer.io.lengths import WithHead, look
from tts_infer.io.sources import AV_SUFFIXES, suffix_of
from tts_infer.sentences import Sentence

MOST_CHANNELS = 1024  # as libsndfile
RATES_HZ = range(1, 1_000_001)
_MOST_FRAMES = 2**48  # libsndfile states more than this where it knows nothing
# What PyAV may open. Playlists and lists of parts are not among these: they name other files and addresses.
_CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,aac,asf,amr,amrnb,amrwb,avi,flv,mpegts,mpeg,ogg,caf,mp3,ac3,eac3,wv"
)
# What libsndfile says of some headers, and what that means.
_PLAINLY = {
    "Internal error : SF_INFO struct incomplete": Sentence(
        "it states a sample rate of 0 Hz, or far too high a one", code="rate-stated"
    ),
    "Too many channels specified": Sentence(
        "it has more than {most} channels", code="too-many-channels", most=MOST_CHANNELS
    ),
    "Bad channel count": Sentence("it has no channel, or more than {most}", code="bad-channels", most=MOST_CHANNELS),
    "Format not recognised": Sentence("Format not recognised", code="format-unknown"),
}


_EMPTY = Sentence("it is empty", code="empty-file")
_ARRAY = Sentence("it holds an array; call it .npy if that is a mel", code="array-as-audio")


class Decoder(Protocol):
    """An audio file that is being read.

    Attributes:
        sample_rate: in Hz.
        channels: how many.
        frames: samples of each channel that there should be; None: unknown.
        damage: why nothing more can be read; empty if it is the end.
    """

    sample_rate: int
    channels: int
    frames: int | None
    damage: str

    def read(self, frames: int) -> NDArray[np.float32]:
        """The next samples; none at the end. Shape: (T, channels), T <= frames"""


@contextmanager
def decoder(source: Source | Held) -> Iterator[Decoder]:
    """Open audio.

    Raises:
        FileError: it is missing, or no audio; or its rate or its number of channels are out of bounds.
        InputTypeError: it is no source.
    """
    name = name_of(source)
    try:
        with opened(source) as file, _by_whoever_knows(file, name) as sound:
            _check(sound, name)
            yield sound
    except TTSInferError:
        raise
    # TypeError: .raw files state no rate; ValueError: a NUL in the name; MemoryError: a wrong length in the header
    except (soundfile.LibsndfileError, OSError, TypeError, ValueError, MemoryError) as error:
        raise unreadable(name, reason_of(error)) from None


def unreadable(name: str, reason: str) -> FileError:
    """The error about what is no audio."""
    text = "cannot read {path} as audio: {reason}; give a WAV, FLAC, OGG or MP3 file"
    return FileError(text, code="no-audio", path=name, reason=reason)


def reason_of(error: BaseException) -> str:
    """What the system or libsndfile said, without the name of the file."""
    said = getattr(error, "strerror", None) or getattr(error, "error_string", None) or str(error)
    reason = str(said).strip().rstrip(".").removeprefix("Error : ")[:120]
    return _PLAINLY.get(reason, reason) or type(error).__name__


def _check(sound: Decoder, name: str) -> None:
    if sound.sample_rate not in RATES_HZ:
        text = "{path} has a sample rate of {rate} Hz; allowed: 1 to {most}"
        raise FileError(text, code="file-rate", path=name, rate=sound.sample_rate, most=RATES_HZ[-1])
    if not 0 < sound.channels <= MOST_CHANNELS:
        text = "{path} has {channels} channels; allowed: 1 to {most}"
        raise FileError(text, code="file-channels", path=name, channels=sound.channels, most=MOST_CHANNELS)


@contextmanager
def _by_whoever_knows(file: BinaryIO, name: str) -> Iterator[Decoder]:
    try:
        sound = _sndfile(file, suffix_of(name))
    except soundfile.LibsndfileError as error:
        file.seek(0)
        if not (head := file.read(6)):
            raise unreadable(name, _EMPTY) from None
        if head == b"\x93NUMPY":
            raise unreadable(name, _ARRAY) from None
        file.seek(0)
        sound = _by_av(file, name, reason_of(error))
    with closing(sound):
        yield sound


def _by_av(file: BinaryIO, name: str, refused: str) -> Any:
    """What PyAV knows. Where it does not know either, `refused` is what libsndfile said."""
    try:
        av = require_package("av", "av")
    except MissingPackageError:
        if suffix_of(name) not in AV_SUFFIXES:
            raise unreadable(name, refused) from None
        text = "{path}: files of this kind need the package av; pip install 'tts-infer[av]', or give a WAV file"
        raise MissingPackageError(text, code="av-missing", path=name) from None
    try:
        return _Av(av, file)
    except (av.FFmpegError, ValueError, LookupError) as error:
        raise unreadable(name, refused if suffix_of(name) not in AV_SUFFIXES else _said(error)) from None


def _said(error: BaseException) -> str:
    return reason_of(error) if isinstance(error, OSError) else str(error).partition(":")[0]


class _Forward(soundfile.SoundFile):
    """Read without seeking, which fails in files of unknown length, and which a stated length would limit."""

    def seekable(self) -> bool:
        return False


def _sndfile(file: BinaryIO, suffix: str) -> Any:
    """What libsndfile knows."""
    if suffix == ".raw":
        raise TypeError("raw samples state no rate")
    starts = links(file)
    return _Sndfile(file) if len(starts) == 1 else _Chain(file, starts)


class _Sndfile:
    """A decoder, see `Decoder`."""

    def __init__(self, file: BinaryIO) -> None:
        length, self._file = look(file), WithHead(file, b"", 0)
        self._sound = _Forward(self._file)
        if length.head and self._sound.frames < max(1, length.at_least):
            self._sound.close()
            self._file = WithHead(file, length.head, length.skip)
            self._sound = _Forward(self._file)
        stated = length.stated or length.at_least or self._sound.frames
        self.frames = stated if stated < _MOST_FRAMES else None
        self.sample_rate, self.channels = int(self._sound.samplerate), int(self._sound.channels)
        self.damage, self._begun = "", False

    def read(self, frames: int) -> NDArray[np.float32]:
        if self.damage:
            return np.zeros((0, self.channels), np.float32)
        block = np.full((frames, self.channels), np.nan, np.float32)
        try:
            block = self._sound.read(out=block)
        except soundfile.LibsndfileError as error:
            read = np.flatnonzero(~np.isnan(block).all(axis=1))  # the other rows are as they were before
            block = block[: read[-1] + 1 if len(read) else 0]  # what came before the damage
            if not self._begun and not len(block):
                raise
            self.damage = reason_of(error)
        if self._file.error is not None:
            raise self._file.error
        self._begun = True
        return block

    def close(self) -> None:
        self._sound.close()


class _Chain:
    """A decoder of files one behind the other, see `Decoder`."""

    def __init__(self, file: BinaryIO, starts: list[int]) -> None:
        self._file, self._next = file, list(zip(starts, [*starts[1:], None], strict=True))
        self._sound = self._opened()
        self.sample_rate, self.channels = self._sound.sample_rate, self._sound.channels
        self.frames, self.damage = None, ""

    def _opened(self) -> _Sndfile:
        start, stop = self._next.pop(0)
        return _Sndfile(io.BufferedReader(WithHead(self._file, b"", start, stop)))

    def read(self, frames: int) -> NDArray[np.float32]:
        block = self._sound.read(frames)
        while not len(block) and self._next and not self.damage:
            self._sound.close()
            try:
                self._sound = self._opened()
            except soundfile.LibsndfileError as error:
                self.damage = reason_of(error)
                return block
            if (self._sound.sample_rate, self._sound.channels) != (self.sample_rate, self.channels):
                rate, channels = self._sound.sample_rate, self._sound.channels
                self.damage = f"what follows has {rate} Hz and {channels} channels"
                return block
            block = self._sound.read(frames)
        return block

    def close(self) -> None:
        self._sound.close()


class _Av:
    """A decoder, see `Decoder`. Source: PyAV's documentation of containers, streams and resamplers."""

    def __init__(self, av: ModuleType, file: BinaryIO) -> None:
        options = {"format_whitelist": _CONTAINERS, "protocol_whitelist": ""}
        self._av = av
        self._file = io.BufferedReader(WithHead(file, b"", 0))  # not every open file has all that PyAV asks for
        self._container = av.open(self._file, options=options, metadata_errors="ignore")
        try:
            stream = self._container.streams.best("audio")
            if stream is None:
                raise ValueError("it holds no audio")
            context = stream.codec_context
            self.sample_rate, self.channels = int(context.sample_rate or 0), int(context.layout.nb_channels)
            self.frames = self._stated(stream)
            self._blocks = self._decoded(stream, av.AudioResampler(format="flt", rate=self.sample_rate or None))
        except BaseException:
            self._container.close()
            raise
        self._left, self.damage = np.zeros((0, self.channels), np.float32), ""

    def _stated(self, stream: Any) -> int | None:
        if stream.duration and stream.time_base:
            return math.floor(stream.duration * stream.time_base * self.sample_rate)
        duration = self._container.duration  # an estimate, where the file has none
        exact = duration and self._container.format.name.startswith(("mov", "matroska", "asf"))
        return math.floor(duration / self._av.time_base * self.sample_rate) if exact else None

    def _decoded(self, stream: Any, resampler: Any) -> Iterator[NDArray[np.float32]]:
        try:
            for frame in self._container.decode(stream):
                for made in resampler.resample(frame):
                    yield made.to_ndarray().reshape(-1, self.channels)
        except (self._av.FFmpegError, ValueError) as error:  # ValueError: another layout from here on
            self.damage = "" if isinstance(error, EOFError) else _said(error)

    def read(self, frames: int) -> NDArray[np.float32]:
        parts, count = [self._left], len(self._left)
        while count < frames and (block := next(self._blocks, None)) is not None:
            parts.append(block)
            count += len(block)
        joined = np.concatenate(parts)
        self._left = joined[frames:]
        return joined[:frames]

    def close(self) -> None:
        self._container.close()
