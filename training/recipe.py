"""A recipe: everything that decides the result of a training, read strictly from YAML."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path

from tts_infer.config import build
from tts_infer.documents import load_yaml
from tts_infer.errors import ConfigError
from tts_infer.vocoders.vocos import VocoderConfig


@dataclass(frozen=True)
class Source:
    """A folder of audio files.

    Args:
        folder: searched with everything below it.
        share: how often segments come from it, relative to the other sources.
        made_by: the command that makes it, for the message that it is missing.
        table: made by `training.speakers`; only the files that it lists for training are taken. None: all files.
    """

    folder: str
    share: float
    made_by: str | None = None
    table: str | None = None


@dataclass(frozen=True)
class Comparisons:
    """The weight of each loss that compares two waveforms."""

    mel: float = 90.0
    low_mel: float = 0.0
    other_mels: float = 15.0
    convergence: float = 4.0
    log_magnitude: float = 4.0
    loudness: float = 150.0
    disturbance: float = 0.0
    pulses: float = 5.0


@dataclass(frozen=True)
class Weights(Comparisons):
    """The weight of each loss.

    Args:
        lookahead: of the distance of the frames that a stream gives early from those of the whole signal.
    """

    phase: float = 2.0
    consistency: float = 150.0
    lookahead: float = 0.0
    adversarial: float = 4.0
    features: float = 4.0


@dataclass(frozen=True)
class Phase:
    """A number of steps with some losses. The learning rate falls along half a cosine from one value to another.

    The export is a mean of networks: the averaged weights at the end of each phase have the weight `share`, the weights
    that training began with have `start_share`, and the averaged weights at the end of training have the rest.

    Args:
        refined_weights: for half of the items, refined; the discriminators see those refined, too. With them a step
            takes half as long again. None: nothing is refined.
    """

    steps: int
    batch: int
    learning_rate: float
    final_learning_rate: float
    adversarial: bool = False
    weights: Weights = field(default_factory=Weights)
    refined_weights: Comparisons | None = None
    share: float = 0.0


@dataclass(frozen=True)
class Recipe:
    """The vocoder to train, the audio, and the steps.

    Args:
        vocoder: sizes and mel convention, as in an official config.yaml.
        start: a directory in the official layout to continue from; None: random weights.
        start_share: weight of `start` in the mean that is exported, like the share of a phase.
        start_discriminators: a file that an earlier run exported; None: random weights. Untrained discriminators smear
            the pulses until they have caught up with the vocoder, which takes about 10,000 steps.
        sources: by name.
        phases: in order, by name.
        segment: samples.
        judged: samples of each segment that the discriminators see, the costliest part of a step.
        discriminator_width: channels; 32 suits a CPU, 64 and more a GPU.
        discriminator_rate: the discriminators' learning rate, relative to the generator's.
        warm_up: steps over which the learning rate of each phase rises.
        ema: decay per step of the averaged weights, which are exported.
        consistency_passes: passes of refinement; the consistency loss pulls towards their result.
        refined_passes: of the audio that `refined_weights` are for.
        bin_limit: of the gradients by the logarithm and the phase of each bin; None: no limit. Losses are means, so
            one limit suits one size of batch and one length of segments.
        bfloat16: autocast of the networks; spectra are always float32.
        save_minutes: between two saved states; a kill loses at most this much.
        log_steps: between two lines of the log, which hold means.
    """

    sources: dict[str, Source]
    phases: dict[str, Phase]
    vocoder: VocoderConfig = field(default_factory=VocoderConfig)
    start: str | None = None
    start_share: float = 0.0
    start_discriminators: str | None = None
    segment: int = 16384
    judged: int = 8192
    seed: int = 0
    discriminator_width: int = 32
    discriminator_rate: float = 1.0
    warm_up: int = 300
    ema: float = 0.999
    consistency_passes: int = 2
    refined_passes: int = 8
    bin_limit: float | None = None
    bfloat16: bool = True
    save_minutes: float = 1.0
    log_steps: int = 100

    def __post_init__(self) -> None:
        for name in ("sources", "phases"):
            if not getattr(self, name):
                raise ConfigError("{name} is empty; name at least one", code="recipe-section-empty", name=name)
        if self.start is None and self.start_share:
            raise ConfigError(
                "start_share is {share:g}, but there is no start; name one, or leave start_share out",
                code="start-share-without-start",
                share=self.start_share,
            )
        shares = self.start_share + sum(phase.share for phase in self.phases.values())
        if not 0 <= shares <= 1:
            raise ConfigError(
                "the shares of start and phases add up to {shares:g}; allowed: 0 to 1",
                code="shares-out-of-range",
                shares=shares,
            )

    @property
    def steps(self) -> int:
        return sum(phase.steps for phase in self.phases.values())

    @property
    def ends(self) -> dict[int, Phase]:
        """Each phase by the number of the step after which it ends."""
        return dict(zip(accumulate(phase.steps for phase in self.phases.values()), self.phases.values(), strict=True))

    def at(self, step: int) -> tuple[Phase, float]:
        """The phase of a step, and its learning rate. Steps after the end belong to the last phase."""
        phase = next(iter(self.phases.values()))
        for phase in self.phases.values():
            if step < phase.steps:
                break
            step -= phase.steps
        falling = 0.5 * (1 + math.cos(math.pi * min(1, step / phase.steps)))
        rate = phase.final_learning_rate + (phase.learning_rate - phase.final_learning_rate) * falling
        return phase, rate * min(1, (step + 1) / self.warm_up)


def read_recipe(path: Path) -> Recipe:
    """Read a recipe.

    Raises:
        ConfigError: no such file, an unknown or missing key, a wrong type, no source, no phase.
    """
    return build(Recipe, load_yaml(path), str(path))
