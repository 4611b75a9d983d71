"""Comments of audio files: what a file says of itself."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from tts_infer.errors import InputError

Comments = Mapping[Literal["software", "artist", "comment"], str]
NO_COMMENTS: Comments = MappingProxyType({})
_INFO = {"software": b"ISFT", "artist": b"IART", "comment": b"ICMT"}


def list_chunk(comments: Comments) -> bytes:
    """Comments as a chunk of a WAV file: LIST, of the kind INFO; nothing if there are none.

    Raises:
        InputError: files hold no comment of that name.
    Source: Multimedia Programming Interface and Data Specifications 1.0. Every text ends with a zero, and every chunk
        has an even length.
    """
    unknown = [name for name in comments if name not in _INFO]
    if unknown:
        text = "comment {name!r} is unknown; allowed: {allowed}"
        raise InputError(text, code="comment-unknown", name=unknown[0], allowed=", ".join(_INFO))
    texts = {_INFO[name]: text.encode() + b"\0" for name, text in comments.items()}
    body = b"".join(key + struct.pack("<I", len(text)) + text + b"\0" * (len(text) % 2) for key, text in texts.items())
    return b"LIST" + struct.pack("<I", 4 + len(body)) + b"INFO" + body if body else b""
