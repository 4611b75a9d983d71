"""Errors: one line, the builtin that they specialise, a code for translations."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from tts_infer import errors
from tts_infer.errors import FileError, InputError, TTSInferError
from tts_infer.sentences import Sentence, Several


def test_the_sentence_is_made_of_its_fields() -> None:
    error = InputError("mel is empty: shape {shape}", code="mel-empty", shape=(1, 100, 0))
    assert (str(error), error.code, error.fields) == (
        "mel is empty: shape (1, 100, 0)",
        "mel-empty",
        {"shape": (1, 100, 0)},
    )


def test_braces_in_plain_texts_and_values_stay() -> None:
    assert str(InputError("{not a field}")) == "{not a field}"
    assert str(InputError("got {value}", code="x", value="{y}")) == "got {y}"


def test_lists_and_reasons_are_shortened_too() -> None:
    reason = Sentence("{engine} is {what}", code="x", engine="mlx", what="w" * 400)
    error = InputError("use {allowed: or }, since {reason}", code="x", allowed=Several("ab"), reason=reason)
    assert str(error).startswith("use a or b, since mlx is www") and len(str(error)) < 300
    assert error.fields["reason"] is reason


def test_within_names_the_outer_place_first() -> None:
    error = InputError("mel is empty", code="mel-empty").within("item 3").within("a.npz")
    assert str(error) == "a.npz: item 3: mel is empty" and error.code == "mel-empty"


def test_other_names_are_told_in_full() -> None:
    """A message that is cut to its length shortens the paths in it, where nobody would find them any more."""
    path, reason = f"/tmp/{'d' * 64}/{'e' * 64}/clip.zip", "it is encrypted, with a password that is required " * 3
    error = FileError("cannot unpack {file}: {reason}", code="x", where=path, file=Path(path), reason=reason)
    assert path not in str(error)
    named = error.naming({path: "clip.zip"})
    assert str(named) == f"clip.zip: cannot unpack clip.zip: {reason}" and named.code == "x"
    assert str(FileError(f"cannot read {path}").naming({path: "clip.zip"})) == "cannot read clip.zip"


@pytest.mark.parametrize("kind", [k for k in vars(errors).values() if isinstance(k, type) and issubclass(k, Exception)])
def test_errors_survive_processes(kind: type[TTSInferError]) -> None:
    error = kind("cannot read {path}", code="unreadable", where="row 3", path="a")
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), copy.code, copy.fields) == (
        kind,
        "row 3: cannot read a",
        "unreadable",
        {"path": "a"},
    )


def test_a_file_error_is_an_os_error() -> None:
    with pytest.raises(OSError, match="cannot write x"):
        raise FileError("cannot write {path}", code="unwritable", path="x")
