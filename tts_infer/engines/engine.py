"""An engine: the means by which a stage computes."""

from __future__ import annotations

from typing import Protocol

import torch

from tts_infer.config import DTypeName
from tts_infer.stages import Stage


class Engine(Protocol):
    """One entry of `ENGINES`. An engine computes what the modules compute, by other means.

    Attributes:
        automatic: whether it is chosen where nobody asked for it. The first of the table that can run a stage is
            preferred; a later one must be clearly faster.
        package: what must be installed; None: nothing. A package that is missing rules the engine out.
    """

    @property
    def automatic(self) -> bool: ...
    @property
    def package(self) -> str | None: ...

    def unsupported(self, stage: Stage, device: torch.device, dtype: DTypeName) -> str | None:
        """Why it cannot run the stage there, in one sentence; None if it can."""
        ...

    def prepare(self, stage: Stage, device: torch.device, dtype: DTypeName) -> Stage:
        """The stage by the means of this engine, its weights on the device. The caller holds the device's lock."""
        ...

    def padded_frames(self, batch: int, frames: int) -> int | None:
        """The length to which whole signals should be padded; None: as they are. Their own frames are marked then."""
        ...
