"""What the convolutions of a network at the frame rate see beyond the ends of their input."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor

from tts_infer.stages import Tensors


class ConvPadding:
    """What a convolution sees beyond the ends of its input: zeros, as the official padding.

    A convolution reads `padding(layer, x)`: frames, and how many zeros it adds at each end of them. It answers for as
    many frames as were given.

    Args:
        reaches: for each convolution the frames on each side that it needs, in the order in which they run.
    """

    def __init__(self, reaches: Sequence[int]) -> None:
        self.reaches = reaches

    def __call__(self, layer: int, x: Tensor) -> tuple[Tensor, int]:
        """The input of convolution `layer`. Shape: (B, L, H) -> (B, L + 2 (reach - zeros), H), zeros"""
        return x, self.reaches[layer]


class MaskedPadding(ConvPadding):
    """Several lengths in one batch: everything beyond an item's own end is zero.

    Without it, layer after layer carries what it made of the padding back into the last valid frames.

    Args:
        reaches: see `ConvPadding`.
        valid: 1.0 where a frame belongs to its item, else 0.0, of shape (B, L, 1).
    """

    def __init__(self, reaches: Sequence[int], valid: Tensor) -> None:
        super().__init__(reaches)
        self.valid = valid

    def __call__(self, layer: int, x: Tensor) -> tuple[Tensor, int]:
        return x * self.valid, self.reaches[layer]


class CachedPadding(ConvPadding):
    """A piece of a longer signal: each convolution sees the frames before the piece, and answers `reach` frames late.

    The input of a convolution begins as many frames before the piece as those before it reach, summed.

    Args:
        reaches: see `ConvPadding`.
        history: for each convolution its last 2 reach inputs; they are replaced, never changed.
        valid: (B, lag + L, 1), 0.0 for frames before the signal's first and after its last; None: there are none. The
            input of the last convolution begins `lag` frames before the piece.
    """

    def __init__(self, reaches: Sequence[int], history: Tensors, valid: Tensor | None) -> None:
        super().__init__(reaches)
        self.history, self.valid = list(history), valid
        late = [0, *accumulate(reaches[:-1])]
        self._begins = [late[-1] - before for before in late]

    def __call__(self, layer: int, x: Tensor) -> tuple[Tensor, int]:
        if self.valid is not None:
            begin = self._begins[layer]
            x = x * self.valid[:, begin : begin + x.shape[1]]
        extended = torch.cat([self.history[layer], x], dim=1)
        self.history[layer] = extended[:, extended.shape[1] - 2 * self.reaches[layer] :].clone()
        return extended, 0


def conv_padding(reaches: Sequence[int], valid: Tensor | None, history: Tensors | None) -> ConvPadding:
    """The padding of whole signals, of several lengths, or of a piece."""
    if history is not None:
        return CachedPadding(reaches, history, valid)
    return ConvPadding(reaches) if valid is None else MaskedPadding(reaches, valid)


def crop(x: Tensor, cut: int) -> Tensor:
    """The frames that a convolution answers for, `cut` frames in from each end."""
    return x[:, cut : x.shape[1] - cut] if cut else x
