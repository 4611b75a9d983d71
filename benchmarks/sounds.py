"""Sounds that mels are made of: recorded speech, whole or spoiled, and synthetic noise, music, glides and clicks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

Wave = NDArray[np.floating[Any]]


def audio_files(folders: Sequence[Path]) -> list[Path]:
    """The audio files below some folders, by name."""
    return sorted(path for folder in folders for suffix in ("flac", "wav") for path in folder.rglob(f"*.{suffix}"))


def speech(folders: Sequence[Path], count: int, rate: int, seed: int = 0) -> Iterator[Wave]:
    """Excerpts of 1 to 6 seconds of the audio files below some folders, in random order. Shape: (T,)"""
    rng = np.random.default_rng(seed)
    files = audio_files(folders)
    for i in range(count):
        path = files[int(rng.integers(len(files)))] if count < len(files) else files[i % len(files)]
        audio, own_rate = soundfile.read(path, dtype="float32", always_2d=True)
        mono = soxr.resample(audio.mean(1), own_rate, rate)
        samples = min(len(mono), int(rate * np.exp(rng.uniform(0, np.log(6)))))
        start = int(rng.integers(len(mono) - samples + 1))
        yield mono[start : start + samples]


def noise(rng: np.random.Generator, samples: int) -> Wave:
    """Noise of a random colour, from white to brown, of peak 1."""
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    wave = np.fft.irfft(spectrum * np.maximum(np.arange(len(spectrum)), 20) ** -rng.uniform(0, 1.5), samples)
    return np.asarray(wave / np.abs(wave).max(), np.float32)


def music(rng: np.random.Generator, samples: int, rate: int) -> Wave:
    """Notes of plucked or held harmonics, with or without drums and hiss."""
    time, wave = np.arange(samples) / rate, np.zeros(samples)
    decay = rng.choice([0.0, 3.0])
    for _ in range(int(rng.integers(3, 16))):
        start, pitch = int(rng.integers(samples)), 55 * 2 ** (rng.integers(0, 48) / 12)
        angle = 2 * np.pi * pitch * time[: samples - start]
        last, part, twice = np.zeros(samples - start), np.sin(angle), 2 * np.cos(angle)
        note = np.zeros(samples - start)
        for harmonic in range(1, 16):
            if pitch * harmonic < 0.48 * rate:
                note += part / harmonic ** rng.uniform(0.7, 2)
            last, part = part, twice * part - last  # sin(n x) = 2 cos(x) sin((n - 1) x) - sin((n - 2) x)
        wave[start:] += note * np.exp(-decay * time[: samples - start])
    if rng.random() < 0.5:
        for start in range(0, samples, rate // int(rng.integers(2, 6))):
            drum = rng.standard_normal(samples - start) * np.exp(-rng.uniform(10, 40) * time[: samples - start])
            wave[start:] += 2 * drum
    wave += rng.standard_normal(samples) * 10 ** rng.uniform(-5, -1.5)
    return np.asarray(wave / np.abs(wave).max(), np.float32)


def chirp(rng: np.random.Generator, samples: int, rate: int) -> Wave:
    """Harmonics of a pitch that glides and wavers, with or without hiss: sirens, synthesizers."""
    time = np.arange(samples) / rate
    pitch = 10 ** rng.uniform(1.8, 3) * np.exp(rng.uniform(-1, 1) * time + 0.1 * np.sin(rng.uniform(0, 40) * time))
    phase, wave = 2 * np.pi * np.cumsum(pitch) / rate, np.zeros(samples)
    for harmonic in range(1, int(rng.integers(2, 20))):
        wave += np.sin(harmonic * phase) * (harmonic * pitch < 0.48 * rate) / harmonic ** rng.uniform(0.3, 2)
    wave += rng.standard_normal(samples) * 10 ** rng.uniform(-5, -1)
    return np.asarray(wave / np.abs(wave).max(), np.float32)


def reverberant(rng: np.random.Generator, wave: Wave, rate: int) -> Wave:
    """Speech in a room whose sound fades by 60 dB in 0.2 to 1.5 seconds."""
    time = np.arange(rate) / rate
    room = rng.standard_normal(rate) * 10 ** (-3 * time / rng.uniform(0.2, 1.5)) * 0.05
    room[0] = 1
    size = len(wave) + rate
    wet = np.fft.irfft(np.fft.rfft(wave, size) * np.fft.rfft(room, size), size)[: len(wave)]
    return np.asarray(wet / max(1.0, float(np.abs(wet).max())), np.float32)


def whisper(rng: np.random.Generator, wave: Wave) -> Wave:
    """Speech whose phases are random: its envelope on noise, as in a whisper, and quiet."""
    size = 512
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(wave, size), size)[:: size // 4] * np.hanning(size)
    spectrum = np.fft.rfft(frames) * np.exp(2j * np.pi * rng.random((len(frames), size // 2 + 1)))
    out = np.zeros(len(wave) + 4 * size)
    for i, frame in enumerate(np.fft.irfft(spectrum) * np.hanning(size)):
        out[i * size // 4 :][:size] += frame
    return np.asarray(out[size : size + len(wave)] * 0.05, np.float32)


def sounds(clips: list[Wave], rate: int, rng: np.random.Generator) -> Iterator[tuple[str, Wave]]:
    """A clip of every kind for each clip of speech. Shape: (T,)"""
    for clip in clips:
        peak = max(1e-6, float(np.abs(clip).max()))
        samples = max(len(clip), rate)
        gain = float(10 ** rng.uniform(-3.5, 0))
        yield "speech", clip
        yield "quiet", clip / peak * 10 ** rng.uniform(-3.5, -1.5)
        yield "loud", np.clip(clip / peak * rng.uniform(1, 4), -1, 1)
        yield "whispered", whisper(rng, clip)
        yield "noisy", clip + noise(rng, len(clip)) * 10 ** rng.uniform(-2.5, -0.3)
        yield "noise", noise(rng, samples) * gain
        yield "tone", np.asarray(np.sin(2 * np.pi * 10 ** rng.uniform(1.7, 4) * np.arange(samples) / rate) * gain)
        yield "music", music(rng, samples, rate) * gain
        clicks = rng.standard_normal(samples) * 1e-3
        clicks[rng.integers(samples, size=10)] = 0.9
        yield "clicks", clicks
        yield "telephone", soxr.resample(soxr.resample(clip, rate, 8000), 8000, rate)
        yield "chirp", chirp(rng, samples, rate) * gain
        yield "speech over music", clip + music(rng, len(clip), rate) * 10 ** rng.uniform(-1.5, 0) * peak
        yield "reverberant", reverberant(rng, clip, rate)
        silent = np.concatenate([np.zeros(int(rng.integers(1, samples))), clip])
        yield "silence", silent if rng.random() < 0.8 else np.zeros(samples)


def levelled(clips: list[Wave], seed: int) -> list[Wave]:
    """The clips at peak levels of -26 to 0 dBFS."""
    rng = np.random.default_rng(seed)
    return [clip * float(10 ** rng.uniform(-1.3, 0)) / max(1e-6, float(np.abs(clip).max())) for clip in clips]


def varied(clips: Sequence[Wave], rate: int, seed: int) -> Iterator[Wave]:
    """The clips, most of them higher or lower, and with less treble: other voices and other recordings. Shape: (T,)"""
    rng = np.random.default_rng(seed)
    for clip in clips:
        wave = soxr.resample(clip, rate * np.exp(rng.uniform(-0.2, 0.2)), rate) if rng.random() < 0.7 else clip
        if rng.random() < 0.5:
            spectrum = np.fft.rfft(wave)
            above = np.maximum(0, np.linspace(0, rate / 2, len(spectrum)) / rng.uniform(3500, 11000) - 1)
            wave = np.fft.irfft(spectrum * 10 ** (-above * rng.choice([3, 20, 200])), len(wave))
        yield np.asarray(wave, np.float32)
