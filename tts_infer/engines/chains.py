"""Several stages as one function: what an engine runs as one graph, and what an export writes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from tts_infer.stages import Stage


class Chain(nn.Module):
    """Stages one after the other, for whole signals.

    Args:
        stages: in order. What they take beside what those before them give is an argument.
        takes: names of the arguments; none: that of the first stage.

    Shape: what the first stage takes -> the first of what the last stage gives
    """

    def __init__(self, stages: Sequence[Stage], takes: Sequence[str] = ()) -> None:
        super().__init__()
        self.stages, self.takes = stages, tuple(takes or stages[0].takes[:1])
        self.parts = nn.ModuleList(stage.module for stage in stages)

    def forward(self, *given: Tensor) -> Any:
        return self.results(*given)[self.stages[-1].gives[0]]

    def results(self, *given: Tensor) -> dict[str, Tensor]:
        """All tensors that the stages take and give, by name."""
        live = dict(zip(self.takes, given, strict=True))
        for stage in self.stages:
            outputs, _ = stage(tuple(live[name] for name in stage.takes))
            live.update(zip(stage.gives, outputs, strict=True))
        return live


def real_stages(stages: Sequence[Stage]) -> list[Stage]:
    """The same stages by real numbers only."""
    return [stage.by("matmul") if stage.methods else stage for stage in stages]
