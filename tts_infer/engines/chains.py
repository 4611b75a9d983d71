"""Several stages as one function: what an engine runs as one graph, and what an export writes."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from tts_infer.devices import CPU, precision
from tts_infer.errors import first_sentence
from tts_infer.sentences import Sentence
from tts_infer.stages import Stage, State, Tensors, relative_error

FAILURES = (RuntimeError, NotImplementedError, TypeError)  # backends raise any of these
Decode = Callable[[Tensor], Tensor]


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
        return results(self.stages, dict(zip(self.takes, given, strict=True)))


def results(stages: Sequence[Stage], given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """All tensors that stages on the CPU take and give, by name, one stage after the other."""
    live = dict(given)
    for stage in stages:
        with precision(CPU, stage.autocast):
            outputs, _ = stage(tuple(live[name] for name in stage.takes))
        live.update(zip(stage.gives, outputs, strict=True))
    return live


def real_stages(stages: Sequence[Stage]) -> list[Stage]:
    """The same stages by real numbers only."""
    return [stage.by("matmul") if stage.methods else stage for stage in stages]


def one_by_one(stages: Sequence[Stage]) -> Decode:
    """The stages of a decode on the CPU as a function. Shape: (B, C, L) -> (B, T)"""
    return lambda features: results(stages, {stages[0].takes[0]: features})["audio"]


@dataclass(frozen=True)
class ChainStage(Stage):
    """Stages from features to audio as one, for whole signals of one length. Shape: (B, C, L) -> (B, T)"""

    whole: ClassVar[bool] = True

    @classmethod
    def of(cls, graph: GraphChain) -> ChainStage:
        """The stages of a graph."""
        first = graph.plain[0]
        return cls("+".join(stage.name for stage in graph.plain), graph, first.takes[:1], ("audio",))

    @property
    def failure(self) -> str | None:
        failure: str | None = self.module.failure
        return failure

    def __call__(
        self, inputs: Tensors, state: State | None = None, *, valid: Tensor | None = None, final: bool = True
    ) -> tuple[Tensors, State]:
        assert state is None and valid is None, "only whole signals of one length are short"
        return (self.module(*inputs),), {}

    def probe(self) -> Tensors:
        probe: Tensors = self.module.plain[0].probe()
        return probe


class GraphChain:
    """Stages as one graph, which is made by the first call, and compared with them there.

    Args:
        make: makes the graph.
        plain: the stages as modules of torch, in float32.
        usual: the stages one by one, as they run otherwise.
        tolerance: the largest allowed difference, relative to the peak.
    """

    def __init__(self, make: Callable[[], Decode], plain: Sequence[Stage], usual: Decode, tolerance: float) -> None:
        self.plain = plain
        self.failure: str | None = None  # why the graph is not used
        self._make, self._usual, self._tolerance = make, usual, tolerance
        self._decode: Decode | None = None

    def __call__(self, features: Tensor) -> Tensor:
        if self._decode is None:
            self._decode = self._made()  # two threads may make it twice, and one is kept: no lock for a fork to inherit
        return self._decode(features)

    def _made(self) -> Decode:
        """The graph if it is right on the probe, else the stages one by one."""
        features = self.plain[0].probe()[0]
        try:
            graph = self._make()
            error = relative_error(graph(features), self._usual(features))
        except FAILURES as failure:
            self.failure = first_sentence(failure)
        else:
            if error <= self._tolerance:
                return graph
            self.failure = Sentence("it differs by {error:.1e} of the peak", code="graph-differs", error=error)
        text = "short signals run stage by stage, because their graph fails: {failure}"
        warnings.warn(Sentence(text, code="short-fails", failure=self.failure), stacklevel=2)
        return self._usual
