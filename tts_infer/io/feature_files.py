"""Features from files: .npy, .npz, .safetensors and .pt, read without running any code that they may hold."""

from __future__ import annotations

import os
import textwrap
import zipfile
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from tts_infer.errors import FileError, InputError, InputTypeError, first_sentence
from tts_infer.io.features import as_features, as_float_tensor, prefix_errors
from tts_infer.io.sources import FEATURE_SUFFIXES, UNREADABLE, as_name, holds_features, require_file
from tts_infer.sentences import Sentence

FEATURE_KEY = "mel"
_MOST_UNPACKED_BYTES = 2**31


def read_mel(path: str | os.PathLike[str], n_mels: int, most_frames: int | None = None) -> Tensor:
    """Read the mel of a file, and check it like `as_features`.

    Args:
        path: see `read_array`.
        n_mels: bins that the vocoder expects.
        most_frames: of a mel; archives that unpack to more are refused before they are unpacked. None: no limit.

    Shape: (1, n_mels, L), float32
    Raises:
        FileError: see `read_features`.
        InputError: see `as_features`, with the name of the file; or it holds several mels, or too many frames.
    """
    # of 8 bytes at most, and of a head
    most = _MOST_UNPACKED_BYTES if most_frames is None else 8 * n_mels * most_frames + 2**16
    features = _as_floats(_read(path, most), path)
    if most_frames is not None and features.ndim > 1 and features.shape[-1] > most_frames:
        text = "{path} holds {frames} frames; at most {most} are allowed here; cut it"
        frames = features.shape[-1]
        raise InputError(text, code="mel-long", path=os.fspath(path), frames=frames, most=most_frames)
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
    return _as_floats(read_array(path), path)


def _as_floats(array: Any, path: str | os.PathLike[str]) -> Tensor:
    try:
        return as_float_tensor(array, "mel")
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
    return _read(path, _MOST_UNPACKED_BYTES)


def _read(path: str | os.PathLike[str], most_bytes: int) -> Any:
    path = Path(as_name(path))
    if not holds_features(path):
        text = "{path} is no feature file; allowed: {allowed}"
        raise FileError(text, code="not-features", path=str(path), allowed=", ".join(FEATURE_SUFFIXES))
    require_file(path)
    try:
        content = _load(path, most_bytes)
    except FileError:
        raise
    except UNREADABLE as error:
        text = (
            "cannot read {path} as features: {reason}; give a plain array of floats, whole and without pickled objects"
        )
        raise FileError(text, code="features-unreadable", path=str(path), reason=_why(path, error)) from None
    return _the_one_array(content if isinstance(content, dict) else {FEATURE_KEY: content}, path)


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


def _why(path: Path, error: BaseException) -> str:
    """Why a file cannot be read. What is no array at all, numpy takes for pickled objects."""
    with suppress(OSError), open(path, "rb") as file:
        if path.suffix.lower() in (".npy", ".npz") and not file.read(6).startswith((b"\x93NUMPY", b"PK")):
            return Sentence("it is no {suffix} file", code="not-numpy", suffix=path.suffix.lower())
    return first_sentence(error)


def _load(path: Path, most_bytes: int) -> Any:
    suffix = path.suffix.lower()
    if suffix == ".safetensors":
        return load_file(path)
    with open(path, "rb") as file:  # numpy would leave a broken archive open
        _refuse_packed(file, most_bytes)
        if suffix == ".pt":
            return torch.load(file, map_location="cpu", weights_only=True)
        loaded = np.load(file, allow_pickle=False)
        if not isinstance(loaded, np.lib.npyio.NpzFile):
            return loaded
        return loaded[_key(loaded.files, path)]  # the others stay packed


def _refuse_packed(file: BinaryIO, most_bytes: int) -> None:
    """Refuse archives that would unpack to much."""
    if file.read(4) == b"PK\x03\x04":
        size = max((entry.file_size for entry in zipfile.ZipFile(file).infolist()), default=0)
        if size > most_bytes:
            raise ValueError(f"it unpacks to {size} bytes, {most_bytes} are allowed")
    file.seek(0)


def _the_one_array(content: dict[str, Any], path: Path) -> Any:
    array = content[_key(content, path)]
    if isinstance(array, Tensor) and _is_spread(array):
        text = "{path} holds few values spread over the shape {shape}; save a .clone() of the tensor"
        raise FileError(text, code="features-spread", path=str(path), shape=tuple(array.shape))
    return array


def _is_spread(tensor: Tensor) -> bool:
    """Whether a dense tensor has more values than its file stores: a few bytes could stand for terabytes."""
    if tensor.layout != torch.strided or tensor.is_nested or tensor.is_meta:
        return False
    return tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes()


def _key(content: Collection[Any], path: Path) -> Any:
    """The name of the one array of a file."""
    if FEATURE_KEY in content:
        return FEATURE_KEY
    if len(content) == 1:
        return next(iter(content))
    if not content:
        raise FileError("{path} holds no array", code="no-array", path=str(path))
    text = "{path} holds {count} entries ({names}); name one of them {key!r}"
    names = textwrap.shorten(", ".join(map(str, content)), 100, placeholder=" ...")
    raise FileError(text, code="which-array", path=str(path), count=len(content), names=names, key=FEATURE_KEY)
