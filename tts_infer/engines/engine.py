"""The interface of an engine: code that computes stages."""

from __future__ import annotations

from typing import Protocol

import torch

from tts_infer.config import DTypeName
from tts_infer.stages import Stage


class Engine(Protocol):
    """One entry of `ENGINES`. An engine computes the same as the modules, with other code.

    Attributes:
        automatic: whether it may be chosen although the user did not name it, see `usable_engines`.
        package: the package that it needs; None if it needs none.
        examined: whether `doctor` checks and times it here.
    """

    @property
    def automatic(self) -> bool: ...
    @property
    def package(self) -> str | None: ...
    @property
    def examined(self) -> bool: ...

    def unsupported(self, stage: Stage, device: torch.device, dtype: DTypeName) -> str | None:
        """Say in one sentence why it cannot run the stage on the device; None if it can."""
        ...

    def prepare(self, stage: Stage, device: torch.device, dtype: DTypeName) -> Stage:
        """Make the stage that this engine runs, with weights on the device. The caller holds the device's lock."""
        ...

    def padded_frames(self, batch: int, frames: int) -> int | None:
        """The length to which the caller must pad whole signals, with a mask as `valid`; None: no padding."""
        ...
