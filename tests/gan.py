"""What the tests of HiFi-GAN and BigVGAN share: their files, and a reference written after their repositories."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

# What the repositories' own files state, at small sizes. Source: configs/bigvgan_v2_24khz_100band_256x.json of
# NVIDIA/BigVGAN and config_v1.json of jik876/hifi-gan.
SIZES: dict[str, Any] = {
    "resblock": "1",
    "num_gpus": 0,
    "batch_size": 4,
    "learning_rate": 0.0001,
    "dist_config": {"dist_backend": "nccl", "dist_url": "tcp://localhost:54321", "world_size": 1},
    "upsample_rates": [4, 2, 2],
    "upsample_kernel_sizes": [8, 4, 6],
    "upsample_initial_channel": 32,
    "resblock_kernel_sizes": [3, 7],
    "resblock_dilation_sizes": [[1, 3], [1, 3]],
    "num_mels": 12,
    "num_freq": 1025,
    "n_fft": 64,
    "hop_size": 16,
    "win_size": 64,
    "sampling_rate": 24000,
    "fmin": 0,
    "fmax": None,
    "fmax_for_loss": None,
}
V2 = {"use_tanh_at_final": False, "use_bias_at_final": False, "use_cqtd_instead_of_mrd": True}
KINDS: dict[str, dict[str, Any]] = {
    "HiFi-GAN, blocks 1": {},
    "HiFi-GAN, blocks 2": {"resblock": "2", "resblock_dilation_sizes": [[1, 2, 3], [2, 6]], "fmax": 8000},
    "BigVGAN v1": {"activation": "snakebeta", "snake_logscale": True},
    "BigVGAN v2": {"activation": "snakebeta", "snake_logscale": True, **V2},
    "BigVGAN, blocks 2": {"activation": "snakebeta", "snake_logscale": False, "resblock": "2"},
    "BigVGAN, Snake": {"activation": "snake", "snake_logscale": False},
    "BigVGAN, logarithms of Snake": {"activation": "snake", "snake_logscale": True},
}
MELS = torch.randn(3, 12, 94, generator=torch.Generator().manual_seed(1))
BIGVGAN = SIZES | KINDS["BigVGAN v2"]


# The reference: the generators as functions of a state dict in the layout of the repositories, weight norm included.


def low_pass() -> Tensor:
    """12 taps. Source: NVIDIA/BigVGAN alias_free_activation/torch/filter.py, cutoff 0.25, half_width 0.3."""
    beta = 0.1102 * (2.285 * 5 * math.pi * 1.2 + 7.95 - 8.7)
    taps = torch.kaiser_window(12, periodic=False, beta=beta) * torch.sinc(0.5 * (torch.arange(-6, 6) + 0.5))
    return taps / taps.sum()


class Reference:
    """Compute a generator by the operators of its repository.

    Source: NVIDIA/BigVGAN bigvgan.py, activations.py, alias_free_activation/torch; jik876/hifi-gan models.py.
    """

    def __init__(self, config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
        self.config, self.weights, self.snake = config, weights, config.get("activation")

    def convolve(self, name: str, x: Tensor, dilation: int = 1, rate: int = 0) -> Tensor:
        g, v = self.weights[f"{name}.weight_g"], self.weights[f"{name}.weight_v"]
        weight, bias = v * g / v.norm(dim=(1, 2), keepdim=True), self.weights.get(f"{name}.bias")
        size = v.shape[2]
        if rate:
            return F.conv_transpose1d(x, weight, bias, stride=rate, padding=(size - rate) // 2)
        return F.conv1d(x, weight, bias, dilation=dilation, padding=(size * dilation - dilation) // 2)

    def activate(self, name: str, x: Tensor, slope: float = 0.1) -> Tensor:
        if self.snake is None:
            return F.leaky_relu(x, slope)
        channels = x.shape[1]
        taps = low_pass().expand(channels, 1, 12)
        x = 2 * F.conv_transpose1d(F.pad(x, (5, 5), mode="replicate"), taps, stride=2, groups=channels)[..., 15:-15]
        alpha = self.weights[f"{name}.act.alpha"][None, :, None]
        beta = self.weights[f"{name}.act.{'alpha' if self.snake == 'snake' else 'beta'}"][None, :, None]
        if self.config["snake_logscale"]:
            alpha, beta = alpha.exp(), beta.exp()
        x = x + torch.sin(x * alpha) ** 2 / (beta + 1e-9)
        return F.conv1d(F.pad(x, (5, 6), mode="replicate"), taps, stride=2, groups=channels)

    def block(self, name: str, x: Tensor, dilations: list[int]) -> Tensor:
        for i, dilation in enumerate(dilations):
            if self.config["resblock"] == "2":
                y = self.activate(f"{name}.activations.{i}", x)
                x = x + self.convolve(f"{name}.convs.{i}", y, dilation)
                continue
            y = self.convolve(f"{name}.convs1.{i}", self.activate(f"{name}.activations.{2 * i}", x), dilation)
            x = x + self.convolve(f"{name}.convs2.{i}", self.activate(f"{name}.activations.{2 * i + 1}", y))
        return x

    def __call__(self, mel: Tensor) -> Tensor:
        x, dilations = self.convolve("conv_pre", mel), self.config["resblock_dilation_sizes"]
        for i, rate in enumerate(self.config["upsample_rates"]):
            x = F.leaky_relu(x, 0.1) if self.snake is None else x
            x = self.convolve(f"ups.{i}" if self.snake is None else f"ups.{i}.0", x, rate=rate)
            names = [f"resblocks.{i * len(dilations) + j}" for j in range(len(dilations))]
            blocks = [self.block(name, x, sizes) for name, sizes in zip(names, dilations, strict=True)]
            x = torch.stack(blocks).mean(dim=0)
        x = self.convolve("conv_post", self.activate("activation_post", x, 0.01))[:, 0]
        return x.tanh() if self.config.get("use_tanh_at_final", True) else x.clamp(-1, 1)


def official_weights(config: Mapping[str, Any]) -> dict[str, Tensor]:
    """Random weights under the names of the repositories, of a size that lets every layer matter."""
    g, snake, blocks = torch.Generator().manual_seed(0), config.get("activation"), config["resblock_dilation_sizes"]
    weights: dict[str, Tensor] = {}

    def convolution(name: str, shape: tuple[int, int, int], biases: int, length: float = 1.0) -> None:
        weights[f"{name}.weight_v"] = torch.randn(*shape, generator=g)
        weights[f"{name}.weight_g"] = length * (0.7 + 0.6 * torch.rand(shape[0], 1, 1, generator=g))
        if biases:
            weights[f"{name}.bias"] = 0.1 * torch.randn(biases, generator=g)

    def activation(name: str, channels: int) -> None:
        if snake is None:
            return
        for one in ("alpha", "beta")[: 1 if snake == "snake" else 2]:
            weights[f"{name}.act.{one}"] = torch.rand(channels, generator=g) + (not config["snake_logscale"])
        for part in ("upsample", "downsample.lowpass"):
            weights[f"{name}.{part}.filter"] = low_pass()[None, None]

    width = config["upsample_initial_channel"]
    convolution("conv_pre", (width, config["num_mels"], 7), width)
    for i, size in enumerate(config["upsample_kernel_sizes"]):
        convolution(f"ups.{i}" if snake is None else f"ups.{i}.0", (width, width // 2, size), width // 2)
        width //= 2
        for j, (kernel, dilations) in enumerate(zip(config["resblock_kernel_sizes"], blocks, strict=True)):
            name, rows = f"resblocks.{i * len(blocks) + j}", ["convs1", "convs2"]
            rows = rows if config["resblock"] == "1" else ["convs"]
            for row in rows:
                for k in range(len(dilations)):
                    convolution(f"{name}.{row}.{k}", (width, width, kernel), width, 0.5)
            for k in range(len(rows) * len(dilations)):
                activation(f"{name}.activations.{k}", width)
    activation("activation_post", width)
    convolution("conv_post", (1, width, 7), int(config.get("use_bias_at_final", True)), 0.25 if snake else 2.0)
    return weights


def save(folder: Path, config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> Path:
    """A folder as the repositories publish it."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=4))
    name = "bigvgan_generator.pt" if "activation" in config else "g_02500000"
    torch.save({"generator": dict(weights)}, folder / name)
    return folder
