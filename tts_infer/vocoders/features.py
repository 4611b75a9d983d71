"""What a vocoder decodes: a mel in one convention, or codes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray
from torch import Tensor

from tts_infer.config import MelConfig
from tts_infer.io.features import as_features, as_ragged

Features = Tensor | NDArray[Any]


class FeatureSpec(Protocol):
    """What every kind of feature says of itself.

    Attributes:
        name: of the tensor that the stages take.
        sample_rate, hop_length: samples a second, and samples a frame.
        n_channels: rows of a frame.
    """

    @property
    def name(self) -> str: ...
    @property
    def sample_rate(self) -> int: ...
    @property
    def hop_length(self) -> int: ...
    @property
    def n_channels(self) -> int: ...

    def check(self, features: Features, piece: bool = False) -> Tensor:
        """Features of one length as the stages take them. Shape: (B, C, L) or (C, L) -> (B, C, L)"""
        ...

    def check_ragged(self, features: Any, lengths: Any) -> tuple[Tensor, list[int]]:
        """Features of several lengths as one padded batch, and the length of each item."""
        ...


@dataclass(frozen=True)
class MelSpec:
    """Log-mels of one convention."""

    config: MelConfig

    name = "mel"

    @property
    def sample_rate(self) -> int:
        return self.config.sample_rate

    @property
    def hop_length(self) -> int:
        return self.config.hop_length

    @property
    def n_channels(self) -> int:
        return self.config.n_mels

    def check(self, features: Features, piece: bool = False) -> Tensor:
        return as_features(features, self.config.n_mels, piece)

    def check_ragged(self, features: Features | Sequence[Features], lengths: Any) -> tuple[Tensor, list[int]]:
        return as_ragged(features, lengths, self.config.n_mels)
