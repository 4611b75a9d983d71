"""Self-test of a stage: does a device give the same result as the CPU, and how fast is it?

Some devices have returned wrong numbers silently (on MPS: depthwise convolutions, layer_norm on a slice, linear on
non-contiguous weights, irfft). So before a device or an engine is used, it runs the stage on a small input, and torch
runs it on the CPU. The layers have their real sizes. Input and weights are artificial, and the same on every machine.
"""

from __future__ import annotations

import copy
import math
import time
import zlib
from collections.abc import Hashable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor, nn

from tts_infer.config import DTypeName
from tts_infer.devices import CPU, device_lock, precision, synchronise
from tts_infer.engines import ENGINES
from tts_infer.engines.torchscript import RECORDED_CALL
from tts_infer.errors import PlacementError, first_sentence
from tts_infer.sentences import Sentence
from tts_infer.stages import TOLERANCE, Stage, Tensors, relative_error, wave

_REPEATS, _ROUNDS = 2, 5
# Frames of a trial on few frames, and how often the probe's frames are repeated for one on many: 480.
FEW_FRAMES, MANY_TIMES = 10, 20
Size = Literal["few", "usual", "many"]
_WARM_RUNS = RECORDED_CALL  # what an engine records, it records by then

_stages: dict[Hashable, Stage] = {}
_expected: dict[Hashable, Tensors] = {}


def clear() -> None:
    """Forget every input, weight and expected result."""
    _stages.clear()
    _expected.clear()


@dataclass(frozen=True)
class StageCheck:
    """The result of the self-test of one stage on one device."""

    stage: str
    device: torch.device
    engine: str
    method: str
    error: float  # largest difference from the CPU, relative to the CPU's largest value; infinite if it fails to run
    tolerance: float
    ms: float  # time for half a second of audio, including transfers from and to `home`; infinite if it fails to run
    failure: str = ""  # the error, if it fails to run

    @property
    def passed(self) -> bool:
        return self.error <= self.tolerance  # also false for NaN

    def __str__(self) -> str:
        return str(self.problem)

    @property
    def how(self) -> str:
        """The method, or the engine of what has none."""
        return self.method or self.engine

    @property
    def problem(self) -> Sentence:
        """What is wrong, if it has not passed."""
        where = {"stage": self.stage, "device": self.device, "how": self.how}
        if self.failure:
            text = "{stage} on {device} by {how} fails: {failure}"
            return Sentence(text, code="stage-fails", failure=self.failure, **where)
        text = "{stage} on {device} by {how} differs from the CPU by {error:.1e} of the peak (allowed {tolerance:.0e})"
        return Sentence(text, code="stage-differs", error=self.error, tolerance=self.tolerance, **where)


