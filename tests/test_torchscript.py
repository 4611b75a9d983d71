"""Networks as one call of TorchScript: the bits of the networks, for every kind of arguments and every length."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from tts_infer.engines import torchscript
from tts_infer.engines.onednn import PackedBackbone, PackedHead, PackedLinear, unsupported_reason
from tts_infer.engines.torchscript import RECORDED_CALL, OneCall
from tts_infer.vocoders.heads import HeadConfig, ISTFTHead
from tts_infer.vocoders.vocos import BackboneConfig, VocosBackbone

pytestmark = pytest.mark.skipif(unsupported_reason("float32") is not None, reason=str(unsupported_reason("float32")))
CHANNELS, DIM, CHOICES = 20, 32, 4


@pytest.fixture(params=["float32", "bfloat16"])
def backbone(request: pytest.FixtureRequest) -> PackedBackbone:
    if (reason := unsupported_reason(request.param)) is not None:
        pytest.skip(reason)
    return packed_backbone(request.param)


def packed_backbone(dtype: Any = "float32", choices: int | None = None) -> PackedBackbone:
    torch.manual_seed(0)
    config = BackboneConfig(CHANNELS, DIM, 3 * DIM, 3, adanorm_num_embeddings=choices)
    return PackedBackbone(VocosBackbone(config).eval().requires_grad_(False), dtype)


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def history(network: PackedBackbone, batch: int) -> tuple[Tensor, ...]:
    return tuple(noise(batch, 2 * reach, CHANNELS if i == 0 else DIM) for i, reach in enumerate(network.reaches))


def flat(results: Any) -> list[Tensor]:
    return list(torchscript._flat(results))


def require_same(network: Any, call: OneCall, *given: Any) -> None:
    expected, got = flat(network(*given)), flat(call(*given))
    assert len(got) == len(expected) and all(map(torch.equal, got, expected))


def warm(call: OneCall, *given: Any) -> None:
    for _ in range(RECORDED_CALL):
        call(*given)


def is_recorded(call: OneCall) -> list[bool]:
    return [isinstance(one, torch.jit.ScriptModule) for one in call._calls.values()]


# Whole signals, several lengths in one batch, the beginning of a stream, and its later pieces.
def whole(network: PackedBackbone, batch: int, frames: int) -> tuple[Any, ...]:
    return noise(batch, CHANNELS, frames), None, None


def ragged(network: PackedBackbone, batch: int, frames: int) -> tuple[Any, ...]:
    valid = torch.ones(batch, frames, 1)
    valid[-1, frames // 2 :] = 0
    return noise(batch, CHANNELS, frames), valid, None


def beginning(network: PackedBackbone, batch: int, frames: int) -> tuple[Any, ...]:
    lag = sum(network.reaches[:-1])
    valid = torch.cat([torch.zeros(batch, lag, 1), torch.ones(batch, frames, 1)], dim=1)
    return noise(batch, CHANNELS, frames), valid, history(network, batch)


def later(network: PackedBackbone, batch: int, frames: int) -> tuple[Any, ...]:
    return noise(batch, CHANNELS, frames), None, history(network, batch)


@torch.inference_mode()
@pytest.mark.parametrize("first", [1, 40])  # a recording serves lengths other than its own
@pytest.mark.parametrize("kind", [whole, ragged, beginning, later])
def test_a_recording_has_the_bits_of_the_network(
    kind: Callable[..., tuple[Any, ...]], first: int, backbone: PackedBackbone
) -> None:
    call = OneCall(backbone)
    warm(call, *kind(backbone, 2, first))
    assert is_recorded(call) == [True]
    for batch, frames in ((1, 1), (1, 2), (1, 7), (3, 8), (1, 9), (2, 94), (1, 300)):
        require_same(backbone, call, *kind(backbone, batch, frames))
    assert is_recorded(call) == [True]


@torch.inference_mode()
def test_kinds_are_recorded_apart(backbone: PackedBackbone) -> None:
    call = OneCall(backbone)
    for kind in (whole, ragged, beginning, later):
        warm(call, *kind(backbone, 1, 12))
    assert is_recorded(call) == [True] * 4
    for kind in (later, beginning, ragged, whole):
        require_same(backbone, call, *kind(backbone, 2, 11))


@torch.inference_mode()
@pytest.mark.parametrize("numbers", [torch.tensor([2]), torch.tensor([0, 3])])
def test_numbers_that_choose(numbers: Tensor) -> None:
    backbone = packed_backbone(choices=CHOICES)
    call = OneCall(backbone)
    warm(call, noise(2, CHANNELS, 12), None, None, numbers)
    assert is_recorded(call) == [True]
    for chosen in (numbers, torch.tensor([1, 0]), torch.tensor([3])):
        require_same(backbone, call, noise(2, CHANNELS, 30), None, None, chosen)


@torch.inference_mode()
def test_heads() -> None:
    head = PackedHead(ISTFTHead(HeadConfig(DIM, 64, 16)).eval().requires_grad_(False), "float32")
    call = OneCall(head)
    warm(call, noise(1, 30, DIM))
    assert is_recorded(call) == [True]
    for batch, frames in ((1, 1), (3, 10), (1, 100)):
        require_same(head, call, noise(batch, frames, DIM))


@torch.inference_mode()
def test_networks_are_recorded_at_the_fourth_call(backbone: PackedBackbone) -> None:
    call = OneCall(backbone)
    for _ in range(RECORDED_CALL - 1):
        call(noise(1, CHANNELS, 10))
    assert is_recorded(call) == []
    call(noise(1, CHANNELS, 10))
    assert is_recorded(call) == [True]


@torch.inference_mode()
def test_what_differs_by_a_bit_is_not_used(monkeypatch: pytest.MonkeyPatch, backbone: PackedBackbone) -> None:
    """A network that computes something else when it is recorded."""
    right = PackedLinear.gelu

    def wrong(layer: PackedLinear, x: Tensor) -> Tensor:
        return right(layer, x) * (1 + 2**-7 if torch.jit.is_tracing() else 1)

    monkeypatch.setattr(PackedLinear, "gelu", wrong)
    call = OneCall(backbone)
    warm(call, *whole(backbone, 1, 12))
    assert is_recorded(call) == [False]
    require_same(backbone, call, *whole(backbone, 1, 12))


@torch.inference_mode()
def test_what_cannot_be_recorded_runs_as_before(monkeypatch: pytest.MonkeyPatch, backbone: PackedBackbone) -> None:
    monkeypatch.setattr(PackedBackbone, "packed_weights", lambda self: [])  # torch refuses those that are no buffers
    call = OneCall(backbone)
    warm(call, *whole(backbone, 1, 12))
    assert is_recorded(call) == [False]
    require_same(backbone, call, *whole(backbone, 1, 12))


@torch.inference_mode()
@pytest.mark.parametrize("action", ["error", "always"])
def test_a_recording_says_nothing(action: Any, backbone: PackedBackbone) -> None:
    """Not even to a program that makes errors of all warnings, with a torch that warns of this way to record."""
    call = OneCall(backbone)
    with warnings.catch_warnings(record=action == "always") as said:
        warnings.simplefilter(action)
        warm(call, *whole(backbone, 1, 12))
    assert is_recorded(call) == [True] and not said


@torch.inference_mode()
def test_a_recording_keeps_the_filters_of_warnings(backbone: PackedBackbone) -> None:
    """They are of all threads: who takes one away, for a moment only, takes it from a thread that does the same."""
    call, before, seen = OneCall(backbone), list(warnings.filters), []

    def equal(*both: Tensor) -> bool:  # in the middle of a recording
        seen.append([one for one in warnings.filters if one in before] == before)
        return torch.ops.aten.equal(*both)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torchscript.torch, "equal", equal)
        warm(call, *whole(backbone, 1, 12))
    after = [one for one in warnings.filters if one in before]
    assert seen and all(seen) and after == before


@torch.inference_mode()
def test_nobody_waits_for_a_recording(backbone: PackedBackbone) -> None:
    """Another thread records, or did when this process was forked."""
    call = OneCall(backbone)
    with torchscript._recording:
        warm(call, *whole(backbone, 1, 12))
        assert is_recorded(call) == []
    call(*whole(backbone, 1, 12))
    assert is_recorded(call) == [True]


def test_who_records_it_gets_its_operators() -> None:
    head = PackedHead(ISTFTHead(HeadConfig(DIM, 64, 16)).eval().requires_grad_(False), "float32")
    call, weights = OneCall(head), head.packed_weights()

    class Caller(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for i, weight in enumerate(weights):
                self.register_buffer(str(i), weight)

        def forward(self, hidden: Tensor) -> Any:
            return call(hidden)

    with torch.no_grad():
        warm(call, noise(1, 9, DIM))
        recorded = torch.jit.trace(Caller(), noise(1, 9, DIM))
        assert all(map(torch.equal, recorded(noise(2, 30, DIM)), head(noise(2, 30, DIM))))
