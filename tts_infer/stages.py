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
import torch.nn.functional as F
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


@dataclass(frozen=True)
class Framewise(Stage):
    """A stage that makes each frame from one frame: it has no state and no delay.

    Args:
        probe_shape: of its input, without the batch; the number of frames is `PROBE_FRAMES`.
    """

    probe_shape: tuple[int, ...] = ()

    def __call__(
        self, inputs: Tensors, state: State | None = None, *, valid: Tensor | None = None, final: bool = True
    ) -> tuple[Tensors, State]:
        outputs = self.module(*inputs)
        return outputs if isinstance(outputs, tuple) else (outputs,), {}

    @property
    def frame_axis(self) -> int:
        return 1 + self.probe_shape.index(PROBE_FRAMES)

    def probe(self) -> Tensors:
        return (wave(PROBE_BATCH, *self.probe_shape),)


@dataclass(frozen=True)
class Convolutional(Stage):
    """A stack of convolutions at the frame rate that keeps a few frames for each of them: no frame is computed twice.

    The module is a function of tensors (`VocosBackbone` is the example):

        module(features, valid)           -> hidden             whole signals
        module(features, valid, history)  -> hidden, history    pieces

    A piece answers with as many frames as it was given, `receptive_field` frames late. With less than full `lookahead`
    the frames come earlier and are approximate: at every push, the end of the signal is computed as if nothing
    followed it.

    Args:
        channels: of the input, and what each convolution keeps: (frames, channels).
        hidden: channels of the output.
        context: frames on each side that one frame of the output depends on.
        lag: frames by which the input of the last convolution is late.
        lookahead: frames to wait for; None: `context`, which is exact.

    Shape: (B, C, L) -> (B, L, H)
    """

    channels: int = 0
    kept: tuple[tuple[int, int], ...] = ()
    hidden: int = 0
    context: int = 0
    lag: int = 0
    lookahead: int | None = None

    @property
    def receptive_field(self) -> int:
        return self.context

    @property
    def delay_frames(self) -> int:
        return self.context if self.lookahead is None else self.lookahead

    def with_lookahead(self, frames: int) -> Convolutional:
        return replace(self, lookahead=frames)

    def initial_state(self, batch: int, device: torch.device = CPU) -> State:
        def zeros(*shape: int) -> Tensor:
            return torch.zeros(batch, *shape, dtype=torch.float32, device=device)

        history = {f"history.{i}": zeros(*shape) for i, shape in enumerate(self.kept)}
        return {"frames": 0, "valid": zeros(self.lag, 1), **history}

    def __call__(
        self, inputs: Tensors, state: State | None = None, *, valid: Tensor | None = None, final: bool = True
    ) -> tuple[Tensors, State]:
        (features,) = inputs
        if state is None:
            return (self.module(features, valid),), {}
        batch, _, frames = features.shape
        if not (frames or final):
            return (features.new_zeros(batch, 0, self.hidden),), state
        before = state["frames"]
        given, end = max(0, before - self.delay_frames), before + frames
        due = end if final else end - self.delay_frames
        hidden, after = self._advance(features, state, final)
        if due > before - self.context + hidden.shape[1]:
            nothing = features.new_zeros(batch, features.shape[1], 0)
            hidden = torch.cat([hidden, self._advance(nothing, after, True)[0]], dim=1)
        begin = before - self.context
        return (hidden[:, max(0, given - begin) : max(0, due - begin)],), after

    def _advance(self, features: Tensor, state: State, final: bool) -> tuple[Tensor, State]:
        """Push frames; at the end, also the `context` frames of zeros that bring out what is still inside."""
        before, frames = state["frames"], features.shape[2]
        mask: Tensor | None = None
        if final or before < self.lag:  # else every frame inside lies within the signal
            mask = torch.cat([state["valid"], features.new_ones(features.shape[0], frames, 1)], dim=1)
        if final:
            features = F.pad(features, (0, self.context))
            assert mask is not None
            mask = F.pad(mask, (0, 0, 0, self.context))
        history = tuple(state[f"history.{i}"] for i in range(len(self.kept)))
        hidden, history = self.module(features, mask, history)
        after = {f"history.{i}": frames_kept for i, frames_kept in enumerate(history)}
        recent = state["valid"] if mask is None else mask[:, mask.shape[1] - self.lag :].clone()
        return hidden, {"frames": before + frames, "valid": recent, **after}

    def probe(self) -> Tensors:
        return (wave(PROBE_BATCH, self.channels, PROBE_FRAMES),)


@dataclass(frozen=True)
class Contextual(Stage):
    """A generator of audio whose pieces are computed together with the frames around them: nothing inside is kept.

    It suits networks that change the rate inside. The pieces join exactly if `context` is at least the receptive field.

    Args:
        channels: of the input.
        hop: samples a frame.
        context: frames on each side that a sample depends on.

    Shape: (B, C, L) -> (B, L * hop)
    """

    channels: int = 0
    hop: int = 0
    context: int = 0

    @property
    def delay_frames(self) -> int:
        return self.context

    def initial_state(self, batch: int, device: torch.device = CPU) -> State:
        return {
            "frames": 0,
            "recent": torch.zeros(batch, self.channels, 0, dtype=torch.float32, device=device),
        }

    def __call__(
        self, inputs: Tensors, state: State | None = None, *, valid: Tensor | None = None, final: bool = True
    ) -> tuple[Tensors, State]:
        (features,) = inputs
        if state is None:
            return (self._whole(features, valid),), {}
        end = state["frames"] + features.shape[2]
        known = torch.cat([state["recent"], features], dim=2)
        begin = end - known.shape[2]
        given = max(0, state["frames"] - self.context)
        due = end if final else max(given, end - self.context)
        audio = features.new_zeros(features.shape[0], 0)
        if due > given:
            audio = self._whole(known, None)[:, (given - begin) * self.hop : (due - begin) * self.hop]
        recent = known[..., max(0, due - self.context - begin) :].clone()
        return (audio,), {"frames": end, "recent": recent}

    def _whole(self, features: Tensor, valid: Tensor | None) -> Tensor:
        """Items of several lengths run one by one: inside, each must end where its own frames end."""
        if features.shape[2] == 0:
            return features.new_zeros(features.shape[0], 0)
        if valid is None:
            whole: Tensor = self.module(features)
            return whole
        audio = features.new_zeros(features.shape[0], features.shape[2] * self.hop)
        for item, row, marks in zip(features, audio, valid, strict=True):
            frames = int(marks.sum())
            row[: frames * self.hop] = self.module(item[None, :, :frames])[0]
        return audio

    def probe(self) -> Tensors:
        return (wave(PROBE_BATCH, self.channels, PROBE_FRAMES),)


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
