"""The interface of an engine: code that computes stages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch

from tts_infer.config import DTypeName
from tts_infer.sentences import Sentence, Several
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
        """Say in one sentence why it cannot run the stage on the device; None if it can. `Sentence`s are translated."""
        ...

    def prepare(self, stage: Stage, device: torch.device, dtype: DTypeName) -> Stage:
        """Make the stage that this engine runs, with weights on the device. The caller holds the device's lock."""
        ...

    def padded_frames(self, batch: int, frames: int) -> int | None:
        """The length to which the caller must pad whole signals, with a mask as `valid`; None: no padding."""
        ...


def not_on(engine: str, device: torch.device) -> Sentence:
    """Why an engine of the CPU runs nothing on another device."""
    text = "{engine} computes on the CPU, not on {device}"
    return Sentence(text, code="engine-elsewhere", engine=engine, device=device)


def not_in(engine: str, dtypes: Sequence[DTypeName], dtype: DTypeName) -> Sentence:
    """Why an engine of few precisions runs nothing in another one."""
    text = "{engine} computes in {dtypes: and }, not in {dtype}"
    return Sentence(text, code="engine-dtype", engine=engine, dtypes=Several(dtypes), dtype=dtype)
