"""Networks on a CPU by ONNX Runtime: a module's forward is exported once, as a graph, and run without torch.

A stage may be called in three ways, and each is a graph of its own: whole signals, whole signals of several lengths,
and pieces of a stream, whose state goes in and comes out as tensors. The first is made at once, the others when they
are first needed.

torch's tracing exporter makes the graphs. torch calls it the legacy one; it is used because it takes 0.1 to 0.9 s for a
backbone, where the newer one (`dynamo=True`) takes 2 to 8 s, gives no faster graph, and needs one more package. It runs
forward once on the stage's probe. Sizes that forward reads from shapes stay variable; whatever else Python computes
becomes a constant, so torch's warning of that is an error here, and the self-test runs before the graph is trusted.

ONNX Runtime has its fast convolutions for images only. So convolutions over time become convolutions over images of
height 1. Besides being faster, those gave the same bits for any number of frames (x86 with AVX-512): pieces of a stream
then agree with the whole signal to the last bit. Those over time differ by 2e-6 of the peak.
"""

from __future__ import annotations

import io
import logging
import threading
import warnings
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from tts_infer.config import DTypeName
from tts_infer.devices import CPU
from tts_infer.stages import GraphFile, Stage, Tensors
from tts_infer.vocoders.networks import Contextual, Convolutional, Framewise

_OPSET = 17  # the first with LayerNormalization as one operator; ONNX Runtime 1.12 and later run it
Axes = Mapping[int, str]  # axis -> the name of its variable length; axes of one name have one length


class OnnxRuntimeEngine:
    """ONNX Runtime on the CPU. Entry of `ENGINES`; needs the extra `onnx`."""

    automatic = True
    package = "onnxruntime"

    def unsupported(self, stage: Stage, device: torch.device, dtype: DTypeName) -> str | None:
        if device != CPU:
            return f"ONNX Runtime computes on the CPU, not on {device}"
        if isinstance(stage.module, GraphFile):
            return None
        if not isinstance(stage, Convolutional | Framewise | Contextual):
            return f"ONNX Runtime runs networks, and {stage.name} is none"
        if dtype != "float32":
            return f"ONNX Runtime computes in float32, not in {dtype}"
        if find_spec("onnx") is None:
            return "the package onnx, which writes graphs, is not installed"
        return None

    def prepare(self, stage: Stage, device: torch.device, dtype: DTypeName) -> Stage:
        if isinstance(stage.module, GraphFile):
            return stage.using(GraphRun(session(str(stage.module.path))))
        graphs = GraphModule(stage)
        graphs.session("whole")  # now, not in the first decode
        return stage.using(graphs)

    def padded_frames(self, batch: int, frames: int) -> int | None:
        return None


class GraphModule:
    """The module of a stage as graphs; it takes and gives what the module does.

    Args:
        stage: with a module whose forward is a function of tensors.
    """

    def __init__(self, stage: Stage) -> None:
        self._stage, self._sessions = stage, dict[str, Session]()
        self._making = threading.Lock()

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
        return Session(module, inputs, axes)


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


def session(model: bytes | str) -> Any:
    """An ONNX Runtime session of a model, or of a file, on as many threads as torch has now.

    Idle threads sleep instead of spinning: torch's own threads need the cores between calls, and on a busy machine
    spinning doubles the time of a call.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3  # errors; warnings are about sizes of the example
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


class GraphRun:
    """A graph as a function of tensors, in the order of its inputs. Calls are thread-safe.

    Args:
        session: see `session`.
    """

    def __init__(self, session: Any) -> None:
        self._session = session
        self._inputs: Sequence[str] = [one.name for one in session.get_inputs()]

    def __call__(self, *inputs: Tensor) -> Tensors:
        """Run the graph on CPU tensors. Contiguous ones are read in place; the results are new tensors."""
        feed = {name: x.detach().numpy() for name, x in zip(self._inputs, inputs, strict=True)}
        return tuple(map(torch.from_numpy, self._session.run(None, feed)))


class Session(GraphRun):
    """A module's forward as a graph.

    Args:
        module: in evaluation mode, on the CPU. It gives one tensor or a tuple of them.
        inputs: an example of each argument of forward, in order, by the name it has in the graph.
        axes: the variable axes of each input. In the examples they must be longer than 1.

    Raises:
        RuntimeError: see `export`.
    """

    def __init__(self, module: nn.Module, inputs: Mapping[str, Tensor], axes: Mapping[str, Axes]) -> None:
        super().__init__(session(with_image_convolutions(export(module, inputs, axes))))


def export(
    module: nn.Module, inputs: Mapping[str, Tensor], axes: Mapping[str, Axes], outputs: Sequence[str] = ()
) -> bytes:
    """Trace a module's forward into an ONNX model.

    Args:
        module, inputs, axes: as for `Session`; `axes` may also name the variable axes of outputs.
        outputs: names of the results; none: torch names them.

    Raises:
        RuntimeError: ONNX lacks an operator of the module, or the graph would be right for the example only.
    """
    buffer, logger = io.BytesIO(), logging.getLogger("torch.onnx")
    level = logger.level
    with warnings.catch_warnings(record=True) as caught, torch.no_grad(), torch.device(CPU):
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


def with_image_convolutions(model: bytes) -> bytes:
    """Replace convolutions over (B, C, L) by the same ones over (B, C, 1, L).

    Weights that the graph computes are left as they are.
    """
    import onnx

    proto = onnx.load_from_string(model)
    graph = proto.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    axis = onnx.helper.make_tensor("image_height_axis", onnx.TensorProto.INT64, [1], [2])
    nodes: list[Any] = []
    for node in graph.node:
        if node.op_type != "Conv" or node.input[1] not in weights or len(weights[node.input[1]].dims) != 3:
            nodes.append(node)
            continue
        signal, image, result = node.input[0], f"{node.name}_image", node.output[0]
        weight = onnx.TensorProto()
        weight.CopyFrom(weights[node.input[1]])  # a copy, because another node may read it
        weight.name, weight.dims[:] = f"{node.name}_weight", [*weight.dims[:2], 1, *weight.dims[2:]]
        graph.initializer.append(weight)
        _over_images(node)
        node.input[0], node.input[1], node.output[0] = image, weight.name, f"{node.name}_result"
        unsqueeze = onnx.helper.make_node("Unsqueeze", [signal, axis.name], [image])
        nodes += [unsqueeze, node, onnx.helper.make_node("Squeeze", [node.output[0], axis.name], [result])]
    graph.initializer.append(axis)
    del graph.node[:]
    graph.node.extend(nodes)
    written: bytes = proto.SerializeToString()
    return written


def _over_images(convolution: Any) -> None:
    """Give the settings of a convolution over time a height of 1."""
    for attribute in convolution.attribute:
        if attribute.name == "pads":
            attribute.ints[:] = [0, attribute.ints[0], 0, attribute.ints[1]]
        elif attribute.name in ("kernel_shape", "strides", "dilations"):
            attribute.ints[:] = [1, attribute.ints[0]]
