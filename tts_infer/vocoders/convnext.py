"""The first backbone of Vocos: ConvNeXt blocks at the frame rate (arXiv 2306.00814, section 3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from tts_infer.config import require_positive
from tts_infer.errors import ConfigError
from tts_infer.stages import Tensors
from tts_infer.vocoders.norms import make_norm, normed
from tts_infer.vocoders.padding import KERNEL_SIZE, CachedPadding, conv_padding, convolve, crop


@dataclass(frozen=True)
class BackboneConfig:
    """`VocosBackbone`: ConvNeXt blocks at the frame rate. Source: arXiv 2306.00814, section 3."""

    input_channels: int = 100
    dim: int = 512
    intermediate_dim: int = 1536
    num_layers: int = 8
    layer_scale_init_value: float | None = None  # used by training only
    adanorm_num_embeddings: int | None = None  # norms to choose from by `bandwidth_id`; None: one, without a choice
    input_kernel_size: int = KERNEL_SIZE
    dw_kernel_size: int = KERNEL_SIZE

    def __post_init__(self) -> None:
        require_positive(self, "input_channels", "dim", "intermediate_dim", "num_layers")
        if self.adanorm_num_embeddings is not None:
            require_positive(self, "adanorm_num_embeddings")
        for name in ("input_kernel_size", "dw_kernel_size"):
            if getattr(self, name) < 1 or getattr(self, name) % 2 == 0:
                text = "{key} is {got}; it must be odd and at least 1"
                raise ConfigError(text, code="kernel-size", key=name, got=getattr(self, name))


class ConvNeXtBlock(nn.Module):
    """Depthwise convolution over time, then a two-layer network for each frame. The result is scaled and added to x.

    Shape: (B, L + 2 (reach - zeros), H), zeros -> (B, L, H)
    Source: vocos/modules.py ConvNeXtBlock; `ConvPadding` does the padding.
    """

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        dim = config.dim
        self.dwconv = nn.Conv1d(dim, dim, config.dw_kernel_size, groups=dim)
        self.norm = make_norm(config.dim, config.adanorm_num_embeddings)
        self.pwconv1 = nn.Linear(dim, config.intermediate_dim)
        self.act = nn.GELU()
        self.pwconv2 = nn.Linear(config.intermediate_dim, dim)
        self.gamma = nn.Parameter(torch.full((dim,), config.layer_scale_init_value or 1 / config.num_layers))

    @property
    def reach(self) -> int:
        """Frames on each side that one frame depends on."""
        return self.dwconv.kernel_size[0] // 2

    def forward(self, x: Tensor, zeros: int, number: Tensor | None = None) -> Tensor:
        frames = normed(self.norm, convolve(self.dwconv, x, zeros), number)
        frames = self.pwconv2(self.act(self.pwconv1(frames)))
        return crop(x, self.reach - zeros) + self.gamma * frames


class VocosBackbone(nn.Module):
    """Embedding convolution and a stack of ConvNeXt blocks, all at the frame rate.

    Shape: (B, C, L) -> (B, L, H)
    Source: vocos/models.py VocosBackbone.
    """

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.embed = nn.Conv1d(config.input_channels, config.dim, config.input_kernel_size)
        self.norm = make_norm(config.dim, config.adanorm_num_embeddings)
        self.convnext = nn.ModuleList(ConvNeXtBlock(config) for _ in range(config.num_layers))
        self.final_layer_norm = nn.LayerNorm(config.dim, eps=1e-6)

    @property
    def hidden_size(self) -> int:
        """H, the channels between the blocks."""
        return self.embed.out_channels

    @property
    def reaches(self) -> tuple[int, ...]:
        """For each convolution the frames on each side that it needs, in the order in which they run."""
        return (self.embed.kernel_size[0] // 2, *(cast(ConvNeXtBlock, block).reach for block in self.convnext))

    @property
    def receptive_field(self) -> int:
        """Frames on each side that one frame of the output depends on."""
        return sum(self.reaches)

    def forward(
        self,
        features: Tensor,
        valid: Tensor | None = None,
        history: Tensors | None = None,
        bandwidth_id: Tensor | None = None,
    ) -> Any:
        """Compute whole signals, or a piece of longer ones.

        Args:
            features: whole signals, or the next frames of a stream.
            valid: see `MaskedPadding`, and for pieces `CachedPadding`.
            history: for pieces only: the history that the last call returned.
            bandwidth_id: which of several norms, of (1,) or (B,); None where there is one.

        Returns:
            The hidden frames; for pieces also the new history.
        """
        padding = conv_padding(self.reaches, valid, history)
        x = normed(self.norm, convolve(self.embed, *padding(0, features.transpose(1, 2))), bandwidth_id)
        for layer, block in enumerate(self.convnext, start=1):
            x = block(*padding(layer, x), bandwidth_id)
        hidden: Tensor = self.final_layer_norm(x)
        return (hidden, tuple(padding.history)) if isinstance(padding, CachedPadding) else hidden
