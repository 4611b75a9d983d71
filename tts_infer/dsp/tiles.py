"""How much of a signal is computed at a time: on a CPU, what its caches hold.

What is made of a block is used while it is near, and in memory that the next block uses again. Accelerators take
fewer and larger steps.
"""

from __future__ import annotations

import math

import torch

from tts_infer.devices import CPU

# Frames of a block, over all that it holds.
BLOCK_FRAMES = 384


def is_traced() -> bool:
    """Whether what runs is written down for other lengths, too, for which a loop over blocks would be wrong."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()


def blocks(count: int, frames: int, device: torch.device) -> list[slice]:
    """Cut `count` neighbours, of `frames` frames each, into blocks of about one size; what is traced stays whole."""
    if device != CPU or is_traced():
        return [slice(0, count)]
    most = max(1, BLOCK_FRAMES // max(1, frames))
    step = math.ceil(count / math.ceil(count / most)) if count else 1
    return [slice(start, min(count, start + step)) for start in range(0, count, step)]
