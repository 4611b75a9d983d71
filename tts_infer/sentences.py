"""Sentences that are no errors, such as reasons and advice. They have codes, too, on which translations hang:

    Sentence("{engine} computes on the CPU, not on {device}", code="engine-elsewhere", engine="oneDNN", device=device)

A sentence is its English text, so whoever needs no more takes it as a string.
"""

from __future__ import annotations

import json
from typing import Any


class Several(tuple[Any, ...]):
    """Values in a sentence, which says what stands between them: "{reasons:; }"."""

    def __format__(self, between: str) -> str:
        return between.join(map(str, self))


class Sentence(str):
    """A sentence with a code.

    Args:
        text: a format string for `fields`.
        code: the name of the sentence, the same in every language.
        fields: the values in it: numbers, texts, sentences, or `Several`. Anything else is kept as its text.
    """

    code: str
    fields: dict[str, Any]

    def __new__(cls, text: str, /, *, code: str, **fields: Any) -> Sentence:
        kept = {
            key: value if isinstance(value, (str, int, float, Several)) else str(value) for key, value in fields.items()
        }
        return _remade(text.format(**kept), code, kept)

    def __reduce__(self) -> tuple[Any, ...]:
        return _remade, (str(self), self.code, self.fields)


def _remade(text: str, code: str, fields: dict[str, Any]) -> Sentence:
    made = str.__new__(Sentence, text)
    made.code, made.fields = code, fields
    return made


def as_json(sentence: str) -> str:
    """A sentence with its code and its values as JSON; see `from_json`."""
    return json.dumps(_plain(sentence))


def from_json(text: str) -> str:
    """The sentence that `as_json` wrote.

    Raises:
        ValueError: it is something else.
    """
    found = _made(json.loads(text))
    if not isinstance(found, str):
        raise ValueError("no sentence")
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, Sentence):
        return {"text": str(value), "code": value.code, "fields": {k: _plain(v) for k, v in value.fields.items()}}
    return [_plain(one) for one in value] if isinstance(value, Several) else value


def _made(value: Any) -> Any:
    if isinstance(value, list):
        return Several(map(_made, value))
    if not isinstance(value, dict):
        return value
    try:
        return _remade(value["text"], value["code"], {key: _made(one) for key, one in value["fields"].items()})
    except (KeyError, AttributeError, TypeError):
        raise ValueError("no sentence") from None
