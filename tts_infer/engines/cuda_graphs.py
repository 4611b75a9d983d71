"""CUDA graphs: they make short inputs faster on NVIDIA GPUs.

A stage launches dozens of kernels. For a few frames, launching them one by one takes longer than running them. A graph
records all launches once and replays them together. It works only for the shapes and the memory of its recording. So
signals are padded to one of a few lengths, inputs are copied in, and results are copied out.

`unsupported_reason` checks that graphs work on a device, and each recording is checked again before it is used. This
engine is used only if the user names it: while a graph is recorded, for some milliseconds, no thread of the process may
wait for the whole device (`torch.cuda.synchronize()`), or both the recording and that call fail.
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
from tts_infer.sentences import Sentence
from tts_infer.stages import TOLERANCE, Stage, State, Tensors, relative_error

# Frames, summed over the batch. Above this, kernels run so long that launching them takes no extra time.
LONGEST = 1024
_SHORTEST = 16

# Largest number of recordings of one function; further shapes run without a graph. A recording holds its inputs and
# results, some megabytes for the longest. Single signals have 14 padded lengths.
_MOST = 32

# torch records one graph at a time in a process, whatever the device.
_recording = threading.Lock()
# Devices on which a recording failed, and why. torch does not release what it reserved, so the next would fail too.
_broken: dict[torch.device, str] = {}


def padded_length(frames: int) -> int:
    """Round a number of frames up to a power of two or three quarters of one.

    This gives few lengths. From 13 frames on, at most a third of the length is padding.
    """
    power = max(_SHORTEST, 1 << (frames - 1).bit_length())
    return power * 3 // 4 if frames <= power * 3 // 4 else power


def is_short(batch: int, frames: int) -> bool:
    """Whether signals are so short that a graph makes them faster."""
    return batch * padded_length(frames) <= LONGEST


@cache
def unsupported_reason(device: torch.device) -> str | None:
    """Say why graphs cannot be used on a device; None if they run there and give the right result."""
    if not hasattr(device_module(device), _graph_name(device)):
        return Sentence("torch has no graphs for {device}", code="graphs-none", device=device.type)
    try:
        with device_lock(device), precision(device), torch.inference_mode():
            n = torch.arange(96, dtype=torch.float32, device=CPU).view(2, 4, 12)
            first, second = n.sin().to(device), n.cos().to(device)
            graph = _Graph(_probe, (first,), _Recorder(device))
            error = relative_error(graph((second,)), _probe(second))
    except (RuntimeError, NotImplementedError, TypeError, AttributeError) as failure:
        text = "graphs do not run on {device}: {failure}"
        return Sentence(text, code="graphs-fail", device=device, failure=first_sentence(failure))
    # inside a graph, other kernels may run, which sum in another order or use TF32
    if error <= 2e-3:
        return None
    text = "graphs are wrong on {device}, by {error:.1e} of the peak"
    return Sentence(text, code="graphs-wrong", device=device, error=error)


def _probe(x: Tensor) -> tuple[Tensor, Tensor]:
    """A small function with the operators of stages: a convolution, a norm, a product, writes to slices."""
    mixed = F.layer_norm(F.conv1d(x, x[0, :, None, :3], groups=4), (10,))
    out = torch.zeros_like(mixed)
    out[..., 0::2] = mixed[..., 1::2]
    return torch.matmul(mixed, out.transpose(1, 2)), mixed.exp()


class Replayed:
    """A function that is replayed as a graph. A shape is recorded when it comes for the second time.

    Recording takes longer than a call, so it does not pay for a shape that comes only once. If a recording fails or is
    wrong, a warning says so, and nothing more is recorded on that device. A recording keeps torch's global settings
    (such as TF32) of its time.

    Args:
        function: takes tensors on `device` and integers; returns a tensor or a tuple of tensors. It must not change its
            inputs or wait for the device. Other tensors that it reads must stay at their place in memory.
        device: must support graphs, see `unsupported_reason`. The caller holds its lock.
        tolerance: largest allowed difference of a replay from the function, relative to the largest value.

    Shape: as for the function
    """

    def __init__(self, function: Callable[..., Any], device: torch.device, tolerance: float) -> None:
        self._function, self._tolerance = function, tolerance
        self._recorder = _Recorder(device)
        self._graphs: dict[object, _Graph | None] = {}  # None: called, but not recorded

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
        """Why nothing more is recorded; None if all recordings worked."""
        return _broken.get(self._recorder.device)

    def _record(self, inputs: tuple[Any, ...], expected: Any) -> _Graph | None:
        """Record a graph; None if that fails or its result differs from the expected one."""
        device = self._recorder.device
        if device in _broken:
            return None
        try:
            graph = _Graph(self._function, inputs, self._recorder)
            error = relative_error(graph(inputs), expected)
            wrong = Sentence("it is wrong by {error:.1e} of the peak", code="graph-wrong", error=error)
            failure = "" if error <= self._tolerance else wrong
        except RuntimeError as error_of_torch:
            failure = first_sentence(error_of_torch)
        if not failure:
            return graph
        _broken[device] = failure
        text = "no more graphs on {device}, short inputs will be slower: {failure}"
        warnings.warn(Sentence(text, code="graphs-ended", device=device, failure=failure), stacklevel=2)
        return None


class _Recorder:
    """The stream and the memory that all recordings of one function share; only one is replayed at a time.

    Attributes:
        done: event at the end of the last replay. Every use of the memory, on any stream, must wait for it.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.module = module = cast(Any, device_module(device))
        with module.device(device):
            self.stream, self.pool, self.done = module.Stream(), module.graph_pool_handle(), module.Event()


