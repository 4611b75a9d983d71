"""The fundamental frequency of speech, by YIN."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tts_infer.arguments import checked
from tts_infer.errors import InputError

LOWEST_HZ, HIGHEST_HZ = 60.0, 600.0
_MOST_HZ = 1_000_000
_THRESHOLD = 0.15  # of the normalised difference; the paper's is 0.1, for clean speech
_SILENCE_DB = -60.0  # below the loudest frame


@checked()
def estimate_f0(samples: NDArray[np.float32], sample_rate: int, hop_s: float = 0.01) -> NDArray[np.float32]:
    """The fundamental frequency in hertz every `hop_s` seconds; NaN where there is no voice.

    Args:
        samples: full scale 1.0.
        sample_rate: in Hz, at least 4 x `HIGHEST_HZ`.
        hop_s: seconds between two values; value i is of the time i * hop_s.

    Shape: (T,) -> (1 + T // hop,), hop = round(hop_s * sample_rate)
    Raises:
        InputError: the rate or `hop_s` is out of range, or samples are not finite floats of (T,).
    Source: de Cheveigne and Kawahara, "YIN, a fundamental frequency estimator for speech and music", 2002, steps 1-5.
    """
    if not 4 * HIGHEST_HZ <= sample_rate <= _MOST_HZ:
        text = "sample rate is {rate} Hz; a fundamental frequency needs {least:.0f} to {most} Hz"
        raise InputError(text, code="f0-rate", rate=sample_rate, least=4 * HIGHEST_HZ, most=_MOST_HZ)
    if not 1e-4 <= hop_s < np.inf:
        raise InputError("hop_s is {hop_s}; allowed: seconds, 0.0001 or more", code="f0-hop", hop_s=hop_s)
    if samples.ndim != 1 or not np.issubdtype(samples.dtype, np.floating) or not np.isfinite(samples).all():
        text = "samples are {dtype} of shape {shape}; expected finite floats of (T,)"
        raise InputError(text, code="f0-samples", dtype=samples.dtype, shape=samples.shape)
    longest, shortest = int(sample_rate / LOWEST_HZ), int(sample_rate / HIGHEST_HZ)
    hop, window = max(1, round(hop_s * sample_rate)), 2 * longest
    padded = np.pad(samples.astype(np.float64), (longest, 2 * longest))
    frames = np.lib.stride_tricks.sliding_window_view(padded, window)[: len(samples) + 1 : hop]
    found = np.full(len(frames), np.nan, np.float32)
    energy = np.cumsum(np.pad(np.square(padded), (1, 0)))  # of frames, without a copy of each
    power = (energy[window:] - energy[:-window])[: len(samples) + 1 : hop] / window
    loud = np.flatnonzero(power > max(power.max(), 1e-10) * 10 ** (_SILENCE_DB / 10))
    for part in np.array_split(loud, 1 + len(loud) // 512):  # bounded memory
        found[part] = _periods(frames[part], shortest, longest, sample_rate)
    return found


def _periods(frames: NDArray[np.float64], shortest: int, longest: int, rate: int) -> NDArray[np.float32]:
    """F0 of each frame. Shape: (n, 2 x longest) -> (n,)"""
    size = 1 << int(np.ceil(np.log2(frames.shape[1] + longest)))
    first = frames[:, :longest]
    spectra = np.fft.rfft(frames, size), np.fft.rfft(first, size)
    products = np.fft.irfft(spectra[0] * np.conj(spectra[1]), size)[:, : longest + 1]
    energy = np.cumsum(np.pad(np.square(frames), ((0, 0), (1, 0))), axis=1)
    lags = np.arange(longest + 1)
    difference = energy[:, [longest]] + energy[:, lags + longest] - energy[:, lags] - 2 * products
    difference = np.maximum(difference, 0.0)
    total = np.cumsum(difference[:, 1:], axis=1)
    normal = np.ones_like(difference)
    normal[:, 1:] = difference[:, 1:] * lags[1:] / np.maximum(total, 1e-12)
    candidates = normal[:, shortest:longest]
    dips = candidates < _THRESHOLD
    begin = dips.argmax(axis=1)
    rising = candidates[:, 1:] >= candidates[:, :-1]
    rising &= np.arange(rising.shape[1]) >= begin[:, None]
    lag = shortest + rising.argmax(axis=1)
    rows = np.arange(len(frames))
    left, middle, right = (normal[rows, np.clip(lag + step, 1, longest)] for step in (-1, 0, 1))
    curve = left - 2 * middle + right
    shift = np.where(np.abs(curve) > 1e-12, 0.5 * (left - right) / np.where(curve == 0, 1.0, curve), 0.0)
    f0 = rate / (lag + np.clip(shift, -0.5, 0.5))
    return np.where(dips.any(axis=1), f0, np.nan).astype(np.float32)
