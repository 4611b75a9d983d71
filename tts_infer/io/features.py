"""What users hand us - arrays, tensors, feature files - as float32 tensors, or one clear line of why not."""

from __future__ import annotations

import math
import operator
import os
import pickle
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from tts_infer.errors import FileError, InputError, InputTypeError, first_sentence

FEATURE_SUFFIXES = (".npy", ".npz", ".safetensors", ".pt")
FEATURE_KEY = "mel"
# Natural-log mels of audio within full scale end below 9 (of powers below 15); those in decibels reach 40.
LARGEST_LOG = 20.0
# Audio at full scale ends at 1.0, and what a network makes of speech is not far beyond. Samples that were whole numbers
# of 16 and more bits, and were not divided, are.
LARGEST_SAMPLE = 1000.0

# What the readers of numpy, torch and safetensors raise, of whatever is wrong with the bytes that they are given.
UNREADABLE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,  # of a size that nobody meant
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    SafetensorError,
    pickle.UnpicklingError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


@contextmanager
def prefix_errors(name: object) -> Iterator[None]:
    """Begin messages about what was given with the name by which its giver knows it."""
    try:
        yield
    except (InputError, InputTypeError) as error:
        raise type(error)(f"{name}: {error}") from None


def as_features(features: Tensor | NDArray[Any], n_mels: int, piece: bool = False) -> Tensor:
    """Check a log-mel spectrogram and give it its batch axis.

    Args:
        features: floating point, on any device.
        n_mels: bins that the vocoder expects.
        piece: it is a part of something, and may be empty: L may be 0.

    Shape: (B, n_mels, L) or (n_mels, L) -> (B, n_mels, L), float32
    Raises:
        InputTypeError: not a dense floating-point array or tensor.
        InputError: wrong rank, number of bins or orientation; empty; NaN or infinite values; or values that no
            natural logarithm of a magnitude has.
    """
    tensor = _as_float_tensor(features, "mel")
    require_mel_shape(tensor.shape, n_mels)
    _check_values(tensor, "mel", piece, LARGEST_LOG, _LOUD_MEL)
    return tensor.unsqueeze(0) if tensor.ndim == 2 else tensor


def require_mel_shape(shape: Sequence[int], n_mels: int) -> None:
    """The part of `as_features` that what is taken in pieces must pass whole.

    Raises:
        InputError: wrong rank, number of bins or orientation.
    """
    got = f"mel has shape {tuple(shape)}; expected (B, {n_mels}, L) or ({n_mels}, L)"
    if len(shape) not in (2, 3):
        raise InputError(got)
    bins, frames = shape[-2:]
    if bins != n_mels:
        hint = (
            "this one is (L, n_mels): transpose its last two axes"
            if frames == n_mels
            else f"this vocoder takes {n_mels} mel bins; use one trained on the convention of this mel"
        )
        raise InputError(f"{got}; {hint}")


def as_ragged(
    features: Tensor | NDArray[Any] | Sequence[Tensor | NDArray[Any]],
    lengths: Tensor | NDArray[Any] | Sequence[int] | None,
    n_mels: int,
) -> tuple[Tensor, list[int]]:
    """Check features of several lengths, and make them one batch whose padding is zero.

    Args:
        features: a list of single spectrograms; or a padded batch, whose padding may hold anything.
        lengths: valid frames of each item of a padded batch; None for a list.

    Shape: a list of (n_mels, L_i) or (1, n_mels, L_i), or (B, n_mels, L) -> (B, n_mels, L), float32, and B lengths
    Raises:
        InputTypeError, InputError: see `as_features`, with the number of the item; an empty list; lengths that are
            not one positive whole number for each item, at most L.
    """
    if isinstance(features, Sequence):
        if lengths is not None or not features:
            raise InputError("give a list of at least one mel without lengths, or a padded batch with lengths")
        items = [_item(item, n_mels, i) for i, item in enumerate(features)]
    else:
        batch = _as_float_tensor(features, "mel")
        counts = _as_list(lengths)
        if batch.ndim != 3 or len(counts) != batch.shape[0]:
            raise InputError(
                f"mel of shape {_shape(batch)} and lengths {counts}: expected (B, {n_mels}, L) and B of them"
            )
        items = [_item(batch[i, :, :n], n_mels, i) for i, n in enumerate(_checked_counts(counts, batch.shape[2]))]
    longest = max(item.shape[1] for item in items)
    padded = items[0].new_zeros(len(items), n_mels, longest)
    for row, item in zip(padded, items, strict=True):
        row[:, : item.shape[1]] = item
    return padded, [item.shape[1] for item in items]


def _as_list(lengths: Any) -> list[Any]:
    given = lengths.tolist() if isinstance(lengths, Tensor | np.ndarray) else lengths
    if not isinstance(given, Sequence):
        raise InputTypeError(
            f"lengths is a {type(given).__name__}; expected a list, an array or a tensor of whole numbers"
        )
    return list(given)


def _checked_counts(counts: list[Any], most: int) -> list[int]:
    try:
        whole = [operator.index(n) for n in counts]
    except TypeError:
        whole = []
    # True would count as 1
    if not whole or any(isinstance(n, bool) for n in counts) or not all(0 < n <= most for n in whole):
        raise InputError(f"lengths are {counts}; each must be a whole number from 1 to {most} frames")
    return whole


def _item(features: Tensor | NDArray[Any], n_mels: int, index: int) -> Tensor:
    with prefix_errors(f"item {index}"):
        batch = as_features(features, n_mels)
        if batch.shape[0] != 1:
            raise InputError(f"mel has shape {_shape(batch)}; expected a single ({n_mels}, L)")
        return batch[0]


