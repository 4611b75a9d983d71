"""Text files."""

from __future__ import annotations

import os
from typing import TextIO

from tts_infer.errors import FileError


def read_text(source: str | os.PathLike[str] | TextIO) -> str:
    """The text of a file in UTF-8, with or without a byte order mark.

    Args:
        source: a path, or an open file such as `sys.stdin`.

    Raises:
        FileError: it is in another encoding.
        FileNotFoundError, OSError: see `open`.
    """
    try:
        if not isinstance(source, (str, os.PathLike)):
            return source.read()
        with open(source, encoding="utf-8-sig") as file:
            return file.read()
    except UnicodeDecodeError as error:
        name = os.fspath(source) if isinstance(source, (str, os.PathLike)) else source.name.strip("<>")
        text = "{path} is no text in UTF-8: {reason}"
        raise FileError(text, code="text-encoding", path=name, reason=error.reason) from None
