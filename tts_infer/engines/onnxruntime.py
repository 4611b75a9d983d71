"""Networks on a CPU by ONNX Runtime: a module's forward is exported once, as a graph, and run without torch.

ONNX Runtime has its fast convolutions for images only. So convolutions over time become convolutions over images of
height 1. Besides being faster, those gave the same bits for any number of frames (x86 with AVX-512): pieces of a stream
then agree with the whole signal to the last bit. Those over time differ by 2e-6 of the peak.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from tts_infer.config import DTypeName
from tts_infer.devices import CPU
from tts_infer.engines.graphs import FileSession, session_options
from tts_infer.engines.traced import Axes, MakeSession, TracedEngine, export
from tts_infer.errors import require_package
from tts_infer.stages import GraphFile, Stage, Tensors
from tts_infer.vocoders.graph import GraphStage


class OnnxRuntimeEngine(TracedEngine):
    """ONNX Runtime on the CPU. Entry of `ENGINES`; needs the extra `onnx`."""

    package = "onnxruntime"
    title = "ONNX Runtime"

    def unsupported(self, stage: Stage, device: torch.device, dtype: DTypeName) -> str | None:
        if isinstance(stage.module, GraphFile) and device == CPU:
            return None
        return super().unsupported(stage, device, dtype)

    def prepare(self, stage: Stage, device: torch.device, dtype: DTypeName) -> Stage:
        if isinstance(stage, GraphStage):
            return stage.using(FileSession(stage))
        if isinstance(stage.module, GraphFile):
            return stage.using(GraphRun(session(str(stage.module.path))))
        return super().prepare(stage, device, dtype)

    def maker(self, dtype: DTypeName, threads: int | None = None) -> MakeSession:
        return partial(Session, threads=threads)


def session(model: bytes | str, threads: int | None = None) -> Any:
    """An ONNX Runtime session of a model, or of a file, with so many threads; None: as many as torch has now."""
    onnxruntime = require_package("onnxruntime", "onnx")
    return onnxruntime.InferenceSession(model, session_options(threads), providers=["CPUExecutionProvider"])


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


class Session:
    """A module's forward in ONNX Runtime. Forked children may use it.

    Args:
        module, inputs, axes: see `export`.
        threads: how many a call takes; None: as many as the caller's torch has.

    Raises:
        RuntimeError: see `export`.
    """

    def __init__(
        self,
        module: nn.Module,
        inputs: Mapping[str, Tensor],
        axes: Mapping[str, Axes],
        threads: int | None = None,
    ) -> None:
        self._threads = threads
        self._model = with_image_convolutions(export(module, inputs, axes))
        self._runs: dict[tuple[int, int], GraphRun] = {}  # by process and number of threads
        self._get()

    def __call__(self, *inputs: Tensor) -> Tensors:
        return self._get()(*inputs)

    def _get(self) -> GraphRun:
        """The graph for this caller. A forked child has none of its parent's threads, and would wait for them."""
        key = os.getpid(), self._threads or torch.get_num_threads()
        if key not in self._runs:  # no lock, as in `openvino.Session`
            self._runs.setdefault(key, GraphRun(session(self._model, key[1])))
        return self._runs[key]


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
