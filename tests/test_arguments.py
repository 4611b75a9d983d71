"""Public functions refuse arguments of other kinds than their signatures state."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from tts_infer.arguments import admits, checked, said
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
    with pytest.raises(TypeError, match=r"scale\(\) missing 1 required positional argument: 'samples'"):
        scale()  # type: ignore[call-arg]
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
