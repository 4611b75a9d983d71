"""`vocos.Vocos`: `from tts_infer.integrations.vocos import Vocos` replaces `from vocos import Vocos`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor, nn

from tts_infer.integrations.module import FeatureExtractor, VocoderModule
from tts_infer.loading import load_vocoder
from tts_infer.runtime.placement import make_placement
from tts_infer.vocoder import Number, Vocoder
from tts_infer.vocoders import FAMILIES
from tts_infer.vocoders.family import read_config
from tts_infer.vocoders.vocos import CONDITION

V = TypeVar("V", bound="Vocos")


class Vocos(VocoderModule):
    """What programs use of `vocos.Vocos`, computed by a `Vocoder`: `Vocos(tts_infer.load_vocoder(...))`.

    `bandwidth_id` chooses the norms of a vocoder with several. Others pass it over, as the official class does.

    Source: vocos/pretrained.py Vocos.
    """

    feature_extractor: FeatureExtractor  # these three are there if the family's models have them
    backbone: nn.Module
    head: Any

    @classmethod
    def from_pretrained(
        cls: type[V],
        repo_id: str | os.PathLike[str],
        revision: str | None = None,
        *,
        config: str | os.PathLike[str] | None = None,
    ) -> V:
        """Load a vocoder, onto the CPU.

        Args:
            repo_id: a Hub id, or anything else that `load_vocoder` takes.
            revision, config: see `load_vocoder`.

        Raises:
            VocoderNotFoundError, ConfigError, CheckpointError: see `load_vocoder`.
        """
        return cls(load_vocoder(repo_id, device="cpu", revision=revision, config=config))

    @classmethod
    def from_hparams(cls: type[V], config_path: str | os.PathLike[str]) -> V:
        """Build a vocoder with random weights, on the CPU; `load_state_dict` gives it others.

        Args:
            config_path: a config.yaml of the official package. Classes that it names are looked up, never imported.

        Raises:
            ConfigError: the configuration cannot be used.
        """
        family, config = read_config(Path(config_path), FAMILIES.values())
        model = family.build(config)
        placement = make_placement(device="cpu", stages=family.stages(model))
        return cls(Vocoder(model, placement, os.fspath(config_path)))

    def codes_to_features(self, codes: Tensor) -> Tensor:
        """See `Vocoder.codes_to_features`. Shape: (K, L) or (K, B, L) -> (B, C, L)"""
        return self.vocoder.codes_to_features(codes)

    def decode(self, features_input: Tensor, bandwidth_id: Number | None = None) -> Tensor:
        """See `Vocoder.decode`. Shape: (B, C, L) or (C, L) -> (B, T)"""
        return self.vocoder.decode(features_input, **self._conditions(bandwidth_id))

    def forward(self, audio_input: Tensor, bandwidth_id: Number | None = None) -> Tensor:
        """Copy audio, see `Vocoder.__call__`. Shape: (B, T) or (T,) -> (B, T')"""
        return self.vocoder(audio_input, **self._conditions(bandwidth_id))

    def _conditions(self, bandwidth_id: Number | None) -> dict[str, Any]:
        taken = any(one.name == CONDITION for one in self.vocoder.features.conditions)
        return {CONDITION: bandwidth_id} if taken and bandwidth_id is not None else {}