def as_audio(audio: Tensor | NDArray[Any], piece: bool = False) -> Tensor:
    """Check a waveform and give it its batch axis.

    Args:
        audio: floating point, full scale 1.0, on any device.
        piece: it is a part of something, and may be empty: T may be 0.

    Shape: (B, T) or (T,) -> (B, T), float32
    Raises:
        InputTypeError: not a dense floating-point array or tensor.
        InputError: wrong rank; empty; NaN or infinite values; or values far beyond full scale.
    """
    tensor = _as_float_tensor(audio, "audio")
    if tensor.ndim not in (1, 2):
        raise InputError(f"audio has shape {_shape(tensor)}; expected (B, T) or (T,), one channel")
    _check_values(tensor, "audio", piece, LARGEST_SAMPLE, _LOUD_AUDIO)
    return tensor.unsqueeze(0) if tensor.ndim == 1 else tensor


def read_mel(path: str | os.PathLike[str], n_mels: int) -> Tensor:
    """Read the one mel of a file, checked as by `as_features`.

    Shape: (1, n_mels, L), float32
    Raises:
        FileError: see `read_features`.
        InputError: see `as_features`, with the name of the file; or it holds several.
    """
    features = read_features(path)
    with prefix_errors(path):
        mel = as_features(features, n_mels)
    if mel.shape[0] != 1:
        raise InputError(f"{path} holds a batch of {mel.shape[0]}; expected one mel a file")
    return mel


def read_features(path: str | os.PathLike[str]) -> Tensor:
    """Read features from a file, without running any code that the file may hold.

    Args:
        path: .npy; .npz, .safetensors or .pt with one array, or one named "mel". Pickled objects are refused.

    Shape: as stored, float32
    Raises:
        FileError: missing, unreadable, of another kind, holding several arrays of which none is named "mel", or one
            that is not dense and floating-point.
    """
    path = Path(path)
    if path.suffix.lower() not in FEATURE_SUFFIXES:
        raise FileError(f"{path} is no feature file; allowed: {', '.join(FEATURE_SUFFIXES)}")
    if not os.path.isfile(path):
        raise FileError(f"no such file: {path}")
    try:
        content = _load(path)
    except UNREADABLE as error:
        raise FileError(
            f"cannot read {path} as features: {first_sentence(error)}; give a plain array, without pickled objects"
        ) from None
    if isinstance(content, dict):
        content = _the_one_array(content, path)
    try:
        return _as_float_tensor(content, "mel")
    except InputTypeError as error:
        raise FileError(f"{path}: {error}") from None


def open_features(path: str | os.PathLike[str]) -> Tensor | NDArray[Any]:
    """Read features like `read_features`, but leave an array that is stored plainly on disk, as it is stored.

    Raises:
        FileError: see `read_features`; whether an array on disk is floating-point is not looked at.
    """
    if Path(path).suffix.lower() == ".npy":
        with suppress(*UNREADABLE):  # it is empty, or reading will say what it is
            return np.lib.format.open_memmap(os.fspath(path), mode="r")
    return read_features(path)


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
    raise FileError(
        f"{path} holds {len(content)} entries ({', '.join(map(str, content))}); name one of them {FEATURE_KEY!r}"
    )


def _as_float_tensor(value: Any, what: str) -> Tensor:
    if isinstance(value, np.ndarray):
        floats, integers = value.dtype.kind == "f", value.dtype.kind in "iu"
    elif isinstance(value, Tensor):
        floats, integers = value.is_floating_point(), not value.is_complex()
    else:
        raise InputTypeError(f"{what} is a {type(value).__name__}; expected a torch tensor or a numpy array of floats")
    if not floats:
        hint = "; divide 16-bit samples by 32768" if what == "audio" and integers else ""
        raise InputTypeError(f"{what} has dtype {value.dtype}; expected a floating-point type{hint}")
    if isinstance(value, np.ndarray):
        # numpy knows more floats than torch, such as those of other machines; and torch warns of what is read-only
        with np.errstate(over="ignore"):  # infinite values are told of later
            return torch.from_numpy(np.require(value, np.float32, ["C", "W", "E"]))
    if value.layout != torch.strided or value.is_nested or value.is_meta:
        raise InputTypeError(f"{what} is a sparse, nested or meta tensor; expected a dense one: give its .to_dense()")
    try:
        return value.detach().float()
    except NotImplementedError:  # several numbers a byte
        raise InputTypeError(f"{what} has dtype {value.dtype}; expected float32, or what converts to it") from None


_LOUD_MEL = (
    "natural-log mels end far below 20: take the logarithm of a linear one, multiply one in decibels by ln(10) / 20"
)
_LOUD_AUDIO = "full scale is 1.0: divide samples that were whole numbers of N bits by 2 ** (N - 1)"


def _check_values(tensor: Tensor, what: str, piece: bool, most: float, hint: str) -> None:
    """The one look at values. On an accelerator it waits for the device once, before any stage begins."""
    if tensor.numel() == 0:
        if piece and tensor.shape[-1] == 0 and 0 not in tensor.shape[:-1]:
            return
        raise InputError(f"{what} is empty: shape {_shape(tensor)}")
    # a sum is finite only if every term is, and is several times cheaper than testing each
    total = torch.where(tensor.max() <= most, tensor.sum(), math.inf)
    if math.isfinite(total.item()):
        return
    bad, largest = int((~torch.isfinite(tensor)).sum()), float(tensor.max())
    if bad:
        raise InputError(f"{what} holds {bad} NaN or infinite values of {tensor.numel()}")
    if largest > most:
        raise InputError(f"{what} reaches {largest:.4g}, but {hint}")


def _shape(tensor: Tensor) -> str:
    return str(tuple(tensor.shape))
