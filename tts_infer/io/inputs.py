"""Audio as it comes: a file, a pipe, an open file, or bytes. What can be read only once is kept until it was read.

A source is a path, `bytes`, or an object that has `read` and gives bytes. Paths may lead to pipes: FIFOs, /dev/stdin,
the /dev/fd/63 of a shell's `<(command)`.
"""

from __future__ import annotations

import io
import os
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

from tts_infer.errors import FileError, InputTypeError
from tts_infer.io.sources import Name, as_name, file_not_found, open_file

Source = Name | bytes | bytearray | memoryview | BinaryIO

MOST_PIPED_BYTES = 2**32  # as much as a WAV file holds
_IN_MEMORY_BYTES = 2**26
PIPE_FLAGS = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)  # POSIX has the first, Windows the second
_WRITER_S = 10.0  # a FIFO that nobody opens for writing is refused after this time
_FEATURES = {b"\x93NUMPY": ".npy", b"PK\x03\x04": ".npz or .pt"}


@dataclass(frozen=True)
class Held:
    """Audio that came through a pipe or lies in memory, where it can be read again from its beginning."""

    name: str
    file: BinaryIO


def name_of(source: Any) -> str:
    """What messages call a source."""
    if isinstance(source, Held):
        return source.name
    if isinstance(source, (str, os.PathLike)):
        return str(os.fspath(source))
    name = getattr(source, "name", None)
    return name if isinstance(name, str) else f"<{type(source).__name__}>"


@contextmanager
def hold(source: Source | Held) -> Iterator[Name | Held]:
    """Give the path of a regular file as it is, and everything else as `Held`.

    Raises:
        FileError: there is nothing; it is a folder, a device or a socket; nobody writes into the pipe; more came
            through than `MOST_PIPED_BYTES`, or than there is room for; or features came, which must be files.
        InputTypeError: it is no source.
    """
    if isinstance(source, Held):
        yield source
    elif isinstance(source, (str, os.PathLike)):
        require_input(source)
        if os.path.isfile(source):
            yield source
        else:
            with _open_pipe(source) as pipe, _spooled(pipe, name_of(source)) as held:
                yield held
    elif isinstance(source, (bytes, bytearray, memoryview)):
        with _spooled(io.BytesIO(source), name_of(source)) as held:
            yield held
    elif callable(getattr(source, "read", None)):
        with _spooled(source, name_of(source)) as held:
            yield held
    else:
        text = "audio to read is a {kind}; expected a path, bytes or an open binary file"
        raise InputTypeError(text, code="source-type", kind=type(source).__name__)


@contextmanager
def opened(source: Source | Held) -> Iterator[BinaryIO]:
    """Open a source at its beginning.

    Raises:
        FileError, InputTypeError: see `hold`; or the system refuses.
    """
    with hold(source) as kept:
        if isinstance(kept, Held):
            kept.file.seek(0)
            yield kept.file
        else:
            with open_file(kept) as file:
                yield file


def require_input(path: Name) -> None:
    """Refuse a path that leads to nothing that can be read.

    Raises:
        FileError: it leads to nothing, to a folder, to a device, or to a socket, which has no name to be opened by.
    """
    mode = _mode(path)
    if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
        kind = "a folder" if stat.S_ISDIR(mode) else "a socket" if stat.S_ISSOCK(mode) else "a device"
        text = "{path} is {kind}; give a file or a pipe"
        raise FileError(text, code="input-kind", path=name_of(path), kind=kind)


def standard_input() -> BinaryIO:
    """Standard input as bytes.

    Raises:
        FileError: it is closed, or a terminal.
    """
    if sys.stdin is None or sys.stdin.closed:
        raise FileError("standard input is closed; give the path of a file", code="stdin-closed")
    if sys.stdin.isatty():
        raise FileError("standard input is a terminal; give the path of a file, or a pipe", code="stdin-terminal")
    return sys.stdin.buffer


def _mode(path: Name) -> int:
    try:
        return os.stat(as_name(path)).st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a NUL, which no name has
        raise file_not_found(path) from None
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(source: Any, error: OSError) -> FileError:
    text, reason = "cannot read {path}: {reason}", error.strerror or str(error)
    return FileError(text, code="unreadable", path=name_of(source), reason=reason)


def _open_pipe(path: Name) -> BinaryIO:
    """Open a FIFO for reading once somebody writes into it; plain `open` might wait without end."""
    try:
        number = os.open(path, os.O_RDONLY | PIPE_FLAGS)
    except OSError as error:
        raise _unreadable(path, error) from None
    pipe, start = io.FileIO(number, "rb"), time.monotonic()
    try:
        # Without a writer, a read says that it is the end; with one who is not ready, that it would block.
        while (first := pipe.read(1)) == b"" and time.monotonic() - start < _WRITER_S:
            time.sleep(0.02)
    except BaseException:
        pipe.close()
        raise
    if first == b"":
        pipe.close()
        text = "nobody writes into the pipe {path}; start the writer first, or give a file"
        raise FileError(text, code="pipe-unwritten", path=name_of(path))
    if hasattr(os, "set_blocking"):
        os.set_blocking(number, True)
    return _After(first or b"", pipe)  # type: ignore[return-value]


class _After:
    """A pipe of which the first bytes are read already."""

    def __init__(self, first: bytes, pipe: BinaryIO) -> None:
        self._first, self._pipe = first, pipe

    def read(self, size: int = -1) -> bytes:
        first, self._first = self._first, b""
        return first or self._pipe.read(size)

    def __enter__(self) -> _After:
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe.close()


@contextmanager
def _spooled(source: Any, name: str) -> Iterator[Held]:
    """Everything that is left to read, in memory or in a temporary file."""
    with tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES) as file:
        size = 0
        while chunk := _read(source, name):
            if not isinstance(chunk, bytes):
                text = "{path} gives {kind}, not bytes; open it in binary mode"
                raise InputTypeError(text, code="source-not-binary", path=name, kind=type(chunk).__name__)
            if size == 0:
                _refuse_features(chunk, name)
            try:
                size += file.write(chunk)
            except OSError as error:  # what is large lies on a disk
                text = "no room for what comes from {path}: {reason}; set TMPDIR to a folder with room, or give a file"
                reason = error.strerror or str(error)
                raise FileError(text, code="piped-no-room", path=name, reason=reason) from None
            if size > MOST_PIPED_BYTES:
                text = "more than {limit} bytes came from {path}; write them to a file, and give its path"
                raise FileError(text, code="piped-too-much", path=name, limit=MOST_PIPED_BYTES)
        yield Held(name, file)  # type: ignore[arg-type]


def _read(source: Any, name: str) -> Any:
    try:
        return source.read(2**20)
    except OSError as error:
        raise _unreadable(name, error) from None


def _refuse_features(head: bytes, name: str) -> None:
    kind = next((kind for magic, kind in _FEATURES.items() if head.startswith(magic)), None)
    if kind is not None:
        text = "{path} holds features ({kind}), which are read from files only; write them to one, and give its path"
        raise FileError(text, code="features-piped", path=name, kind=kind)
