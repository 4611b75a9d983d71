"""How often is a mel of the right convention suspected, and a wrong one found? False alarms and detections.

python -m benchmarks.conventions [--speech FOLDER] [--clips 1000] [--jobs 2]

Clips of the right convention are speech (as recorded, quiet, loud, whispered, noisy), predicted-like speech (smoothed
over time, blurred over bands, or with errors), noise, tones, music, clicks and silence. Wrong mels are made of the
speech clips. `named` is the share in which the warning also names the right kind. `1 s` and `smoothed` are the
detections of the first second only, which is what a stream sees, and of wrong mels smoothed over three frames, as a
network may predict them.
"""

from __future__ import annotations

import argparse
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.common import environment, finish, table
from benchmarks.sounds import Wave, levelled, sounds, speech
from tts_infer.config import MelConfig
from tts_infer.dsp.conventions import CONVENTIONS
from tts_infer.dsp.mel import LogMel
from tts_infer.dsp.mismatch import ConventionCheck

Mel = NDArray[np.floating[Any]]

SPEECH = Path(__file__).parent.parent / "examples"
VOCODERS = ("vocos-24k", "bigvgan-24k-100", "hifigan-22k", "bigvgan-22k-80")
FRAMES_A_SECOND = 94


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
    for kind, wave in sounds(clips, config.sample_rate, rng):
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


def measured(name: str, args: argparse.Namespace) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The rows of one vocoder: false alarms, detections."""
    torch.set_num_threads(1)
    clips = list(speech(args.speech, args.clips, CONVENTIONS[name].sample_rate, args.seed))
    alarms = false_alarms(name, clips[: max(1, args.clips // 10)], args.seed + 1)
    return alarms, detections(name, clips, args.seed + 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--speech", type=Path, nargs="+", default=[SPEECH], metavar="FOLDER", help="default: examples")
    parser.add_argument("--clips", type=int, default=1000, help="speech clips for detections; a tenth for alarms")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1, help="vocoders at the same time")
    args = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with ProcessPoolExecutor(args.jobs, multiprocessing.get_context("spawn")) as pool:
        for name, (alarms, found) in zip(VOCODERS, pool.map(partial(measured, args=args), VOCODERS), strict=True):
            count = sum(row["alarms"] for row in alarms), sum(row["clips"] for row in alarms)
            table(f"False alarms of {name}: {count[0]} of {count[1]}", alarms)
            table(f"Wrong mels for {name}", found)
            rows += alarms + found
    said = {"speech": [str(folder) for folder in args.speech], "clips": args.clips}
    finish("conventions", {**environment("numpy"), **said}, rows)


if __name__ == "__main__":
    main()
