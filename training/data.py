"""Training segments out of pools.

A batch depends on the seed and the step alone: which segments, how loud, and how changed. So a run that was killed
continues with the same batches.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tts_infer.errors import InputError

Signal = NDArray[np.float32]


@dataclass(frozen=True)
class Pool:
    """The clips of one source, as `training.prepare` wrote them."""

    samples: NDArray[np.int16]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]

    @classmethod
    def open(cls, path: Path) -> Pool:
        """Map a pool into memory.

        Args:
            path: without a suffix.

        Raises:
            InputError: there is none.
        """
        try:
            index = np.load(path.with_suffix(".npy"))
            samples = np.memmap(path.with_suffix(".i16"), dtype=np.int16, mode="r")
        except OSError:
            raise InputError(
                "no pool {path}; make it with `python -m training.prepare FOLDER --out {path}`",
                code="pool-missing",
                path=path,
            ) from None
        return cls(samples, index[:, 0], index[:, 0] + index[:, 1])

    def segment(self, length: int, rng: np.random.Generator) -> Signal:
        """A piece of a clip that is not silent. Every sample of the pool is equally likely to be in it."""
        for _ in range(100):
            clip = np.searchsorted(self.ends, rng.integers(len(self.samples)), side="right")
            start = int(rng.integers(self.starts[clip], self.ends[clip] - length + 1))
            piece = self.samples[start : start + length].astype(np.float32) / np.float32(32768)
            if np.abs(piece).max() > 0.02:
                return piece
        raise InputError("the pool is silent; give it recordings that are louder than -34 dBFS", code="pool-silent")


class Segments:
    """Batches of training audio.

    Args:
        pools: by name.
        shares: by name, how often segments come from each pool, relative to the others.
        length: samples per segment.
        sample_rate: in Hz.
        seed: for everything random.
    """

    def __init__(
        self, pools: Mapping[str, Pool], shares: Mapping[str, float], length: int, sample_rate: int, seed: int
    ) -> None:
        self.pools = [pools[name] for name in shares]
        total = sum(shares.values())
        self.shares = [share / total for share in shares.values()]
        self.length, self.sample_rate, self.seed = length, sample_rate, seed

    def batch(self, step: int, size: int) -> Tensor:
        """The batch of a step. Shape: -> (B, T)"""
        rng = np.random.default_rng([self.seed, step])
        return torch.from_numpy(np.stack([self._one(rng) for _ in range(size)]))

    def part(self, step: int, length: int) -> slice:
        """The `length` samples of a step's segments that the discriminators see."""
        start = np.random.default_rng([self.seed, step, 1]).integers(self.length - length + 1)
        return slice(int(start), int(start) + length)

    def stop(self, step: int, least: int, most: int) -> int:
        """The frame after which a stream of a step's segments knows nothing yet, `least` to `most`."""
        return int(np.random.default_rng([self.seed, step, 2]).integers(least, most + 1))

    def _one(self, rng: np.random.Generator) -> Signal:
        if rng.random() < 0.03:
            signal = tones(self.length, self.sample_rate, rng)
        else:
            signal = self.pools[rng.choice(len(self.pools), p=self.shares)].segment(self.length, rng)
        kind = rng.random()
        if kind < 0.12:
            signal = _low_pass(signal, self.sample_rate, rng)
        elif kind < 0.16:
            signal = _silence_at_one_end(signal, rng)
        level_db = rng.uniform(-20, 0) if rng.random() < 0.93 else rng.uniform(-40, -20)
        return signal * np.float32(10 ** (level_db / 20))


def tones(length: int, sample_rate: int, rng: np.random.Generator) -> Signal:
    """Up to four notes with up to twelve harmonics each, steady or gliding, at a peak of 0.95."""
    time = np.arange(length) / sample_rate
    signal = np.zeros(length)
    for _ in range(rng.integers(1, 5)):
        start = 60 * 2 ** rng.uniform(0, 6.5)
        octaves = 0.0 if rng.random() < 0.6 else rng.uniform(-1.5, 1.5)
        frequency = start * 2 ** (octaves * time / time[-1])
        turns = np.cumsum(frequency) / sample_rate
        tilt = rng.uniform(0.5, 2)
        for harmonic in range(1, 1 + int(rng.choice([1, 1, 4, 12]))):
            if frequency.max() * harmonic < 0.45 * sample_rate:
                signal += harmonic**-tilt * np.sin(2 * np.pi * (harmonic * turns + rng.random()))
    scaled: Signal = (0.95 * signal / (np.abs(signal).max() + 1e-9)).astype(np.float32)
    return scaled


def _low_pass(signal: Signal, sample_rate: int, rng: np.random.Generator) -> Signal:
    """Remove everything above a corner, with a soft or a hard edge; sometimes add a faint noise floor.

    Half of the corners are where 16 kHz recordings end.
    """
    spectrum = np.fft.rfft(signal)
    frequencies = np.linspace(0, sample_rate / 2, len(spectrum))
    corner = rng.uniform(7300, 8000) if rng.random() < 0.5 else rng.uniform(0.3, 0.98) * sample_rate / 2
    width = rng.uniform(1, 900)
    spectrum *= 0.5 + 0.5 * np.cos(np.pi * np.clip((frequencies - corner + width) / width, 0, 1))
    limited = np.fft.irfft(spectrum, len(signal))
    if rng.random() < 0.4:
        limited = limited + rng.standard_normal(len(signal)) * 10 ** (rng.uniform(-100, -65) / 20)
    return limited.astype(np.float32)


def _silence_at_one_end(signal: Signal, rng: np.random.Generator) -> Signal:
    silent = int(rng.integers(1, len(signal) * 3 // 4))
    quiet = signal.copy()
    quiet[slice(silent) if rng.random() < 0.5 else slice(-silent, None)] = 0
    return quiet
