"""A stage is proved, and a wrong one is found out."""

from __future__ import annotations

import math

import pytest
import torch

from tests.emulated_device import emulated
from tts_infer.config import DTypeName
from tts_infer.devices import CPU, dtype_refusal
from tts_infer.runtime.selftest import StageTrial, made_up
from tts_infer.stages import TOLERANCE
from tts_infer.vocoders import usual_stages

EVERY = [(stage.name, method) for stage in usual_stages() for method in stage.methods or ("",)]


def trial(
    name: str, device: torch.device, method: str = "", dtype: DTypeName = "float32", home: torch.device = CPU
) -> StageTrial:
    stage = next(stage for stage in usual_stages() if stage.name == name)
    return StageTrial(stage, device, "torch", method, dtype, home)


def emu() -> torch.device:
    return torch.device("emu", 0)


@pytest.mark.parametrize(("stage", "method"), EVERY)
def test_right_stages_pass(stage: str, method: str) -> None:
    with emulated():
        there = trial(stage, emu(), method, home=emu()).check()
    here = trial(stage, CPU, method).check()
    # float32 sums in another order, far below the tolerance for TF32
    assert there.passed and here.passed and max(there.error, here.error) < 1e-5
    assert 0 < here.ms < math.inf and there.failure == ""


@pytest.mark.parametrize(
    ("stage", "method", "operator"),
    [
        ("mel", "matmul", "mm"),
        ("mel", "fft", "_fft_r2c"),
        ("backbone", "", "native_layer_norm"),
        ("backbone", "", "linear"),
        ("backbone", "", "gelu"),
        ("backbone", "", "convolution"),
        ("head", "", "sin"),
        ("istft", "matmul", "bmm"),
        ("refine", "matmul", "mm"),
        ("refine", "fft", "_fft_r2c"),
        ("istft", "fft", "_fft_c2r"),
    ],
)
def test_silent_errors_are_found(stage: str, method: str, operator: str) -> None:
    """Each of these operators, its values in the wrong places: found with a factor of ten to spare."""
    with emulated(corrupt=operator):
        check = trial(stage, emu(), method, home=emu()).check()
    assert not check.passed and 10 * TOLERANCE["float32"] < check.error < math.inf
    assert f"{stage} on emu:0 by {method or 'torch'} differs from the CPU by {check.error:.1e}" in str(check)


def test_refused_operators_are_reported() -> None:
    with emulated("2.4.1", refuse="gelu"):
        check = trial("backbone", emu(), home=emu()).check()
    assert not check.passed and check.error == check.ms == math.inf
    assert str(check) == (
        "backbone on emu:0 by torch fails: The operator 'aten::gelu' is not currently implemented for the MPS device"
    )


@pytest.mark.skipif(dtype_refusal(CPU, "bfloat16") is not None, reason="no bfloat16 instructions")
def test_half_precision_has_its_own_tolerance() -> None:
    check = trial("backbone", CPU, dtype="bfloat16").check()
    assert check.tolerance == TOLERANCE["bfloat16"] and check.passed
    assert check.error > TOLERANCE["float32"] / 10  # it was computed in bfloat16
    assert trial("istft", CPU, "matmul", "bfloat16").check().tolerance == TOLERANCE["float32"]  # always float32


def test_random_numbers_of_the_process_are_left_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    for stage, method in EVERY:
        trial(stage, CPU, method).check()
    assert torch.equal(torch.rand(1), expected)


def test_no_two_artificial_weights_are_alike() -> None:
    """ONNX Runtime stores equal weights once: with equal blocks, its graphs were a third faster than with real ones."""
    for stage in usual_stages():
        weights = [weight.numpy().tobytes() for weight in made_up(stage).module.parameters()]
        assert len(set(weights)) == len(weights)
