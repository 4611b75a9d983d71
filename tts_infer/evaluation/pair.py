"""An original and its copy: what the measures look at, each part computed once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from tts_infer.config import MelConfig
from tts_infer.errors import MissingPackageError
from tts_infer.evaluation.dnsmos import Opinions, dnsmos_p835
from tts_infer.evaluation.metrics import PERCEPTUAL_RATE, Samples
from tts_infer.evaluation.pitch import PitchTrack, PitchTracker, track_pitch
from tts_infer.io.audio import AudioClip, resample


class Signal:
    """A signal. What several measures need of it is computed once.

    Shape: samples of (T,)
    """

    def __init__(self, samples: Samples, sample_rate: int, tracker: PitchTracker) -> None:
        self.samples = samples
        self.sample_rate = sample_rate
        self._tracker = tracker

    @cached_property
    def at_16k(self) -> Samples:
        if not len(self.samples):
            return self.samples
        return resample(AudioClip(self.samples, self.sample_rate), PERCEPTUAL_RATE).samples

    @cached_property
    def track(self) -> PitchTrack:
        if self._tracker == "none":
            raise MissingPackageError("no pitch tracker was asked for", code="no-pitch-tracker")
        return track_pitch(self.at_16k, self._tracker)

    @cached_property
    def opinions(self) -> Opinions:
        return dnsmos_p835(self.at_16k)


@dataclass(frozen=True)
class Pair:
    """An original and its copy, at one sample rate. A copy is shorter than its original by less than a hop.

    Args:
        mels: the log-mels of both; None if the copy is too short for one frame.
        config: the convention of the mels.
        seams: samples at which the copy joins pieces; None: it is made of one piece, or nobody knows.
    """

    original: Signal
    copy: Signal
    mels: tuple[Tensor, Tensor] | None
    config: MelConfig
    seams: Sequence[int] | None = None

    @property
    def sample_rate(self) -> int:
        return self.original.sample_rate

    @cached_property
    def common(self) -> tuple[Samples, Samples]:
        """The samples that both have."""
        return _common(self.original.samples, self.copy.samples)

    @cached_property
    def common_16k(self) -> tuple[Samples, Samples]:
        """The same at 16 kHz."""
        return _common(self.original.at_16k, self.copy.at_16k)

    @property
    def tracks(self) -> tuple[PitchTrack, PitchTrack]:
        return self.original.track, self.copy.track


def _common(first: Samples, second: Samples) -> tuple[Samples, Samples]:
    samples = min(len(first), len(second))
    return first[:samples], second[:samples]
