"""Where inputs come from: which files are audio, which are features, and which of them a folder holds."""

from __future__ import annotations

import errno
import os
import pickle
import stat
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from safetensors import SafetensorError

from tts_infer.errors import FileError

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")
FEATURE_SUFFIXES = (".npy", ".npz", ".safetensors", ".pt")
INPUT_SUFFIXES = AUDIO_SUFFIXES + FEATURE_SUFFIXES
_NOTHING_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)

# What numpy, torch and safetensors raise when the bytes of a file are wrong.
UNREADABLE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,  # a wrong size in the header
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    SafetensorError,
    pickle.UnpicklingError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)

Name = str | os.PathLike[str]
Names = Name | Sequence[Name]


def holds_features(path: Name) -> bool:
    """Whether a file holds features, by its suffix. Every other file is read as audio."""
    return Path(path).suffix.lower() in FEATURE_SUFFIXES


def as_names(given: Names) -> list[str]:
    """One name or several, as a list."""
    return [os.fspath(name) for name in ([given] if isinstance(given, (str, os.PathLike)) else given)]


def mode_of(path: Name) -> int:
    """The mode of what a path leads to, see `stat`; 0 if there is nothing.

    Raises:
        FileError: the system refuses to say.
    """
    try:
        return os.stat(path).st_mode
    except ValueError:  # a NUL, which no name has
        return 0
    except OSError as error:
        if error.errno in _NOTHING_THERE:
            return 0
        raise _unreadable(path, error) from None


def walk(folder: Name) -> Iterator[Path]:
    """Every file below a folder.

    Raises:
        FileError: the system refuses to open the folder or one below it.
    """
    for where, _, names in os.walk(folder, onerror=_refuse):
        yield from (Path(where, name) for name in names)


def require_readable(folder: Name) -> None:
    """Refuse a folder that cannot be read; `glob` would take it for an empty one.

    Raises:
        FileError: the system refuses to open the folder.
    """
    next(os.walk(folder, onerror=_refuse), None)


def select(paths: Iterable[Path], suffixes: Sequence[str]) -> list[Path]:
    """The regular files with one of the suffixes, sorted by name.

    Raises:
        FileError: the system does not say what a path leads to.
    """
    return [path for path in sorted(paths) if path.suffix.lower() in suffixes and stat.S_ISREG(mode_of(path))]


def require_file(path: Name) -> None:
    """Refuse a path that leads to no file.

    Raises:
        FileError: there is none.
    """
    if not os.path.isfile(path):
        raise file_not_found(path)


def file_not_found(path: Name) -> FileError:
    """The error about a file that is not there."""
    return FileError("no such file: {path}", code="file-not-found", path=os.fspath(path))


def _refuse(error: OSError) -> NoReturn:
    raise _unreadable(str(error.filename), error)


def _unreadable(path: Name, error: OSError) -> FileError:
    return FileError("cannot read {path}: {reason}", code="unreadable", path=os.fspath(path), reason=error.strerror)
