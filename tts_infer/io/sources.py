"""Which files are inputs: which are audio, which are features, and which of them a folder holds."""

from __future__ import annotations

import errno
import lzma
import os
import pickle
import reprlib
import stat
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, TypeGuard

from safetensors import SafetensorError

from tts_infer.errors import FileError, InputTypeError

# What libsndfile reads, and what only the extra `av` reads. Sounds without one of these suffixes are read by name only.
_SNDFILE_SUFFIXES = (".wav", ".flac", ".ogg", ".mp3", ".oga", ".opus", ".aif", ".aiff", ".aifc", ".au", ".caf", ".w64")
AV_SUFFIXES = (
    *(".m4a", ".m4b", ".mp4", ".m4v", ".mov", ".3gp", ".aac", ".webm", ".mka", ".mkv"),
    *(".wma", ".wmv", ".asf", ".amr", ".avi", ".flv", ".ts", ".mpg", ".mpeg", ".ac3", ".wv"),
)
AUDIO_SUFFIXES = _SNDFILE_SUFFIXES + AV_SUFFIXES
FEATURE_SUFFIXES = (".npy", ".npz", ".safetensors", ".pt")
INPUT_SUFFIXES = AUDIO_SUFFIXES + FEATURE_SUFFIXES
_NOTHING_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
NO_PATH = (*_NOTHING_THERE, errno.ENAMETOOLONG)  # of names that need not be paths, as those of vocoders

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
    lzma.LZMAError,
)

Name = str | os.PathLike[str]
Names = Name | Sequence[Name]


def is_path(value: Any) -> TypeGuard[Name]:
    """Whether this is the path of something, and not its bytes or an open file."""
    return isinstance(value, (str, os.PathLike))


def holds_features(path: Name) -> bool:
    """Whether a file holds features, by its suffix. Every other file is read as audio."""
    return suffix_of(path) in FEATURE_SUFFIXES


def suffix_of(path: Name) -> str:
    """The suffix of a name in small letters, with its dot."""
    return Path(as_name(path)).suffix.lower()


def as_name(path: Any) -> str:
    """A path as text.

    Raises:
        InputTypeError: it is no path.
    """
    if not is_path(path):
        raise InputTypeError("{got} is no path; give text or a Path", code="no-path", got=reprlib.repr(path))
    return os.fsdecode(path)


def as_names(given: Names) -> list[str]:
    """One name or several, as a list.

    Raises:
        InputTypeError: something else is among them.
    """
    if is_path(given):
        return [as_name(given)]
    several: Any = given
    # lines of an open file, values of an array and bytes are no names
    is_other = isinstance(given, (bytes, bytearray)) or hasattr(given, "read") or hasattr(given, "dtype")
    return [as_name(name) for name in (several if isinstance(several, Iterable) and not is_other else [several])]


def mode_of(path: Name, nothing: Collection[int] = _NOTHING_THERE) -> int:
    """The mode of what a path leads to, see `stat`; 0 if there is nothing.

    Args:
        path: of anything.
        nothing: the system's errors which say that there is nothing.

    Raises:
        FileError: the system refuses to say.
    """
    try:
        return os.stat(path).st_mode
    except ValueError:  # a NUL, which no name has
        return 0
    except OSError as error:
        if error.errno in nothing:
            return 0
        raise _unreadable(path, error) from None


def is_file(path: Name) -> bool:
    """Whether a path leads to a regular file.

    Raises:
        FileError: the system refuses to say.
    """
    return stat.S_ISREG(mode_of(path))


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


def select(
    paths: Iterable[Path], suffixes: Sequence[str], left_out: dict[str, str] | None = None, wanted: str = ""
) -> list[Path]:
    """The files with one of the suffixes, sorted by name. A name that leads nowhere counts as a file.

    Args:
        paths: of a folder.
        suffixes: of what is wanted.
        left_out: gets the path of everything else, with the reason.
        wanted: what is wanted, for the reasons.

    Raises:
        FileError: the system does not say what a path leads to.
    """
    found = []
    for path in sorted(paths):
        mode = mode_of(path)
        if path.suffix.lower() in suffixes and (stat.S_ISREG(mode) or not mode):
            found.append(path)
        elif left_out is not None and not stat.S_ISDIR(mode):
            named = path.suffix.lower() in suffixes
            left_out[str(path)] = "no regular file" if named else f"its suffix is not that of {wanted}"
    return found


def require_file(path: Name) -> None:
    """Refuse a path that leads to no file, or to one that cannot be opened.

    Raises:
        FileError: there is none, or the system refuses.
    """
    if stat.S_ISDIR(mode_of(as_name(path))):
        raise FileError("{path} is a folder; give a file", code="file-is-folder", path=as_name(path))
    if not is_file(path):
        raise file_not_found(path)
    open_file(path).close()


def open_file(path: Name) -> BinaryIO:
    """Open a file for reading its bytes. What the system refuses says nothing about what the file holds.

    Raises:
        FileError: the system refuses.
    """
    try:
        return open(path, "rb")
    except OSError as error:
        raise _unreadable(path, error) from None


def file_not_found(path: Name) -> FileError:
    """The error about a file that is not there."""
    return FileError("no such file: {path}", code="file-not-found", path=os.fspath(path))


def _refuse(error: OSError) -> NoReturn:
    raise _unreadable(str(error.filename), error)


def _unreadable(path: Name, error: OSError) -> FileError:
    return FileError("cannot read {path}: {reason}", code="unreadable", path=os.fspath(path), reason=error.strerror)
