"""Padding of convolutions at the frame rate: the frames that they read beyond the ends of their input."""

from __future__ import annotations

import torch
from torch import Tensor

from tts_infer.stages import Tensors

KERNEL_SIZE = 7
HALF_KERNEL = KERNEL_SIZE // 2  # frames on each side that one output frame of a convolution depends on


class ConvPadding:
    """Zeros beyond both ends, as in the official package.

    Each convolution calls `padding(layer, x)` and gets the frames to read, and the number of zeros to add at each end.
    Its output has as many frames as `x`.
    """

    def __call__(self, layer: int, x: Tensor) -> tuple[Tensor, int]:
        """The input of convolution `layer`. Shape: (B, L, H) -> (B, L + 2 (HALF_KERNEL - zeros), H), zeros"""
        return x, HALF_KERNEL


class MaskedPadding(ConvPadding):
    """Several lengths in one batch: before every convolution, all frames after an item's end are set to zero.

    Otherwise each layer would compute values there, and the next layer would read them into the last valid frames.

    Args:
        valid: 1.0 where a frame belongs to its item, else 0.0, of shape (B, L, 1).
    """

    def __init__(self, valid: Tensor) -> None:
        self.valid = valid

    def __call__(self, layer: int, x: Tensor) -> tuple[Tensor, int]:
        return x * self.valid, HALF_KERNEL


class CachedPadding(ConvPadding):
    """A piece of a stream: each convolution reads the frames before the piece, and is HALF_KERNEL frames late.

    So the input of layer i begins HALF_KERNEL * i frames before the piece.

    Args:
        history: the last 2 HALF_KERNEL input frames of each convolution. They are replaced, never changed.
        valid: 0.0 for frames before the start and after the end of the signal, else 1.0, of shape (B, lag + L, 1);
            None if all are 1.0. It begins `lag` frames before the piece, like the input of the last layer.
    """

    def __init__(self, history: Tensors, valid: Tensor | None) -> None:
        self.history, self.valid, self.lag = list(history), valid, HALF_KERNEL * (len(history) - 1)

    def __call__(self, layer: int, x: Tensor) -> tuple[Tensor, int]:
        if self.valid is not None:
            begin = self.lag - HALF_KERNEL * layer
            x = x * self.valid[:, begin : begin + x.shape[1]]
        extended = torch.cat([self.history[layer], x], dim=1)
        self.history[layer] = extended[:, extended.shape[1] - 2 * HALF_KERNEL :].clone()
        return extended, 0


def conv_padding(valid: Tensor | None, history: Tensors | None) -> ConvPadding:
    """The padding for whole signals, for a batch of several lengths, or for a piece of a stream."""
    if history is not None:
        return CachedPadding(history, valid)
    return ConvPadding() if valid is None else MaskedPadding(valid)


def crop(x: Tensor, zeros: int) -> Tensor:
    """The input frames at the positions of the output. Shape: (B, L + 2 (HALF_KERNEL - zeros), H) -> (B, L, H)"""
    cut = HALF_KERNEL - zeros
    return x[:, cut : x.shape[1] - cut] if cut else x
