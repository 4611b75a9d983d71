"""ONNX files from anywhere, run by ONNX Runtime within bounds: see `vocoders/graph.py` for what is checked before."""

from __future__ import annotations

import threading
from typing import Any

import torch
from torch import Tensor

from tts_infer.errors import CheckpointError, first_sentence, require_package
from tts_infer.vocoders.graph import GraphStage

# Memory that the graphs of files may use, weights included. Beyond it, ONNX Runtime refuses.
MAX_BYTES = 4 * 2**30
_bounding = threading.Lock()
_bounded = False


def session_options(threads: int | None = None) -> Any:
    """The options of every session: so many threads, or as many as torch has now.

    Idle threads sleep instead of spinning: torch's own threads need the cores between calls, and on a busy machine
    spinning doubles the time of a call.
    """
    onnxruntime = require_package("onnxruntime", "onnx")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or torch.get_num_threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3  # errors; warnings are about sizes of the example
    return options


class FileSession:
    """The graph of an ONNX file, as the module of its stage. It is run once on the probe before it is trusted.

    Shape: (B, C, L) -> (B, T)
    Raises:
        CheckpointError: ONNX Runtime refuses the graph, or the graph gives something else than its metadata state.
    """

    def __init__(self, stage: GraphStage) -> None:
        onnxruntime = require_package("onnxruntime", "onnx")
        _bound_memory()
        options = session_options()
        options.log_severity_level = 4  # what goes wrong is an exception
        options.add_session_config_entry("session.use_env_allocators", "1")
        source, self._name = stage.module.source, stage.module.name
        model = source if isinstance(source, bytes) else str(source)
        try:
            self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the errors of ONNX Runtime have no common base
            raise self._refused(error) from None
        (features,) = stage.probe()
        batch, _, frames = features.shape
        audio = self(features)
        expected = (batch, frames * stage.hop - stage.trimmed)
        if audio.dtype != torch.float32 or tuple(audio.shape) != expected or not audio.isfinite().all():
            got = f"{str(audio.dtype).removeprefix('torch.')} of {tuple(audio.shape)}"
            text = "{path} gives {got} for {frames} frames; its metadata state finite float32 of {expected}"
            raise CheckpointError(text, code="graph-gives", path=self._name, got=got, frames=frames, expected=expected)

    def __call__(self, features: Tensor) -> Tensor:
        name = self._session.get_inputs()[0].name
        try:
            (audio,) = self._session.run(None, {name: features.detach().contiguous().numpy()})
        except Exception as error:  # as above
            raise self._refused(error) from None
        return torch.from_numpy(audio)

    def _refused(self, error: Exception) -> CheckpointError:
        text, reason = "ONNX Runtime refuses {path}: {reason}", first_sentence(error).rpartition(" : ")[2][:120]
        return CheckpointError(text, code="graph-refused", path=self._name, reason=reason)


def _bound_memory() -> None:
    """Let the graphs of files share one allocator, with a bound."""
    global _bounded
    onnxruntime = require_package("onnxruntime", "onnx")
    with _bounding:
        if not _bounded:
            place = onnxruntime.OrtMemoryInfo(
                "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
            )
            onnxruntime.create_and_register_allocator(place, onnxruntime.OrtArenaCfg({"max_mem": MAX_BYTES}))
        _bounded = True
