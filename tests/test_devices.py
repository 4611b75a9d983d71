"""Devices by name, one user at a time, and the dtypes that they are good at."""

from __future__ import annotations

import threading

import pytest
import torch

import tts_infer
from tests.emulated_device import emulated
from tts_infer.devices import (
    ACCELERATORS,
    CPU,
    available_devices,
    device_lock,
    dtype_refusal,
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
        ("xpu:9", "device 'xpu:9' is not available; here: cpu"),
    ],
)
def test_unknown_devices_are_refused(name: str, message: str) -> None:
    with pytest.raises(PlacementError, match=message):
        resolve_device(name)


@pytest.mark.skipif(torch.xpu.is_available(), reason="this machine has an Intel GPU")
def test_xpu_is_a_device_that_this_machine_lacks() -> None:
    with pytest.raises(PlacementError, match=r"^device 'xpu' is not available; here: cpu") as caught:
        tts_infer.load_vocoder(device="xpu")
    assert "\n" not in str(caught.value)
    assert "xpu" in ACCELERATORS and not [name for name in available_devices() if name.startswith("xpu")]


@pytest.mark.parametrize("has", [True, False])
@pytest.mark.parametrize("names", [["including_emulation"], []], ids=["of today", "of torch 2.6"])
def test_modules_are_asked_for_bfloat16_as_they_take_it(
    has: bool, names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`torch.xpu.is_bf16_supported` has had its argument only since a later release."""
    asked: list[bool] = []

    def today(including_emulation: bool = True) -> bool:
        asked.append(including_emulation)
        return has

    dtype_refusal.cache_clear()
    with emulated():
        said = today if names else lambda: has
        monkeypatch.setattr(torch.emu, "is_bf16_supported", said, raising=False)  # type: ignore[attr-defined]
        refusal = dtype_refusal(torch.device("emu", 0), "bfloat16")
    dtype_refusal.cache_clear()
    assert ("no instructions" in str(refusal)) == (not has) and asked == [False] * len(names)


def _blocked(*devices: torch.device) -> bool:
    """Whether another thread has to wait for one of the devices. It goes on waiting."""

    def enter() -> None:
        with device_lock(*devices):
            pass

    attempt = threading.Thread(target=enter, daemon=True)
    attempt.start()
    attempt.join(timeout=0.2)
    return attempt.is_alive()


def test_an_accelerator_has_one_user_and_the_cpu_many() -> None:
    first, second = torch.device("emu", 0), torch.device("emu", 1)
    with device_lock(first, CPU):
        assert [_blocked(CPU), _blocked(second), _blocked(first), _blocked(first, CPU)] == [False, False, True, True]
    assert not _blocked(first)


def test_every_device_is_held() -> None:
    first, second = torch.device("emu", 3), torch.device("emu", 4)
    with device_lock(second, CPU, first):
        assert _blocked(first) and _blocked(second)


def test_one_thread_may_take_a_device_twice() -> None:
    def twice() -> None:
        with device_lock(torch.device("emu", 2)), device_lock(torch.device("emu", 2)):
            pass

    attempt = threading.Thread(target=twice, daemon=True)
    attempt.start()
    attempt.join(timeout=5)
    assert not attempt.is_alive()


def test_locks_are_taken_in_one_order() -> None:
    """Who waits for the first device does not hold the second meanwhile, whatever order it named them in."""
    first, second = torch.device("emu", 0), torch.device("emu", 1)
    with device_lock(first):
        assert _blocked(second, first)
        assert not _blocked(second)


def test_memory_and_waiting() -> None:
    with emulated() as device:
        release_memory(torch.device("emu", 0))
        release_memory(CPU)
        synchronise(torch.device("emu", 0))
        synchronise(CPU)
        assert (device.emptied, device.synchronised) == (1, 1)


def test_memory_that_cannot_be_given_back_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise RuntimeError("captures_underway.empty() INTERNAL ASSERT FAILED")

    with emulated():
        monkeypatch.setattr(torch.emu, "empty_cache", refuse)  # type: ignore[attr-defined]
        release_memory(torch.device("emu", 0))


def test_the_device_that_is_named_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """`torch.cuda.synchronize()` would wait for the current one; `torch.mps.synchronize` takes no name."""
    waited: list[tuple[torch.device, ...]] = []
    monkeypatch.setattr(torch.emu, "synchronize", lambda *device: waited.append(device))  # type: ignore[attr-defined]
    with emulated():
        synchronise(torch.device("emu", 1))
        monkeypatch.setattr(torch.emu, "set_device", print, raising=False)  # type: ignore[attr-defined]
        synchronise(torch.device("emu", 1))
    assert waited == [(), (torch.device("emu", 1),)]


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
