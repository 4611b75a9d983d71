"""The two vocoders that are measured."""

from __future__ import annotations

import torch

from tts_infer import Vocoder, load_vocoder, make_placement
from tts_infer.vocoders.vocos import VocoderConfig, Vocos

SIZES = ("embedded", "large")


def make(size: str) -> Vocoder:
    """`embedded`, without refinement; or `large`: the size of charactr/vocos-mel-24khz, 13.5 M random parameters."""
    if size == "embedded":
        return load_vocoder(device="cpu", refine=0)
    torch.manual_seed(0)
    return Vocoder(Vocos(VocoderConfig(), "fft").eval().requires_grad_(False), make_placement(device="cpu"), size)
