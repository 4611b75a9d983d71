"""The page's texts, as data in `ui/i18n`: one file a language, named by its code. `tests/languages.py` makes a new one.

Each table has "texts" by key. Those of other languages than English also have "errors" and "sentences", templates by
the code of an error or of a sentence of the package, "notes", sentences by the code of a note or of a warning, "about",
what is said of known vocoders, and "phrases", fixed English words that the package gives without a code. Labels are
translated in the browser, by Gradio. Results and messages are written on the server, in the language that the browser
asks for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.i18n import I18nData

import tts_infer

FOLDER = Path(__file__).parent / "i18n"
_PREFIX = "tts-infer-"  # of the keys in the browser, where Gradio has keys of its own, such as "audio"


@cache
def languages() -> tuple[str, ...]:
    """The codes of all languages that are written down, such as "en"."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.json")))


@cache
def table(language: str) -> dict[str, dict[str, str]]:
    """Everything that is written down in a language."""
    loaded: dict[str, dict[str, str]] = json.loads((FOLDER / f"{language}.json").read_text(encoding="utf-8"))
    return loaded


class Translator:
    """Says things in one language.

    Args:
        language: of what it says.
    """

    def __init__(self, language: str) -> None:
        written = table(language)
        self._texts, self._errors, self._phrases = written["texts"], written["errors"], written["phrases"]
        self._notes, self._about, self._sentences = written["notes"], written["about"], written["sentences"]

    def __call__(self, key: str, **fields: Any) -> str:
        """A text of the page, with the values that belong into it."""
        return self._texts[key].format(**fields)

    def sentence(self, said: str) -> str:
        """A reason, advice or another sentence of the package; English where its code has no translation."""
        if not isinstance(said, tts_infer.Sentence):
            return self.phrase(said)
        template = self._sentences.get(said.code)
        return str(said) if template is None else template.format(**self._values(said.fields))

    def _values(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """The values in a sentence, of which some are sentences themselves."""
        return {key: self._value(value) for key, value in fields.items()}

    def _value(self, value: Any) -> Any:
        if isinstance(value, tts_infer.Several):
            return tts_infer.Several(map(self._value, value))
        return self.sentence(value) if isinstance(value, tts_infer.Sentence) else value

    def phrase(self, english: str) -> str:
        """A fixed phrase of the package; English where it has no translation."""
        return self._phrases.get(english, english)

    def about(self, english: str) -> str:
        """What a known vocoder's file says of it; English where it has no translation."""
        return self._about.get(english, english)

    def note(self, note: Mapping[str, Any]) -> str:
        """A note of a report (its code, its English text, and the fields in that); English without a translation."""
        template = self._notes.get(note["code"])
        return str(note["text"]) if template is None else template.format(**note["fields"])

    def error(self, error: tts_infer.TTSInferError) -> str:
        """An error of the package; English where its code has no translation."""
        if error.code not in self._errors:
            return str(error)
        said = self._errors[error.code].format(**self._values(error.fields))
        return f"{error.where}: {said}" if error.where else said


def translator(request: gr.Request | None) -> Translator:
    """The translator into the first language that a browser accepts; English for programs."""
    accepted = request.headers.get("accept-language", "") if request else ""
    first = re.split("[-,;]", accepted.lower().strip())[0]
    return Translator(first if first in languages() else "en")


def label(key: str) -> I18nData:
    """A text that the browser shows in its own language."""
    return I18nData(_PREFIX + key)


def translations() -> gr.I18n:
    """The texts for `launch`. Browsers in other languages show the English ones."""
    tables = {name: {_PREFIX + key: text for key, text in table(name)["texts"].items()} for name in languages()}
    return gr.I18n(**tables, **{"zh-CN": tables["zh"]})
