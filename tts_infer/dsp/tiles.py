"""How much of a signal is computed at a time: the one place of all such sizes in signal processing.

On a CPU a tile is what the caches hold: what is made of it is used while it is near, and in memory that the next tile
uses again. Accelerators take fewer and larger steps.
"""

from __future__ import annotations

import math

import torch

from tts_infer.devices import CPU

# Frames per tile, summed over the batch.
TILE_FRAMES = 384
# Frames that are read, or made of audio, at a time, where a signal is long. More brings no speed and costs memory.
READ_FRAMES = 1024


def is_traced() -> bool:
    """Whether torch records what runs, for other lengths too: a loop over tiles would be wrong for those."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()


def tiles(count: int, frames: int, device: torch.device) -> list[slice]:
    """Cut `count` neighbours, of `frames` frames each, into tiles of about one size; what is traced stays whole."""
    if device != CPU or is_traced():
        return [slice(0, count)]
    most = max(1, TILE_FRAMES // max(1, frames))
    step = math.ceil(count / math.ceil(count / most)) if count else 1
    return [slice(start, min(count, start + step)) for start in range(0, count, step)]
