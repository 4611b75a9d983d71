"""Proof of a stage: does a device compute what the CPU computes, and how fast?

Devices have returned wrong numbers without a word (on MPS: depthwise convolutions, layer_norm on a slice, linear on
non-contiguous weights, irfft). So before a device or an engine is trusted, the stage runs there and by torch on the
CPU, on a small input that is the same on every machine, with layers of its own sizes and made-up weights.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Hashable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor, nn

from tts_infer.config import DTypeName
from tts_infer.devices import CPU, device_lock, precision, synchronise
from tts_infer.engines import ENGINES
from tts_infer.errors import first_sentence
from tts_infer.stages import TOLERANCE, Stage, Tensors, relative_error, wave

_REPEATS, _ROUNDS = 2, 5
FEW_FRAMES = 10
_WARM_RUNS = 2  # what an engine records, it records by then

_made_up: dict[Hashable, Stage] = {}
_expected: dict[Hashable, Tensors] = {}


def clear() -> None:
    """Forget every input, weight and expected result."""
    _made_up.clear()
    _expected.clear()


@dataclass(frozen=True)
class StageCheck:
    """How one stage does on one device."""

    stage: str
    device: torch.device
    engine: str
    method: str
    error: float  # largest difference from the CPU, relative to the CPU's largest value; inf if it does not run
    tolerance: float
    ms: float  # for half a second of audio, moving it from and to the device that asks included; inf if it does not run
    failure: str = ""  # what was raised, if it does not run

    @property
    def passed(self) -> bool:
        return self.error <= self.tolerance  # false for NaN, too

    def __str__(self) -> str:
        where = f"{self.stage} on {self.device} by {self.method or self.engine}"
        if self.failure:
            return f"{where} fails: {self.failure}"
        return f"{where} differs from the CPU by {self.error:.1e} of the peak (allowed {self.tolerance:.0e})"


class StageTrial:
    """One way of running a stage, ready to be checked and timed.

    Args:
        stage: what to run; its weights do not matter.
        device, engine, method, dtype: where and how. Stages that are not `half` are always float32.
        home: where the operands come from and the result goes to; times include moving them.
    """

    def __init__(
        self,
        stage: Stage,
        device: torch.device,
        engine: str,
        method: str = "",
        dtype: DTypeName = "float32",
        home: torch.device = CPU,
    ) -> None:
        self.stage, self.device, self.engine, self.method, self.home = stage, device, engine, method, home
        self.few = False  # whether it runs on a few frames of the probe only
        self.dtype: DTypeName = dtype if stage.half else "float32"

    def check(self) -> StageCheck:
        """Compare the stage with the CPU. If it raises on its device, `failure` of the check says what."""
        about = self.stage.name, self.device, self.engine, self.method
        tolerance, expected = TOLERANCE[self.dtype], expected_result(self.stage, self.few)
        try:
            with device_lock(self.device, self.home), torch.inference_mode():
                for _ in range(_WARM_RUNS):
                    self._run()
                error = relative_error(tuple(result.to(CPU) for result in self._run()), expected)
            if self._prepared.failure:
                raise RuntimeError(self._prepared.failure)
            ms = min(self.once_ms() for _ in range(_REPEATS))  # other work on the machine disturbs the others more
        except (RuntimeError, NotImplementedError, TypeError) as failure:  # whatever a backend refuses with
            return StageCheck(*about, math.inf, tolerance, math.inf, first_sentence(failure))
        return StageCheck(*about, error, tolerance, ms)

    def on_few_frames(self) -> StageTrial:
        """The same way of running the stage, on a few frames of one item."""
        other = copy.copy(self)
        other.few = True
        vars(other).pop("_operands", None)
        return other

    def once_ms(self) -> float:
        """Time one run."""
        with device_lock(self.device, self.home), torch.inference_mode():
            synchronise(self.home)
            start = time.perf_counter()
            self._run()
            synchronise(self.device)
            synchronise(self.home)
            return (time.perf_counter() - start) * 1e3

    def is_faster_than(self, other: StageTrial, margin: float) -> bool:
        """Whether this is faster than the other by a factor, in every one of several rounds.

        Each round runs both, so that what else the machine does strikes both; to win every round by luck is unlikely.
        """
        return all(self.once_ms() * margin < other.once_ms() for _ in range(_ROUNDS))

    @cached_property
    def _prepared(self) -> Stage:
        stage = _with_made_up_weights(self.stage)
        if self.method:
            stage = stage.by(self.method)
        own = copy.deepcopy(stage.module)  # moved and packed here; the next trial begins from the CPU
        return ENGINES[self.engine].prepare(stage.using(own), self.device, self.dtype)

    @cached_property
    def _operands(self) -> Tensors:
        operands = self.stage.probe()
        if self.few:
            axis = self.stage.frame_axis
            operands = tuple(x[:1].narrow(axis, 0, FEW_FRAMES) if x.ndim > axis else x[:1] for x in operands)
        return tuple(operand.contiguous().to(self.home) for operand in operands)

    def _run(self) -> Tensors:
        stage, inputs = self._prepared, tuple(operand.to(self.device) for operand in self._operands)
        batch, frames = self.stage.probe_size
        padded = ENGINES[self.engine].padded_frames(batch, frames)
        valid = None if padded is None else torch.ones(batch, frames, 1, device=self.device)
        with precision(self.device, stage.autocast):
            outputs, _ = stage(inputs, valid=valid)
        return tuple(output.to(self.home) for output in outputs)


def expected_result(stage: Stage, few: bool = False) -> Tensors:
    """What torch's operators make of the probe on the CPU, in float32."""
    key = stage.signature, few
    if key not in _expected:
        trial = StageTrial(stage, CPU, "torch", stage.methods[-1] if stage.methods else "")
        with torch.inference_mode():
            _expected[key] = (trial.on_few_frames() if few else trial)._run()
    return _expected[key]


def _with_made_up_weights(stage: Stage) -> Stage:
    """The stage on the CPU with weights that are the same on every machine.

    Nothing is drawn: neither does a check disturb the process's random numbers, nor do two machines differ.
    """
    if stage.signature not in _made_up:
        module = copy.deepcopy(stage.module)
        if isinstance(module, nn.Module):
            made = {name: _weight(name, parameter) for name, parameter in module.named_parameters()}
            module.load_state_dict(made, strict=False, assign=True)  # their device may be "meta"
            module = module.to(CPU).requires_grad_(False)
        passes = None if stage.passes is None else 1
        _made_up[stage.signature] = replace(stage.using(module), passes=passes)
    return _made_up[stage.signature]


def _weight(name: str, like: Tensor) -> Tensor:
    if like.ndim < 2:
        ones = torch.ones(like.shape, dtype=torch.float32, device=CPU)
        return ones if name.endswith("norm.weight") else wave(*like.shape) * 0.1
    return wave(*like.shape) * math.sqrt(2 / like[0].numel())
