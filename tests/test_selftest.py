"""A stage is proved, and a wrong one is found out."""

from __future__ import annotations

import math

import pytest
import torch

from tests.emulated_device import emulated
from tts_infer.devices import CPU, dtype_refusal
from tts_infer.runtime.selftest import STAGES, TOLERANCE, Method, Stage, StageTrial

EVERY: list[tuple[Stage, Method]] = [
    ("mel", "matmul"),
    ("mel", "fft"),
    ("backbone", "torch"),
    ("head", "torch"),
    ("istft", "matmul"),
    ("istft", "fft"),
]


def emu() -> torch.device:
    return torch.device("emu", 0)


@pytest.mark.parametrize(("stage", "method"), EVERY)
def test_right_stages_pass(stage: Stage, method: Method) -> None:
    with emulated():
        there = StageTrial(stage, emu(), method, home=emu()).check()
    here = StageTrial(stage, CPU, method).check()
    # float32 sums in another order, far below the tolerance for TF32
    assert there.right and here.right and max(there.error, here.error) < 1e-5
    assert 0 < here.ms < math.inf and there.failure == ""


@pytest.mark.parametrize(
    ("stage", "method", "operator"),
    [
        ("mel", "matmul", "mm"),
        ("mel", "fft", "_fft_r2c"),
        ("backbone", "torch", "native_layer_norm"),
        ("backbone", "torch", "linear"),
        ("backbone", "torch", "gelu"),
        ("backbone", "torch", "convolution"),
        ("head", "torch", "sin"),
        ("istft", "matmul", "bmm"),
        ("istft", "fft", "_fft_c2r"),
    ],
)
def test_silent_errors_are_found(stage: Stage, method: Method, operator: str) -> None:
    """Each of these operators, its values in the wrong places: found with a factor of ten to spare."""
    with emulated(corrupt=operator):
        check = StageTrial(stage, emu(), method, home=emu()).check()
    assert not check.right and 10 * TOLERANCE["float32"] < check.error < math.inf
    assert f"{stage} on emu:0 by {method} differs from the CPU by {check.error:.1e}" in str(check)


def test_refused_operators_are_reported() -> None:
    with emulated("2.4.1", refuse="gelu"):
        check = StageTrial("backbone", emu(), "torch", home=emu()).check()
    assert not check.right and check.error == check.ms == math.inf
    assert str(check) == (
        "backbone on emu:0 by torch fails: The operator 'aten::gelu' is not currently implemented for the MPS device"
    )


@pytest.mark.skipif(dtype_refusal(CPU, "bfloat16") is not None, reason="no bfloat16 instructions")
def test_half_precision_has_its_own_tolerance() -> None:
    check = StageTrial("backbone", CPU, "torch", "bfloat16").check()
    assert check.tolerance == TOLERANCE["bfloat16"] and check.right
    assert check.error > TOLERANCE["float32"] / 10  # it was computed in bfloat16
    assert StageTrial("istft", CPU, "matmul", "bfloat16").check().tolerance == TOLERANCE["float32"]  # always float32


def test_random_numbers_of_the_process_are_left_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    for stage, method in EVERY:
        StageTrial(stage, CPU, method).check()
    assert torch.equal(torch.rand(1), expected)


def test_every_stage_is_covered() -> None:
    assert {stage for stage, _ in EVERY} == set(STAGES)
