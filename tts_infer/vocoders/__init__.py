"""Families of vocoders, and how their checkpoints are read. A family is one file here, and one line in `FAMILIES`."""

from __future__ import annotations

from functools import cache

import torch
from torch import nn

from tts_infer.stages import Stage
from tts_infer.vocoders.bigvgan import BigVGANFamily
from tts_infer.vocoders.encodec import EncodecFamily
from tts_infer.vocoders.family import Family
from tts_infer.vocoders.graph import GraphFamily
from tts_infer.vocoders.hifigan import HiFiGANFamily
from tts_infer.vocoders.luxtts import LuxTTSFamily
from tts_infer.vocoders.soprano import SopranoFamily
from tts_infer.vocoders.vocos import BackboneConfig, VocoderConfig, Vocos, VocosFamily

FAMILIES: dict[str, Family] = {
    "vocos": VocosFamily(),
    "hifigan": HiFiGANFamily(),
    "bigvgan": BigVGANFamily(),
    "encodec": EncodecFamily(),
    "soprano": SopranoFamily(),
    "luxtts": LuxTTSFamily(),
    "graph": GraphFamily(),
}


def family_of(model: nn.Module) -> Family:
    """The family that a model belongs to."""
    return next(family for family in FAMILIES.values() if type(model) is family.model)


@cache
def usual_stages() -> tuple[Stage, ...]:
    """The stages of the most common vocoder, without weights: to choose a placement before a vocoder is loaded."""
    with torch.device("meta"):
        model = Vocos(VocoderConfig(backbone=BackboneConfig(num_layers=2)), "fft")  # further layers are the same
    return tuple(FAMILIES["vocos"].stages(model))
