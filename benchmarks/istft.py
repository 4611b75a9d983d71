"""Inverse STFTs against each other: time and error against float64. `python -m benchmarks.istft`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.common import environment, finish, measure, table
from tts_infer import ISTFT
from tts_infer.vocoders.reference import import_vocos

N_FFT, HOP = 1024, 256


class ConvTransposeISTFT(torch.nn.Module):
    """The usual convolution form: the inverse DFT as a kernel of a transposed convolution, envelope as ours."""

    def __init__(self) -> None:
        super().__init__()
        k, n = np.arange(N_FFT // 2 + 1)[:, None], np.arange(N_FFT)[None]
        angle = 2 * np.pi * (k * n % N_FFT) / N_FFT
        scale = np.where((k == 0) | (k == N_FFT // 2), 1.0, 2.0) / N_FFT * torch.hann_window(N_FFT).double().numpy()
        kernel = np.concatenate([np.cos(angle) * scale, -np.sin(angle) * scale])
        self.kernel = torch.from_numpy(kernel[:, None].astype(np.float32))

    def forward(self, real: Tensor, imag: Tensor) -> Tensor:
        audio = F.conv_transpose1d(torch.cat([real, imag], dim=1), self.kernel, stride=HOP)[:, 0]
        squared = torch.hann_window(N_FFT).square().reshape(1, 1, -1)
        envelope = F.conv_transpose1d(torch.ones(1, 1, real.shape[2]), squared, stride=HOP)[0, 0]
        return (audio / envelope.clamp_min(1e-11))[:, N_FFT // 2 : -(N_FFT // 2)]


def systems() -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    import_vocos()
    from vocos import spectral_ops

    window, theirs = torch.hann_window(N_FFT), spectral_ops.ISTFT(N_FFT, HOP, N_FFT, padding="center")
    return {
        "ours, fft": ISTFT(N_FFT, HOP, method="fft"),
        "ours, matmul": ISTFT(N_FFT, HOP, method="matmul"),
        "torch.istft": lambda real, imag: torch.istft(torch.complex(real, imag), N_FFT, HOP, window=window),
        "official": lambda real, imag: theirs(torch.complex(real, imag)),
        "conv_transpose1d": ConvTransposeISTFT(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, nargs="+", default=[10, 94, 938])
    parser.add_argument("--seconds", type=float, default=4.0, help="measuring time of one table (default: 4)")
    args = parser.parse_args()
    setting, results = environment("vocos"), []
    print(setting)
    functions = systems()
    with torch.inference_mode():
        for frames in args.frames:
            # as a head gives them: frames last in shape, bins last in memory
            real, imag = torch.randn(2, 1, frames, N_FFT // 2 + 1).transpose(2, 3)
            exact = torch.istft(
                torch.complex(real.double(), imag.double()), N_FFT, HOP, window=torch.hann_window(N_FFT).double()
            )
            runs: dict[str, Callable[[], object]] = {name: partial(f, real, imag) for name, f in functions.items()}
            ms = measure(runs, args.seconds, most=60)
            rows: list[dict[str, Any]] = [
                {
                    "system": name,
                    "ms": ms[name],
                    "ratio": ms["official"] / ms[name],
                    "error": float((f(real, imag) - exact).abs().max() / exact.abs().max()),
                }
                for name, f in functions.items()
            ]
            table(f"{frames} frames", rows)
            results += [{"frames": frames, **row} for row in rows]
    finish("istft", setting, results)


if __name__ == "__main__":
    main()
