"""The interface of a front end: from a text to the features that a vocoder decodes, or to audio.

A text is read part by part: a sentence, or a piece of one that is too long. Each part is a tensor, which the stages of
the front end turn into features or audio. Stages are placed, timed and audited like those of a vocoder.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from tts_infer.stages import Stage
from tts_infer.vocoders.features import FeatureSpec


@dataclass(frozen=True)
class Voice:
    """A voice that a front end has.

    Attributes:
        name: how users call it.
        language: tag such as "en-US".
        about: who or what it is, in a few words.
        license: of its weights.
        download_mb: size of what must be downloaded for it; 0: it is in the package of the front end.
        from_recording: the name stands for the path of a recording.
    """

    name: str
    language: str
    about: str
    license: str
    download_mb: float = 0.0
    from_recording: bool = False


@dataclass(frozen=True)
class AudioSpec:
    """What a front end gives that makes audio by its own stages."""

    sample_rate: int

    name = "audio"


@dataclass(frozen=True)
class Part:
    """A part of a text.

    Attributes:
        tensor: what the stages take, of a batch of one; None: there is nothing to say.
        left_out: words and symbols that the front end cannot read.
    """

    tensor: Tensor | None
    left_out: tuple[str, ...] = ()


class LoadedVoice(Protocol):
    """A voice, ready to speak.

    Attributes:
        gives: what the last stage gives.
        takes: name of the tensor that a part is.
        stages: from the tensor of a part to what it gives. They may also take "speed", a factor of (1,), and "seed", a
            whole number of (1,). Their state lasts from part to part.
        reading: name and library of `read`, for the stage report.
    """

    @property
    def gives(self) -> AudioSpec | FeatureSpec: ...
    @property
    def takes(self) -> str: ...
    @property
    def stages(self) -> Sequence[Stage]: ...
    @property
    def reading(self) -> tuple[str, str]: ...

    def read(self, text: str) -> Iterator[Part]:
        """The parts of a text, in order, each when it is asked for.

        Raises:
            InputError: a part that cannot be read.
        """
        ...


class FrontEnd(Protocol):
    """One entry of `FRONTENDS`.

    Attributes:
        package: the package that it needs.
        voices: what it can speak with; the first is the default. Known without the package.
    """

    @property
    def package(self) -> str: ...
    @property
    def voices(self) -> tuple[Voice, ...]: ...

    def load(self, voice: str) -> LoadedVoice:
        """Load one of `voices`. Nothing is downloaded.

        Raises:
            MissingPackageError: the package is not installed.
            VoiceNotFoundError: the voice must be downloaded first. The message says how, its size and its licence.
        """
        ...
