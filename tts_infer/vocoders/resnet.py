"""The second backbone of Vocos: residual blocks of dilated convolutions, at the frame rate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tts_infer.config import require_positive
from tts_infer.stages import Tensors
from tts_infer.vocoders.padding import CachedPadding, ConvPadding, conv_padding, convolve

KERNEL_SIZE = 3
DILATIONS = (1, 3, 5)
SLOPE = 0.1  # of LeakyReLU for negative values


@dataclass(frozen=True)
class ResNetConfig:
    """`VocosResNetBackbone`: residual blocks of dilated convolutions at the frame rate."""

    input_channels: int
    dim: int
    num_blocks: int
    layer_scale_init_value: float | None = None  # of interest to training only

    adanorm_num_embeddings = None  # this backbone has no condition

    def __post_init__(self) -> None:
        require_positive(self, "input_channels", "dim", "num_blocks")


class ResBlock(nn.Module):
    """Three pairs of convolutions, the first of a pair dilated; each pair is scaled and added to its input.

    Shape: (B, L, H) -> (B, L, H)
    Source: vocos/modules.py ResBlock1, without weight norm, which is folded into the weights; HiFi-GAN's block without
        upsampling.
    """

    def __init__(self, dim: int, layer_scale: float) -> None:
        super().__init__()
        self.convs1 = nn.ModuleList(nn.Conv1d(dim, dim, KERNEL_SIZE, dilation=d) for d in DILATIONS)
        self.convs2 = nn.ModuleList(nn.Conv1d(dim, dim, KERNEL_SIZE) for _ in DILATIONS)
        self.gamma = nn.ParameterList(nn.Parameter(torch.full((dim, 1), layer_scale)) for _ in DILATIONS)

    def forward(self, x: Tensor, padding: ConvPadding, first: int) -> Tensor:
        """Compute the block, whose convolutions are number `first` and those after it."""
        layers = zip(self.convs1, self.convs2, self.gamma, strict=True)
        for layer, (dilated, second, gamma) in zip(range(first, first + 2 * len(DILATIONS), 2), layers, strict=True):
            x, zeros = padding(layer, x)
            inner, inner_zeros = padding(layer + 1, _activated(dilated, x, zeros))
            # frames by which each convolution is late; 0 for whole signals
            late, later = padding.reaches[layer] - zeros, padding.reaches[layer + 1] - inner_zeros
            kept = x[:, late - later : x.shape[1] - late - later]
            x = kept + gamma.squeeze(1) * _activated(second, inner, inner_zeros)
        return x


def _activated(convolution: nn.Module, x: Tensor, zeros: int) -> Tensor:
    """LeakyReLU, then the convolution over time. Shape: (B, L, H) -> (B, L + 2 (zeros - reach), H)"""
    assert isinstance(convolution, nn.Conv1d)
    return convolve(convolution, F.leaky_relu(x, SLOPE), zeros)


class VocosResNetBackbone(nn.Module):
    """Embedding convolution and a stack of residual blocks. One frame depends on 1 + 12 x blocks on each side.

    Shape: (B, C, L) -> (B, L, H)
    Source: vocos/models.py VocosResNetBackbone.
    """

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__()
        layer_scale = config.layer_scale_init_value or 1 / config.num_blocks / 3
        self.embed = nn.Conv1d(config.input_channels, config.dim, KERNEL_SIZE)
        self.resnet = nn.ModuleList(ResBlock(config.dim, layer_scale) for _ in range(config.num_blocks))

    @property
    def reaches(self) -> tuple[int, ...]:
        """For each convolution the frames on each side that it needs, in the order in which they run."""
        of_pairs = [reach for dilation in DILATIONS for reach in (dilation, 1)]
        return (1, *of_pairs * len(self.resnet))

    def forward(self, features: Tensor, valid: Tensor | None = None, history: Tensors | None = None) -> Any:
        """Compute whole signals, or a piece of longer ones, as `VocosBackbone` does."""
        padding = conv_padding(self.reaches, valid, history)
        hidden = convolve(self.embed, *padding(0, features.transpose(1, 2)))
        for i, block in enumerate(self.resnet):
            hidden = block(hidden, padding, 1 + 2 * len(DILATIONS) * i)
        return (hidden, tuple(padding.history)) if isinstance(padding, CachedPadding) else hidden
