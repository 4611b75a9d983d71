"""Multi-resolution STFT losses beside auraloss, forward and backward. `python -m benchmarks.losses`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.common import environment, finish, measure, table
from tts_infer.config import SpectralMethod
from tts_infer.losses import MultiResolutionSTFTLoss, SumAndDifferenceSTFTLoss
from tts_infer.losses.multiple import Settings

RATE = 48000
SIZES = ([1024, 2048, 512], [120, 240, 50], [600, 1200, 240])
METHODS: tuple[SpectralMethod, ...] = ("fft", "matmul")
VARIANTS: dict[str, Settings] = {
    "magnitudes": {},
    "mel": {"sample_rate": RATE, "scale": "mel", "n_bins": 128},
    "A-weighted": {"sample_rate": RATE, "perceptual_weighting": True},
    "phase": {"w_phs": 1.0},
}


def step(loss: nn.Module, input: Tensor, target: Tensor) -> float:
    """What training does with a loss. Shape: two of (B, C, T)"""
    input.grad = None
    value: Tensor = loss(input, target)
    value.backward()
    return value.item()


def systems(variant: str) -> dict[str, nn.Module]:
    found: dict[str, nn.Module] = {}
    for method in METHODS:
        if variant == "stereo":
            found[f"ours, {method}"] = SumAndDifferenceSTFTLoss(*SIZES, method=method)
        else:
            settings: Settings = {**VARIANTS[variant], "method": method}
            found[f"ours, {method}"] = MultiResolutionSTFTLoss(*SIZES, **settings)
    if find_spec("auraloss"):
        import auraloss.freq as theirs

        stereo = variant == "stereo"
        make = theirs.SumAndDifferenceSTFTLoss if stereo else theirs.MultiResolutionSTFTLoss
        found["auraloss"] = make(*SIZES, **({} if stereo else VARIANTS[variant]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--audio-seconds", type=float, default=1.0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seconds", type=float, default=6.0, help="measuring time of one table (default: 6)")
    args = parser.parse_args()
    setting, results = environment("auraloss"), []
    print(setting)
    generator = torch.Generator().manual_seed(0)
    for variant in (*VARIANTS, "stereo"):
        shape = args.batch, 2 if variant == "stereo" else 1, int(args.audio_seconds * RATE)
        target = torch.randn(shape, generator=generator) / 10
        input = (target + torch.randn(shape, generator=generator) / 30).to(args.device).requires_grad_()
        target = target.to(args.device)
        functions = {name: loss.to(args.device) for name, loss in systems(variant).items()}
        runs: dict[str, Callable[[], object]] = {k: partial(step, f, input, target) for k, f in functions.items()}
        ms = measure(runs, args.seconds)
        rows: list[dict[str, Any]] = []
        for name, f in functions.items():
            ratio = ms["auraloss"] / ms[name] if "auraloss" in ms else None
            rows.append({"system": name, "ms": ms[name], "ratio to auraloss": ratio, "loss": step(f, input, target)})
        table(f"{variant}, {args.batch} x {args.audio_seconds:g} s at 48 kHz", rows)
        results += [{"variant": variant, **row} for row in rows]
    finish("losses", setting, results)


if __name__ == "__main__":
    main()
