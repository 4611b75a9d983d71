"""The family of BigVGAN, versions 1 and 2: HiFi-GAN with periodic, anti-aliased activations (arXiv 2206.04658).

An activation makes frequencies that its sample rate cannot hold. So it is computed at twice the rate, between two
low-pass filters. The official code doubles the rate by a transposed convolution and halves it by a strided one. Here
the even and the odd samples of the doubled signal stay two signals of the given rate: four plain depthwise convolutions
do the same, at half the length and without a stride.

Source: NVIDIA/BigVGAN bigvgan.py BigVGAN, AMPBlock1, AMPBlock2; activations.py Snake, SnakeBeta;
alias_free_activation/torch act.py, filter.py, resample.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from tts_infer.dsp import register_constant
from tts_infer.vocoders.hifigan import HiFiGAN, HiFiGANConfig, HiFiGANFamily

FILTER_SIZE = 12  # at the doubled rate
REACH = FILTER_SIZE // 4  # samples on each side that either filter needs, at the given rate
_NO_DIVISION_BY_ZERO = 1e-9

ActivationName = Literal["snake", "snakebeta"]


@dataclass(frozen=True)
class BigVGANConfig(HiFiGANConfig):
    """A `config.json` of NVIDIA/BigVGAN, without what only training reads. Version 1 has no `use_..._at_final`."""

    activation: ActivationName
    snake_logscale: bool
    use_bias_at_final: bool = True
    use_tanh_at_final: bool = True


class Snake(nn.Module):
    """Periodic activation: x + sin(alpha x)^2 / beta, with an alpha and a beta for each channel.

    Args:
        channels: C.
        name: "snake" has beta = alpha; "snakebeta" has parameters of its own for it.
        log_scale: whether the parameters are logarithms.

    Shape: (B, C, T) -> (B, C, T), float32
    """

    def __init__(self, channels: int, name: ActivationName, log_scale: bool) -> None:
        super().__init__()
        initial = torch.full((channels,), 0.0 if log_scale else 1.0)
        self.alpha = nn.Parameter(initial)
        self.beta = nn.Parameter(initial.clone()) if name == "snakebeta" else None
        self.log_scale = log_scale

    def extra_repr(self) -> str:
        return f"{len(self.alpha)}, beta={self.beta is not None}, log_scale={self.log_scale}"

    def forward(self, x: Tensor) -> Tensor:
        alpha = self.alpha[:, None]
        beta = alpha if self.beta is None else self.beta[:, None]
        if self.log_scale:
            alpha, beta = alpha.exp(), beta.exp()
        sine = (x * alpha).sin()
        return torch.addcmul(x, sine, sine * (1 / (beta + _NO_DIVISION_BY_ZERO)))


def kaiser_sinc(size: int = FILTER_SIZE) -> NDArray[np.float64]:
    """The low-pass filter that halves the band: a sinc with cutoff 1/4 under a Kaiser window, with a sum of 1.

    Shape: (size,)
    Source: alias_free_activation/torch/filter.py kaiser_sinc_filter1d, with cutoff 0.25 and half_width 0.3.
    """
    cutoff, width = 0.25, 4 * 0.3
    attenuation_db = 2.285 * (size // 2 - 1) * math.pi * width + 7.95
    beta = 0.1102 * (attenuation_db - 8.7)  # the formula above 50 dB; this is 51
    n = np.arange(size) - (size - 1) / 2
    taps = np.kaiser(size, beta) * np.sinc(2 * cutoff * n)
    return np.asarray(taps / taps.sum())


def phases(filter_: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Split the filter into the four that work at the given rate, each centred in 2 REACH + 1 taps.

    With the filter f, its input x and the doubled signal z, the official code computes
        z[m] = 2 sum_k f[k] x[(m + 5 - k) / 2], over all k that leave no remainder;
        y[n] = sum_k f[k] z[2 n + k - 5].

    Shape: (12,) -> (2, 7) from x to the even and odd z, and (2, 7) from these to y
    """
    up, down = np.zeros((2, 2 * REACH + 1)), np.zeros((2, 2 * REACH + 1))
    for k, tap in enumerate(filter_):
        odd = (k + 1) % 2  # which z gets this tap from x, and which z gives it to y: (k - 5) is even for odd k
        up[odd, REACH + (odd + 5 - k) // 2] = 2 * tap
        down[odd, REACH + (k - 5 - odd) // 2] = tap
    return up, down


class AntiAliased(nn.Module):
    """An activation at twice the sample rate, between two low-pass filters.

    Beyond its ends, the signal and the doubled signal go on with their first and last sample.

    Args:
        channels: C.
        activation: computes the doubled signal, sample by sample. Checkpoints name its parameters `act`.

    Shape: (B, C, T) -> (B, C, T)
    """

    up: Tensor
    down: Tensor

    def __init__(self, channels: int, activation: nn.Module) -> None:
        super().__init__()
        self.channels, self.act = channels, activation
        for name, taps in zip(("up", "down"), phases(kaiser_sinc()), strict=True):
            register_constant(self, name, taps[:, None, None, :])

    def forward(self, x: Tensor) -> Tensor:
        channels = self.channels
        up, down = (taps.repeat(1, channels, 1, 1).unbind() for taps in (self.up, self.down))
        padded = _extended(x[..., :1], x, x[..., -1:])
        even, odd = (self.act(F.conv1d(padded, taps, groups=channels)) for taps in up)
        first, last = even[..., :1], odd[..., -1:]
        signals = _extended(first, even, last), _extended(first, odd, last)
        even, odd = (F.conv1d(z, taps, groups=channels) for z, taps in zip(signals, down, strict=True))
        return even + odd


def _extended(first: Tensor, x: Tensor, last: Tensor) -> Tensor:
    """Repeat a sample before and after a signal. Shape: (B, C, 1), (B, C, T), (B, C, 1) -> (B, C, T + 2 REACH)"""
    return torch.cat([first.expand(-1, -1, REACH), x, last.expand(-1, -1, REACH)], dim=2)


class BigVGAN(HiFiGAN):
    """The generator: that of HiFi-GAN with anti-aliased Snakes, and without activations before its upsampling.

    Shape: mel of (B, n_mels, L) -> audio of (B, L * hop_size)
    Source: NVIDIA/BigVGAN bigvgan.py BigVGAN.
    """

    # both filters have REACH taps to one side and REACH - 1 to the other, and no path takes the longer side of both
    activation_reach: ClassVar[int] = 2 * REACH - 1
    config: BigVGANConfig

    def __init__(self, config: BigVGANConfig) -> None:
        super().__init__(config, config.use_bias_at_final)

    def upsampler(self, convolution: nn.ConvTranspose1d) -> nn.Module:
        return nn.Sequential(convolution)

    def activation(self, channels: int) -> nn.Module:
        return AntiAliased(channels, Snake(channels, self.config.activation, self.config.snake_logscale))

    def last_activation(self, channels: int) -> nn.Module:
        return self.activation(channels)

    def before_upsampling(self, x: Tensor) -> Tensor:
        return x

    def bound(self, audio: Tensor) -> Tensor:
        return audio.tanh() if self.config.use_tanh_at_final else audio.clamp(-1.0, 1.0)

    def extra_repr(self) -> str:
        return f"tanh={self.config.use_tanh_at_final}"


class BigVGANFamily(HiFiGANFamily):
    """BigVGAN. Entry of `FAMILIES`. Its checkpoints are config.json and bigvgan_generator.pt."""

    model: ClassVar[type[nn.Module]] = BigVGAN
    config: ClassVar[type] = BigVGANConfig

    def matches(self, document: Mapping[str, Any]) -> bool:
        return "upsample_rates" in document and "activation" in document

    def constants(self, model: Any) -> dict[str, Tensor]:
        """Both filters of every activation: checkpoints store them."""
        taps = torch.from_numpy(kaiser_sinc()).float()[None, None]
        names = [name for name, module in model.named_modules() if isinstance(module, AntiAliased)]
        return {f"{name}.{part}.filter": taps for name in names for part in ("upsample", "downsample.lowpass")}
