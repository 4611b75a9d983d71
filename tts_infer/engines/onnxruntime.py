"""Networks on a CPU by ONNX Runtime: a module's forward is exported once, as a graph, and run without torch.

ONNX Runtime has its fast convolutions for images only. So convolutions over time become convolutions over images of
height 1. Besides being faster, those gave the same bits for any number of frames (x86 with AVX-512): pieces of a stream
then agree with the whole signal to the last bit. Those over time differ by 2e-6 of the peak.
"""

from __future__ import annotations

from typing import Any

import torch

from tts_infer.config import DTypeName
from tts_infer.devices import CPU
from tts_infer.engines.graphs import FileSession, GraphRun
from tts_infer.engines.traced import MakeSession, TracedEngine
from tts_infer.stages import GraphFile, Stage
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
            return stage.using(GraphRun(str(stage.module.path)))
        return super().prepare(stage, device, dtype)

    def maker(self, dtype: DTypeName) -> MakeSession:
        return Session


class Session(GraphRun):
    """An ONNX model that we exported, in ONNX Runtime."""

    def __init__(self, model: bytes) -> None:
        super().__init__(with_image_convolutions(model))


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
