"""Stages that compute whole signals only: other software, and what iterates over a whole signal."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tts_infer.devices import CPU
from tts_infer.stages import PROBE_BATCH, PROBE_FRAMES, Stage, State, Tensors, wave

_UNTIL_THE_END = 2**40  # frames: longer than any signal


@dataclass(frozen=True)
class WholeSignal(Stage):
    """A function of whole signals. A stream keeps all of its input and computes it at the end, so memory grows.

    Args:
        channels: sizes of the input between its batch and its time.
        made: sizes of the output between its batch and its time.
        step: values of the input along time for each frame.

    Shape: (B, *channels, L * step) -> (B, *made, T)
    """

    channels: tuple[int, ...] = ()
    made: tuple[int, ...] = ()
    step: int = 1

    @property
    def delay_frames(self) -> int:
        """More than any signal has: workers must not cut it."""
        return _UNTIL_THE_END

    def initial_state(self, batch: int, device: torch.device = CPU) -> State:
        return {"input": torch.zeros(batch, *self.channels, 0, dtype=torch.float32, device=device)}

    def __call__(
        self, inputs: Tensors, state: State | None = None, *, valid: Tensor | None = None, final: bool = True
    ) -> tuple[Tensors, State]:
        (x,) = inputs
        if state is None:
            return (self.module(x) if valid is None else self._one_by_one(x, valid),), {}
        known = torch.cat([state["input"], x], dim=-1)
        if not final:
            return (x.new_zeros(x.shape[0], *self.made, 0),), {"input": known}
        return (self.module(known),), {"input": known[..., :0]}

    def _one_by_one(self, x: Tensor, valid: Tensor) -> Tensor:
        """Items of several lengths, so that none sees another's padding."""
        made = [
            self.module(item[None, ..., : int(marks.sum()) * self.step])[0]
            for item, marks in zip(x, valid, strict=True)
        ]
        out = x.new_zeros(len(made), *self.made, max(one.shape[-1] for one in made))
        for row, one in zip(out, made, strict=True):
            row[..., : one.shape[-1]] = one
        return out

    def probe(self) -> Tensors:
        return (wave(PROBE_BATCH, *self.channels, PROBE_FRAMES * self.step),)
