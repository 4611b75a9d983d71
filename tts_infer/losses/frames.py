"""What all losses share: checked inputs, windows, frames of items of several lengths, and means over valid frames."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tts_infer.config import SpectralMethod
from tts_infer.dsp import register_constant
from tts_infer.dsp.stft import STFT
from tts_infer.errors import ConfigError, InputError

WindowName = Literal["hann_window", "hamming_window", "blackman_window", "bartlett_window", "kaiser_window"]

# Periodic windows as functions of the phase, 0 to 1, as torch computes them. Kaiser: beta is 12.
WINDOWS: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "hann_window": lambda t: 0.5 - 0.5 * np.cos(2 * np.pi * t),
    "hamming_window": lambda t: 0.54 - 0.46 * np.cos(2 * np.pi * t),
    "blackman_window": lambda t: 0.42 - 0.5 * np.cos(2 * np.pi * t) + 0.08 * np.cos(4 * np.pi * t),
    "bartlett_window": lambda t: 1.0 - np.abs(2 * t - 1),
    "kaiser_window": lambda t: np.i0(12.0 * np.sqrt(1 - (2 * t - 1) ** 2)) / np.i0(12.0),
}


def make_stft(n_fft: int, hop_length: int, win_length: int, window: str, method: SpectralMethod) -> STFT:
    """A centred STFT with any window of `WINDOWS`.

    Raises:
        ConfigError: the sizes do not fit each other, or the window is unknown.
    """
    if window not in WINDOWS:
        raise ConfigError(
            "window is {got!r}; allowed: {allowed}", code="loss-window", got=window, allowed=", ".join(WINDOWS)
        )
    stft = STFT(n_fft, hop_length, win_length, method=method)
    left = (n_fft - win_length) // 2
    values = WINDOWS[window](np.arange(win_length) / win_length)
    register_constant(stft, "window", np.pad(values, (left, n_fft - win_length - left)))
    return stft


def flattened(input: Tensor, target: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """Check the tensors that a loss compares, and move channels into the batch.

    Shape: two of (B, T) or (B, C, T), lengths of (B,) -> two of (B C, T), (B C,)

    Raises:
        InputError: shapes that do not fit each other.
    """
    if input.shape != target.shape or input.ndim not in (2, 3) or input.numel() == 0:
        raise InputError(
            "input has shape {input}, target {target}; both must be (B, T) or (B, C, T), equal and not empty",
            code="loss-shapes",
            input=tuple(input.shape),
            target=tuple(target.shape),
        )
    samples = input.shape[-1]
    if lengths is not None:
        if lengths.shape != input.shape[:1] or lengths.is_floating_point():
            raise InputError(
                "lengths has shape {got} and type {dtype}; it must have one integer for each of {batch} items",
                code="loss-lengths",
                got=tuple(lengths.shape),
                dtype=str(lengths.dtype),
                batch=input.shape[0],
            )
        lengths = lengths.to(input.device).clamp(0, samples)
        lengths = lengths[:, None].expand(-1, input.shape[1] if input.ndim == 3 else 1).reshape(-1)
    return input.reshape(-1, samples), target.reshape(-1, samples), lengths


def spectrum(stft: STFT, audio: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor]:
    """Transform items of several lengths, each mirrored at its own end. Samples after it are never read.

    Shape: (B, T), (B,) -> real, imag of (B, L, N)
    """
    real, imag = stft.transform(stft.padded(audio) if lengths is None else _mirrored(audio, lengths, *stft.pad))
    return real.transpose(1, 2), imag.transpose(1, 2)


def valid_frames(stft: STFT, samples: int, lengths: Tensor | None) -> Tensor | None:
    """1.0 for the frames that an item has when it is transformed alone, 0.0 for later ones; None if all are valid.

    Shape: (B,) -> (B, L, 1)

    Raises:
        InputError: there are too few samples for one frame.
    """
    frames = stft.n_frames(samples)
    if frames == 0:
        raise InputError(
            "audio has {samples} samples; the loss needs {needed}",
            code="loss-audio-short",
            samples=samples,
            needed=stft.hop_length,
        )
    if lengths is None:
        return None
    # an item without samples has no frames
    own = torch.div(lengths, stft.hop_length, rounding_mode="floor") + (stft.n_frames(0) * (lengths > 0))
    return (torch.arange(frames, device=lengths.device) < own[:, None]).to(torch.float32)[..., None]


def total(x: Tensor, valid: Tensor | None) -> Tensor:
    """The sum over valid frames. Shape: (B, L, N), (B, L, 1) -> ()"""
    return x.sum() if valid is None else (x * valid).sum()


def mean(x: Tensor, valid: Tensor | None) -> Tensor:
    """The mean over valid frames; 0 if there are none. Shape: (B, L, N), (B, L, 1) -> ()"""
    return x.mean() if valid is None else total(x, valid) / (valid.sum() * x.shape[-1]).clamp_min(1.0)


def _mirrored(audio: Tensor, lengths: Tensor, left: int, right: int) -> Tensor:
    """Mirror each item at its own ends, as `dsp.frames.reflect_pad` does. Shape: (B, T) -> (B, left + T + right)"""
    period = (2 * (lengths[:, None] - 1)).clamp_min(1)
    positions = torch.arange(-left, audio.shape[1] + right, device=audio.device).abs()
    positions = torch.remainder(positions, period)
    return audio.gather(1, torch.minimum(positions, period - positions))
