"""Short inputs on NVIDIA GPUs: what a stage launches is recorded once as a graph, and replayed from then on.

A stage is dozens of kernels, and for a few frames it takes longer to launch them one by one than to run them. A graph
launches all of them at once. But it is bound to the shapes and the memory that it was recorded with: so signals are
padded to one of a few lengths, inputs are copied in, and results are copied out.

`unsupported_reason` says whether a device has graphs that are right; each recording is proved once more before it is
used. They are for who asks for them, because CUDA allows no thread of the process to wait for the whole device
(`torch.cuda.synchronize()`) in the milliseconds of a recording: the recording fails then, and so does that call.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from tts_infer.config import DTypeName
from tts_infer.devices import CPU, device_lock, device_module, precision
from tts_infer.engines.torch import TorchEngine
from tts_infer.errors import first_sentence
from tts_infer.stages import TOLERANCE, Stage, State, Tensors, relative_error

# Frames, over the whole batch, above which kernels run for so long that launching them is hidden behind it.
LONGEST = 1024
_SHORTEST = 16

# Recordings of one function, each with its inputs and results: some megabytes for the longest. All lengths of single
# signals are 14; other shapes than the first so many run as they are.
_MOST = 32

# torch records one graph at a time in a process, whatever the device.
_recording = threading.Lock()
# Where a recording failed, and why. What torch reserves for one is not given back then, so the next would fail as well.
_broken: dict[torch.device, str] = {}


def padded_length(frames: int) -> int:
    """The length that `frames` are padded to: the next power of two, or three quarters of it.

    So that lengths are few, and from 13 frames on at most a third is padding.
    """
    power = max(_SHORTEST, 1 << (frames - 1).bit_length())
    return power * 3 // 4 if frames <= power * 3 // 4 else power


def is_short(batch: int, frames: int) -> bool:
    """Whether signals are so short that launching their kernels takes longer than running them."""
    return batch * padded_length(frames) <= LONGEST


@cache
def unsupported_reason(device: torch.device) -> str | None:
    """Why work on `device` is launched kernel by kernel; None if graphs run there, and are right."""
    if not hasattr(device_module(device), _graph_name(device)):
        return f"torch has no graphs for {device.type}"
    try:
        with device_lock(device), precision(device), torch.inference_mode():
            n = torch.arange(96, dtype=torch.float32, device=CPU).view(2, 4, 12)
            first, second = n.sin().to(device), n.cos().to(device)
            graph = _Graph(_probe, (first,), _Recorder(device))
            error = relative_error(graph((second,)), _probe(second))
    except (RuntimeError, NotImplementedError, TypeError, AttributeError) as failure:
        return f"graphs do not run on {device}: {first_sentence(failure)}"
    # kernels may be other ones than outside of a graph, which sum in another order, or by TF32
    return None if error <= 2e-3 else f"graphs are wrong on {device}, by {error:.1e} of the peak"


def _probe(x: Tensor) -> tuple[Tensor, Tensor]:
    """A little of what stages are made of: a convolution, a norm, products, slices that are written to."""
    mixed = F.layer_norm(F.conv1d(x, x[0, :, None, :3], groups=4), (10,))
    out = torch.zeros_like(mixed)
    out[..., 0::2] = mixed[..., 1::2]
    return torch.matmul(mixed, out.transpose(1, 2)), mixed.exp()


class Replayed:
    """A function, recorded as a graph for every shape that it is called with twice; the first call runs it as it is.

    To record costs more than to call, so a length that comes only once is not worth it. If a recording fails or is
    wrong, a warning says so, and from then on nothing is recorded on that device. Settings that are torch's and not the
    function's (TF32, for one) stay as they were when a shape was recorded.

    Args:
        function: of tensors on `device` and of integers; it gives a tensor or a tuple of them, changes none of its
            inputs, and never waits for the device. Whatever else it reads must stay where it is in memory.
        device: one without a `unsupported_reason`, whose lock the caller holds.
        tolerance: largest difference of a replay from the function, relative to the largest value.

    Shape: as the function's
    """

    def __init__(self, function: Callable[..., Any], device: torch.device, tolerance: float) -> None:
        self._function, self._tolerance = function, tolerance
        self._recorder = _Recorder(device)
        self._graphs: dict[object, _Graph | None] = {}  # None: called once

    def __call__(self, *inputs: Any) -> Any:
        key = tuple((x.shape, x.dtype) if isinstance(x, Tensor) else x for x in inputs)
        graph = self._graphs.get(key)
        if graph is not None:
            return graph(inputs)
        result = self._function(*inputs)
        if key in self._graphs and sum(g is not None for g in self._graphs.values()) < _MOST:
            self._graphs[key] = self._record(inputs, result)
        else:
            self._graphs[key] = None
        return result

    @property
    def refusal(self) -> str | None:
        """Why nothing is recorded any more; None as long as all is well."""
        return _broken.get(self._recorder.device)

    def _record(self, inputs: tuple[Any, ...], expected: Any) -> _Graph | None:
        """The graph, if it gives what is expected of it."""
        device = self._recorder.device
        if device in _broken:
            return None
        try:
            graph = _Graph(self._function, inputs, self._recorder)
            error = relative_error(graph(inputs), expected)
            failure = "" if error <= self._tolerance else f"it is wrong by {error:.1e} of the peak"
        except RuntimeError as refusal:
            failure = first_sentence(refusal)
        if not failure:
            return graph
        _broken[device] = failure
        warnings.warn(f"no more graphs on {device}, short inputs will be slower: {failure}", stacklevel=2)
        return None


class _Recorder:
    """What recordings of one function share: a stream of their own, and memory, since only one is replayed at a time.

    Attributes:
        done: the end of the last replay, which nothing that uses that memory may overtake, on whatever stream.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.module = module = cast(Any, device_module(device))
        with module.device(device):
            self.stream, self.pool, self.done = module.Stream(), module.graph_pool_handle(), module.Event()


