"""Norms of backbones: one for all signals, or several to choose from."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class AdaLayerNorm(nn.Module):
    """Layer norm whose scale and shift are chosen by a number: of EnCodec, the bandwidth.

    Shape: (B, L, H), number of (B,) or (1,) -> (B, L, H)
    Source: vocos/modules.py AdaLayerNorm, for which all items of a batch share one number.
    """

    def __init__(self, count: int, dim: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.dim, self.eps = dim, eps
        self.scale, self.shift = nn.Embedding(count, dim), nn.Embedding(count, dim)

    def forward(self, x: Tensor, number: Tensor) -> Tensor:
        scale, shift = self.scale(number)[:, None], self.shift(number)[:, None]
        normed: Tensor = F.layer_norm(x, (self.dim,), eps=self.eps) * scale + shift
        return normed


def make_norm(dim: int, count: int | None) -> nn.Module:
    """The norm of a backbone: one of `count` norms, chosen by a number; None: one, without a choice."""
    return nn.LayerNorm(dim, eps=1e-6) if count is None else AdaLayerNorm(count, dim)


def normed(norm: nn.Module, x: Tensor, number: Tensor | None) -> Tensor:
    frames: Tensor = norm(x) if number is None else norm(x, number)
    return frames
