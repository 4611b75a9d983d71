"""What clients send: JSON and arrays, read strictly. Nothing in them is run, and no stated size is believed."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from tokenize import TokenError
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tts_infer.config import build
from tts_infer.documents import parse_json
from tts_infer.errors import InputError
from tts_infer.server.encoders import AudioFormat

MOST_PASSES = 32  # of refinement
_WORDS = ("model", "response_format")  # of a query, which has no types


@dataclass(frozen=True)
class DecodeRequest:
    """The query of /v1/audio/decode.

    Attributes:
        model: a vocoder; None: the first.
        response_format: of the audio.
        stream: send the audio while it is made; else when it is whole, with its length.
        refine: passes of refinement; None: what suits the vocoder.
    """

    model: str | None = None
    response_format: AudioFormat = "wav"
    stream: bool = True
    refine: int | None = None

    def __post_init__(self) -> None:
        if self.refine is not None and not 0 <= self.refine <= MOST_PASSES:
            text = "refine is {refine}; allowed: 0 to {most}"
            raise InputError(text, code="server-refine", refine=self.refine, most=MOST_PASSES, param="refine")


@dataclass(frozen=True)
class SpeechRequest:
    """The body of /v1/audio/speech, as OpenAI's API has it.

    Attributes:
        input: the text.
        model: what speaks; None: the first.
        voice: one of the model; None: its first.
        response_format, stream: as of `DecodeRequest`.
        speed: 1.0 is the voice's own pace.
        stream_format: as what a stream is sent; events are not offered.
        instructions: on how to speak; no voice here takes any.
    """

    input: str
    model: str | None = None
    voice: str | None = None
    response_format: AudioFormat = "wav"
    speed: float = 1.0
    stream: bool = True
    stream_format: Literal["audio"] = "audio"
    instructions: Literal[""] | None = None


def speech_request(body: bytes, content_type: str, most_characters: int) -> SpeechRequest:
    """Read a body.

    Raises:
        ConfigError: it is no JSON, a name is unknown or missing, or a value is not allowed.
        InputError: it is said to be something else than JSON, or the text is too long.
    """
    if content_type.partition(";")[0].strip().lower() != "application/json":
        text = "content-type is {got!r}; send application/json"
        raise InputError(text, code="server-content-type", got=content_type[:60])
    asked = build(SpeechRequest, parse_json(body, "the body"), "the body")
    if len(asked.input) > most_characters:
        text = "input has {got} characters, {most} are allowed; send it in parts"
        raise InputError(text, code="server-text-long", got=len(asked.input), most=most_characters, param="input")
    return asked


def decode_request(query: Mapping[str, str]) -> DecodeRequest:
    """Read a query.

    Raises:
        ConfigError, InputError: a name is unknown, or a value is not allowed.
    """
    return build(DecodeRequest, {name: _value(name, text) for name, text in query.items()}, "query")


def _value(name: str, text: str) -> Any:
    """The value of a query: a word, or a JSON value."""
    try:
        return text if name in _WORDS else json.loads(text)
    except ValueError:
        return text  # whose type is refused


def array_of(body: bytes) -> NDArray[Any]:
    """The array of a .npy file.

    Shape: as stored
    Raises:
        InputError: it is no .npy file, is cut off, or holds something else than floats.
    """
    file = io.BytesIO(body)
    try:
        major, _ = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
        shape, is_fortran, dtype = read(file)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError, TokenError):
        text = "the body is no .npy file; send what numpy.save writes of an array of floats"
        raise InputError(text, code="server-npy") from None
    if dtype.kind != "f":
        raise InputError("the .npy file holds {dtype}; expected floats", code="server-npy-dtype", dtype=str(dtype)[:60])
    stated, given = math.prod(shape) * dtype.itemsize, len(body) - file.tell()
    if stated != given or any(size < 0 for size in shape):
        text = "the .npy file states {stated} bytes of data for shape {shape}, but has {given}"
        raise InputError(text, code="server-npy-size", stated=stated, shape=str(shape)[:60], given=given)
    values = np.frombuffer(body, dtype, offset=file.tell())
    return values.reshape(shape, order="F" if is_fortran else "C")
