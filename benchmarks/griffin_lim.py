"""Griffin-Lim against librosa's, from the same mel: `python -m benchmarks.griffin_lim`.

librosa inverts the filterbank by non-negative least squares (librosa.util.nnls) and iterates with its momentum of 0.99:
32 times, its default, or 60 times.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import librosa
import numpy as np
import torch
from torch import Tensor

from benchmarks.common import environment, finish, measure, table
from tts_infer import LogMel, MelConfig, log_mel_error_db, read_audio
from tts_infer.dsp.mel import mel_filterbank
from tts_infer.vocoders.griffin_lim import GriffinLim

LIBROSA = "librosa, 32 iterations"


def librosa_griffin_lim(config: MelConfig, iterations: int, mel: Tensor) -> Tensor:
    magnitude = librosa.util.nnls(mel_filterbank(config).T, np.exp(mel[0].numpy().astype(np.float64)))
    audio = librosa.griffinlim(
        magnitude, n_iter=iterations, hop_length=config.hop_length, n_fft=config.n_fft, momentum=0.99, random_state=0
    )
    return torch.from_numpy(audio.astype(np.float32))[None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--passes", type=int, nargs="+", default=[16, 24, 32, 60])
    parser.add_argument("--seconds", type=float, default=20.0, help="measuring time of one table (default: 20)")
    args = parser.parse_args()
    setting, results = environment("librosa"), list[dict[str, Any]]()
    config = MelConfig()
    log_mel = LogMel(config, "fft")
    for name in ("english", "mandarin"):
        clip = read_audio(f"examples/{name}.wav", config.sample_rate)
        with torch.inference_mode():
            mel = log_mel(torch.from_numpy(clip.samples)[None])
            found: dict[str, Callable[[Tensor], Tensor]] = {
                LIBROSA: partial(librosa_griffin_lim, config, 32),
                "librosa, 60 iterations": partial(librosa_griffin_lim, config, 60),
            }
            found |= {f"ours, {n} passes": GriffinLim(config, passes=n) for n in args.passes}
            errors = {key: log_mel_error_db(mel, log_mel(run(mel)), config) for key, run in found.items()}
            ms = measure({key: partial(run, mel) for key, run in found.items()}, args.seconds, most=5)
        rows: list[dict[str, Any]] = [
            {"system": key, "ms": ms[key], "times as fast": ms[LIBROSA] / ms[key], "log-mel error dB": errors[key]}
            for key in found
        ]
        table(f"{name}, {clip.samples.size / config.sample_rate:.1f} s", rows)
        results += [{"clip": name, **row} for row in rows]
    finish("griffin_lim", setting, results)


if __name__ == "__main__":
    main()
