"""Stages: what a vocoder is a list of.

A stage takes named tensors and gives named tensors: the backbone of Vocos takes "mel" and gives "hidden". A stage keeps
nothing itself. What a stream must remember between two pieces is its state, a dict of tensors that goes in and comes
out. So one stage serves many streams, a state can be copied and stored, and a compiled graph can take it as inputs.

    whole signal      outputs, _     = stage(inputs)
    several lengths   outputs, _     = stage(inputs, valid=mask)
    piece of a stream outputs, state = stage(inputs, state, final=False)
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Hashable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from tts_infer.config import DTypeName
from tts_infer.devices import CPU

State = dict[str, Any]  # tensors, and plain numbers such as how many frames came before
Tensors = tuple[Tensor, ...]
S = TypeVar("S", bound="Stage")

# Frames, over the whole batch, that a stage is given at once. More brings no speed and costs memory.
PIECE_FRAMES = 4096
# The self-test's input: half a second, two items, since batches have been wrong where single items were right.
PROBE_BATCH, PROBE_FRAMES = 2, 24

# Largest difference of a stage from the CPU in float32, relative to the largest value there. float32 leaves room for
# TF32, which cuDNN uses for convolutions unless told otherwise (10 bits: 3e-4); a wrong kernel is off by 0.1 and more.
# The half precisions have 8 and 11 bits.
TOLERANCE: dict[DTypeName, float] = {"float32": 2e-3, "bfloat16": 5e-2, "float16": 1e-2}


def wave(*shape: int) -> Tensor:
    """Values between -1 and 1 without a pattern, the same on every machine: sin(n^2), n^2 reduced as an integer."""
    n = torch.arange(math.prod(shape), dtype=torch.int64, device=CPU)
    return torch.sin((n * n % 99991).float()).reshape(shape)


@dataclass(frozen=True)
class Stage(ABC):
    """One step of a vocoder.

    Attributes:
        name: what users call it, in placements and reports.
        module: what computes. An engine replaces it by something that computes the same by other means.
        takes, gives: names of the tensors that go in and come out.
        half: whether its matrix products may run in half precision. Spectral stages always run in float32.
        autocast: the precision that torch is told to compute in. Engines set it.
        method: the algorithm, for stages that have several.
        passes: how often a repeated stage runs; None for a stage that always runs once. With 0 it is left out.
        follows: name of the stage whose placement is used where this one is not placed by name.
        max_frames: frames, over the whole batch, that it should be given at once.
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

    methods: ClassVar[tuple[str, ...]] = ()  # to choose from

    @property
    def delay_frames(self) -> int:
        """Frames by which a stream's output is later than its input."""
        return 0

    @property
    def receptive_field(self) -> int:
        """Frames on each side that one frame of the output depends on, where `lookahead` can be less; else 0."""
        return 0

    @property
    def signature(self) -> Hashable:
        """Equal for stages that compute the same apart from their weights: one self-test serves them all."""
        return type(self).__name__, self.name, repr(self.module), self.method, self.passes

    @property
    def failure(self) -> str | None:
        """Why the stage no longer runs by the means of its engine; None as long as it does."""
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
            state: None for a whole signal; else what the call before returned, or `initial_state`. It is not changed.
            valid: for several lengths in one batch: 1.0 where a frame belongs to its item, else 0.0, of (B, L, 1).
            final: whether the signal ends with this piece. The answer then holds everything that is left.

        Returns:
            The tensors that `gives` names, and the new state.
        """

    @abstractmethod
    def probe(self) -> Tensors:
        """An input for the self-test: full-band, each item different, of the size that it has in a vocoder."""

    @property
    def frame_axis(self) -> int:
        """The axis of its first input along which frames follow each other."""
        return 2

    @property
    def probe_size(self) -> tuple[int, int]:
        """Items and frames of the probe."""
        return PROBE_BATCH, PROBE_FRAMES

    def by(self: S, method: str) -> S:
        """The same stage by another of its `methods`."""
        assert method == self.method, f"{self.name} has no methods to choose from"
        return self

    def using(self: S, module: Any, autocast: DTypeName = "float32") -> S:
        """The same stage, computed by another module."""
        return replace(self, module=module, autocast=autocast)

    def with_lookahead(self: S, frames: int) -> S:
        """The same stage, waiting for fewer frames than its receptive field. Only for stages that have one."""
        raise NotImplementedError(f"{self.name} has no lookahead")


def relative_error(got: Tensor | Tensors, expected: Tensor | Tensors) -> float:
    """Largest difference of one or several results, relative to the largest value of each: the measure of every proof.

    Infinite for other shapes; NaN if one is.
    """
    pairs = zip(*((x,) if isinstance(x, Tensor) else x for x in (got, expected)), strict=True)
    errors = [_relative_error(*pair) for pair in pairs]
    return math.nan if any(map(math.isnan, errors)) else max(errors)


def _relative_error(got: Tensor, expected: Tensor) -> float:
    if got.shape != expected.shape:
        return math.inf
    # silence has no peak, and is right where silence is expected
    peak = max(float(expected.abs().max()), torch.finfo(torch.float32).tiny)
    return float((got.float() - expected).abs().max()) / peak
