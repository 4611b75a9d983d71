"""Windows and frames: what a short-time transform does before and after its Fourier transform.

Frames are cut, and added up again, as shifted blocks of `hop_length` samples: no fold, no unfold, no scatter.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from tts_infer.config import Padding
from tts_infer.dsp.tiles import is_traced


def hann_window(win_length: int, n_fft: int) -> NDArray[np.float64]:
    """Periodic Hann window of `win_length`, centred in `n_fft` zeros.

    Shape: (n_fft,)
    Source: torch.hann_window and the centring of torch.stft, for window and win_length < n_fft.
    """
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(win_length) / win_length)
    left = (n_fft - win_length) // 2
    return np.pad(window, (left, n_fft - win_length - left))


def reflect_pad(x: Tensor, left: int, right: int) -> Tensor:
    """Mirror both ends without repeating the edge sample, as often as a short signal needs.

    Args:
        x: signal with at least one sample.
        left, right: number of samples to add.

    Shape: (B, T) -> (B, left + T + right)
    Source: numpy.pad(mode="reflect"). torch's own cannot pad by more than T - 1.
    """
    if is_traced():  # a graph serves every length, so it computes which samples it repeats
        last = x.shape[-1] - 1
        place = torch.arange(-left, x.shape[-1] + right, device=x.device)
        period = torch.clamp_min(torch.ones_like(place[:1]) * 2 * last, 1)
        place = torch.remainder(place, period)
        return x[:, torch.minimum(place, torch.ones_like(place[:1]) * 2 * last - place).clamp_min(0)]
    while left or right:
        step = x.shape[-1] - 1
        if step == 0:
            return F.pad(x, (left, right), mode="replicate")
        now = min(left, step), min(right, step)
        x = F.pad(x, now, mode="reflect")
        left, right = left - now[0], right - now[1]
    return x


def frame(x: Tensor, n_fft: int, hop_length: int) -> Tensor:
    """Cut a signal into overlapping frames, as shifted blocks of `hop_length`.

    Shape: (B, T) -> (B, L, n_fft), L = (T - n_fft) // hop_length + 1
    """
    overlap = -(-n_fft // hop_length)
    length = (x.shape[-1] - n_fft) // hop_length + 1
    samples = (length + overlap - 1) * hop_length
    # if hop_length does not divide n_fft, the last block may end after the signal (then zeros are added, and cut off
    # again below) or before it (then no frame uses the last samples); it ends at most this much after the signal
    x = torch.constant_pad_nd(x, [0, overlap * hop_length - n_fft])[:, :samples]
    blocks = x.reshape(x.shape[0], -1, hop_length)
    return torch.cat([blocks[:, k : k + length] for k in range(overlap)], dim=-1)[..., :n_fft]


def framed(x: Tensor, n_fft: int, hop_length: int, unfolds: bool) -> Tensor:
    """`frame`, or, on devices that run FFTs well and so unfold, a view, which the product with the window copies."""
    return x.unfold(-1, n_fft, hop_length) if unfolds else frame(x, n_fft, hop_length)


def overlap_add(hops: Tensor, frames: Tensor, window: Tensor) -> None:
    """Multiply frames by the window and add them to a signal, in place. It is the adjoint of windowing after `frame`.

    Every hop receives its earliest frame first, so a signal that is added in several steps has the same bits.

    Args:
        hops: the signal, cut into hops of hop_length samples.
        frames: added to it; frame l begins at hop l.
        window: factor for each sample of a frame.

    Shape: (B, L + R - 1, hop_length), (B, L, n_fft), (n_fft,); R = ceil(n_fft / hop_length)
    """
    batch, length, hop_length = frames.shape[0], frames.shape[1], hops.shape[2]
    overlap = hops.shape[1] - length + 1
    missing = overlap * hop_length - frames.shape[2]
    if missing > 0:
        frames, window = torch.constant_pad_nd(frames, [0, missing]), torch.constant_pad_nd(window, [0, missing])
    blocks = torch.unbind(frames.reshape(batch, length, overlap, hop_length), 2)
    weights = torch.unbind(window.view(overlap, hop_length))
    for later in range(overlap):
        k = overlap - 1 - later
        hops.narrow(1, k, length).addcmul_(blocks[k], weights[k])


def added_blocks(frames: Tensor, n_fft: int, hop_length: int) -> Tensor:
    """Overlap-add of windowed frames as a new tensor. It is `overlap_add` for graphs, which do not write in place.

    Args:
        n_fft: samples of a frame. Read from a shape, every number that follows would be computed in the graph.

    Shape: (B, L, n_fft) -> (B, L + R - 1, hop_length); R = ceil(n_fft / hop_length)
    """
    overlap = -(-n_fft // hop_length)
    if missing := overlap * hop_length - n_fft:
        frames = F.pad(frames, (0, missing))
    blocks = frames.unflatten(2, (overlap, hop_length))
    # every hop receives its earliest frame first, as in `overlap_add`
    added = F.pad(blocks[:, :, overlap - 1], (0, 0, overlap - 1, 0))
    for k in reversed(range(overlap - 1)):
        added = added + F.pad(blocks[:, :, k], (0, 0, k, overlap - 1 - k))
    return added


def due(waiting: list[Tensor] | None, new: list[Tensor], frames: int) -> tuple[list[Tensor], list[Tensor]]:
    """Append the next frames of a stream to those that wait, take the first ones, and leave the others to wait.

    Args:
        waiting: what the last call left; None before the first frame.
        new: the next frames, possibly none, of each of several tensors.
        frames: how many to take.

    Shape: each (B, C, L)
    """
    known = new if waiting is None else [torch.cat(pair, dim=2) for pair in zip(waiting, new, strict=True)]
    return [one[..., :frames] for one in known], [one[..., frames:].clone() for one in known]


def n_samples(frames: int, hop_length: int, padding: Padding) -> int:
    """Samples that `frames` give, once the padding is trimmed."""
    if padding == "same":
        return frames * hop_length
    # in a traced graph the number is a variable, and max would make it a constant
    return (frames - 1 if is_traced() else max(0, frames - 1)) * hop_length
