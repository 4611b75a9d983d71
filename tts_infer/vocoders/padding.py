"""What the convolutions of a network at the frame rate see beyond the ends of their input."""

from __future__ import annotations

import torch
from torch import Tensor

from tts_infer.stages import Tensors

KERNEL_SIZE = 7
REACH = KERNEL_SIZE // 2  # frames on each side that a convolution needs


class ConvPadding:
    """What a convolution sees beyond the ends of its input: zeros, as the official padding.

    A convolution reads `padding(layer, x)`: frames, and how many zeros it adds at each end of them. It answers for as
    many frames as were given.
    """

    def __call__(self, layer: int, x: Tensor) -> tuple[Tensor, int]:
        """The input of convolution `layer`. Shape: (B, L, H) -> (B, L + 2 (REACH - zeros), H), zeros"""
        return x, REACH


class MaskedPadding(ConvPadding):
    """Several lengths in one batch: everything beyond an item's own end is zero.

    Without it, layer after layer carries what it made of the padding back into the last valid frames.

    Args:
        valid: 1.0 where a frame belongs to its item, else 0.0, of shape (B, L, 1).
    """

    def __init__(self, valid: Tensor) -> None:
        self.valid = valid

    def __call__(self, layer: int, x: Tensor) -> tuple[Tensor, int]:
        return x * self.valid, REACH


class CachedPadding(ConvPadding):
    """A piece of a longer signal: each convolution sees the frames before the piece, and answers REACH frames late.

    The input of layer i begins REACH * i frames before the piece.

    Args:
        history: for each convolution its last 2 REACH inputs; they are replaced, never changed.
        valid: (B, lag + L, 1), 0.0 for frames before the signal's first and after its last; None: there are none. The
            input of the last layer begins `lag` frames before the piece.
    """

    def __init__(self, history: Tensors, valid: Tensor | None) -> None:
        self.history, self.valid, self.lag = list(history), valid, REACH * (len(history) - 1)

    def __call__(self, layer: int, x: Tensor) -> tuple[Tensor, int]:
        if self.valid is not None:
            begin = self.lag - REACH * layer
            x = x * self.valid[:, begin : begin + x.shape[1]]
        extended = torch.cat([self.history[layer], x], dim=1)
        self.history[layer] = extended[:, extended.shape[1] - 2 * REACH :].clone()
        return extended, 0


def conv_padding(valid: Tensor | None, history: Tensors | None) -> ConvPadding:
    """The padding of whole signals, of several lengths, or of a piece."""
    if history is not None:
        return CachedPadding(history, valid)
    return ConvPadding() if valid is None else MaskedPadding(valid)


def crop(x: Tensor, zeros: int) -> Tensor:
    """The frames that a convolution answers for. Shape: (B, L + 2 (REACH - zeros), H) -> (B, L, H)"""
    cut = REACH - zeros
    return x[:, cut : x.shape[1] - cut] if cut else x
