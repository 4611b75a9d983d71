"""Devices: find them by name, wait for them, share them between threads, choose the precision that suits them.

Each accelerator has its own torch module (`torch.cuda`, `torch.mps`, ...). It is found by the name of the device type,
so no code here or above has a branch for a particular accelerator.
"""

from __future__ import annotations

import ctypes
import inspect
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from functools import cache, wraps
from types import ModuleType
from typing import Any, TypeVar, cast, get_args

import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from tts_infer.config import DTypeName
from tts_infer.errors import PlacementError, first_sentence
from tts_infer.locks import ProcessLock
from tts_infer.sentences import Sentence, Several

Fn = TypeVar("Fn", bound=Callable[..., Any])

CPU = torch.device("cpu")
DTYPES: dict[DTypeName, torch.dtype] = {name: getattr(torch, name) for name in get_args(DTypeName)}
# device="auto" takes the first of these that the machine has.
ACCELERATORS = ("cuda", "mps", "xpu")
_KEPT_BYTES = 31 << 20  # just below the largest threshold that glibc takes
# Compiled kernels that are kept: by oneDNN for all threads, and by torch for each thread. One decode needs fewer.
_KEPT_KERNELS = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": 128, "LRU_CACHE_CAPACITY": 16}
_M_ARENA_MAX = -8  # of glibc's malloc.h

_locks: dict[torch.device, threading.RLock] = {}
_locks_guard = ProcessLock()


def device_module(device: torch.device) -> ModuleType | None:
    """The torch module that drives an accelerator; None for the CPU and for unknown types."""
    return None if device.type == "cpu" else getattr(torch, device.type, None)


def device_count(device_type: str) -> int:
    """How many devices of a type this process can use."""
    if device_type == "cpu":
        return 1
    count = getattr(getattr(torch, device_type, None), "device_count", None)
    return count() if count else 0


def available_devices() -> tuple[str, ...]:
    """Names of the devices that this process can use, the CPU first."""
    return ("cpu", *(f"{kind}:{i}" for kind in ACCELERATORS for i in range(device_count(kind))))


def resolve_device(name: str | torch.device) -> torch.device:
    """Find a device by name.

    Args:
        name: "cpu", "cuda", "cuda:1", "mps", ...; "auto" is the first accelerator, or the CPU if there is none;
            "accelerator" is the first accelerator.

    Returns:
        The device; that of an accelerator has an index.

    Raises:
        PlacementError: the name is unknown, or this machine has no such device.
    """
    if not isinstance(name, (str, torch.device)):
        raise _unknown(name)
    accelerators = available_devices()[1:]
    if name == "accelerator" and not accelerators:
        raise PlacementError(
            "an accelerator is asked for, but this machine has none; use device 'cpu'", code="accelerator-missing"
        )
    if name in ("auto", "accelerator"):
        name = (*accelerators, "cpu")[0]
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError):
        raise _unknown(name) from None
    if not 0 <= (device.index or 0) < device_count(device.type):  # torch counts to 127, and then from -128
        raise PlacementError(
            "device '{name}' is not available; here: {available}",
            code="device-unavailable",
            name=str(device),
            available=", ".join(available_devices()),
        )
    return CPU if device.type == "cpu" else torch.device(device.type, device.index or 0)


def _unknown(name: object) -> PlacementError:
    text = "device {name!r} is unknown; here: {available}"
    return PlacementError(text, code="device-unknown", name=name, available=", ".join(available_devices()))


def synchronise(device: torch.device) -> None:
    """Wait until everything queued on `device` is done."""
    module = device_module(device)
    if module is None:
        return
    # modules with several devices need the device's name; modules with one device take no name
    module.synchronize(*[device] if hasattr(module, "set_device") else [])


def keep_memory() -> None:
    """Let the C library keep freed memory for the next decode, up to 62 MB, instead of giving it back each time.

    The system clears every page that it hands out: a tenth of a refined decode went there. glibc raises its own
    thresholds to the largest block that was freed so far, up to 32 MB. Other C libraries ignore this.

    Source: mallopt(3), M_MMAP_THRESHOLD.
    """
    torch.empty(_KEPT_BYTES, dtype=torch.uint8, device=CPU)


def trim_memory() -> None:
    """Give memory that was freed back to the system: for programs that rest after work.

    glibc keeps much of it, and MKL keeps buffers for each thread that has computed, some 4 MB. Others keep little.

    Source: malloc_trim(3); oneMKL's developer reference, mkl_free_buffers.
    """
    if sys.platform == "linux":
        for library, name in (("libtorch_cpu.so", "mkl_serv_free_buffers"), (None, "malloc_trim")):
            with suppress(OSError, AttributeError):  # another C library, or a torch without MKL
                getattr(ctypes.CDLL(library), name)(0)


def limit_memory() -> None:
    """Have this process keep little: for programs whose many threads decode many lengths, before they begin.

    oneDNN compiles kernels for each length, half a megabyte each, and keeps 1024 of them; torch keeps as many again, in
    each thread. And glibc has a pool of freed memory for each thread, of which `trim_memory` cannot give back the end,
    up to 60 MB: now all threads have one. Variables of the environment that say something else are left as they are.

    Source: oneDNN's developer guide, "Primitive Cache"; pytorch issue 98688; mallopt(3), M_ARENA_MAX; mtrim in glibc's
    malloc/malloc.c.
    """
    for name, count in _KEPT_KERNELS.items():
        os.environ.setdefault(name, str(count))
    if sys.platform == "linux" and "MALLOC_ARENA_MAX" not in os.environ:
        with suppress(AttributeError):  # another C library
            ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


