"""Front ends: text to features. A front end is one file here, and one line in `FRONTENDS`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from torch import Tensor

from tts_infer.vocoders.features import FeatureSpec


class FrontEnd(Protocol):
    """One entry of `FRONTENDS`: what turns text into features that a vocoder decodes.

    Attributes:
        features: what it makes. A vocoder of the same convention decodes it.
        voices: the names that `stream` takes; the first is the default.
    """

    @property
    def features(self) -> FeatureSpec: ...
    @property
    def voices(self) -> tuple[str, ...]: ...

    def stream(self, text: str, voice: str) -> Iterator[Tensor]:
        """The features of a text, piece by piece as they are made.

        Raises:
            InputError: a text without anything to say, or no such voice.

        Shape: (1, C, L) each
        """
        ...


FRONTENDS: dict[str, FrontEnd] = {}
