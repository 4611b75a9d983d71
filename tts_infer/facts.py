"""What a vocoder says of itself: its stages and where they run, its features, its sizes."""

from __future__ import annotations

from typing import Any

from tts_infer.arguments import checked
from tts_infer.config import DTypeName, MelConfig
from tts_infer.errors import InputError
from tts_infer.runtime.pipeline import Pipeline
from tts_infer.runtime.placement import Placement
from tts_infer.stages import Stage
from tts_infer.vocoders.features import FeatureSpec, MelSpec


class Facts:
    """Base of `Vocoder`: everything about it that no input is needed for."""

    name: str
    _pipeline: Pipeline

    @property
    def placement(self) -> Placement:
        return self._pipeline.placement

    @property
    def dtype(self) -> DTypeName:
        return self._pipeline.dtype

    @property
    def stages(self) -> list[Stage]:
        """All stages in order: first those that make features of audio, then those that make audio of features."""
        return self._pipeline.stages

    @property
    def mel_config(self) -> MelConfig:
        """The mel convention that this vocoder was trained on.

        Raises:
            InputError: it was trained on other features.
        """
        features = self._pipeline.features
        if not isinstance(features, MelSpec):
            raise InputError(
                "vocoder {name!r} takes no mels; give it its features or codes", code="no-mels", name=self.name
            )
        return features.config

    @property
    def features(self) -> FeatureSpec:
        """What it decodes: their name, sizes and conditions."""
        return self._pipeline.features

    @property
    def sample_rate(self) -> int:
        return self._pipeline.features.sample_rate

    @property
    def hop_length(self) -> int:
        return self._pipeline.features.hop_length

    @property
    def n_mels(self) -> int:
        """Values in one frame of features."""
        return self._pipeline.features.n_channels

    @property
    def max_frames(self) -> int:
        """Frames, summed over the batch, that are decoded at once. Longer input is decoded in pieces."""
        return self._pipeline.max_frames

    @property
    def model(self) -> Any:
        """The modules as loaded. An engine may run a stage by other code than its module, see `placement`."""
        return self._pipeline.model

    @property
    def backbone(self) -> Any:
        return self.model.backbone

    @property
    def head(self) -> Any:
        """The module with `.out` and `.istft`, which the export of F5-TTS reads."""
        return self.model.head

    @checked()
    def n_samples(self, frames: int) -> int:
        """Samples of audio that `frames` give."""
        return self._pipeline.n_samples(frames)
