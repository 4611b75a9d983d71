"""Devices by name: which there are, waiting for one, sharing one between threads, moving a tensor to one.

Every accelerator is reached through its own torch module (`torch.cuda`, `torch.mps`, ...), found by the name of the
device type: nothing here, or above, knows one device from another by a literal.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import ModuleType

import torch

from tts_infer.errors import PlacementError

CPU = torch.device("cpu")
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
    except RuntimeError:
        raise PlacementError(f"device {name!r} is unknown; here: {', '.join(available_devices())}") from None
    if (device.index or 0) >= device_count(device.type):
        raise PlacementError(f"device '{device}' is not available; here: {', '.join(available_devices())}")
    return CPU if device.type == "cpu" else torch.device(device.type, device.index or 0)


def synchronise(device: torch.device) -> None:
    """Wait until everything queued on `device` is done."""
    module = device_module(device)
    if module is not None:
        module.synchronize()


def release_memory(device: torch.device) -> None:
    """Give cached memory of an accelerator back to the system."""
    module = device_module(device)
    if module is not None and hasattr(module, "empty_cache"):
        module.empty_cache()


@contextmanager
def exclusive(*devices: torch.device) -> Iterator[None]:
    """Hold the process-wide lock of every accelerator among `devices`; the CPU is never locked.

    Two threads that encode work for one MPS device can crash the process (pytorch#197805), and web servers run their
    handlers in threads. Locks are taken in one global order, so two holders cannot wait for each other.
    """
    with ExitStack() as stack:
        for device in sorted({d for d in devices if d.type != "cpu"}, key=str):
            with _locks_guard:
                lock = _locks.setdefault(device, threading.RLock())
            stack.enter_context(lock)
        yield
