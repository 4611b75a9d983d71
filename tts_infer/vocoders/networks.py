"""The stages of networks: three ways in which a network computes a signal in pieces, and one that has none.

Framewise       every frame by itself: no state, no delay
Convolutional   convolutions at the frame rate; a stream keeps the last inputs of each convolution
Contextual      any generator of audio; a stream computes the frames around a piece again
Whole           every frame depends on all others: no pieces, no streams
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from tts_infer.devices import CPU
from tts_infer.dsp.tiles import is_traced
from tts_infer.stages import PROBE_BATCH, PROBE_FRAMES, Stage, State, Tensors, wave

W = TypeVar("W", bound="WithContext")
WHOLE_FRAMES = 16384  # of a signal that is not cut: three minutes
HELD_FRAMES = 8  # behind a piece of a generator: those farther away have little influence, and cost as much


@dataclass(frozen=True)
class Framewise(Stage):
    """A network that makes each frame from one frame. It has no state and no delay.

    Args:
        probe_shape: shape of its input without the batch axis; one axis is `PROBE_FRAMES` long.
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
class WithContext(Stage):
    """A stage whose streams wait for the frames that an output frame depends on.

    Args:
        context: frames on each side that one output frame depends on.
        lookahead: frames to wait for; None: `context`, which is exact.
    """

    context: int = 0
    lookahead: int | None = None

    @property
    def receptive_field(self) -> int:
        return self.context

    @property
    def delay_frames(self) -> int:
        return self.context if self.lookahead is None else self.lookahead

    def with_lookahead(self: W, frames: int) -> W:
        return replace(self, lookahead=frames)

    def _held(self, features: Tensor, frames: int) -> Tensor:
        """Copies of the last frame: they stand for the next `frames` at most that a stream does not wait for.

        Zeros, as behind the end of a signal, would be loud frames in a log-mel. Shape: (B, C, L) -> (B, C, L')
        """
        return features[..., -1:].expand(-1, -1, min(frames, self.context - self.delay_frames))


@dataclass(frozen=True)
class Convolutional(WithContext):
    """A stack of convolutions at the frame rate. A stream keeps the last inputs of each, and computes no frame twice.

    The module is a function of tensors (`VocosBackbone` is the example):

        module(features, valid)           -> hidden             whole signals
        module(features, valid, history)  -> hidden, history    pieces

    What else the stage takes follows these; it belongs to the whole signal, and is the same for every piece.

    For every piece, the module gives as many frames as it gets, `context` frames late. With a `lookahead` below
    `context`, frames come earlier and are approximate: every push also computes the last frames as if the signal stayed
    there.

    Args:
        channels: channels of the input.
        kept: shape of the inputs that each convolution keeps: (frames, channels).
        hidden: channels of the output.
        context: frames on each side that one output frame depends on.
        lag: frames by which the input of the last convolution is late.
        choices: the inputs after the first are numbers below this one, which choose for each item.

    Shape: (B, C, L), numbers of (B,) or (1,) -> (B, L, H)
    """

    channels: int = 0
    kept: tuple[tuple[int, int], ...] = ()
    hidden: int = 0
    lag: int = 0
    choices: int = 1

    def initial_state(self, batch: int, device: torch.device = CPU) -> State:
        def zeros(*shape: int) -> Tensor:
            return torch.zeros(batch, *shape, dtype=torch.float32, device=device)

        history = {f"history.{i}": zeros(*shape) for i, shape in enumerate(self.kept)}
        return {"frames": 0, "valid": zeros(self.lag, 1), **history}

    def __call__(
        self, inputs: Tensors, state: State | None = None, *, valid: Tensor | None = None, final: bool = True
    ) -> tuple[Tensors, State]:
        features, *numbers = inputs
        if state is None:
            return (self.module(features, valid, None, *numbers),), {}
        batch, _, frames = features.shape
        if not (frames or final):
            return (features.new_zeros(batch, 0, self.hidden),), state
        before = state["frames"]
        given, end = max(0, before - self.delay_frames), before + frames
        due = end if final else end - self.delay_frames
        hidden, after = self._advance(features, state, final, numbers)
        if not final and due > max(given, end - self.context):
            early, _ = self._advance(self._held(features, self.context), after, False, numbers)
            hidden = torch.cat([hidden, early], dim=1)
        begin = before - self.context
        return (hidden[:, max(0, given - begin) : max(0, due - begin)],), after

    def _advance(self, features: Tensor, state: State, final: bool, numbers: Sequence[Tensor]) -> tuple[Tensor, State]:
        """Push frames through the module. At the end, `context` frames of zeros push out the frames still inside."""
        before, frames = state["frames"], features.shape[2]
        mask: Tensor | None = None
        if final or before < self.lag:  # else all frames inside belong to the signal
            mask = torch.cat([state["valid"], features.new_ones(features.shape[0], frames, 1)], dim=1)
        if final:
            features = F.pad(features, (0, self.context))
            assert mask is not None
            mask = F.pad(mask, (0, 0, 0, self.context))
        history = tuple(state[f"history.{i}"] for i in range(len(self.kept)))
        hidden, history = self.module(features, mask, history, *numbers)
        after = {f"history.{i}": frames_kept for i, frames_kept in enumerate(history)}
        recent = state["valid"] if mask is None else mask[:, mask.shape[1] - self.lag :].clone()
        return hidden, {"frames": before + frames, "valid": recent, **after}

    def probe(self) -> Tensors:
        numbers = torch.arange(PROBE_BATCH, device=CPU) % self.choices
        return (wave(PROBE_BATCH, self.channels, PROBE_FRAMES), *[numbers] * (len(self.takes) - 1))


