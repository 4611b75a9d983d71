"""Folders of recordings -> a pool: one file of 16-bit samples at the vocoder's rate, and where each clip begins.

Every recording goes in unchanged, and once more per speed band: played slower or faster, which shifts pitch and
formants together, as if by another speaker. Some are also put in a room, equalised, band-limited or made noisy.
Changes that are cheap and should differ every time (levels, silences, tones) are made in `training.data`.
"""

from __future__ import annotations

import argparse
import os
import zlib
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray
from scipy.signal import fftconvolve

from tts_infer.evaluation import find_audio

Signal = NDArray[np.float32]

SPEED_BANDS = ((0.65, 0.74), (0.74, 0.84), (0.84, 0.95), (1.05, 1.25))
PEAK = 0.95


def variants(path: Path, sample_rate: int, shortest: int) -> list[NDArray[np.int16]]:
    """A recording and its variations, at most PEAK loud; seeded by the file's name and its folder's.

    Args:
        path: an audio file; of several channels, the first is taken.
        sample_rate: of the result, in Hz.
        shortest: least number of samples; shorter clips are padded with silence.
    """
    rng = np.random.default_rng(zlib.crc32(f"{path.parent.name}/{path.name}".encode()))
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    source = np.ascontiguousarray(samples[:, 0])
    clips = [_at_speed(source, rate, 1.0, sample_rate)]
    for band in SPEED_BANDS:
        clips.append(_vary(_at_speed(source, rate, rng.uniform(*band), sample_rate), sample_rate, rng))
    return [_finish(clip, shortest) for clip in clips]


def _at_speed(source: Signal, rate: int, speed: float, sample_rate: int) -> Signal:
    resampled: Signal = soxr.resample(source, rate * speed, sample_rate, quality="HQ")
    return resampled


def _vary(clip: Signal, sample_rate: int, rng: np.random.Generator) -> Signal:
    kind = rng.choice(["plain", "band", "room", "equaliser"], p=[0.45, 0.15, 0.15, 0.25])
    if kind == "band":  # as if recorded at a lower rate
        lower = rng.choice([8000, 11025, 16000, 16000, 16000, 22050])
        clip = soxr.resample(soxr.resample(clip, sample_rate, lower), lower, sample_rate)
    elif kind == "room":  # the sound itself, then noise that decays by 60 dB
        length = int(sample_rate * rng.uniform(0.08, 0.4))
        decay = np.exp(-6.9 * np.arange(length) / length)
        response = (rng.standard_normal(length) * decay).astype(np.float32)
        response *= rng.uniform(0.1, 0.5) / np.sqrt(np.square(response).sum())
        response[0] = 1
        clip = fftconvolve(clip, response)[: len(clip)]
    elif kind == "equaliser":  # smooth on a scale that spreads low frequencies
        spectrum = np.fft.rfft(clip)
        gain_db = np.interp(np.linspace(0, 1, len(spectrum)) ** 0.5, np.linspace(0, 1, 7), rng.uniform(-9, 9, 7))
        clip = np.fft.irfft(spectrum * 10 ** (gain_db / 20), len(clip)).astype(np.float32)
    if rng.random() < 0.25:
        noise = rng.standard_normal(len(clip)) * np.sqrt(np.mean(np.square(clip)))
        clip = clip + (noise * 10 ** (-rng.uniform(25, 55) / 20)).astype(np.float32)
    return clip


def _finish(clip: Signal, shortest: int) -> NDArray[np.int16]:
    clip = np.pad(clip, (0, max(0, shortest - len(clip))))
    scaled: NDArray[np.int16] = np.rint(clip * (PEAK * 32767 / (np.abs(clip).max() + 1e-9))).astype(np.int16)
    return scaled


def prepare(
    folder: Path, out: Path, sample_rate: int, shortest: int, processes: int = 2, files: Sequence[str] | None = None
) -> int:
    """Write the pool of a folder: `out`.i16 with the samples, and `out`.npy with (start, length) of each clip.

    Each file is written whole or not at all, and the index last. So a pool that has an index is complete.

    Args:
        folder: searched for audio, with everything below it.
        out: the pool's path without a suffix.
        sample_rate, shortest: see `variants`.
        processes: at once.
        files: only these, relative to the folder; None: all audio in it.

    Returns:
        The number of clips.

    Raises:
        FileError: no such folder, or no audio in it.
    """
    found = find_audio([folder] if files is None else [folder / file for file in files])
    out.parent.mkdir(parents=True, exist_ok=True)
    index: list[tuple[int, int]] = []
    end = 0
    partial = out.with_suffix(".i16.partial")
    with partial.open("wb") as pool, ProcessPoolExecutor(processes) as workers:
        jobs = workers.map(variants, found, *([v] * len(found) for v in (sample_rate, shortest)), chunksize=8)
        for clips in jobs:
            for clip in clips:
                pool.write(clip.tobytes())
                index.append((end, len(clip)))
                end += len(clip)
    os.replace(partial, out.with_suffix(".i16"))
    partial = out.with_suffix(".partial.npy")
    np.save(partial, np.array(index, dtype=np.int64))
    os.replace(partial, out.with_suffix(".npy"))
    print(
        f"{folder}: {len(found)} files, {len(index)} clips, {end / sample_rate / 3600:.2f} h -> {out}.i16", flush=True
    )
    return len(index)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("folder", type=Path, help="searched for audio files, folders below it too")
    parser.add_argument("--out", type=Path, required=True, help="the pool's path without a suffix")
    parser.add_argument("--sample-rate", type=int, default=24000)
    parser.add_argument("--shortest", type=int, default=16384, help="samples; shorter clips are padded with silence")
    args = parser.parse_args()
    prepare(args.folder, args.out, args.sample_rate, args.shortest)


if __name__ == "__main__":
    main()
