"""How often is a mel of the right convention suspected, and a wrong one found? False alarms and detections.

python -m benchmarks.conventions [--speech FOLDER] [--clips 1000]

Clips of the right convention are speech (as recorded, quiet, loud, whispered, noisy), predicted-like speech (smoothed
over time, blurred over bands, or with errors), noise, tones, music, clicks and silence. Wrong mels are made of the
speech clips. `named` is the share in which the warning also names the right kind. `1 s` and `smoothed` are the
detections of the first second only, which is what a stream sees, and of wrong mels smoothed over three frames, as a
network may predict them.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
import torch
from numpy.typing import NDArray

from benchmarks.common import environment, finish, table
from tts_infer.config import MelConfig
from tts_infer.dsp.conventions import CONVENTIONS
from tts_infer.dsp.mel import LogMel
from tts_infer.dsp.mismatch import ConventionCheck

Wave = NDArray[np.floating[Any]]
Mel = NDArray[np.floating[Any]]

SPEECH = Path(__file__).parent.parent / "examples"
VOCODERS = ("vocos-24k", "bigvgan-24k-100", "hifigan-22k", "bigvgan-22k-80")
FRAMES_A_SECOND = 94


def speech(folders: Sequence[Path], count: int, rate: int, seed: int = 0) -> Iterator[Wave]:
    """Excerpts of 1 to 6 seconds of the audio files below some folders, in random order. Shape: (T,)"""
    rng = np.random.default_rng(seed)
    suffixes = ("flac", "wav")
    files = sorted(path for folder in folders for suffix in suffixes for path in folder.rglob(f"*.{suffix}"))
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
        for harmonic in range(1, 16):
            if pitch * harmonic < 0.48 * rate:
                part = np.sin(2 * np.pi * pitch * harmonic * time[: samples - start]) / harmonic ** rng.uniform(0.7, 2)
                wave[start:] += part * np.exp(-decay * time[: samples - start])
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


def right_waves(clips: list[Wave], rate: int, rng: np.random.Generator) -> Iterator[tuple[str, Wave]]:
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


def smooth(mel: Mel, frames: int) -> Mel:
    """A moving average over time, as of networks that predict means. Shape: (C, L) -> (C, L - frames + 1)"""
    return np.lib.stride_tricks.sliding_window_view(mel, frames, axis=1).mean(-1)


def blur(mel: Mel) -> Mel:
    """Half of each band, and a quarter of both neighbours. Shape: (C, L) -> (C, L)"""
    padded = np.pad(mel, ((1, 1), (0, 0)), mode="edge")
    return mel / 2 + (padded[:-2] + padded[2:]) / 4


def right_mels(clips: list[Wave], config: MelConfig, rng: np.random.Generator) -> Iterator[tuple[str, Mel]]:
    """Mels that must not be suspected."""
    analyse = analysis(config)
    for kind, wave in right_waves(clips, config.sample_rate, rng):
        mel = analyse(wave)
        yield kind, mel
        if kind == "speech":
            yield "speech, blurred over bands", blur(mel)
            yield "speech, with errors", mel + rng.normal(0, rng.uniform(0.01, 0.05), mel.shape)
        if kind in ("speech", "noisy", "whispered", "noise", "music", "chirp"):
            yield f"{kind}, smoothed", smooth(mel, int(rng.choice([3, 5, 9])))
        if kind in ("speech", "quiet", "silence"):
            yield f"{kind}, floor 1e-5", np.maximum(mel, np.log(1e-5))


def analysis(config: MelConfig) -> Callable[[Any], Mel]:
    """The mel of a wave. Shape: (T,) -> (n_mels, L)"""
    module = LogMel(config)
    return lambda wave: module(torch.from_numpy(np.asarray(wave, np.float32))[None])[0].numpy()


def wrong_mels(config: MelConfig) -> dict[str, tuple[set[str], Callable[[Wave], Mel]]]:
    """For each kind of wrong mel the kinds of warnings that name it, and how it is made of a wave."""
    own = analysis(config)

    def linear(wave: Wave) -> Mel:
        return np.exp(own(wave))

    def decibels(wave: Wave) -> Mel:
        return 20 * np.log10(linear(wave))

    def top_80(wave: Wave) -> Mel:
        values = 20 * np.log10(linear(wave))
        return np.maximum(values - values.max(), -80)

    def power(floor: float) -> Callable[[Wave], Mel]:
        return analysis(replace(config, power=2, log_floor=floor))

    def standardised(wave: Wave) -> Mel:
        mel = own(wave)
        return (mel - mel.mean()) / mel.std()

    wrong: dict[str, tuple[set[str], Callable[[Wave], Mel]]] = {
        "decibels": ({"decibels"}, decibels),
        "decibels below the peak, 80 dB": ({"decibels"}, top_80),
        "log10": ({"log10"}, lambda wave: own(wave) / np.log(10)),
        "0 to 1": ({"unit-range"}, lambda wave: (top_80(wave) + 80) / 80),
        "mean 0, deviation 1, per clip": ({"normalised", "log10"}, standardised),
        "mean 0, deviation 1, global": (
            {"normalised", "log10"},
            lambda wave: (own(wave) - own_mean(config)) / 2.4,
        ),
        "x 0.1": ({"scaled"}, lambda wave: own(wave) * 0.1),
        "linear": ({"linear"}, linear),
        "power, floor 1e-10": ({"power", "floor"}, power(1e-10)),
        "power, floor 1e-5": ({"power"}, power(1e-5)),
    }
    for name, other in others(config).items():
        wrong[name] = ({"filterbank", "level"}, analysis(other))
    return wrong


def own_mean(config: MelConfig) -> float:
    """About the mean log-mel of speech."""
    return -2.5 if config.norm is None else -6.0


def others(config: MelConfig) -> dict[str, MelConfig]:
    """Conventions of the same shape."""
    htk = replace(config, mel_scale="htk", norm=None, f_max=None, padding="center", log_floor=1e-7)
    slaney = replace(config, mel_scale="slaney", norm="slaney", f_max=None, padding="same", log_floor=1e-5)
    if config.norm is None:
        return {"BigVGAN and HiFi-GAN (slaney)": slaney}
    found = {"Vocos (htk, no norm)": htk}
    if config.n_mels == 80:
        to_8000 = config.f_max == 8000
        name = "BigVGAN, 80 bins to 11 kHz" if to_8000 else "HiFi-GAN, 80 bins to 8 kHz"
        found[name] = slaney if to_8000 else replace(slaney, f_max=8000.0)
    return found


def tensor(mel: Mel) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(mel, np.float32))[None]


def false_alarms(name: str, clips: list[Wave], seed: int = 1) -> list[dict[str, Any]]:
    """A row for each kind of clip of the right convention."""
    config = CONVENTIONS[name]
    check, counts = ConventionCheck(config), dict[str, list[int]]()
    reasons: dict[str, set[str]] = {}
    for kind, mel in right_mels(clips, config, np.random.default_rng(seed)):
        count = counts.setdefault(kind, [0, 0, 0])
        count[0] += 1
        for i, part in enumerate((mel, mel[:, :FRAMES_A_SECOND])):
            warning = check(tensor(part))
            count[1 + i] += warning is not None
            if warning:
                reasons.setdefault(kind, set()).add(warning.fields["kind"])
    return [
        {
            "vocoder": name,
            "right mels": k,
            "clips": n,
            "alarms": a,
            "alarms 1 s": b,
            "as": ", ".join(reasons.get(k, ())),
        }
        for k, (n, a, b) in counts.items()
    ]


def levelled(clips: list[Wave], seed: int) -> list[Wave]:
    """The clips at peak levels of -26 to 0 dBFS."""
    rng = np.random.default_rng(seed)
    return [clip * float(10 ** rng.uniform(-1.3, 0)) / max(1e-6, float(np.abs(clip).max())) for clip in clips]


def detections(name: str, clips: list[Wave], seed: int = 2) -> list[dict[str, Any]]:
    """A row for each kind of wrong mel: percentages."""
    config = CONVENTIONS[name]
    check, rows = ConventionCheck(config), []
    for kind, (names, make) in wrong_mels(config).items():
        hits = np.zeros(4)
        for clip in levelled(clips, seed):
            mel = make(clip)
            found = [check(tensor(part)) for part in (mel, mel[:, :FRAMES_A_SECOND], smooth(mel, 3))]
            named = found[0] is not None and found[0].fields["kind"] in names
            hits += [found[0] is not None, named, found[1] is not None, found[2] is not None]
        detected, named_too, second, smoothed = (100 * hits / len(clips)).round(1).tolist()
        row = {"vocoder": name, "wrong mels": kind, "detected %": detected, "named %": named_too}
        rows.append(row | {"1 s %": second, "smoothed %": smoothed})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--speech", type=Path, nargs="+", default=[SPEECH], metavar="FOLDER", help="default: examples")
    parser.add_argument("--clips", type=int, default=1000, help="speech clips for detections; a tenth for alarms")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    for name in VOCODERS:
        clips = list(speech(args.speech, args.clips, CONVENTIONS[name].sample_rate, args.seed))
        alarms = false_alarms(name, clips[: max(1, args.clips // 10)], args.seed + 1)
        table(
            f"False alarms of {name}: {sum(row['alarms'] for row in alarms)} of {sum(r['clips'] for r in alarms)}",
            alarms,
        )
        found = detections(name, clips, args.seed + 2)
        table(f"Wrong mels for {name}", found)
        rows += alarms + found
    finish(
        "conventions",
        {**environment("numpy"), "speech": [str(folder) for folder in args.speech], "clips": args.clips},
        rows,
    )


if __name__ == "__main__":
    main()
