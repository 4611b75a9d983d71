"""Devices by name, one user at a time, and the dtypes that they are good at."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from tests.emulated_device import emulated
from tts_infer.devices import (
    CPU,
    available_devices,
    dtype_refusal,
    exclusive,
    precision,
    release_memory,
    require_dtype,
    resolve_device,
    synchronise,
)
from tts_infer.errors import PlacementError


def test_names() -> None:
    assert resolve_device("cpu") == resolve_device(torch.device("cpu")) == CPU
    assert resolve_device("emu") == resolve_device("emu:0") == torch.device("emu", 0)
    assert str(resolve_device("auto")) == [*available_devices()[1:], "cpu"][0]
    assert available_devices()[0] == "cpu"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gpu", "device 'gpu' is unknown; here: cpu"),
        ("", "device '' is unknown"),
        ("emu:1", "device 'emu:1' is not available; here: cpu"),
        ("meta", "device 'meta' is not available"),
    ],
)
def test_unknown_devices_are_refused(name: str, message: str) -> None:
    with pytest.raises(PlacementError, match=message):
        resolve_device(name)


def test_an_accelerator_has_one_user_and_the_cpu_many() -> None:
    first, second = torch.device("emu", 0), torch.device("emu", 1)
    blocked: list[bool] = []
    done = threading.Event()

    def hold() -> None:
        with exclusive(first, CPU), exclusive(first):  # one thread may take it twice
            started.set()
            done.wait(timeout=30)

    started = threading.Event()
    holder = threading.Thread(target=hold)
    holder.start()
    started.wait(timeout=30)
    for devices in ((CPU,), (second,), (first,), (second, first)):
        attempt = threading.Thread(target=lambda d=devices: _enter(d))
        attempt.start()
        attempt.join(timeout=0.2)
        blocked.append(attempt.is_alive())
    done.set()
    holder.join()
    assert blocked == [False, False, True, True]


def _enter(devices: tuple[torch.device, ...]) -> None:
    with exclusive(*devices):
        pass


def test_opposite_orders_do_not_deadlock() -> None:
    a, b = torch.device("emu", 0), torch.device("emu", 1)

    def enter(devices: tuple[torch.device, ...]) -> int:
        for _ in range(200):
            _enter(devices)
        return 1

    with ThreadPoolExecutor(2) as pool:
        assert sum(pool.map(enter, [(a, b), (b, a)], timeout=30)) == 2


def test_memory_and_waiting() -> None:
    with emulated() as device:
        release_memory(torch.device("emu", 0))
        release_memory(CPU)
        synchronise(torch.device("emu", 0))
        synchronise(CPU)
        assert device.emptied == 1


def test_dtypes() -> None:
    assert dtype_refusal(CPU, "float32") is None
    with pytest.raises(PlacementError, match="dtype 'float16' is slow and incomplete on the CPU; use .*'float32'"):
        require_dtype(CPU, "float16")
    with pytest.raises(PlacementError, match="dtype 'int8' is unknown; allowed: float32, bfloat16, float16"):
        require_dtype(CPU, "int8")  # type: ignore[arg-type]
    with emulated(), pytest.raises(PlacementError, match=r"not supported on emu:0 \(Could not run .*'float32'"):
        require_dtype(torch.device("emu", 0), "float16")


def test_precision_is_of_matrix_products_only() -> None:
    x = torch.ones(2, 2)
    with precision(CPU, "bfloat16"):
        assert (torch.mm(x, x).dtype, (x + x).dtype) == (torch.bfloat16, torch.float32)
    with precision(CPU, "float32"):
        assert torch.mm(x, x).dtype == torch.float32
