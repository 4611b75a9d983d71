"""Proof of a stage: does a device compute what the CPU computes, and how fast?

Devices have returned wrong numbers without a word (on MPS: depthwise convolutions, layer_norm on a slice, linear on
non-contiguous weights, irfft). So before a device is trusted, each stage runs there and on the CPU, on a small input
that is the same on every machine, with layers of the size that the field's usual vocoder has.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor, nn

from tts_infer.config import BackboneConfig, DTypeName, HeadConfig, MelConfig, SpectralMethod
from tts_infer.devices import CPU, device_lock, precision, synchronise
from tts_infer.dsp.mel import LogMel
from tts_infer.engines.cuda_graphs import Replayed
from tts_infer.engines.onednn import PackedBackbone, PackedHead
from tts_infer.engines.relative_error import relative_error
from tts_infer.errors import first_sentence
from tts_infer.vocoders.vocos import ISTFTHead, VocosBackbone, make_istft

Stage = Literal["mel", "backbone", "head", "istft"]
# The first two of the spectral stages, the others of the rest: "torch" is the modules as they are; "graph" too, but for
# short inputs they, and the stages after them, are replayed.
Method = Literal["matmul", "fft", "packed", "graph", "torch"]
STAGES: tuple[Stage, ...] = get_args(Stage)

# Largest difference from the CPU in float32, relative to the largest value there. float32 leaves room for TF32, which
# cuDNN uses for convolutions unless told otherwise (10 bits: 3e-4); a wrong kernel is off by 0.1 and more. The half
# precisions have 8 and 11 bits.
TOLERANCE: dict[DTypeName, float] = {"float32": 2e-3, "bfloat16": 5e-2, "float16": 1e-2}

_BATCH, _FRAMES = 2, 23  # half a second; two items, since batches have been wrong where single items were right
_REPEATS, _ROUNDS = 2, 5


@dataclass(frozen=True)
class StageCheck:
    """How one stage does on one device."""

    stage: Stage
    device: torch.device
    method: Method
    error: float  # largest difference from the CPU, relative to the CPU's largest value; inf if it does not run
    tolerance: float
    ms: float  # for half a second of audio, moving it from and to the device that asks included; inf if it does not run
    failure: str = ""  # what was raised, if it does not run

    @property
    def right(self) -> bool:
        return self.error <= self.tolerance  # false for NaN, too

    def __str__(self) -> str:
        where = f"{self.stage} on {self.device} by {self.method}"
        if self.failure:
            return f"{where} fails: {self.failure}"
        return f"{where} differs from the CPU by {self.error:.1e} of the peak (allowed {self.tolerance:.0e})"


class StageTrial:
    """One way of running a stage, ready to be checked and timed.

    Args:
        stage, device, method, dtype: what to run, where and how. The spectral stages are always float32.
        home: where the operands come from and the result goes to; times include moving them.
    """

    def __init__(
        self, stage: Stage, device: torch.device, method: Method, dtype: DTypeName = "float32", home: torch.device = CPU
    ) -> None:
        self.stage, self.device, self.method, self.home = stage, device, method, home
        self.dtype: DTypeName = dtype if stage in ("backbone", "head") else "float32"

    def check(self) -> StageCheck:
        """Compare the stage with the CPU. If it raises on its device, `failure` of the check says what."""
        about = self.stage, self.device, self.method
        tolerance, expected = TOLERANCE[self.dtype], _expected(self.stage)
        try:
            with device_lock(self.device, self.home), torch.inference_mode():
                error = relative_error(self._first(), expected)
            ms = min(self.once_ms() for _ in range(_REPEATS))  # other work on the machine disturbs the others more
        except (RuntimeError, NotImplementedError, TypeError) as failure:  # whatever a backend refuses with
            return StageCheck(*about, math.inf, tolerance, math.inf, first_sentence(failure))
        return StageCheck(*about, error, tolerance, ms)

    def once_ms(self) -> float:
        """Time one run."""
        with device_lock(self.device, self.home), torch.inference_mode():
            synchronise(self.home)
            start = time.perf_counter()
            self._run()
            synchronise(self.device)
            synchronise(self.home)
            return (time.perf_counter() - start) * 1e3

    def beats(self, other: StageTrial, margin: float) -> bool:
        """Whether this is faster than the other by a factor, in every one of several rounds.

        Each round runs both, so that what else the machine does strikes both; to win every round by luck is unlikely.
        """
        return all(self.once_ms() * margin < other.once_ms() for _ in range(_ROUNDS))

    @cached_property
    def _prepared(self) -> tuple[Callable[..., Any], list[Tensor]]:
        module = stage_module(_module(self.stage, self.method).to(self.device), self.method, self.dtype)
        if self.method == "graph":
            module = Replayed(module, self.device, TOLERANCE[self.dtype])
        return module, [t.to(self.home) for t in _operands(self.stage)]

    def _first(self) -> tuple[Tensor, ...]:
        """The result to judge; of graphs, that of a replay, which is what a third call is.

        Raises:
            RuntimeError: nothing could be recorded.
        """
        if self.method == "graph":
            self._run()
            self._run()
            refusal = cast(Replayed, self._prepared[0]).refusal
            if refusal:
                raise RuntimeError(refusal)
        return tuple(result.to(CPU) for result in self._run())

    def _run(self) -> tuple[Tensor, ...]:
        module, operands = self._prepared
        # packed products see to their precision themselves
        with nullcontext() if self.method == "packed" else precision(self.device, self.dtype):
            result = module(*(t.to(self.device) for t in operands))
        return tuple(t.to(self.home) for t in (result if isinstance(result, tuple) else (result,)))


def _module(stage: Stage, method: Method) -> nn.Module:
    """The stage as the default `VocoderConfig` describes it, with made-up weights.

    Nothing is drawn: neither does a check disturb the process's random numbers, nor do two machines differ.
    """
    spectral = cast(SpectralMethod, method)
    if stage == "mel":
        return LogMel(MelConfig(), spectral)
    if stage == "istft":
        return make_istft(HeadConfig(padding="center"), spectral)
    with torch.device("meta"):
        # two layers: the others are like the second
        module = VocosBackbone(BackboneConfig(num_layers=2)) if stage == "backbone" else ISTFTHead(HeadConfig(), "fft")
    weights = {name: _weight(name, parameter) for name, parameter in module.state_dict().items()}
    module.load_state_dict(weights, assign=True)
    return module.requires_grad_(False)


def stage_module(module: nn.Module, method: Method, dtype: DTypeName) -> Any:
    """The modules of a stage as they are, or what computes the same by packed products."""
    if method != "packed":
        return module
    if isinstance(module, VocosBackbone):
        return PackedBackbone(module, dtype)
    return PackedHead(cast(ISTFTHead, module), dtype)


def _weight(name: str, like: Tensor) -> Tensor:
    if like.ndim == 1:
        ones = torch.ones(like.shape, dtype=torch.float32, device=CPU)
        return ones if name.endswith("norm.weight") else _wave(*like.shape) * 0.1
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
    n = torch.arange(math.prod(shape), dtype=torch.int64, device=CPU)
    return torch.sin((n * n % 99991).float()).reshape(shape)


@cache
def _expected(stage: Stage) -> tuple[Tensor, ...]:
    method: Method = "fft" if stage in ("mel", "istft") else "torch"
    with torch.inference_mode():
        return StageTrial(stage, CPU, method)._run()
