"""Text files."""

from __future__ import annotations

import os
from typing import TextIO

from tts_infer.errors import FileError
from tts_infer.io.sources import as_name


def read_text(source: str | os.PathLike[str] | TextIO) -> str:
    """The text of a file in UTF-8, with or without a byte order mark.

    Args:
        source: a path, or an open file such as `sys.stdin`.

    Raises:
        FileError: it cannot be read, or is in another encoding.
        InputTypeError: it is neither.
    """
    try:
        if hasattr(source, "read"):
            return source.read()
        with open(as_name(source), encoding="utf-8-sig") as file:
            return file.read()
    except UnicodeDecodeError as error:
        name = os.fspath(source) if isinstance(source, (str, os.PathLike)) else source.name.strip("<>")
        text = "{path} is no text in UTF-8: {reason}"
        raise FileError(text, code="text-encoding", path=name, reason=error.reason) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or str(error)
        path = as_name(source) if isinstance(source, (str, os.PathLike)) else type(source).__name__
        raise FileError("cannot read {path}: {reason}", code="unreadable", path=path, reason=reason) from None