class StageTrial:
    """A stage on one device by one engine and method, ready to be checked and timed.

    Args:
        stage: the stage; its weights do not matter.
        device, engine, method, dtype: where and how it runs. Stages that are not `half` always run in float32.
        home: the device that inputs come from and outputs go to. Times include these transfers.
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
        self.size: Size = "usual"
        self.dtype: DTypeName = dtype if stage.half else "float32"

    def check(self) -> StageCheck:
        """Compare the stage with the CPU, and time it. If it raises an error, the check passes it on as `failure`."""
        about = self.stage.name, self.device, self.engine, self.method
        tolerance, expected = TOLERANCE[self.dtype], expected_result(self.stage, self.size)
        try:
            with device_lock(self.device, self.home), torch.inference_mode():
                for _ in range(_WARM_RUNS):
                    self._run()
                error = relative_error(tuple(result.to(CPU) for result in self._run()), expected)
            if self._prepared.failure:
                raise RuntimeError(self._prepared.failure)
            ms = min(self.once_ms() for _ in range(_REPEATS))  # the least disturbed by other work
        except (RuntimeError, NotImplementedError, TypeError, PlacementError) as failure:  # backends raise any of these
            return StageCheck(*about, math.inf, tolerance, math.inf, first_sentence(failure))
        return StageCheck(*about, error, tolerance, ms)

    def on(self, size: Size) -> StageTrial:
        """The same way of running the stage, on fewer or more frames. With few frames, of one item."""
        other = copy.copy(self)
        other.size = size
        vars(other).pop("_operands", None)
        return other

    def once_ms(self) -> float:
        """Time one run, in milliseconds."""
        with device_lock(self.device, self.home), torch.inference_mode():
            synchronise(self.home)
            start = time.perf_counter()
            self._run()
            synchronise(self.device)
            synchronise(self.home)
            return (time.perf_counter() - start) * 1e3

    def is_faster_than(self, other: StageTrial, margin: float) -> bool:
        """Whether this trial is faster than another by a factor, in each of several rounds.

        Each round runs both, so that other work on the machine slows both. Winning all rounds by chance is unlikely.
        """
        return all(self.once_ms() * margin < other.once_ms() for _ in range(_ROUNDS))

    @cached_property
    def _prepared(self) -> Stage:
        stage = made_up(self.stage)
        if self.method:
            stage = stage.by(self.method)
        own = copy.deepcopy(stage.module)  # the engine changes it, and other trials need the original
        return ENGINES[self.engine].prepare(stage.using(own), self.device, self.dtype)

    @cached_property
    def _operands(self) -> Tensors:
        operands = self.stage.probe()
        axis = self.stage.frame_axis
        if self.size == "few":
            operands = tuple(x[:1].narrow(axis, 0, FEW_FRAMES) if x.ndim > axis else x[:1] for x in operands)
        elif self.size == "many":
            operands = tuple(torch.cat([x[:1]] * MANY_TIMES, dim=axis) if x.ndim > axis else x[:1] for x in operands)
        return tuple(operand.contiguous().to(self.home) for operand in operands)

    def _run(self) -> Tensors:
        stage, inputs = self._prepared, tuple(operand.to(self.device) for operand in self._operands)
        batch, frames = self.stage.probe_size
        padded = ENGINES[self.engine].padded_frames(batch, frames)
        valid = None if padded is None else torch.ones(batch, frames, 1, dtype=torch.float32, device=self.device)
        with precision(self.device, stage.autocast):
            outputs, _ = stage(inputs, valid=valid)
        return tuple(output.to(self.home) for output in outputs)


def expected_result(stage: Stage, size: Size = "usual") -> Tensors:
    """What torch's operators make of the probe on the CPU, in float32."""
    key = stage.signature, size
    if key not in _expected:
        trial = StageTrial(stage, CPU, "torch", stage.methods[-1] if stage.methods else "")
        with torch.inference_mode():
            _expected[key] = (trial if size == "usual" else trial.on(size))._run()
    return _expected[key]


def made_up(stage: Stage) -> Stage:
    """The stage on the CPU with artificial weights, which are the same on every machine.

    No two of them are alike: engines store equal ones once, and would be faster than with real weights. No random
    numbers are drawn, so a check does not change the state of the process's generator.
    """
    if stage.signature not in _stages:
        module = copy.deepcopy(stage.module)
        if isinstance(module, nn.Module):
            made = {name: _weight(name, parameter) for name, parameter in module.named_parameters()}
            module.load_state_dict(made, strict=False, assign=True)  # assign: parameters may be on "meta"
            module = module.to(CPU).requires_grad_(False)
        passes = None if stage.passes is None else 2  # refinement has one over all bins, and one over the lowest
        _stages[stage.signature] = replace(stage.using(module), passes=passes)
    return _stages[stage.signature]


def _weight(name: str, like: Tensor) -> Tensor:
    values = wave(*like.shape, first=zlib.crc32(name.encode()))
    if like.ndim < 2:
        return 1 + values * 0.01 if name.endswith("norm.weight") else values * 0.1
    return values * math.sqrt(2 / like[0].numel())