class _Graph:
    """One recorded call.

    Raises:
        RuntimeError: the function contains an operation that cannot be recorded.
    """

    def __init__(self, function: Callable[..., Any], inputs: tuple[Any, ...], recorder: _Recorder) -> None:
        module = recorder.module
        self._recorder = recorder
        self._inputs = tuple(x.clone() if isinstance(x, Tensor) else x for x in inputs)
        self._graph = getattr(module, _graph_name(recorder.device))()
        with _recording, module.device(recorder.device):
            caller = module.current_stream()
            recorder.stream.wait_stream(caller)
            recorder.stream.wait_event(recorder.done)
            with module.stream(recorder.stream):
                function(*self._inputs)  # the first run on a stream reserves memory, which a recording cannot
                # "thread_local" lets other threads reserve memory meanwhile
                self._graph.capture_begin(pool=recorder.pool, capture_error_mode="thread_local")
                try:
                    self._outputs = function(*self._inputs)
                finally:
                    self._graph.capture_end()
            caller.wait_stream(recorder.stream)

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
    """Name of the graph class in a device's module, such as `torch.cuda.CUDAGraph`."""
    return f"{device.type.upper()}Graph"


@dataclass(frozen=True)
class ReplayedStage(Stage):
    """A stage that replays graphs for short whole signals, and computes everything else without graphs.

    Args:
        inner: the stage without graphs.
        replayed: computes it from the number of passes, the inputs and `valid`.
        weights: keeps the memory of the weights alive, which graphs read even after someone moves the modules.
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
    """CUDA graphs for short whole signals. Entry of `ENGINES`; used only by name, see the top of this file."""

    automatic = False
    package = None
    examined = True

    def unsupported(self, stage: Stage, device: torch.device, dtype: DTypeName) -> str | None:
        if stage.whole:
            text = "graphs take padded signals, and {stage} computes over whole ones"
            return Sentence(text, code="graphs-whole", stage=stage.name)
        return unsupported_reason(device)

    def prepare(self, stage: Stage, device: torch.device, dtype: DTypeName) -> Stage:
        eager = TorchEngine().prepare(stage, device, dtype)
        return ReplayedStage.of(eager, device, TOLERANCE[dtype])

    def padded_frames(self, batch: int, frames: int) -> int | None:
        return padded_length(frames) if is_short(batch, frames) else None
