"""Audio as bytes, while it is made: WAV, raw samples, FLAC and MP3."""

from __future__ import annotations

import os
import struct
from typing import Literal, Protocol, get_args

import numpy as np
import soundfile
from numpy.typing import NDArray

from tts_infer.errors import InputError
from tts_infer.io.comments import NO_COMMENTS, Comments
from tts_infer.io.writer import wav_header

AudioFormat = Literal["wav", "pcm", "flac", "mp3"]
CONTENT_TYPES: dict[AudioFormat, str] = {
    "wav": "audio/wav",
    "pcm": "audio/pcm",
    "flac": "audio/flac",
    "mp3": "audio/mpeg",
}
# FLAC states its length before the first sample, and common readers insist on that.
SENT_WHILE_MADE = ("wav", "pcm", "mp3")
_SUBTYPES = {"flac": "PCM_16", "mp3": "MPEG_LAYER_III"}  # as libsndfile names them
_UNKNOWN = 0xFFFFFFFF  # the sizes in a WAV header, where nobody knows them yet


class Encoder(Protocol):
    """Samples in, bytes out. What is taken before the end states no length, or an unknown one."""

    def write(self, samples: NDArray[np.int16]) -> None:
        """Add samples. Shape: (T,)"""

    def finish(self) -> None:
        """End the audio."""

    def taken(self) -> bytes:
        """The bytes that are ready, each once."""
        ...


def encoder(
    audio_format: AudioFormat, sample_rate: int, samples: int | None = None, comments: Comments = NO_COMMENTS
) -> Encoder:
    """Make an encoder of mono audio.

    Args:
        audio_format: what it makes.
        sample_rate: in Hz.
        samples: how many there will be; None: nobody knows yet.
        comments: what the file says of itself; raw samples say nothing.

    Raises:
        InputError: the installed libsndfile lacks the format, or the format lacks the sample rate.
    """
    if audio_format in _SUBTYPES:
        return _Encoded(audio_format, sample_rate, comments)
    return _Raw(sample_rate if audio_format == "wav" else None, samples, comments)


def size_of(audio_format: AudioFormat, samples: int | None) -> int | None:
    """The bytes that so many samples take; None where that is not known before."""
    if samples is None or audio_format in _SUBTYPES:
        return None
    return 2 * samples + (len(wav_header(1, 0)) if audio_format == "wav" else 0)


class _Raw:
    """16-bit samples, after a WAV header if there is a rate to state."""

    def __init__(self, sample_rate: int | None, samples: int | None, comments: Comments) -> None:
        self._rate, self._samples, self._comments = sample_rate, samples, comments
        self._held, self._written, self._begun = bytearray(), 0, False

    def write(self, samples: NDArray[np.int16]) -> None:
        self._held += samples.astype("<i2").tobytes()
        self._written += len(samples)

    def finish(self) -> None:
        self._samples = self._written

    def taken(self) -> bytes:
        content = bytes(self._held)
        self._held.clear()
        if self._begun or self._rate is None:
            return content
        self._begun = True
        return self._header(self._rate) + content

    def _header(self, rate: int) -> bytes:
        if self._samples is not None:
            return wav_header(rate, self._samples, comments=self._comments)
        header = bytearray(wav_header(rate, 0, comments=self._comments))
        struct.pack_into("<I", header, 4, _UNKNOWN)
        struct.pack_into("<I", header, len(header) - 4, _UNKNOWN)
        return bytes(header)


class _Encoded:
    """What libsndfile encodes. It corrects the header at the end, which is too late once the header was taken."""

    def __init__(self, audio_format: AudioFormat, sample_rate: int, comments: Comments) -> None:
        self._tail = _Tail()
        name, subtype = audio_format.upper(), _SUBTYPES[audio_format]
        try:
            self._sound = soundfile.SoundFile(self._tail, "w", sample_rate, 1, subtype, format=name)
        except (soundfile.LibsndfileError, ValueError):  # ValueError: a format that soundfile does not know
            raise _unavailable(audio_format, sample_rate) from None
        for name, text in comments.items():
            setattr(self._sound, name, text)

    def write(self, samples: NDArray[np.int16]) -> None:
        self._sound.write(samples)

    def finish(self) -> None:
        self._sound.close()

    def taken(self) -> bytes:
        return self._tail.taken()


def _unavailable(audio_format: AudioFormat, sample_rate: int) -> InputError:
    text = "cannot make {format} of {rate} Hz here; ask for another response_format: {allowed}"
    allowed = ", ".join(one for one in get_args(AudioFormat) if one not in _SUBTYPES)
    fields = {"format": audio_format, "allowed": allowed, "param": "response_format"}
    return InputError(text, code="server-format-rate", rate=sample_rate, **fields)


class _Tail:
    """A file for libsndfile, of which only the end is kept: what has not been taken."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._taken = self._position = 0

    def write(self, data: bytes) -> int:
        start = self._position - self._taken
        kept = data[max(0, -start) :]
        self._held[max(0, start) : max(0, start) + len(kept)] = kept
        self._position += len(data)
        return len(data)

    def read(self, size: int) -> bytes:
        return b""

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._position = offset + (0, self._position, self._taken + len(self._held))[whence]
        return self._position

    def tell(self) -> int:
        return self._position

    def taken(self) -> bytes:
        content = bytes(self._held)
        self._taken += len(content)
        self._held.clear()
        return content
