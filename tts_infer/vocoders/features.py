"""Specifications of features, the input of vocoders: mels in one convention, features of other networks, codes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray
from torch import Tensor

from tts_infer.config import MelConfig
from tts_infer.dsp.checks import Extremes
from tts_infer.io.codes import as_codes, as_latents, require_latent_shape
from tts_infer.io.features import as_features, as_ragged, mel_and_range, require_mel_shape
from tts_infer.vocoders.conditions import Condition

Features = Tensor | NDArray[Any]


class FeatureSpec(Protocol):
    """The interface of all kinds of features.

    Attributes:
        name: name of the tensor that the stages take.
        sample_rate, hop_length: samples per second, and samples per frame.
        n_channels: C, the number of values in a frame.
        conditions: numbers that must be given besides the features.
    """

    @property
    def name(self) -> str: ...
    @property
    def sample_rate(self) -> int: ...
    @property
    def hop_length(self) -> int: ...
    @property
    def n_channels(self) -> int: ...
    @property
    def conditions(self) -> tuple[Condition, ...]: ...

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

    def require_shape(self, shape: Sequence[int]) -> None:
        """Refuse features of another shape, as `check` does."""
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
    """Log-mels of one convention.

    Attributes:
        rate: samples of audio for each sample of the convention: 2 where a mel of 24 kHz becomes audio of 48 kHz.
    """

    config: MelConfig
    conditions: tuple[Condition, ...] = ()
    rate: int = 1

    name = "mel"

    @property
    def sample_rate(self) -> int:
        return self.rate * self.config.sample_rate

    @property
    def hop_length(self) -> int:
        return self.rate * self.config.hop_length

    @property
    def n_channels(self) -> int:
        return self.config.n_mels

    def check(self, features: Features, piece: bool = False) -> Tensor:
        return as_features(features, self.config.n_mels, piece)

    def checked_range(self, features: Features) -> tuple[Tensor, Extremes]:
        """`check` of whole signals, and the lowest and the largest value."""
        return mel_and_range(features, self.config.n_mels)

    def require_shape(self, shape: Sequence[int]) -> None:
        require_mel_shape(shape, self.config.n_mels)

    def check_ragged(self, features: Features | Sequence[Features], lengths: Any) -> tuple[Tensor, list[int]]:
        return as_ragged(features, lengths, self.config.n_mels)


@dataclass(frozen=True)
class LatentSpec:
    """Features that another network makes: hidden frames, or the sum of code vectors."""

    sample_rate: int
    hop_length: int
    n_channels: int
    conditions: tuple[Condition, ...] = ()

    name = "features"

    def check(self, features: Features, piece: bool = False) -> Tensor:
        return as_latents(features, self.n_channels, piece)

    def require_shape(self, shape: Sequence[int]) -> None:
        require_latent_shape(shape, self.n_channels)

    def check_ragged(self, features: Features | Sequence[Features], lengths: Any) -> tuple[Tensor, list[int]]:
        return as_ragged(features, lengths, self.n_channels, as_latents)


@dataclass(frozen=True)
class CodesSpec(LatentSpec):
    """Features that are the sum of one vector for each of K codes a frame.

    Attributes:
        codebooks: the most codes a frame.
        bins: vectors to choose from in a codebook.
    """

    codebooks: int = 1
    bins: int = 1024

    def check_codes(self, codes: Features) -> Tensor:
        """Codes as the stages take them. Shape: (K, L) or (K, B, L) -> (B, K, L), int64"""
        return as_codes(codes, self.codebooks, self.bins)

    def conditions_of(self, codes: int) -> dict[str, int]:
        """What the number of codes a frame says about the conditions."""
        return {}
