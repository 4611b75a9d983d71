"""Specifications of features, the input of vocoders. Mels in one convention are the only kind so far."""

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
    """The interface of all kinds of features.

    Attributes:
        name: name of the tensor that the stages take.
        sample_rate, hop_length: samples per second, and samples per frame.
        n_channels: C, the number of values in a frame.
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
        """Check features of one length, and return them as the stages take them.

        Args:
            features: what the user gave.
            piece: whether they are a piece of a stream, which may have no frames.

        Shape: (B, C, L) or (C, L) -> (B, C, L)
        Raises:
            InputError, InputTypeError: shape, values or type are wrong.
        """
        ...

    def check_ragged(self, features: Any, lengths: Any) -> tuple[Tensor, list[int]]:
        """Check features of several lengths, and return them as one padded batch with the length of each item.

        Args:
            features: a padded batch, or a list of items.
            lengths: frames of each item of a padded batch; None for a list.

        Shape: (B, C, L), or a list of (C, L) -> (B, C, L) and B numbers
        Raises:
            InputError, InputTypeError: shape, values, type or lengths are wrong.
        """
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
