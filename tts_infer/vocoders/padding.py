"""What the convolutions of a network at the frame rate see beyond the ends of their input."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tts_infer.stages import Tensors

KERNEL_SIZE = 7  # of every convolution in the official package
HALF_KERNEL = KERNEL_SIZE // 2  # frames on each side that one output frame of such a convolution depends on


class ConvPadding:
    """Zeros beyond both ends, as in the official package.

    Each convolution calls `padding(layer, x)` and gets the frames to read, and the number of zeros to add at each end.
    Its output has as many frames as `x`.

    Args:
        reaches: for each convolution, in order: the frames on each side that one output frame depends on.
    """

    def __init__(self, reaches: Sequence[int]) -> None:
        self.reaches = reaches

    def __call__(self, layer: int, x: Tensor) -> tuple[Tensor, int]:
        """The input of convolution `layer`. Shape: (B, L, H) -> (B, L + 2 (reach - zeros), H), zeros"""
        return x, self.reaches[layer]


class MaskedPadding(ConvPadding):
    """Several lengths in one batch: before every convolution, all frames after an item's end are set to zero.

    Otherwise each layer would compute values there, and the next layer would read them into the last valid frames.

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
    """A piece of a stream: each convolution reads the frames before the piece, and is late by its reach.

    So the input of a convolution begins before the piece by the sum of the reaches before it.

    Args:
        reaches: see `ConvPadding`.
        history: the last 2 reach input frames of each convolution. They are replaced, never changed.
        valid: 0.0 for frames before the start and after the end of the signal, else 1.0, of shape (B, lag + L, 1);
            None if all are 1.0. It begins `lag` frames before the piece, like the input of the last layer.
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
        extended = self.extended(self.history[layer], x)
        lasting = 2 * self.reaches[layer]
        # counted from the end, so that a graph has no number to compute
        self.history[layer] = self.kept(extended[:, -lasting:] if lasting else extended[:, :0])
        return extended, 0

    def extended(self, before: Tensor, x: Tensor) -> Tensor:
        """Frames, and those before them. Engines with arrays of their own replace this method and `kept`."""
        return torch.cat([before, x], dim=1)

    def kept(self, frames: Tensor) -> Tensor:
        """The frames, without the memory that they are part of."""
        return frames.clone()


def conv_padding(
    reaches: Sequence[int],
    valid: Tensor | None,
    history: Tensors | None,
    cached: type[CachedPadding] = CachedPadding,
) -> ConvPadding:
    """The padding for whole signals, for a batch of several lengths, or by `cached` for a piece of a stream."""
    if history is not None:
        return cached(reaches, history, valid)
    return ConvPadding(reaches) if valid is None else MaskedPadding(reaches, valid)


def crop(x: Tensor, cut: int) -> Tensor:
    """The input frames at the positions of the output. Shape: (B, L + 2 cut, H) -> (B, L, H)"""
    return x[:, cut:-cut] if cut else x


def convolve(convolution: nn.Conv1d, x: Tensor, zeros: int) -> Tensor:
    """Convolve over time, with zeros at both ends. Shape: (B, L, C) -> (B, L + 2 (zeros - reach), H)"""
    weight, bias, dilation, groups = convolution.weight, convolution.bias, convolution.dilation, convolution.groups
    return F.conv1d(x.transpose(1, 2), weight, bias, padding=zeros, dilation=dilation, groups=groups).transpose(1, 2)
