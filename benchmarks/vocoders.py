"""The two vocoders that are measured."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from tts_infer import LogMel, MelConfig, Vocoder, load_vocoder, make_placement, read_audio
from tts_infer.vocoders.vocos import VocoderConfig, Vocos

SIZES = ("embedded", "large")
CLIP = Path(__file__).parent.parent / "examples" / "english.wav"


def make(size: str) -> Vocoder:
    """`embedded`, without refinement; or `large`: the size of charactr/vocos-mel-24khz, 13.5 M random parameters."""
    if size == "embedded":
        return load_vocoder(device="cpu", refine=0)
    torch.manual_seed(0)
    return Vocoder(Vocos(VocoderConfig(), "fft").eval().requires_grad_(False), make_placement(device="cpu"), size)


def speech_mel(batch: int, frames: int) -> Tensor:
    """The mel of speech, which both take, from its tenth of a second on, again and again. Shape: (B, 100, frames)"""
    config = MelConfig()
    mel = LogMel(config)(torch.from_numpy(read_audio(CLIP, config.sample_rate).samples)[None])[..., 10:]
    return mel.repeat(batch, 1, 1 + frames // mel.shape[2])[..., :frames].contiguous()