class _Graph:
    """One recorded call.

    Raises:
        RuntimeError: the function does what cannot be recorded.
    """

    def __init__(self, function: Callable[..., Any], inputs: tuple[Any, ...], recorder: _Recorder) -> None:
        module = recorder.module
        self._recorder = recorder
        self._inputs = tuple(x.clone() if isinstance(x, Tensor) else x for x in inputs)
        self._graph = getattr(module, _graph_name(recorder.device))()
        with _recording, module.device(recorder.device):
            around = module.current_stream()
            recorder.stream.wait_stream(around)
            recorder.stream.wait_event(recorder.done)
            with module.stream(recorder.stream):
                function(*self._inputs)  # libraries reserve on a stream's first use what cannot be reserved later
                # in this mode other threads may go on reserving memory
                self._graph.capture_begin(pool=recorder.pool, capture_error_mode="thread_local")
                try:
                    self._outputs = function(*self._inputs)
                finally:
                    self._graph.capture_end()
            around.wait_stream(recorder.stream)

    def __call__(self, inputs: tuple[Any, ...]) -> Any:
        recorder = self._recorder
        with recorder.module.device(recorder.device):
            now = recorder.module.current_stream()
            now.wait_event(recorder.done)
            for held, given in zip(self._inputs, inputs, strict=True):
                if isinstance(held, Tensor):
                    held.copy_(given)
            self._graph.replay()
            several = isinstance(self._outputs, tuple)
            results = tuple(output.clone() for output in (self._outputs if several else (self._outputs,)))
            now.record_event(recorder.done)
            return results if several else results[0]


def _graph_name(device: torch.device) -> str:
    """The class that a device's module has where it has graphs: `torch.cuda.CUDAGraph`."""
    return f"{device.type.upper()}Graph"


@dataclass(frozen=True)
class ReplayedStage(Stage):
    """A stage whose short whole signals are replayed; anything else runs as it is.

    Args:
        inner: the stage.
        replayed: its function of a number of passes, its inputs and `valid`.
        weights: what graphs read must stay where it is, even if someone moves the modules.
    """

    inner: Any = None
    replayed: Any = None
    weights: tuple[Tensor, ...] = ()

    @classmethod
    def of(cls, inner: Stage, device: torch.device, tolerance: float) -> ReplayedStage:
        def run(passes: int | None, *tensors: Tensor) -> Tensors:
            return replace(inner, passes=passes)(tensors[:-1], valid=tensors[-1])[0]

        shared = {one.name: getattr(inner, one.name) for one in fields(Stage)}
        module = inner.module
        weights = tuple(tensor.detach() for tensor in (*module.parameters(), *module.buffers()))
        return cls(**shared, inner=inner, replayed=Replayed(run, device, tolerance), weights=weights)

    @property
    def delay_frames(self) -> int:
        return self._inner.delay_frames

    @property
    def receptive_field(self) -> int:
        return self._inner.receptive_field

    @property
    def rate(self) -> int:
        return self._inner.rate

    @property
    def failure(self) -> str | None:
        refusal: str | None = self.replayed.refusal
        return refusal

    @property
    def _inner(self) -> Stage:
        return replace(cast(Stage, self.inner), passes=self.passes)

    def with_lookahead(self, frames: int) -> ReplayedStage:
        return replace(self, inner=self.inner.with_lookahead(frames))

    def initial_state(self, batch: int, device: torch.device = CPU) -> State:
        return self._inner.initial_state(batch, device)

    def __call__(
        self, inputs: Tensors, state: State | None = None, *, valid: Tensor | None = None, final: bool = True
    ) -> tuple[Tensors, State]:
        if state is None and valid is not None and is_short(*valid.shape[:2]):
            return self.replayed(self.passes, *inputs, valid), {}
        return self._inner(inputs, state, valid=valid, final=final)

    def marks(self, valid: Tensor) -> Tensor:
        return self._inner.marks(valid)

    def probe(self) -> Tensors:
        return self._inner.probe()


class CUDAGraphsEngine:
    """Graphs of short whole signals. Entry of `ENGINES`; only for who asks for it, see the head of this file."""

    automatic = False
    package = None

    def unsupported(self, stage: Stage, device: torch.device, dtype: DTypeName) -> str | None:
        return unsupported_reason(device)

    def prepare(self, stage: Stage, device: torch.device, dtype: DTypeName) -> Stage:
        eager = TorchEngine().prepare(stage, device, dtype)
        return ReplayedStage.of(eager, device, TOLERANCE[dtype])

    def padded_frames(self, batch: int, frames: int) -> int | None:
        return padded_length(frames) if is_short(batch, frames) else None
