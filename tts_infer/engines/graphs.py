"""ONNX graphs run by ONNX Runtime: as functions of tensors, and files from anywhere within bounds.

See `vocoders/graph.py` for what is checked of a file before.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from tts_infer.errors import CheckpointError, first_sentence, require_package
from tts_infer.locks import ProcessLock
from tts_infer.stages import Tensors
from tts_infer.vocoders.graph import GraphStage

# Memory that the graphs of files may use, weights included. Beyond it, ONNX Runtime refuses.
MAX_BYTES = 4 * 2**30
_bounding = ProcessLock()
_bounded = False


def session_options(threads: int) -> Any:
    """The options of every session with so many threads.

    Within a call, threads wait for each other by spinning. Between calls they sleep: torch's own threads need the cores
    then. On a busy machine, where spinning doubles the time of a call, the callers are workers with one thread each.
    """
    onnxruntime = require_package("onnxruntime", "onnx")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "1")
    options.add_session_config_entry("session.force_spinning_stop", "1")  # at the end of a call
    options.log_severity_level = 3  # errors; warnings are about sizes of the example
    return options


class GraphRun:
    """A graph as a function of tensors, in the order of its inputs. Calls are thread-safe.

    There is a session for each process and number of torch threads that callers have: a forked child has none of its
    parent's threads, and the workers of a busy machine have one each.

    Args:
        model: an ONNX model, or the path of one.
        options: makes the options of a session with so many threads.
    """

    def __init__(self, model: bytes | str, options: Callable[[int], Any] = session_options) -> None:
        self._package, self._model, self._options = require_package("onnxruntime", "onnx"), model, options
        self._sessions: dict[tuple[int, int], Any] = {}
        self.inputs: Sequence[str] = [one.name for one in self._get().get_inputs()]

    def __call__(self, *inputs: Tensor) -> Tensors:
        """Run the graph on CPU tensors. Contiguous ones are read in place; the results are new tensors."""
        feed = {name: x.detach().numpy() for name, x in zip(self.inputs, inputs, strict=True)}
        return tuple(map(torch.from_numpy, self._get().run(None, feed)))

    def _get(self) -> Any:
        key = os.getpid(), torch.get_num_threads()
        if key not in self._sessions:  # no lock, as in `openvino.Session`
            options, providers = self._options(key[1]), ["CPUExecutionProvider"]
            self._sessions.setdefault(key, self._package.InferenceSession(self._model, options, providers=providers))
        return self._sessions[key]


class FileSession:
    """The graph of an ONNX file, as the module of its stage. It is run once on the probe before it is trusted.

    Shape: (B, C, L) -> (B, T)
    Raises:
        CheckpointError: ONNX Runtime refuses the graph, or the graph gives something else than its metadata state.
    """

    def __init__(self, stage: GraphStage) -> None:
        _bound_memory()
        source, self._name = stage.module.source, stage.module.name
        try:
            self._run = GraphRun(source if isinstance(source, bytes) else str(source), _bounded_options)
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
        try:
            (audio,) = self._run(features.contiguous())
        except Exception as error:  # as above
            raise self._refused(error) from None
        return audio

    def _refused(self, error: Exception) -> CheckpointError:
        text, reason = "ONNX Runtime refuses {path}: {reason}", first_sentence(error).rpartition(" : ")[2][:120]
        return CheckpointError(text, code="graph-refused", path=self._name, reason=reason)


def _bounded_options(threads: int) -> Any:
    options = session_options(threads)
    options.log_severity_level = 4  # what goes wrong is an exception
    options.add_session_config_entry("session.use_env_allocators", "1")
    return options


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
