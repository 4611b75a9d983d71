"""Proof of a stage: does a device compute what the CPU computes, and how fast?

Devices have returned wrong numbers without a word (on MPS: depthwise convolutions, layer_norm on a slice, linear on
non-contiguous weights, irfft). So before a device is trusted, each stage runs there and on the CPU, on a small input
that is the same on every machine, with weights of the size that the field's usual vocoder has.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from functools import cache
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from tts_infer.config import BackboneConfig, DTypeName, HeadConfig, MelConfig, SpectralMethod
from tts_infer.devices import CPU, exclusive, first_sentence, precision, synchronise
from tts_infer.mel import LogMel
from tts_infer.model import ISTFTHead, VocosBackbone, make_istft

Stage = Literal["mel", "backbone", "head", "istft"]
Method = Literal["matmul", "fft", "torch"]  # "torch" where there is no choice
STAGES: tuple[Stage, ...] = get_args(Stage)

# Largest difference from the CPU in float32, relative to the largest value there. float32 leaves room for TF32, which
# cuDNN uses for convolutions unless told otherwise (10 bits); a wrong kernel is off by 0.1 and more. The half
# precisions carry 8 and 11 bits through eight blocks.
TOLERANCE: dict[DTypeName, float] = {"float32": 2e-3, "bfloat16": 5e-2, "float16": 1e-2}

_BATCH, _FRAMES = 2, 47  # more than one item, since batches have been wrong where single items were right; 1 s in all
_REPEATS, _ENOUGH_MS = 5, 100.0


@dataclass(frozen=True)
class StageCheck:
    """How one stage does on one device."""

    stage: Stage
    device: torch.device
    method: Method
    error: float  # largest difference from the CPU, relative to the CPU's largest value; inf if it does not run
    tolerance: float
    ms: float  # for 1 s of audio, moving operands from and to the device that asks included; inf if it does not run
    failure: str = ""  # what was raised, if it does not run

    @property
    def right(self) -> bool:
        return self.error <= self.tolerance  # false for NaN, too

    def __str__(self) -> str:
        where = f"{self.stage} on {self.device} by {self.method}"
        if self.failure:
            return f"{where} fails: {self.failure}"
        return f"{where} differs from the CPU by {self.error:.1e} of the peak (allowed {self.tolerance:.0e})"


def check_stage(
    stage: Stage, device: torch.device, method: Method, dtype: DTypeName = "float32", home: torch.device = CPU
) -> StageCheck:
    """Run one stage on a device, compare it with the CPU and time it.

    Args:
        stage, device, method, dtype: what to run, where and how. The spectral stages are always float32.
        home: where the operands come from and the result goes to, which is what the time includes.

    Returns:
        The check, also when the stage raises there: then `failure` says what.
    """
    used: DTypeName = dtype if stage in ("backbone", "head") else "float32"
    expected = _expected(stage)
    with exclusive(device, home), torch.inference_mode():
        try:
            module = _module(stage, method).to(device)
            operands = [t.to(home) for t in _operands(stage)]
            result = _run(module, operands, device, used, home)
            ms = _fastest(module, operands, device, used, home)
            error = max(_difference(got.to(CPU), want) for got, want in zip(result, expected, strict=True))
        except (RuntimeError, NotImplementedError, TypeError) as failure:  # whatever a backend refuses with
            return StageCheck(stage, device, method, math.inf, TOLERANCE[used], math.inf, first_sentence(failure))
    return StageCheck(stage, device, method, error, TOLERANCE[used], ms)


def _run(
    module: nn.Module, operands: list[Tensor], device: torch.device, dtype: DTypeName, home: torch.device
) -> list[Tensor]:
    with precision(device, dtype):
        result = module(*(t.to(device) for t in operands))
    return [t.to(home) for t in (result if isinstance(result, tuple) else (result,))]


def _fastest(
    module: nn.Module, operands: list[Tensor], device: torch.device, dtype: DTypeName, home: torch.device
) -> float:
    """The shortest of a few runs in ms: the one that other work on the machine disturbed least."""
    times: list[float] = []
    while len(times) < _REPEATS and sum(times) < _ENOUGH_MS:
        synchronise(home)
        start = time.perf_counter()
        _run(module, operands, device, dtype, home)
        synchronise(device)
        synchronise(home)
        times.append((time.perf_counter() - start) * 1e3)
    return min(times)


def _difference(got: Tensor, want: Tensor) -> float:
    if got.shape != want.shape:
        return math.inf
    return float((got.float() - want).abs().max() / want.abs().max())


def _module(stage: Stage, method: Method) -> nn.Module:
    """The stage as the default `VocoderConfig` describes it, with made-up weights.

    Nothing is drawn: neither does a check disturb the process's random numbers, nor do two machines differ.
    """
    spectral: SpectralMethod = "matmul" if method == "torch" else method
    if stage == "mel":
        return LogMel(MelConfig(), spectral)
    if stage == "istft":
        return make_istft(HeadConfig(padding="center"), spectral)
    with torch.device("meta"):
        module = VocosBackbone(BackboneConfig()) if stage == "backbone" else ISTFTHead(HeadConfig(), "fft")
    weights = {name: _weight(name, parameter) for name, parameter in module.state_dict().items()}
    module.load_state_dict(weights, assign=True)
    return module.requires_grad_(False)


def _weight(name: str, like: Tensor) -> Tensor:
    if like.ndim == 1:
        return torch.ones(like.shape) if name.endswith("norm.weight") else _wave(*like.shape) * 0.1
    return _wave(*like.shape) * math.sqrt(2 / like[0].numel())


@cache
def _operands(stage: Stage) -> tuple[Tensor, ...]:
    """What the stage is fed: full-band, each item different, of the magnitude that it has in a vocoder."""
    hidden, bins = BackboneConfig().dim, HeadConfig().n_fft // 2 + 1
    shapes: dict[Stage, tuple[tuple[int, ...], ...]] = {
        "mel": ((_BATCH, _FRAMES * HeadConfig().hop_length),),
        "backbone": ((_BATCH, BackboneConfig().input_channels, _FRAMES),),
        "head": ((_BATCH, _FRAMES, hidden),),
        "istft": ((_BATCH, bins, _FRAMES), (_BATCH, bins, _FRAMES)),
    }
    return tuple(_wave(*shape) for shape in shapes[stage])


def _wave(*shape: int) -> Tensor:
    """Values between -1 and 1 without any pattern, the same everywhere: sin(n^2), n^2 reduced while an integer."""
    n = torch.arange(math.prod(shape), dtype=torch.int64)
    return torch.sin((n * n % 99991).float()).reshape(shape)


@cache
def _expected(stage: Stage) -> list[Tensor]:
    method: Method = "fft" if stage in ("mel", "istft") else "torch"
    with torch.inference_mode():
        return _run(_module(stage, method), list(_operands(stage)), CPU, "float32", CPU)