def release_memory(device: torch.device) -> None:
    """Give an accelerator's cached memory back to the system, if its module can."""
    module = device_module(device)
    if module is not None and hasattr(module, "empty_cache"):
        # torch raises RuntimeError while a graph is recorded, and always after a recording has failed
        with device_lock(device), suppress(RuntimeError):
            module.empty_cache()


def precision(device: torch.device, dtype: DTypeName = "float32") -> torch.autocast | nullcontext[None]:
    """Compute matrix products on `device` in `dtype`. The caller's own autocast has no influence.

    Norms and residual sums stay in float32.
    """
    if dtype != "float32":
        # autocast's weight cache would be freed before a CUDA graph reads it
        return torch.autocast(device.type, DTYPES[dtype], cache_enabled=False)
    # torch 2.4 has no autocast on MPS, and raises when asked whether it is enabled
    enabled = torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type)
    return torch.autocast(device.type, enabled=False) if enabled else nullcontext()


@cache
def dtype_refusal(device: torch.device, dtype: DTypeName) -> str | None:
    """Say why matrix products in `dtype` should not run on `device`; None if they may."""
    if dtype == "float32":
        return None
    if device.type == "cpu":
        if dtype == "float16":
            return Sentence("slow and incomplete on the CPU", code="dtype-incomplete")
        native = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
        text = "slow on this CPU, which has no instructions for it"
        return None if native else Sentence(text, code="dtype-slow-cpu")
    if dtype == "bfloat16" and not _may_have_bfloat16(device):
        return Sentence("slow on {device}, which has no instructions for it", code="dtype-slow", device=device)
    try:
        with device_lock(device), precision(device, dtype), torch.inference_mode():
            x = torch.ones(1, 8, 8, device=device)
            F.linear(F.conv1d(x, x.expand(8, 8, 8)), x[0, :, :1])
            synchronise(device)
    except (RuntimeError, NotImplementedError, TypeError) as error:  # backends raise any of these
        text = "not supported on {device} ({failure})"
        return Sentence(text, code="dtype-fails", device=device, failure=first_sentence(error))
    return None


def _may_have_bfloat16(device: torch.device) -> bool:
    """False if the device's module says that it has no instructions for bfloat16. Only CUDA and XPU say it."""
    supported = getattr(device_module(device), "is_bf16_supported", None)
    if supported is None:
        return True
    # XPU's takes no arguments in torch 2.6
    with_emulation = "including_emulation" in inspect.signature(supported).parameters
    return bool(supported(including_emulation=False) if with_emulation else supported())


def dtype_name(dtype: torch.dtype | str) -> DTypeName:
    """The name of a dtype here: that of torch, without "torch.". `require_dtype` refuses unknown ones."""
    return cast(DTypeName, str(dtype).removeprefix("torch."))


def require_dtype(device: torch.device, dtype: DTypeName) -> None:
    """Refuse a dtype that is unknown, or that a device cannot use well.

    Raises:
        PlacementError: says why, and which dtypes the device can use.
    """
    if dtype not in DTYPES:
        raise PlacementError(
            "dtype {got!r} is unknown; allowed: {allowed}", code="dtype-unknown", got=dtype, allowed=", ".join(DTYPES)
        )
    refusal = dtype_refusal(device, dtype)
    if refusal:
        better = [name for name in reversed(DTYPES) if dtype_refusal(device, name) is None]
        raise PlacementError(
            "dtype {got!r} is {reason}; use {allowed: or }",
            code="dtype-unsupported",
            got=dtype,
            reason=refusal,
            allowed=Several(map(repr, better)),
        )


def device_of(value: Tensor | NDArray[Any]) -> torch.device:
    """The device that holds the values: that of a tensor, or the CPU for an array."""
    return value.device if isinstance(value, Tensor) else CPU


def device_lock(*devices: torch.device) -> AbstractContextManager[None]:
    """Hold the process-wide lock of every accelerator among `devices`; the CPU is never locked.

    Two threads that use one MPS device at the same time can crash the process (pytorch#197805), and web servers run
    their handlers in threads. Locks are taken in one global order, so two threads cannot wait for each other.

    Raises:
        PlacementError: one is no `torch.device`.
    """
    for device in devices:
        if not isinstance(device, torch.device):
            raise _unknown(device)
    accelerators = [device for device in devices if device.type != "cpu"]
    return _held(sorted(set(accelerators), key=str)) if accelerators else nullcontext()


@contextmanager
def _held(devices: list[torch.device]) -> Iterator[None]:
    with ExitStack() as stack:
        for device in devices:
            with _locks_guard:
                lock = _locks.setdefault(device, threading.RLock())
            stack.enter_context(lock)
        yield


def uncompiled(mode: Callable[[], Callable[[Fn], Fn]]) -> Callable[[Fn], Fn]:
    """Decorate a function that `torch.compile` of a caller must leave as it is: it takes locks and chooses engines.

    `torch.compiler.disable` as the decorator would import the compiler for everybody.

    Args:
        mode: of gradients: `torch.inference_mode` or `torch.no_grad`.
    """

    def decorated(function: Fn) -> Fn:
        inner = mode()(function)

        @wraps(function)
        def call(*arguments: Any, **named: Any) -> Any:
            if torch.compiler.is_compiling():
                return torch.compiler.disable(inner)(*arguments, **named)
            return inner(*arguments, **named)

        return cast(Fn, call)

    return decorated
