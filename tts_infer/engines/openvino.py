"""Networks on a CPU by OpenVINO: a module's forward is exported once, as an ONNX graph, and compiled for the processor.

OpenVINO has threads of its own. A graph runs on as many of them as the caller has torch threads: a caller with several
gets them all for one call, and callers with one, such as the workers of a busy machine, get one each. So there are
never more runnable threads than torch has been given. The threads are not pinned to cores: on a busy machine, a pinned
thread waits for its core while others are free.

A forked child has none of its parent's threads, and to wait for them would be endless. In a child, a graph is compiled
again, for the calling thread alone.
"""

from __future__ import annotations

import io
import os
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tts_infer.config import DTypeName
from tts_infer.engines.traced import MakeSession, TracedEngine
from tts_infer.errors import require_package
from tts_infer.stages import Tensors

_PRECISIONS: dict[DTypeName, str] = {"float32": "f32", "bfloat16": "bf16"}


class OpenVINOEngine(TracedEngine):
    """OpenVINO on the CPU. Entry of `ENGINES`; needs the extra `openvino`."""

    automatic = False  # stage by stage, its threads and torch's get in each other's way
    package = "openvino"
    title = "OpenVINO"
    dtypes = ("float32", "bfloat16")

    def maker(self, dtype: DTypeName) -> MakeSession:
        return partial(Session, dtype)


class Session:
    """An ONNX model in OpenVINO. Calls are thread-safe, and forked children may go on with it.

    Args:
        dtype: of the matrix products. Inputs, outputs and sums stay in float32.
        model: see `export`.

    Raises:
        RuntimeError: OpenVINO cannot run the model.
    """

    def __init__(self, dtype: DTypeName, model: bytes) -> None:
        self._core = require_package("openvino", "openvino").Core()
        self._graph = self._core.read_model(io.BytesIO(model))
        self._precision, self._threads = _PRECISIONS[dtype], torch.get_num_threads()
        self._made_by = os.getpid()
        self._compiled: dict[tuple[int, int], _Compiled] = {}  # by process and number of threads
        self._get()

    def __call__(self, *inputs: Tensor) -> Tensors:
        """Run the graph on CPU tensors. Contiguous ones are read in place; the results are new tensors."""
        compiled = self._get()
        request = compiled.idle.pop() if compiled.idle else compiled.model.create_infer_request()
        results = request.infer([x.detach().numpy() for x in inputs], share_inputs=True)
        found = tuple(torch.from_numpy(results[i]) for i in range(len(compiled.model.outputs)))
        compiled.idle.append(request)
        return found

    def _get(self) -> _Compiled:
        """The graph for callers with so many torch threads. Those with one thread may be several at a time."""
        is_forked = os.getpid() != self._made_by
        threads = 1 if is_forked else torch.get_num_threads()
        key = os.getpid(), threads
        if key not in self._compiled:
            streams = self._threads if threads == 1 and not is_forked else 1
            settings = {
                "INFERENCE_PRECISION_HINT": self._precision,
                "INFERENCE_NUM_THREADS": threads * streams,
                "NUM_STREAMS": streams,
                "ENABLE_CPU_PINNING": False,
            }
            # no lock, which a fork could find held: two threads may compile it twice, and one result is kept
            self._compiled.setdefault(key, _Compiled(self._core.compile_model(self._graph, "CPU", settings), []))
        return self._compiled[key]


class _Compiled(NamedTuple):
    """A compiled graph, and the requests that nobody runs; each has its own results."""

    model: Any
    idle: list[Any]
