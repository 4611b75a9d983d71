"""Where files go: which names can be written, and files that are there whole or not at all."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Literal, get_args

import soundfile

from tts_infer.errors import FileError, InputError, InputTypeError
from tts_infer.io.decoders import reason_of
from tts_infer.io.inputs import PIPE_FLAGS
from tts_infer.io.sources import as_name

SampleFormat = Literal["pcm16", "float32"]
RATES_HZ = {".wav": range(1, 2**30), ".flac": range(1, 655351)}  # in Hz, that a header can hold
_READER_S = 10.0  # a pipe that nobody opens for reading is refused after this time
_MAX_STEM_BYTES = 200  # of the 255 that file systems allow a name


def check_format(path: str | os.PathLike[str], sample_format: SampleFormat = "pcm16") -> None:
    """Check the extension and the sample format, without a look at the disk.

    Raises:
        FileError: the extension is neither .wav nor .flac, the sample format is unknown, or FLAC shall hold floats.
    """
    name, suffix = as_name(path), suffix_of_target(path)
    if suffix not in RATES_HZ:
        text = "cannot write {path}: extension {suffix!r}; allowed: {allowed}"
        raise FileError(text, code="extension-unwritable", path=name, suffix=suffix[-20:], allowed=", ".join(RATES_HZ))
    if sample_format not in get_args(SampleFormat):
        allowed = ", ".join(get_args(SampleFormat))
        text = "sample format {sample_format!r}; allowed: {allowed}"
        raise FileError(text, code="sample-format-unknown", sample_format=sample_format, allowed=allowed)
    if suffix == ".flac" and sample_format == "float32":
        text = "cannot write {path}: FLAC holds integers only; use pcm16, or a .wav file"
        raise FileError(text, code="flac-holds-integers", path=name)


def require_audio(samples: int) -> None:
    """Refuse an output without samples.

    Raises:
        InputError: there are none.
    """
    if not samples:
        raise InputError(
            "the input is too short to give any audio; give two frames, or their samples, at least", code="too-short"
        )


def suffix_of_target(path: str | os.PathLike[str]) -> str:
    """The suffix of an output, in small letters. What has no name of its own, as a pipe, gets a WAV file."""
    suffix = Path(path).suffix.lower()
    return ".wav" if suffix not in RATES_HZ and _takes_bytes(Path(path)) else suffix


def check_writable(path: str | os.PathLike[str], sample_format: SampleFormat = "pcm16") -> None:
    """Refuse early what `write_audio` would refuse late.

    Raises:
        FileError: see `check_format` and `require_place`.
    """
    check_format(path, sample_format)
    require_place(Path(path))


def require_place(path: Path) -> None:
    """Refuse a path where no file can be.

    Raises:
        FileError: the folder does not exist, the path is a folder, or the system allows no such name.
    """
    with file_errors(path), suppress(FileNotFoundError):
        os.stat(path)  # also refuses links that lead to themselves
    folder = Path(os.path.realpath(path)).parent if path.is_symlink() and not _takes_bytes(path) else path.parent
    if not os.path.isdir(folder):
        text = "cannot write {path}: no such folder: {folder}"
        raise FileError(text, code="folder-not-found", path=str(path), folder=str(folder))
    if os.path.isdir(path):
        raise FileError("cannot write {path}: it is a folder", code="target-is-folder", path=str(path))


@contextmanager
def file_errors(path: Path) -> Iterator[None]:
    """Turn what the system refuses into an error about `path`."""
    try:
        yield
    except FileError as error:
        raise error.within(path) from None
    except (InputError, InputTypeError):
        raise
    except (soundfile.LibsndfileError, OSError, ValueError) as error:  # ValueError: a NUL in the name
        text = "cannot write {path}: {reason}"
        raise FileError(text, code="unwritable", path=str(path), reason=reason_of(error)) from None


@contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary name. If the body succeeds, the file becomes that of `path`; if not, it is removed.

    A file takes its name at once: the temporary one lies beside it, or beside what it links to. A pipe, a socket or a
    device stays what it is, and takes the bytes of a file elsewhere.

    Raises:
        FileError: nobody reads the pipe.
    """
    path = Path(path)
    if _takes_bytes(path):
        with tempfile.TemporaryDirectory(prefix="tts-infer-") as folder:
            part = Path(folder, "part")
            yield part
            with open(part, "rb") as made, _opened(path) as target:
                shutil.copyfileobj(made, target)
        return
    path = Path(os.path.realpath(path)) if path.is_symlink() else path
    part = path.with_name(f".{part_stem(path.name)}.{secrets.token_hex(4)}.part")
    try:
        yield part
        os.replace(part, path)
    finally:
        with suppress(OSError):  # on a file system that was made read-only; what went wrong before is to be told
            part.unlink()


def _opened(path: Path) -> BinaryIO:
    """Open a device, or a pipe once somebody reads it; plain `open` might wait without end.

    Raises:
        FileError: nobody reads the pipe.
        OSError: the system refuses.
    """
    start = time.monotonic()
    while True:
        try:
            number = os.open(path, os.O_WRONLY | PIPE_FLAGS)
            break
        except OSError as error:
            if error.errno != errno.ENXIO or not stat.S_ISFIFO(os.stat(path).st_mode):
                raise
        if time.monotonic() - start > _READER_S:
            text = "nobody reads the pipe {path}; start the reader first, or give a file"
            raise FileError(text, code="pipe-unread", path=str(path))
        time.sleep(0.02)
    if hasattr(os, "set_blocking"):
        os.set_blocking(number, True)
    return open(number, "wb", buffering=0)


def _takes_bytes(path: Path) -> bool:
    """Whether a path leads to something that is no file with a name: it must be written to, and not replaced."""
    try:
        mode = os.stat(path).st_mode
        return not stat.S_ISREG(mode) or not os.path.samefile(os.path.realpath(path), path)  # /dev/stdout
    except (OSError, ValueError):
        return False


def part_stem(name: str) -> str:
    """The middle of a temporary name, between its first dot and its last two: `name`, cut to leave room for them."""
    return os.fsencode(name)[:_MAX_STEM_BYTES].decode(sys.getfilesystemencoding(), errors="ignore")
