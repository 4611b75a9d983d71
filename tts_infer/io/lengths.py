"""The lengths that audio files state, and what to do where they are wrong.

libsndfile believes a length that a header states or that it estimates, and reads no sample beyond it. That loses audio
where the length is an estimate (MP3 of a variable bit rate without a Xing header), is that of the first of several
joined files, or was never filled in (a WAV file whose program ended early). Such files get another beginning here,
which states the length that they have.
"""

from __future__ import annotations

import io
import os
import struct
from dataclasses import dataclass
from typing import BinaryIO

_BLOCK = 2**16
# MPEG audio, by version (1; 2 and 2.5) and layer: kilobits a second.
_RATES = {
    (1, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_HZ = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}  # by the bits of the version
_LARGE_FRAME = 9  # index of a bit rate whose frames hold a Xing header
# Sizes that programs state which write to a pipe: about the largest number of 31 or of 32 bits.
_UNKNOWN_WAV = (range(0x7FFF0000, 0x80010000), range(0xFFFF0000, 2**32))


@dataclass(frozen=True)
class _Frame:
    """The header of one frame of MPEG audio."""

    head: int
    size: int
    samples: int

    @property
    def side_bytes(self) -> int:
        """Bytes between the header and a Xing header. Source: the layout of layer III, MPEG-1 and MPEG-2."""
        mono, first = (self.head >> 6) & 3 == 3, (self.head >> 19) & 3 == 3
        return (17 if mono else 32) if first else (9 if mono else 17)


@dataclass(frozen=True)
class Length:
    """What is known of a file's length before it is decoded.

    Attributes:
        stated: frames (samples of each channel) that the header states; None: nothing that can be trusted.
        at_least: frames that are there, if they were counted; 0 if not.
        head: bytes that should replace the first `skip` bytes of the file.
    """

    stated: int | None = None
    at_least: int = 0
    head: bytes = b""
    skip: int = 0


def look(file: BinaryIO) -> Length:
    """Find what a file states about its length. It is left at its beginning."""
    start = file.read(12)
    file.seek(0)
    if start[:4] == b"RIFF" and start[8:] == b"WAVE":
        length = _of_wav(file)
    elif start[:4] == b"FORM" and start[8:] in (b"AIFF", b"AIFC"):
        length = _of_aiff(file)
    elif start[:3] == b"ID3" or _frame(start[:4]) is not None:
        length = _of_mpeg(file)
    else:
        length = Length()
    file.seek(0)
    return length


def _of_wav(file: BinaryIO) -> Length:
    head, width, end = file.read(12), 0, file.seek(0, os.SEEK_END)
    riff_end, place = 8 + struct.unpack("<I", head[4:8])[0], 12
    while place + 8 <= end and place < _BLOCK * 16:
        file.seek(place)
        name, size = struct.unpack("<4sI", file.read(8))
        if name == b"fmt ":
            width = struct.unpack("<H", file.read(14)[12:14].ljust(2, b"\0"))[0]
        if name == b"data":
            there = end - place - 8
            if size == 0 and there and riff_end <= place + 8:  # never filled in
                file.seek(0)
                return Length(head=file.read(place + 4) + b"\xff" * 4, skip=place + 8)
            known = width and _is_pcm(file) and not any(size in sizes for sizes in _UNKNOWN_WAV)
            return Length(stated=size // width if known else None)
        place += 8 + size + size % 2
    return Length()


def _is_pcm(file: BinaryIO) -> bool:
    """Whether each frame of a WAV file has as many bytes as its header says: not so where they are compressed."""
    file.seek(12)
    chunk = file.read(_BLOCK)
    at = chunk.find(b"fmt ")
    return at >= 0 and chunk[at + 8 : at + 10] in (b"\x01\0", b"\x03\0", b"\xfe\xff")


def _of_aiff(file: BinaryIO) -> Length:
    end, place = file.seek(0, os.SEEK_END), 12
    while place + 8 <= end and place < _BLOCK * 16:
        file.seek(place)
        name, size = struct.unpack(">4sI", file.read(8))
        if name == b"COMM":
            content = file.read(6)
            return Length(stated=struct.unpack(">I", content[2:6])[0] if len(content) == 6 else None)
        place += 8 + size + size % 2
    return Length()


def _of_mpeg(file: BinaryIO) -> Length:
    start = _after_id3(file)
    file.seek(start)
    content = file.read()  # MP3 files are small
    first, frames = None, 0
    place = first_at = 0
    while (place := _next_frame(content, place, first)) >= 0:
        frame = _frame(content[place : place + 4])
        assert frame is not None
        if first is None:
            first, first_at = frame, place
        if place + frame.size > len(content):
            break
        frames, place = frames + 1, place + frame.size
    if first is None or not frames:
        return Length()
    stated, skip = _of_xing(content[first_at : first_at + first.size], first), start + first_at
    if stated is not None:
        frames, skip = frames - 1, skip + first.size
    samples = first.samples * frames
    return Length(None if stated is None else stated * first.samples, samples, _xing(first, frames), skip)


def _after_id3(file: BinaryIO) -> int:
    """Where the audio begins."""
    place = 0
    while True:
        file.seek(place)
        tag = file.read(10)
        if tag[:3] != b"ID3" or len(tag) < 10:
            return place
        place += 10 + sum((byte & 0x7F) << shift for byte, shift in zip(tag[6:], (21, 14, 7, 0), strict=True))


def _next_frame(content: bytes, place: int, like: _Frame | None) -> int:
    """Where the next frame begins, at `place` or behind; -1 if none is left. Frames of one file share most bits."""
    while 0 <= place < len(content) - 4:
        frame = _frame(content[place : place + 4])
        if frame is not None and (like is None or (frame.head ^ like.head) & 0xFFFE0C00 == 0):
            after = content[place + frame.size : place + frame.size + 4]
            if like is not None or len(after) < 4 or _frame(after) is not None:
                return place
        place = content.find(b"\xff", place + 1)
    return -1


def _frame(four: bytes) -> _Frame | None:
    """Read a header of MPEG audio; None if these four bytes are none."""
    if len(four) < 4 or four[0] != 0xFF or four[1] & 0xE0 != 0xE0:
        return None
    head = int.from_bytes(four, "big")
    version, layer = (head >> 19) & 3, 4 - ((head >> 17) & 3)
    rate, hz = (head >> 12) & 15, (head >> 10) & 3
    if version == 1 or layer == 4 or rate in (0, 15) or hz == 3:
        return None
    kilobits = _RATES[1 if version == 3 else 2, layer][rate - 1]
    samples = 384 if layer == 1 else 576 if layer == 3 and version != 3 else 1152
    unit = 4 if layer == 1 else 1
    size = (samples // 8 * kilobits * 1000 // _HZ[version][hz] // unit + ((head >> 9) & 1)) * unit
    return _Frame(head, size, samples)


def _of_xing(frame: bytes, header: _Frame) -> int | None:
    """The frames that a Xing, Info or VBRI header states; None if this frame is audio."""
    place = 4 + header.side_bytes
    if frame[36:40] == b"VBRI" and len(frame) >= 54:
        return int.from_bytes(frame[50:54], "big")
    if frame[place : place + 4] not in (b"Xing", b"Info") or len(frame) < place + 12:
        return None
    has_frames = frame[place + 7] & 1
    return int.from_bytes(frame[place + 8 : place + 12], "big") if has_frames else 0


def _xing(like: _Frame, frames: int) -> bytes:
    """A frame without audio that states the number of frames after it."""
    head = like.head & ~0xF200 | 0x10000 | _LARGE_FRAME << 12  # no padding, no checksum
    four = head.to_bytes(4, "big")
    own = _frame(four)
    assert own is not None
    content = four + bytes(own.side_bytes) + b"Xing" + struct.pack(">II", 1, frames)
    return content.ljust(own.size, b"\0")


class WithHead(io.RawIOBase):
    """A file whose first `skip` bytes are replaced, and that ends at `stop`.

    It keeps an error of the system, which libsndfile would swallow.
    """

    def __init__(self, file: BinaryIO, head: bytes, skip: int, stop: int | None = None) -> None:
        self.error: OSError | None = None
        self._file, self._head, self._skip, self._place = file, head, skip, 0
        end = file.seek(0, os.SEEK_END)
        self._size = len(head) + max(0, min(end, end if stop is None else stop) - skip)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._place = offset + (0, self._place, self._size)[whence]
        return self._place

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if self._place < len(self._head):
            part = self._head[self._place : self._place + len(buffer)]
        else:
            try:
                self._file.seek(self._place - len(self._head) + self._skip)
                part = self._file.read(max(0, min(len(buffer), self._size - self._place)))
            except OSError as error:
                self.error, part = error, b""
        buffer[: len(part)] = part
        self._place += len(part)
        return len(part)
