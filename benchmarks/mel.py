"""Mel spectrograms against librosa, torchaudio and the official features. `python -m benchmarks.mel`."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable
from functools import partial
from typing import Any

import librosa
import numpy as np
import torch
from torch import Tensor

from benchmarks.common import environment, finish, measure, table
from tts_infer import LogMel, MelConfig
from tts_infer.vocoders.reference import import_vocos

CONVENTIONS = {
    "Vocos, 24 kHz": MelConfig(),
    # window 50 ms, hop 12.5 ms, 80 bands from 55 to 7600 Hz: the convention of Simli's post on mel speed
    "Simli, 22.05 kHz": MelConfig(
        sample_rate=22050, n_fft=2048, hop_length=276, win_length=1102, n_mels=80, f_min=55.0, f_max=7600.0,
        mel_scale="slaney", norm="slaney",
    ),
}  # fmt: skip


def librosa_mel(config: MelConfig, audio: Tensor) -> np.ndarray:
    mel = librosa.feature.melspectrogram(
        y=audio[0].numpy(), sr=config.sample_rate, n_fft=config.n_fft, hop_length=config.hop_length,
        win_length=config.win_length, n_mels=config.n_mels, fmin=config.f_min, fmax=config.f_max, power=config.power,
        htk=config.mel_scale == "htk", norm=config.norm, pad_mode="reflect",
    )  # fmt: skip
    return np.log(np.maximum(mel, config.log_floor))


def systems(config: MelConfig) -> dict[str, Callable[[Tensor], Any]]:
    found: dict[str, Callable[[Tensor], Any]] = {
        "ours, fft": LogMel(config, "fft"),
        "ours, matmul": LogMel(config, "matmul"),
        "librosa": partial(librosa_mel, config),
    }
    if shutil.which("g++"):
        found["ours, fft, compiled"] = torch.compile(LogMel(config, "fft"), fullgraph=True)
        found["ours, matmul, compiled"] = torch.compile(LogMel(config, "matmul"), fullgraph=True)
    import_vocos()
    import torchaudio
    from vocos.feature_extractors import MelSpectrogramFeatures

    theirs = torchaudio.transforms.MelSpectrogram(
        config.sample_rate, config.n_fft, config.win_length, config.hop_length, config.f_min, config.f_max,
        n_mels=config.n_mels, power=config.power, norm=config.norm, mel_scale=config.mel_scale,
    )  # fmt: skip
    found["torchaudio"] = lambda audio: theirs(audio).clamp_min(config.log_floor).log()
    if config == MelConfig():
        found["official features"] = MelSpectrogramFeatures()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--audio-seconds", type=float, nargs="+", default=[1.0, 30.0])
    parser.add_argument("--seconds", type=float, default=4.0, help="measuring time of one table (default: 4)")
    args = parser.parse_args()
    setting, results = environment("librosa", "torchaudio", "vocos"), []
    print(setting)
    with torch.inference_mode():
        for name, config in CONVENTIONS.items():
            functions = systems(config)
            for seconds in args.audio_seconds:
                audio = (
                    torch.randn(1, int(seconds * config.sample_rate), generator=torch.Generator().manual_seed(0)) / 10
                )
                runs: dict[str, Callable[[], object]] = {key: partial(f, audio) for key, f in functions.items()}
                ms = measure(runs, args.seconds, most=60)
                exact = np.exp(librosa_mel(config, audio.double()))
                rows: list[dict[str, Any]] = []
                for key, f in functions.items():
                    got = np.exp(np.asarray(f(audio), dtype=np.float64).reshape(exact.shape))
                    error = float(np.abs(got - exact).max() / exact.max())
                    rows.append(
                        {"system": key, "ms": ms[key], "ratio to librosa": ms["librosa"] / ms[key], "error": error}
                    )
                table(f"{name}, {seconds:g} s", rows)
                results += [{"convention": name, "audio_s": seconds, **row} for row in rows]
    finish("mel", setting, results)


if __name__ == "__main__":
    main()
