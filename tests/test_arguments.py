"""Public functions refuse arguments of other kinds than their signatures state."""

from __future__ import annotations

import inspect
import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

import tts_infer
from tts_infer.arguments import admits, called_as_stated, checked, said
from tts_infer.errors import InputTypeError
from tts_infer.live import Speaks

Name = str | os.PathLike[str]


@pytest.mark.parametrize(
    ("annotation", "right", "wrong"),
    [
        (int, [3, np.int16(3)], [3.0, True, "3", None]),
        (float, [3, 0.5, np.float32(0.5)], ["0.5", 1j, True]),
        (bool, [True, np.bool_(False)], [1, "yes"]),
        (Name | None, ["a", Path("a"), None], [b"a", 3, ["a"]]),
        (Literal["wav", "flac"], ["wav", "mp3"], [3, None]),  # which text, the function says itself
        (Sequence[int | None], [[1, None], (), [2]], ["12", b"12", [1.5], 3, np.zeros(2)]),
        (Sequence[tuple[str, Tensor]], [[("a", torch.zeros(1))]], [["ab"], [("a",)], [("a", 3)]]),
        (Mapping[str, str], [{"a": "b"}], [{"a": 1}, {1: "b"}, ["a"]]),
        (NDArray[np.float32], [np.zeros(3)], [[1.0], torch.zeros(3)]),
        (Callable[[int], None], [print], [3]),
        (BinaryIO, [io.BytesIO(), 3], []),  # what a file is, `io.inputs` says
        (Any, [3, None], []),
        (Speaks, [], [3, "a"]),
    ],
)
def test_kinds(annotation: Any, right: list[Any], wrong: list[Any]) -> None:
    assert [admits(annotation, value) for value in right] == [True] * len(right)
    assert [admits(annotation, value) for value in wrong] == [False] * len(wrong)


def test_what_is_expected_is_said() -> None:
    assert said(Name | None) == "str or path or None" and said(Sequence[int]) == "sequence of whole number"
    assert said(Literal["wav", "flac"]) == "'wav', 'flac'" and said(NDArray[np.float32]) == "array"


@checked()
def scale(samples: NDArray[np.float32], gain: float = 1.0, *more: int, name: str = "a", **others: int) -> str:
    """Here for the test."""
    return f"{gain} {name} {more} {others}"


def test_a_function_stays_what_it_is() -> None:
    assert scale(np.zeros(1, np.float32), 2, 3, 4, b=5) == "2 a (3, 4) {'b': 5}"
    assert scale.__doc__ == "Here for the test."
    with pytest.raises(
        InputTypeError, match="^scale: missing a required argument: 'samples'; it takes samples, gain"
    ) as (caught):
        scale()  # type: ignore[call-arg]
    assert caught.value.code == "arguments-misfit" and str(caught.value).endswith(r"gain, *more, name, **others")
    with pytest.raises(InputTypeError, match="^scale: gain is a str; expected number$") as caught:
        scale(np.zeros(1), "loud")  # type: ignore[arg-type]
    assert caught.value.code == "argument-kind"
    with pytest.raises(InputTypeError, match="^scale: name is a int; expected str$"):
        scale(np.zeros(1), name=3)  # type: ignore[arg-type]


def test_some_parameters_only() -> None:
    @checked("name")
    def named(size: int, name: str) -> tuple[Any, Any]:
        return size, name

    assert named("large", "a") == ("large", "a")  # type: ignore[arg-type]
    with pytest.raises(InputTypeError, match="named: name is a float"):
        named(1, 2.0)  # type: ignore[arg-type]


def public_calls() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Every public function, and every public method of a public class that is not torch's."""
    for name in tts_infer.__all__:
        value = getattr(tts_infer, name)
        if inspect.isfunction(value):
            yield name, value
        elif isinstance(value, type) and not issubclass(value, BaseException):
            for method, function in inspect.getmembers(value, inspect.isfunction):
                public = not method.startswith("_") or method in ("__init__", "__call__")
                ours = (inspect.unwrap(function).__module__ or "").startswith("tts_infer")
                made = inspect.unwrap(function).__qualname__.endswith(".__init__")  # of dataclasses, no module says it
                stays = method == "forward" or inspect.iscoroutinefunction(function)
                if public and not stays and (ours or made):
                    yield f"{name}.{method}", function


@pytest.mark.parametrize(("name", "function"), list(public_calls()))
def test_a_call_that_does_not_fit_is_a_package_error(name: str, function: Callable[..., Any]) -> None:
    with pytest.raises(InputTypeError) as caught:
        function(no_such_argument=0)  # or without what is required, such as `self`
    assert caught.value.code == "arguments-misfit" and 10 < len(str(caught.value)) < 300


def test_other_names_of_the_features_are_told(vocoder: tts_infer.Vocoder) -> None:
    """`vocos.Vocos.decode` calls them `features_input`, which is a condition here, and no vocoder has that one."""
    mel = torch.full((1, 100, 9), -5.0)
    with pytest.raises(
        InputTypeError, match=r"missing a required argument: 'features' \(got features_input\); it takes"
    ):
        vocoder.decode(features_input=mel)  # type: ignore[call-overload]
    with pytest.raises(InputTypeError, match="features_input"):
        vocoder.decode(mel, features_input=mel)
    with pytest.raises(InputTypeError, match=r"^Vocoder: multiple values for argument 'audio'; it takes audio, refine"):
        vocoder(mel[0], audio=mel)  # type: ignore[misc]


def test_an_error_within_a_function_stays_what_it_is() -> None:
    @called_as_stated
    def add(one: int, other: int) -> int:
        return one + other

    assert add(1, other=2) == 3
    with pytest.raises(TypeError, match="unsupported operand") as caught:
        add(1, "2")  # type: ignore[arg-type]
    assert type(caught.value) is TypeError and called_as_stated(3) == 3


def test_what_is_awaited_stays_so() -> None:
    """A server looks at its application to learn how to call it."""
    assert inspect.iscoroutinefunction(tts_infer.ServerApp.__call__)
    assert inspect.iscoroutinefunction(tts_infer.LiveAudio.aclose)
