"""Devices by name: which there are, waiting for one, sharing one between threads, moving a tensor to one.

Every accelerator is reached through its own torch module (`torch.cuda`, `torch.mps`, ...), found by the name of the
device type: nothing here, or above, knows one device from another by a literal.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from functools import cache
from types import ModuleType
from typing import get_args

import torch
import torch.nn.functional as F

from tts_infer.config import DTypeName
from tts_infer.errors import PlacementError, first_sentence

CPU = torch.device("cpu")
DTYPES: dict[DTypeName, torch.dtype] = {name: getattr(torch, name) for name in get_args(DTypeName)}
# In the order of preference of device="auto".
ACCELERATORS = ("cuda", "mps", "xpu")

_locks: dict[torch.device, threading.RLock] = {}
_locks_guard = threading.Lock()


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
    """A device by name, with its index; "auto" is the first accelerator, or the CPU; "accelerator" insists on one.

    Raises:
        PlacementError: no such device type, or this machine has none (or not so many) of it.
    """
    accelerators = available_devices()[1:]
    if name == "accelerator" and not accelerators:
        raise PlacementError("an accelerator is asked for, but this machine has none; use device 'cpu'")
    if name in ("auto", "accelerator"):
        name = (*accelerators, "cpu")[0]
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError):
        raise PlacementError(f"device {name!r} is unknown; here: {', '.join(available_devices())}") from None
    if (device.index or 0) >= device_count(device.type):
        raise PlacementError(f"device '{device}' is not available; here: {', '.join(available_devices())}")
    return CPU if device.type == "cpu" else torch.device(device.type, device.index or 0)


def synchronise(device: torch.device) -> None:
    """Wait until everything queued on `device` is done."""
    module = device_module(device)
    if module is None:
        return
    # without a name, it is the current device that is waited for; where there is but one, it has no name
    module.synchronize(*[device] if hasattr(module, "set_device") else [])


def release_memory(device: torch.device) -> None:
    """Give cached memory of an accelerator back to the system, where that is possible."""
    module = device_module(device)
    if module is not None and hasattr(module, "empty_cache"):
        # torch refuses while a graph is recorded, and for good after a recording has failed
        with device_lock(device), suppress(RuntimeError):
            module.empty_cache()


def precision(device: torch.device, dtype: DTypeName = "float32") -> torch.autocast | nullcontext[None]:
    """Compute matrix products on `device` in `dtype`, whatever the caller's autocast says.

    Norms and residual sums stay in float32.
    """
    if dtype != "float32":
        # what it would keep of the weights ends with it, and so before a graph that reads that
        return torch.autocast(device.type, DTYPES[dtype], cache_enabled=False)
    # torch 2.4 knows no autocast on MPS, and raises when it is asked about it
    around = torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type)
    return torch.autocast(device.type, enabled=False) if around else nullcontext()


@cache
def dtype_refusal(device: torch.device, dtype: DTypeName) -> str | None:
    """Why matrix products in `dtype` are no use on `device`; None where they are."""
    if dtype == "float32":
        return None
    if device.type == "cpu":
        if dtype == "float16":
            return "slow and incomplete on the CPU"
        native = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
        return None if native else "slow on this CPU, which has no instructions for it"
    emulates = getattr(device_module(device), "is_bf16_supported", None)  # CUDA and XPU know; the others are tried
    if dtype == "bfloat16" and emulates is not None and not emulates(including_emulation=False):
        return f"slow on {device}, which has no instructions for it"
    try:
        with device_lock(device), precision(device, dtype), torch.inference_mode():
            x = torch.ones(1, 8, 8, device=device)
            F.linear(F.conv1d(x, x.expand(8, 8, 8)), x[0, :, :1])
            synchronise(device)
    except (RuntimeError, NotImplementedError, TypeError) as error:  # whatever a backend refuses with
        return f"not supported on {device} ({first_sentence(error)})"
    return None


def require_dtype(device: torch.device, dtype: DTypeName) -> None:
    """Refuse a dtype that is unknown or no use on a device.

    Raises:
        PlacementError: says why.
    """
    if dtype not in DTYPES:
        raise PlacementError(f"dtype {dtype!r} is unknown; allowed: {', '.join(DTYPES)}")
    refusal = dtype_refusal(device, dtype)
    if refusal:
        better = [name for name in reversed(DTYPES) if dtype_refusal(device, name) is None]
        raise PlacementError(f"dtype {dtype!r} is {refusal}; use {' or '.join(map(repr, better))}")


def device_lock(*devices: torch.device) -> AbstractContextManager[None]:
    """Hold the process-wide lock of every accelerator among `devices`; the CPU is never locked.

    Two threads that encode work for one MPS device can crash the process (pytorch#197805), and web servers run their
    handlers in threads. Locks are taken in one global order, so two holders cannot wait for each other.
    """
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
