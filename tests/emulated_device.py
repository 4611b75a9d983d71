"""An Apple GPU for machines without one: device type "emu", real numbers, the limits of MPS.

A tensor on it holds a CPU tensor and reports device "emu:0". Every operator that reaches it is judged by the MPS table
of a chosen torch release and refused as torch refuses it, or run on the held tensors. Float64 and mixed devices are
refused, copies between devices are counted, and two threads inside at once are an error.

With `graphs`, it has what MPS lacks and CUDA has: graphs. While one is recorded, operators are written down, and what
waits for the device or copies to it is refused; a replay runs them again on the same memory.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

from tts_infer.diagnose.audit import composite_key, operator_name, shipped_tables
from tts_infer.engines.cuda_graphs import _broken, unsupported_reason

# Composed of nothing but a new view of the same memory, made below the dispatcher: run as they stand.
_VIEWS = ("detach", "alias", "_unsafe_view")


class EmulatedDevice:
    """State of the one emulated device.

    Attributes:
        table: operators that it has.
        linger_s: time that every operator stays inside, so that threads that may meet do meet.
        transfers: bytes of every copy that crossed its border, in order.
        waits: how often the host asked for values.
        synchronised, emptied: how often its queue was waited for, and cached memory given back.
        launched: how often the host had to start something: an operator, or a graph.
        corrupt: name of an operator whose values are silently in the wrong places, as several have been on MPS.
        refuse: name of an operator that is missing, whatever the table says.
        graphs: whether graphs can be recorded.
        recording: the graph that is being recorded.
        stream, first_stream: the queue that work is put into, and the one at the beginning.
    """

    def __init__(self) -> None:
        self.table = shipped_tables()["2.13.0"]
        self.linger_s = 0.0
        self.transfers: list[int] = []
        self.waits = 0
        self.synchronised = 0
        self.emptied = 0
        self.launched = 0
        self.corrupt: str | None = None
        self.refuse: str | None = None
        self.graphs = False
        self.recording: Graph | None = None
        self.stream = self.first_stream = Stream()
        self._guard = threading.Lock()
        self._owner: int | None = None
        self._depth = 0

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Be the one thread inside.

        Raises:
            RuntimeError: another thread is.
        """
        me = threading.get_ident()
        with self._guard:
            if self._owner not in (None, me):
                raise RuntimeError("two threads are on the emulated device at once; MPS can crash the process here")
            self._owner, self._depth = me, self._depth + 1
        try:
            yield
        finally:
            with self._guard:
                self._depth -= 1
                if self._depth == 0:
                    self._owner = None

    def run(self, operator: OpOverload, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Run one operator, as MPS would."""
        name, kind = operator_name(operator), self.table.kind(operator)
        if name == "copy_":
            return self._copy(*args)
        if kind in ("none", "absent") or name == self.refuse:
            raise NotImplementedError(_refusal(name))
        key = composite_key(operator) if kind == "composite" and name not in _VIEWS else None
        if key is not None:
            return operator._op_dk(key, *args, **kwargs)
        _require_one_device(args, kwargs)
        time.sleep(0 if operator.is_view else self.linger_s)
        waits = name in ("_local_scalar_dense", "nonzero", "equal")
        self.waits += waits
        self.launched += not operator.is_view
        self._require_no_recording(waits)
        held = tree_map_only(EmulatedTensor, lambda t: t.held, (args, dict(kwargs)))
        args_held, kwargs_held = tree_map_only(torch.device, lambda d: torch.device("cpu"), held)
        result = operator(*args_held, **kwargs_held)
        if self.recording and not operator.is_view:
            self.recording.steps.append(_Step(operator, args_held, kwargs_held, result))
        if operator._schema.is_mutable:
            return args[0]
        if name == self.corrupt:
            result = tree_map_only(Tensor, lambda t: t.flip(-1), result)
        return tree_map_only(Tensor, EmulatedTensor, result)

    def _require_no_recording(self, forbidden: bool) -> None:
        if forbidden and self.recording:
            raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nand more")

    def _copy(self, target: Tensor, source: Tensor, non_blocking: bool = False) -> Tensor:
        if target.device != source.device:
            self.transfers.append(source.numel() * source.element_size())
        self._require_no_recording(target.device != source.device)
        self.launched += 1
        _held(target).copy_(_held(source))
        if self.recording:
            step = _Step(torch.ops.aten.copy_.default, (_held(target), _held(source)), {}, None)
            self.recording.steps.append(step)
        return target


@dataclass
class _Step:
    """One operator of a graph, by the memory that it was recorded with."""

    operator: OpOverload
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    result: Any

    def results(self) -> list[Tensor]:
        """New memory that it wrote to."""
        mutable = self.operator._schema.is_mutable
        return [] if mutable else [leaf for leaf in tree_leaves(self.result) if isinstance(leaf, Tensor)]

    def run(self) -> None:
        again = self.operator(*self.args, **self.kwargs)
        for target, source in zip(self.results(), tree_leaves(again), strict=False):
            target.copy_(source)


class Graph:
    """What `torch.cuda.CUDAGraph` is there."""

    def __init__(self) -> None:
        self.steps: list[_Step] = []

    def capture_begin(self, pool: object, capture_error_mode: str) -> None:
        assert device.recording is None, "only one graph can be recorded at a time"
        assert capture_error_mode == "thread_local", "by default, what other threads do would end the recording"
        assert device.stream is not device.first_stream, "CUDA does not record on the default stream"
        device.recording = self

    def capture_end(self) -> None:
        device.recording = None
        for result in (result for step in self.steps for result in step.results()):
            if result.is_floating_point():  # on a real device nothing has run yet
                result.fill_(math.nan)

    def replay(self) -> None:
        with device.inside():
            device.launched += 1
            for step in self.steps:
                step.run()


class Event:
    """The end of what was queued when it was recorded."""


class Stream:
    """A queue of work. Here everything is done at once; what is kept is who waited for whom, and who told of an end."""

    def __init__(self) -> None:
        self.waited_for: list[Stream | Event] = []
        self.told: list[Event] = []

    def wait_stream(self, other: Stream) -> None:
        self.waited_for.append(other)

    def wait_event(self, event: Event) -> None:
        self.waited_for.append(event)

    def record_event(self, event: Event) -> None:
        self.told.append(event)


@contextmanager
def _on(stream: Stream) -> Iterator[None]:
    around, device.stream = device.stream, stream
    try:
        yield
    finally:
        device.stream = around


def _refusal(name: str) -> str:
    return (
        f"The operator 'aten::{name}' is not currently implemented for the MPS device. If you want this op to be "
        "considered for addition please comment on https://github.com/pytorch/pytorch/issues/141287 and mention "
        "use-case, that resulted in missing op as well as commit hash."
    )


def _held(tensor: Tensor) -> Tensor:
    return tensor.held if isinstance(tensor, EmulatedTensor) else tensor


def _require_one_device(args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Refuse operands from elsewhere, except numbers (tensors without axes)."""
    for tensor in tree_leaves((args, dict(kwargs))):
        if isinstance(tensor, Tensor) and not isinstance(tensor, EmulatedTensor) and tensor.ndim:
            raise RuntimeError("Expected all tensors to be on the same device, but found at least two, emu:0 and cpu!")


class EmulatedTensor(Tensor):
    """A tensor on the emulated device."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> EmulatedTensor:
        if held.dtype in (torch.float64, torch.complex128):
            raise TypeError(
                "Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64. "
                "Please use float32 instead."
            )
        with torch.inference_mode(False):  # detach() refuses wrappers that are inference tensors
            wrapper: EmulatedTensor = Tensor._make_wrapper_subclass(
                cls, held.shape, held.stride(), held.storage_offset(), dtype=held.dtype, device=torch.device("emu", 0)
            )
        wrapper.held = held
        return wrapper

    def __repr__(self) -> str:  # type: ignore[override]
        return f"EmulatedTensor({self.held})"

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: dict[Any, Any] | None = None
    ) -> Any:
        if func.is_view:  # made on the host: no thread is on the device for it
            return device.run(func, args, kwargs or {})
        with device.inside():
            return device.run(func, args, kwargs or {})


device = EmulatedDevice()

# What `torch.emu` has in addition where there are graphs.
_GRAPHS: dict[str, Any] = {
    "EMUGraph": Graph,
    "Stream": Stream,
    "Event": Event,
    "graph_pool_handle": object,
    "device": nullcontext,
    "stream": _on,
    "current_stream": lambda: device.stream,
}


class _Module(ModuleType):
    """`torch.emu`: what torch and the library ask of a device's module."""

    def is_available(self) -> bool:
        return True

    def is_initialized(self) -> bool:
        return True

    def _is_in_bad_fork(self) -> bool:
        return False

    def manual_seed_all(self, seed: int) -> None:
        return None

    def device_count(self) -> int:
        return 1

    def current_device(self) -> int:
        return 0

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]

    def __getattr__(self, name: str) -> Any:
        if device.graphs and name in _GRAPHS:
            return _GRAPHS[name]
        raise AttributeError(name)

    def synchronize(self, device_: object = None) -> None:
        with device.inside():
            device.synchronised += 1
            time.sleep(device.linger_s)

    def empty_cache(self) -> None:
        with device.inside():
            device.emptied += 1


