"""A vocoder is a list of stages. This file defines what a stage is.

A stage takes named tensors and gives named tensors: the backbone of Vocos takes "mel" and gives "hidden". A stage
remembers nothing. What a stream needs between two pieces is its state: a dict of tensors that goes in and comes out. So
one stage serves many streams, a state can be copied and stored, and a compiled graph can take it as inputs.

    whole signal      outputs, _     = stage(inputs)
    several lengths   outputs, _     = stage(inputs, valid=mask)
    piece of a stream outputs, state = stage(inputs, state, final=False)
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from tts_infer.config import DTypeName
from tts_infer.devices import CPU

State = dict[str, Any]  # tensors, and plain numbers such as how many frames came before
Tensors = tuple[Tensor, ...]
S = TypeVar("S", bound="Stage")

# Frames, summed over the batch, that a stage computes at once. More frames need more memory and are no faster.
PIECE_FRAMES = 4096
# Size of the self-test's input. Two items, because some devices were wrong for batches and right for single items.
PROBE_BATCH, PROBE_FRAMES = 2, 24

# Largest allowed difference from the CPU in float32, relative to the largest value there. The limit of float32 allows
# for TF32, which cuDNN uses for convolutions by default (10 bits: 3e-4); a wrong kernel differs by 0.1 or more.
# bfloat16 has 8 bits, float16 has 11.
TOLERANCE: dict[DTypeName, float] = {"float32": 2e-3, "bfloat16": 5e-2, "float16": 1e-2}


def wave(*shape: int, first: int = 0) -> Tensor:
    """A test signal between -1 and 1, the same on every machine: sin(n^2 mod 99991) for n from `first`.

    It repeats no pattern.
    """
    n = torch.arange(first, first + math.prod(shape), dtype=torch.int64, device=CPU)
    return torch.sin((n * n % 99991).float()).reshape(shape)


@dataclass(frozen=True)
class GraphFile:
    """The module of a stage whose weights come as a finished ONNX graph. Only some engines read it."""

    path: Path


@dataclass(frozen=True)
class Stage(ABC):
    """One step of a vocoder.

    Attributes:
        name: what users call it, in placements and reports.
        module: computes the stage. An engine may replace it by other code that computes the same.
        takes, gives: names of the tensors that go in and come out.
        half: whether its matrix products may run in half precision. Spectral stages always run in float32.
        autocast: the precision for torch's autocast. Engines set it.
        method: the algorithm, for stages that have several.
        passes: how often a repeated stage runs; None for a stage that always runs once. With 0 it is skipped.
        follows: name of the stage whose place it takes, if the placement does not name this stage.
        max_frames: frames, summed over the batch, that it computes at once.
    """

    name: str
    module: Any
    takes: tuple[str, ...]
    gives: tuple[str, ...]
    half: bool = field(default=False, kw_only=True)
    autocast: DTypeName = field(default="float32", kw_only=True)
    method: str = field(default="", kw_only=True)
    passes: int | None = field(default=None, kw_only=True)
    follows: str | None = field(default=None, kw_only=True)
    max_frames: int = field(default=PIECE_FRAMES, kw_only=True)

    methods: ClassVar[tuple[str, ...]] = ()  # the algorithms to choose from
    whole: ClassVar[bool] = False  # every frame depends on the whole signal: there are no pieces and no streams
    engines: ClassVar[tuple[str, ...]] = ()  # the only engines that can run it; none: any

    @property
    def delay_frames(self) -> int:
        """Frames by which a stream's output is later than its input."""
        return 0

    @property
    def receptive_field(self) -> int:
        """For stages with a lookahead: frames on each side that one output frame depends on. Else 0."""
        return 0

    @property
    def rate(self) -> int:
        """Frames that it gives for each that it takes."""
        return 1

    @property
    def signature(self) -> Hashable:
        """Equal for stages that differ only in their weights. They share one self-test."""
        return type(self).__name__, self.name, repr(self.module), self.method, self.passes

    @property
    def failure(self) -> str | None:
        """Why the engine no longer runs the stage, so that torch does; None as long as the engine runs it."""
        return None

    def initial_state(self, batch: int, device: torch.device = CPU) -> State:
        """The state before the first piece of a stream."""
        return {}

    @abstractmethod
    def __call__(
        self, inputs: Tensors, state: State | None = None, *, valid: Tensor | None = None, final: bool = True
    ) -> tuple[Tensors, State]:
        """Compute a whole signal, or the next piece of a stream.

        Args:
            inputs: the tensors that `takes` names. Pieces may have no frames.
            state: None for a whole signal. For a piece: the state that the last call returned, or `initial_state`. It
                is not changed.
            valid: for several lengths in one batch: 1.0 where a frame belongs to its item, else 0.0, of (B, L, 1).
            final: whether the signal ends with this piece. The output then includes all remaining frames.

        Returns:
            The tensors that `gives` names, and the new state.
        """

    @abstractmethod
    def probe(self) -> Tensors:
        """An input for the self-test: full-band, with different items, and with the channels of the vocoder."""

    def marks(self, valid: Tensor) -> Tensor:
        """`valid` as the next stage takes it: other marks after a stage that changes the number of frames."""
        return valid

    @property
    def frame_axis(self) -> int:
        """The axis of the first input that counts frames."""
        return 2

    @property
    def probe_size(self) -> tuple[int, int]:
        """Items and frames of the probe."""
        return PROBE_BATCH, PROBE_FRAMES

    def by(self: S, method: str) -> S:
        """The same stage with another of its `methods`."""
        assert method == self.method, f"{self.name} has no methods to choose from"
        return self

    def using(self: S, module: Any, autocast: DTypeName = "float32") -> S:
        """The same stage with another module."""
        return replace(self, module=module, autocast=autocast)

    def with_lookahead(self: S, frames: int) -> S:
        """The same stage, waiting for fewer frames than its receptive field. Only for stages with a lookahead."""
        raise NotImplementedError(f"{self.name} has no lookahead")


def total_frames(stages: Iterable[Stage], count: Callable[[Stage], int]) -> int:
    """A number of frames of each stage, summed as frames of the first stage's input and rounded up."""
    total, rate = Fraction(0), 1
    for stage in stages:
        total += Fraction(count(stage), rate)
        rate *= stage.rate
    return math.ceil(total)


def relative_error(got: Tensor | Tensors, expected: Tensor | Tensors) -> float:
    """Largest difference of tensors, relative to the largest expected value. Every check of an engine uses it.

    Args:
        got, expected: a tensor, or several; of several, the largest error counts, each relative to its own peak.

    Returns:
        The error; infinite if shapes differ, NaN if a value is NaN.
    """
    pairs = zip(*((x,) if isinstance(x, Tensor) else x for x in (got, expected)), strict=True)
    errors = [_relative_error(*pair) for pair in pairs]
    return math.nan if any(map(math.isnan, errors)) else max(errors)


def _relative_error(got: Tensor, expected: Tensor) -> float:
    if got.shape != expected.shape:
        return math.inf
    # silence has a peak of 0: avoid dividing by it, so that silence equals silence
    peak = max(float(expected.abs().max()), torch.finfo(torch.float32).tiny)
    return float((got.float() - expected).abs().max()) / peak