@dataclass(frozen=True)
class Contextual(WithContext):
    """A generator of audio. A stream keeps only input frames, and computes each piece with `context` frames around it.

    It suits networks that change the sample rate inside. The pieces join exactly if `context` is at least the receptive
    field. With a `lookahead` below `context`, samples come earlier and are approximate: every piece is computed as if
    the signal stayed at its last frame for `HELD_FRAMES`, and ended then.

    Args:
        channels: channels of the input.
        hop: samples per frame.
        context: frames on each side that one sample depends on.
        trimmed: samples that the last frame lacks, at most `hop`.

    Shape: (B, C, L) -> (B, L * hop - trimmed)
    """

    channels: int = 0
    hop: int = 0
    trimmed: int = 0

    @property
    def delay_frames(self) -> int:
        return max(super().delay_frames, 1 if self.trimmed else 0)  # the last frame may be the signal's last

    def _samples(self, frames: int) -> int:
        return max(0, frames * self.hop - self.trimmed)

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
        given = max(0, state["frames"] - self.delay_frames)
        due = end if final else max(given, end - self.delay_frames)
        audio = features.new_zeros(features.shape[0], 0)
        if due > given:
            is_exact = final or self.delay_frames >= self.context
            seen = known if is_exact else torch.cat([known, self._held(known, HELD_FRAMES)], dim=2)
            audio = self._whole(seen, None)[:, (given - begin) * self.hop : (due - begin) * self.hop]
        recent = known[..., max(0, due - self.context - begin) :].clone()
        return (audio,), {"frames": end, "recent": recent}

    def _whole(self, features: Tensor, valid: Tensor | None) -> Tensor:
        """Compute whole signals. Items of several lengths run one by one, so that none sees another's padding."""
        if not is_traced() and features.shape[2] == 0:  # a graph would keep the answer as a constant
            return features.new_zeros(features.shape[0], 0)
        if valid is None:
            whole: Tensor = self.module(features)
            return whole
        audio = features.new_zeros(features.shape[0], self._samples(features.shape[2]))
        for item, row, marks in zip(features, audio, valid, strict=True):
            frames = int(marks.sum())
            row[: self._samples(frames)] = self.module(item[None, :, :frames])[0]
        return audio

    def probe(self) -> Tensors:
        return (wave(PROBE_BATCH, self.channels, PROBE_FRAMES),)


@dataclass(frozen=True)
class Whole(Stage):
    """A stage of which every frame depends on the whole signal. Items of several lengths run one by one.

    Shape: as the module; the results of shorter items are padded with zeros
    """

    max_frames: int = field(default=WHOLE_FRAMES, kw_only=True)

    whole: ClassVar[bool] = True

    def __call__(
        self, inputs: Tensors, state: State | None = None, *, valid: Tensor | None = None, final: bool = True
    ) -> tuple[Tensors, State]:
        assert state is None, "streams are refused before they begin"
        if valid is None:
            return (self.module(*inputs),), {}
        lengths = [int(marks.sum()) for marks in valid]
        made = [self.module(*self.item(inputs, i, frames))[0] for i, frames in enumerate(lengths)]
        return (pad_sequence(made, batch_first=True),), {}

    @abstractmethod
    def item(self, inputs: Tensors, index: int, frames: int) -> Tensors:
        """The inputs of one item, of so many frames, with a batch axis."""


@dataclass(frozen=True)
class WholeSignal(Whole):
    """A function of whole signals: other software, and what iterates over a signal.

    Args:
        channels: sizes of the input between its batch and its time.
        step: values of the input along time for each frame.

    Shape: (B, *channels, L * step) -> as the module
    """

    channels: tuple[int, ...] = ()
    step: int = 1

    def item(self, inputs: Tensors, index: int, frames: int) -> Tensors:
        return (inputs[0][index, None, ..., : frames * self.step],)

    def probe(self) -> Tensors:
        return (wave(PROBE_BATCH, *self.channels, PROBE_FRAMES * self.step),)
