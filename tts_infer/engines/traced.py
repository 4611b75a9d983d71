"""Networks as ONNX graphs, for the engines that run those on a CPU without torch.

A stage may be called in three ways, and each is a graph of its own: whole signals, whole signals of several lengths,
and pieces of a stream, whose state goes in and comes out as tensors. The first is made at once, the others when they
are first needed.

torch's tracing exporter makes the graphs. torch calls it the legacy one; it is used because it takes 0.1 to 0.9 s for a
backbone, where the newer one (`dynamo=True`) takes 2 to 8 s, gives no faster graph, and needs one more package. It runs
forward once on the stage's probe. Sizes that forward reads from shapes stay variable; whatever else Python computes
becomes a constant, so torch's warning of that is an error here, and the self-test runs before the graph is trusted.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from tts_infer.config import DTypeName
from tts_infer.devices import CPU
from tts_infer.engines.chains import Chain
from tts_infer.engines.engine import not_in, not_on
from tts_infer.errors import ExportError
from tts_infer.locks import ProcessLock
from tts_infer.sentences import Sentence
from tts_infer.stages import Stage, Tensors
from tts_infer.vocoders.networks import Contextual, Convolutional, Framewise

_OPSET = 17  # the first with LayerNormalization as one operator; ONNX Runtime 1.12 and later run it
# torch keeps one state of the exporter for the process. In a child that was forked meanwhile, it stays as it is.
_exporting = ProcessLock()
Axes = Mapping[int, str]  # axis -> the name of its variable length; axes of one name have one length
Session = Callable[..., Tensors]  # the forward of a traced module
MakeSession = Callable[[bytes], Session]  # of an ONNX model


class TracedEngine:
    """Base of the entries of `ENGINES` that run ONNX graphs.

    Attributes:
        shortens: whether `auto` may choose it for short whole signals, all stages as one graph.
        title: what people call the library.
        dtypes: of the matrix products.
    """

    automatic = True
    shortens: ClassVar[bool] = True
    examined = True
    package: str
    title: ClassVar[str]
    dtypes: ClassVar[tuple[DTypeName, ...]] = ("float32",)

    def unsupported(self, stage: Stage, device: torch.device, dtype: DTypeName) -> str | None:
        if device != CPU:
            return not_on(self.title, device)
        if not isinstance(stage, Convolutional | Framewise | Contextual):
            text = "{engine} runs networks, and {stage} is none"
            return Sentence(text, code="engine-networks", engine=self.title, stage=stage.name)
        if dtype not in self.dtypes:
            return not_in(self.title, self.dtypes, dtype)
        if find_spec("onnx") is None:
            return Sentence("the package onnx, which writes graphs, is not installed", code="onnx-missing")
        return None

    def prepare(self, stage: Stage, device: torch.device, dtype: DTypeName) -> Stage:
        graphs = GraphModule(stage.using(stage.module.to(device)), self.maker(dtype))
        graphs.session("whole")  # now, not in the first decode
        return stage.using(graphs)

    def maker(self, dtype: DTypeName) -> MakeSession:
        """What makes a session of an ONNX model; see `export`.

        Args:
            dtype: of the matrix products.
        """
        raise NotImplementedError

    def padded_frames(self, batch: int, frames: int) -> int | None:
        return None


class GraphModule:
    """The module of a stage as graphs; it takes and gives what the module does.

    Args:
        stage: with a module whose forward is a function of tensors.
        make: makes a session of a graph.
    """

    def __init__(self, stage: Stage, make: MakeSession) -> None:
        self._stage, self._make, self._sessions = stage, make, dict[str, Session]()
        self._making = ProcessLock()

    def __call__(self, x: Tensor, valid: Tensor | None = None, history: Tensors | None = None, *numbers: Tensor) -> Any:
        stage = self._stage
        if history is not None:
            if valid is None:  # one graph for all pieces: those at the borders of a signal need marks
                lag = stage.initial_state(1)["valid"].shape[1]
                valid = x.new_ones(x.shape[0], lag + x.shape[stage.frame_axis], 1)
            hidden, *kept = self.session("piece")(x, *numbers, valid, *history)
            return hidden, tuple(kept)
        results = self.session("whole")(x, *numbers) if valid is None else self.session("ragged")(x, *numbers, valid)
        return results[0] if len(results) == 1 else results

    def session(self, kind: str) -> Session:
        """The graph of one way to call the stage: whole, ragged or piece."""
        with self._making:
            if kind not in self._sessions:
                self._sessions[kind] = self._made(kind)
            return self._sessions[kind]

    def _made(self, kind: str) -> Session:
        stage = self._stage
        probe, *numbers = stage.probe()
        batch, frames = stage.probe_size
        inputs, axes = {"x": probe}, {"x": {0: "B", stage.frame_axis: "L"}}
        inputs |= zip(stage.takes[1:], numbers, strict=True)
        axes |= {name: {0: "choices"} for name in stage.takes[1:]}  # one for each item, or one for all
        if kind == "ragged":
            inputs["valid"] = probe.new_ones(batch, frames, 1)
            axes["valid"] = {0: "B", 1: "L"}
        if kind == "piece":
            state = stage.initial_state(batch)
            marks = state.pop("valid")
            inputs["valid"] = probe.new_ones(batch, marks.shape[1] + frames, 1)
            axes["valid"] = {0: "B", 1: "marks"}
            inputs |= {name: value for name, value in state.items() if isinstance(value, Tensor)}
            axes |= {name: {0: "B"} for name in inputs if name not in axes}
        module = _Flat(stage.module, len(numbers), kind).eval()
        return self._make(export(module, inputs, axes))


class _Flat(nn.Module):
    """A module whose history is single arguments and results, as graphs have them.

    Args:
        module: of a stage.
        numbers: how many inputs besides the features it takes; they come first.
        kind: "whole", "ragged" or "piece".
    """

    def __init__(self, module: nn.Module, numbers: int, kind: str) -> None:
        super().__init__()
        self.module, self.numbers, self.kind = module, numbers, kind

    def forward(self, x: Tensor, *inputs: Tensor) -> Any:
        numbers, rest = inputs[: self.numbers], inputs[self.numbers :]
        if self.kind == "piece":
            hidden, history = self.module(x, rest[0], rest[1:], *numbers)
            return (hidden, *history)
        if not numbers:
            return self.module(x, *rest)
        return self.module(x, rest[0] if rest else None, None, *numbers)


def export_chain(stages: Sequence[Stage]) -> bytes:
    """Trace stages into one ONNX model, from what the first takes to what the last gives.

    Raises:
        RuntimeError: see `export`.
    """
    x = stages[0].probe()[0]
    return export(Chain(stages).eval(), {"x": x}, {"x": {0: "B", stages[0].frame_axis: "L"}})


def export(
    module: nn.Module, inputs: Mapping[str, Tensor], axes: Mapping[str, Axes], outputs: Sequence[str] = ()
) -> bytes:
    """Trace a module's forward into an ONNX model.

    Args:
        module: in evaluation mode, on the CPU. It gives one tensor or a tuple of them.
        inputs: an example of each argument of forward, in order, by the name it has in the graph.
        axes: the variable axes of each input, and of outputs. In the examples they must be longer than 1.
        outputs: names of the results; none: torch names them.

    Raises:
        RuntimeError: ONNX lacks an operator of the module, or the graph would be right for the example only.
        ExportError: the process was forked while its parent exported.
    """
    if _exporting.was_taken:
        text = (
            "this process was forked while its parent made a graph, so it can make none; fork before decodes, or spawn"
        )
        raise ExportError(text, code="forked-while-exporting")
    buffer, logger = io.BytesIO(), logging.getLogger("torch.onnx")
    level = logger.level
    with _exporting, warnings.catch_warnings(record=True) as caught, torch.no_grad(), torch.device(CPU):
        warnings.simplefilter("always")  # recorded, not raised: the tracer turns a raised warning into a SystemError
        logger.setLevel(logging.ERROR)
        try:
            torch.onnx.export(
                module,
                tuple(inputs.values()),
                buffer,  # type: ignore[arg-type]  # only the newer exporter wants a path
                input_names=list(inputs),
                output_names=list(outputs) or None,
                dynamic_axes={name: dict(lengths) for name, lengths in axes.items()},
                opset_version=_OPSET,
                dynamo=False,
            )
        finally:
            logger.setLevel(level)
    # the others say that the exporter is deprecated; see the head of this file
    if constants := [warning for warning in caught if issubclass(warning.category, torch.jit.TracerWarning)]:
        raise RuntimeError(f"the graph would be right for the example only: {constants[0].message}")
    return buffer.getvalue()
