"""Features from files: .npy, .npz, .safetensors and .pt, read without running any code that they may hold."""

from __future__ import annotations

import os
import textwrap
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from tts_infer.errors import FileError, InputError, InputTypeError, first_sentence
from tts_infer.io.features import as_features, as_float_tensor, prefix_errors
from tts_infer.io.sources import FEATURE_SUFFIXES, UNREADABLE, holds_features, require_file

FEATURE_KEY = "mel"


def read_mel(path: str | os.PathLike[str], n_mels: int) -> Tensor:
    """Read the mel of a file, and check it like `as_features`.

    Shape: (1, n_mels, L), float32
    Raises:
        FileError: see `read_features`.
        InputError: see `as_features`, with the name of the file; or it holds several mels.
    """
    features = read_features(path)
    with prefix_errors(path):
        mel = as_features(features, n_mels)
    if mel.shape[0] != 1:
        text = "{path} holds a batch of {count}; expected one mel a file"
        raise InputError(text, code="mel-file-batch", path=os.fspath(path), count=mel.shape[0])
    return mel


def read_features(path: str | os.PathLike[str]) -> Tensor:
    """Read features from a file. Code in the file never runs.

    Args:
        path: see `read_array`.

    Shape: as stored, float32
    Raises:
        FileError: missing; unreadable; not a feature file; several arrays and none named "mel"; or an array that is
            not dense and floating-point.
    """
    try:
        return as_float_tensor(read_array(path), "mel")
    except InputTypeError as error:
        raise FileError(error.text, code=error.code, **error.fields).within(path) from None


def read_array(path: str | os.PathLike[str]) -> Any:
    """Read the one array of a file as it is stored. Code in the file never runs.

    Args:
        path: .npy; .npz, .safetensors or .pt with one array, or one named "mel". Pickled objects are refused.

    Shape: as stored
    Raises:
        FileError: missing; unreadable; not a feature file; or several arrays and none named "mel".
    """
    path = Path(path)
    if not holds_features(path):
        text = "{path} is no feature file; allowed: {allowed}"
        raise FileError(text, code="not-features", path=str(path), allowed=", ".join(FEATURE_SUFFIXES))
    require_file(path)
    try:
        content = _load(path)
    except UNREADABLE as error:
        text = "cannot read {path} as features: {reason}; give a plain array, without pickled objects"
        raise FileError(text, code="features-unreadable", path=str(path), reason=first_sentence(error)) from None
    return _the_one_array(content, path) if isinstance(content, dict) else content


def open_features(path: str | os.PathLike[str], integers: bool = False) -> Tensor | NDArray[Any]:
    """Read features like `read_features`, but map a plain .npy file instead of reading it.

    Args:
        path: see `read_array`.
        integers: whether whole numbers are allowed, because they are codes.

    Shape: as stored
    Raises:
        FileError: see `read_features`; the dtype of a mapped array is not checked.
    """
    if Path(path).suffix.lower() == ".npy":
        with suppress(*UNREADABLE):  # `read_features` says what is wrong
            return np.lib.format.open_memmap(os.fspath(path), mode="r")
    content = read_array(path) if integers else None
    if isinstance(content, Tensor | np.ndarray) and not _is_float(content):
        return content
    return read_features(path)


def _is_float(content: Tensor | NDArray[Any]) -> bool:
    return content.is_floating_point() if isinstance(content, Tensor) else content.dtype.kind == "f"


def _load(path: Path) -> Any:
    suffix = path.suffix.lower()
    if suffix == ".safetensors":
        return load_file(path)
    if suffix == ".pt":
        return torch.load(path, map_location="cpu", weights_only=True)
    with open(path, "rb") as file:  # numpy would leave a broken archive open
        loaded = np.load(file, allow_pickle=False)
        return dict(loaded) if isinstance(loaded, np.lib.npyio.NpzFile) else loaded


def _the_one_array(content: dict[str, Any], path: Path) -> Any:
    if FEATURE_KEY in content:
        return content[FEATURE_KEY]
    if len(content) == 1:
        return next(iter(content.values()))
    text = "{path} holds {count} entries ({names}); name one of them {key!r}"
    names = textwrap.shorten(", ".join(map(str, content)), 100, placeholder=" ...")
    raise FileError(text, code="which-array", path=str(path), count=len(content), names=names, key=FEATURE_KEY)
