"""Families of vocoders, and how their checkpoints are read. A family is one file here, and one line in `FAMILIES`."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import nn

from tts_infer.config import MelConfig
from tts_infer.errors import ConfigError
from tts_infer.stages import Stage
from tts_infer.vocoders.bigvgan import BigVGANFamily
from tts_infer.vocoders.encodec import EncodecFamily
from tts_infer.vocoders.family import Family
from tts_infer.vocoders.features import MelSpec
from tts_infer.vocoders.graph import GraphFamily
from tts_infer.vocoders.griffin_lim import GriffinLim, GriffinLimFamily
from tts_infer.vocoders.hifigan import HiFiGANFamily
from tts_infer.vocoders.luxtts import LuxTTSFamily
from tts_infer.vocoders.reference import OfficialFamily, OfficialVocos
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
    "official": OfficialFamily(),
    "griffin-lim": GriffinLimFamily(),
}

# What decodes the same mels in the place of a model, by the name that users give as an engine.
PEERS: dict[str, Callable[[Any, MelConfig], nn.Module]] = {
    "vocos": OfficialVocos.in_place_of,
    "griffin-lim": GriffinLim.in_place_of,
}


def family_of(model: nn.Module) -> Family:
    """The family that a model belongs to."""
    return next(family for family in FAMILIES.values() if type(model) is family.model)


def peer_of(name: str, model: nn.Module) -> nn.Module:
    """The model of a peer that decodes the mels of this model.

    Args:
        name: a key of `PEERS`.
        model: whose mel convention, and if the peer has weights, whose weights it takes.

    Raises:
        ConfigError: the model takes no mels, or the peer cannot take its place.
        MissingPackageError: the peer is not installed.
    """
    features = family_of(model).features(model.config)
    if not isinstance(features, MelSpec):
        text = "engine {name!r} decodes mels, and this vocoder takes {features}; use another engine"
        raise ConfigError(text, code="peer-features", name=name, features=features.name)
    return PEERS[name](model, features.config).eval().requires_grad_(False)


@cache
def usual_stages() -> tuple[Stage, ...]:
    """The stages of the most common vocoder, without weights: to choose a placement before a vocoder is loaded."""
    with torch.device("meta"):
        model = Vocos(VocoderConfig(backbone=BackboneConfig(num_layers=2)), "fft")  # further layers are the same
    return tuple(FAMILIES["vocos"].stages(model))
