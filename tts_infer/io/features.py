"""Features and audio that users give as arrays, tensors or files: float32 tensors, or one line that says why not."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tts_infer.devices import CPU
from tts_infer.dsp.checks import Extremes, is_dense, native, require_dense
from tts_infer.errors import InputError, InputTypeError

# Audio within full scale has natural-log mels below 9, or below 15 for powers. Mels in decibels reach 40.
LARGEST_LOG = 20.0
# Decibels of the smallest magnitudes that programs keep, 1e-10, are -200. No mel of any kind is far below them.
LOWEST_LOG = -300.0
# Full scale is 1.0, and decoded speech is only a little louder. Integer samples that nobody divided are far louder.
LARGEST_SAMPLE = 1000.0
# A recording has at most this many channels, and a batch has fewer rows than this.
MOST_CHANNELS = 32
MOST_ROWS = 1000


@contextmanager
def prefix_errors(name: object) -> Iterator[None]:
    """Begin the messages of input errors with the name of the input."""
    try:
        yield
    except (InputError, InputTypeError) as error:
        raise error.within(name) from None


def as_features(features: Tensor | NDArray[Any], n_mels: int, piece: bool = False) -> Tensor:
    """Check a log-mel spectrogram and give it its batch axis.

    Args:
        features: floating point, on any device.
        n_mels: bins that the vocoder expects.
        piece: a part of a longer mel, which may be empty (L = 0).

    Shape: (B, n_mels, L) or (n_mels, L) -> (B, n_mels, L), float32
    Raises:
        InputTypeError: not a dense floating-point array or tensor.
        InputError: wrong rank, number of bins or orientation; empty; NaN or infinite values; or values too large for
            the natural logarithm of a magnitude.
    """
    return mel_and_range(features, n_mels, piece)[0]


def mel_and_range(features: Tensor | NDArray[Any], n_mels: int, piece: bool = False) -> tuple[Tensor, Extremes]:
    """`as_features`, and the lowest and the largest value; of an empty piece 0 and 0."""
    tensor = as_float_tensor(features, "mel")
    require_mel_shape(tensor.shape, n_mels)
    found = check_values(tensor, "mel", piece, LARGEST_LOG)
    return tensor.unsqueeze(0) if tensor.ndim == 2 else tensor, found


def require_mel_shape(shape: Sequence[int], n_mels: int) -> None:
    """Check the shape of a log-mel spectrogram, as `as_features` does.

    Raises:
        InputError: wrong rank, number of bins or orientation.
    """
    shape = tuple(shape)
    if len(shape) not in (2, 3):
        text = "mel has shape {shape}; expected (B, {n_mels}, L) or ({n_mels}, L)"
        raise InputError(text, code="mel-rank", shape=shape, n_mels=n_mels)
    bins, frames = shape[-2:]
    if bins == n_mels:
        return
    if frames == n_mels:
        text = (
            "mel has shape {shape}; expected (B, {n_mels}, L) or ({n_mels}, L); this one is (L, n_mels): transpose its "
            "last two axes"
        )
        raise InputError(text, code="mel-transposed", shape=shape, n_mels=n_mels)
    text = (
        "mel has shape {shape}; expected (B, {n_mels}, L) or ({n_mels}, L); this vocoder takes {n_mels} mel bins; use "
        "one trained on the convention of this mel"
    )
    raise InputError(text, code="mel-bins", shape=shape, n_mels=n_mels)


def as_ragged(
    features: Tensor | NDArray[Any] | Sequence[Tensor | NDArray[Any]],
    lengths: Tensor | NDArray[Any] | Sequence[int] | None,
    n_mels: int,
    check: Callable[[Any, int], Tensor] = as_features,
) -> tuple[Tensor, list[int]]:
    """Check features of several lengths, and make them one batch whose padding is zero.

    Args:
        features: a list of single spectrograms; or a padded batch, whose padding is ignored.
        lengths: valid frames of each item of a padded batch; None for a list.
        n_mels: values of a frame.
        check: what checks one item; it gets the item and `n_mels`.

    Shape: a list of (n_mels, L_i) or (1, n_mels, L_i), or (B, n_mels, L) -> (B, n_mels, L), float32, and B lengths
    Raises:
        InputTypeError, InputError: see `as_features`, with the number of the item; an empty list; or lengths that are
            not one whole number from 1 to L per item.
    """
    if isinstance(features, Sequence):
        if lengths is not None or not features:
            text = "give a list of at least one mel without lengths, or a padded batch with lengths"
            raise InputError(text, code="mels-or-lengths")
        items = [_item(item, n_mels, i, check) for i, item in enumerate(features)]
    else:
        batch = as_float_tensor(features, "mel")
        counts = _as_list(lengths)
        if batch.ndim != 3 or len(counts) != batch.shape[0]:
            text = "mel of shape {shape} and lengths {lengths}: expected (B, {n_mels}, L) and B lengths"
            shape = tuple(batch.shape)
            raise InputError(text, code="lengths-mismatch", shape=shape, lengths=counts, n_mels=n_mels)
        counts = _checked_counts(counts, batch.shape[2])
        items = [_item(batch[i, :, :n], n_mels, i, check) for i, n in enumerate(counts)]
    longest = max(item.shape[1] for item in items)
    padded = items[0].new_zeros(len(items), n_mels, longest)
    for row, item in zip(padded, items, strict=True):
        row[:, : item.shape[1]] = item
    return padded, [item.shape[1] for item in items]


def _as_list(lengths: Any) -> list[Any]:
    dense = isinstance(lengths, np.ndarray) or (isinstance(lengths, Tensor) and is_dense(lengths))
    given = lengths.tolist() if dense else lengths
    if not isinstance(given, Sequence):
        text = "lengths is a {kind}; expected a list, an array or a tensor of whole numbers"
        raise InputTypeError(text, code="lengths-type", kind=type(given).__name__)
    return list(given)


def _checked_counts(counts: list[Any], most: int) -> list[int]:
    try:
        whole = [operator.index(n) for n in counts]
    except TypeError:
        whole = []
    # True would count as 1
    if not whole or any(isinstance(n, bool) for n in counts) or not all(0 < n <= most for n in whole):
        text = "lengths are {lengths}; each must be a whole number from 1 to {most} frames"
        raise InputError(text, code="lengths-range", lengths=counts, most=most)
    return whole


def _item(features: Tensor | NDArray[Any], n_mels: int, index: int, check: Callable[[Any, int], Tensor]) -> Tensor:
    with prefix_errors(f"item {index}"):
        batch = check(features, n_mels)
        if batch.shape[0] != 1:
            text = "mel has shape {shape}; expected a single ({n_mels}, L)"
            raise InputError(text, code="mel-not-single", shape=tuple(batch.shape), n_mels=n_mels)
        return batch[0]


def as_audio(audio: Tensor | NDArray[Any], piece: bool = False) -> Tensor:
    """Check a waveform and give it its batch axis.

    Args:
        audio: floating point, full scale 1.0, on any device.
        piece: a part of longer audio, which may be empty (T = 0).

    Shape: (B, T) or (T,) -> (B, T), float32
    Raises:
        InputTypeError: not a dense floating-point array or tensor.
        InputError: wrong rank; (frames, channels); one sample; empty; NaN or infinite values; or far beyond full scale.
    """
    tensor = as_float_tensor(audio, "audio")
    if tensor.ndim not in (1, 2):
        text = "audio has shape {shape}; expected (B, T) or (T,), one channel"
        raise InputError(text, code="audio-rank", shape=tuple(tensor.shape))
    _refuse_other_layouts(tuple(tensor.shape), piece)
    check_values(tensor, "audio", piece, LARGEST_SAMPLE)
    return tensor.unsqueeze(0) if tensor.ndim == 1 else tensor


def _refuse_other_layouts(shape: tuple[int, ...], piece: bool) -> None:
    """Refuse what was surely meant as something else than a batch: (frames, channels), or one sample.

    A piece of a stream may be short, so only its thousands of rows are too many.
    """
    rows, samples = shape if len(shape) == 2 else (1, shape[0])
    if samples == 1 and rows == 1 and not piece:
        text = "audio has shape {shape}, which is one sample; expected (T,) or (B, T), samples in the last axis"
        raise InputError(text, code="audio-one-sample", shape=shape)
    if 0 < samples < rows and (rows >= MOST_ROWS or (samples <= MOST_CHANNELS and not piece)):
        text = (
            "audio has shape {shape}, which looks like (frames, channels); expected (B, T): give audio.T to take each "
            "channel as a signal, or audio.mean(1) for mono"
        )
        raise InputError(text, code="audio-frames-channels", shape=shape)


def as_float_tensor(value: Any, what: str) -> Tensor:
    if isinstance(value, np.ndarray):
        floats, integers = value.dtype.kind == "f", value.dtype.kind in "iu"
    elif isinstance(value, Tensor):
        floats, integers = value.is_floating_point(), not value.is_complex()
    else:
        text = "{what} is a {kind}; expected a torch tensor or a numpy array of floats"
        raise InputTypeError(text, code="not-an-array", what=what, kind=type(value).__name__)
    if not floats:
        if what == "audio" and integers:
            text = "audio has dtype {dtype}; expected a floating-point type; divide 16-bit samples by 32768"
            raise InputTypeError(text, code="audio-integers", dtype=str(value.dtype))
        text = "{what} has dtype {dtype}; expected a floating-point type"
        raise InputTypeError(text, code="not-float", what=what, dtype=str(value.dtype))
    if isinstance(value, np.ndarray):
        with np.errstate(over="ignore"):  # infinite values are reported later
            return torch.from_numpy(native(value, np.float32))
    require_dense(value, what)
    try:
        return value.detach().float()
    except NotImplementedError:  # several numbers a byte
        text = "{what} has dtype {dtype}; expected float32, or a dtype that converts to it"
        raise InputTypeError(text, code="dtype-unconvertible", what=what, dtype=str(value.dtype)) from None


_LOUD = {
    "mel": "mel reaches {largest:.4g}, but natural-log mels end far below 20: take the logarithm of a linear one, "
    "multiply one in decibels by ln(10) / 20",
    "audio": "audio reaches {largest:.4g}, but full scale is 1.0: divide samples that were whole numbers of N bits by "
    "2 ** (N - 1)",
}
_LOW_MEL = (
    "mel reaches {lowest:.4g}, far below any log floor: clip magnitudes before the logarithm, for instance at 1e-7, "
    "whose logarithm is -16.1"
)


def check_values(tensor: Tensor, what: str, piece: bool, most: float) -> Extremes:
    """Check all values at once. On an accelerator this waits for the device once, before any stage begins."""
    if tensor.numel() == 0:
        if piece and tensor.shape[-1] == 0 and 0 not in tensor.shape[:-1]:
            return 0.0, 0.0
        raise InputError("{what} is empty: shape {shape}", code=f"{what}-empty", what=what, shape=tuple(tensor.shape))
    lowest, largest = _extremes(tensor)
    least = LOWEST_LOG if what == "mel" else -most
    if least <= lowest and largest <= most:  # false for NaN
        return lowest, largest
    bad = int((~torch.isfinite(tensor)).sum())
    if bad:
        text = "{what} holds {bad} NaN or infinite values of {count}"
        raise InputError(text, code="not-finite", what=what, bad=bad, count=tensor.numel())
    if largest > most:
        raise InputError(_LOUD[what], code=f"{what}-loud", largest=largest)
    if lowest < least and what == "mel":
        raise InputError(_LOW_MEL, code="mel-low", lowest=lowest)
    raise InputError(_LOUD[what], code=f"{what}-loud", largest=lowest)


_SHARED = 32768  # values that torch's threads share; fewer are one thread's


def _extremes(tensor: Tensor) -> Extremes:
    """The lowest and the largest value; NaN if there is one."""
    if tensor.device != CPU:
        low, high = torch.stack(tensor.aminmax()).cpu()
        return float(low), float(high)
    if tensor.numel() < _SHARED:
        least, most = tensor.aminmax()
        return float(least), float(most)
    # torch would wake its threads for this, and they stay awake for milliseconds, in the way of the workers
    values = tensor.numpy()
    with np.errstate(invalid="ignore"):
        return float(values.min()), float(values.max())
