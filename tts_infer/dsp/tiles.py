"""Tiles: how many frames are computed at a time.

On a CPU, what each thread computes of a tile fits the caches of its core, and the next tile uses the same memory again.
Accelerators work on everything at once.
"""

from __future__ import annotations

import math

import torch

from tts_infer.devices import CPU

# Frames per tile on a CPU for each of torch's threads, summed over the batch.
TILE_FRAMES = 256
# Frames of a long file that are read at a time. More frames need more memory and are no faster.
READ_FRAMES = 1024


def is_traced() -> bool:
    """Whether torch records a graph. The graph must serve all lengths, and a loop over tiles fits only one."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()


def tiles(count: int, frames: int, device: torch.device, divisor: int = 1) -> list[slice]:
    """Cut neighbours into tiles of about equal size. On accelerators, and in a traced graph, there is one tile.

    Args:
        count: number of neighbours: frames of a batch, or items.
        frames: frames in each of them: the batch size, or the frames of an item.
        device: where they are computed.
        divisor: of the values of a frame, where a band of the bins is computed: then tiles are as many times longer.
    """
    if device != CPU or is_traced():
        return [slice(0, count)]
    most = max(1, TILE_FRAMES * divisor * torch.get_num_threads() // max(1, frames))
    step = math.ceil(count / math.ceil(count / most)) if count else 1
    return [slice(start, min(count, start + step)) for start in range(0, count, step)]