def _empty(size: Sequence[int], *, dtype: torch.dtype | None = None, **kwargs: Any) -> Tensor:
    with device.inside():
        return EmulatedTensor(torch.empty(size, dtype=dtype))


def _empty_strided(
    size: Sequence[int], stride: Sequence[int], *, dtype: torch.dtype | None = None, **kwargs: Any
) -> Tensor:
    with device.inside():
        return EmulatedTensor(torch.empty_strided(size, stride, dtype=dtype))


def _register() -> torch.library.Library:
    """Make the device known to torch. There is one such device per process, and no way back."""
    _setup_privateuseone_for_python_backend("emu", backend_module=_Module("torch.emu"))
    factories = torch.library.Library("aten", "IMPL")
    factories.impl("empty.memory_format", _empty, "PrivateUse1")
    factories.impl("empty_strided", _empty_strided, "PrivateUse1")
    return factories


_factories = _register()


@contextmanager
def emulated(
    release: str = "2.13.0",
    linger_s: float = 0.0,
    corrupt: str | None = None,
    refuse: str | None = None,
    graphs: bool = False,
) -> Iterator[EmulatedDevice]:
    """The device as it is under a torch release, its counters at zero, all of its work in the calling thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # beside other work, threads that wait for each other take longer than one alone
    device.table, device.linger_s = shipped_tables()[release], linger_s
    device.corrupt, device.refuse, device.graphs = corrupt, refuse, graphs
    device.transfers.clear()
    device.waits = device.synchronised = device.emptied = device.launched = 0
    unsupported_reason.cache_clear()
    _broken.clear()
    try:
        yield device
    finally:
        device.linger_s, device.corrupt, device.refuse, device.graphs = 0.0, None, None, False
        unsupported_reason.cache_clear()
        torch.set_num_threads(threads)
