"""What several test files share besides fixtures: a small vocoder, and ways to cut a mel into pieces."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from tts_infer.config import MelConfig
from tts_infer.runtime.placement import make_placement
from tts_infer.vocoder import Vocoder
from tts_infer.vocoders.vocos import BackboneConfig, HeadConfig, VocoderConfig, Vocos

FRAMES = 61  # more than twice the reach of the small vocoder, which is 9, and than that of the embedded one, 27


def cut(mel: Tensor, sizes: list[int]) -> Iterator[Tensor]:
    """The mel in pieces of these sizes; the last piece is what is left."""
    start = 0
    for size in sizes:
        if start < mel.shape[2]:
            yield mel[..., start : start + size]
        start += size
    if start < mel.shape[2]:
        yield mel[..., start:]


def _random_sizes(seed: int) -> list[int]:
    random.seed(seed)
    return [random.choice([1, 2, 3, 5, 8, 20]) for _ in range(9)]


SPLITS = {"one frame at a time": [1] * FRAMES, "at once": [], "unevenly": [1, 40, 3]} | {
    f"at random {seed}": _random_sizes(seed) for seed in range(4)
}


def small_vocoder(padding: Any = "center", method: Any = "auto") -> Vocoder:
    """Random weights, another mel convention than the embedded one."""
    torch.manual_seed(0)
    mel = MelConfig(sample_rate=16000, n_fft=512, hop_length=128, n_mels=40, padding=padding)
    config = VocoderConfig(mel, BackboneConfig(40, 32, 64, 2), HeadConfig(32, 512, 128, padding))
    return Vocoder(Vocos(config).eval(), make_placement(device="cpu", istft=method), "small")
