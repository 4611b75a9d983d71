"""How one stage is placed where the user left something open: what passes the self-test, and is faster.

What was chosen on a CPU is kept on disk, see `tts_infer.runtime.kept`: one process in many has to measure.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from tts_infer.config import DTypeName
from tts_infer.devices import CPU, device_lock, dtype_refusal
from tts_infer.engines import usable_engines
from tts_infer.errors import PlacementError
from tts_infer.runtime import kept, selftest, workers
from tts_infer.runtime.selftest import StageCheck, StageTrial
from tts_infer.sentences import Sentence, Several
from tts_infer.stages import Stage

# How many times faster the second choice must be to replace the first: noise must not decide.
MARGIN = 1.5

# Why an engine is taken on the CPU where there is no other.
_USUAL = {
    "torch": Sentence("the reference", code="reference"),
    "onednn": Sentence("fused products, probed here", code="fused-products"),
}
_ONLY = Sentence("the only engine that runs it", code="only-engine")
ASKED = Sentence("asked for", code="asked-for")
_UNCHECKED = Sentence("preferred there; not checked", code="unchecked")
BUSY = Sentence("preferred there; not measured, because other processes compute", code="not-measured")
_RIGHT = Sentence("right there", code="right-there")


@dataclass(frozen=True)
class Place:
    """Where and how one stage runs, and why."""

    device: torch.device
    engine: str
    method: str  # of spectral stages; "" for the others
    reason: str
    check: StageCheck | None = None  # None: nothing was checked, because nothing was to be chosen

    def __str__(self) -> str:
        how = [self.engine] if self.engine != "torch" or not self.method else []
        return "/".join([str(self.device), *how, *([self.method] if self.method else [])])


@dataclass(frozen=True)
class StageRequest:
    """What is asked of one stage, and what is left open."""

    stage: Stage
    device: torch.device
    choices: tuple[tuple[str, str], ...]  # engine and method, in order of preference
    insists: bool  # the device was stated for this very stage
    any_device: bool  # no device was named at all
    dtype: DTypeName

    @property
    def key(self) -> tuple[object, ...]:
        """Equal for requests that have the same answer."""
        return self.stage.signature, self.device, self.choices, self.insists, self.any_device, self.dtype


def clear_checks() -> None:
    """Prove and time the stages anew from now on. What a process cannot unlearn, such as its operators, stays."""
    selftest.clear()
    kept.forget()


def choose(request: StageRequest, check: bool) -> Place:
    """The place of a stage: as it was asked for, or the best of what was left open.

    Args:
        request: what was asked for.
        check: whether what is left to choose is proved and timed first.

    Raises:
        PlacementError: the stage fails on the device that was stated for it.
    """
    engine, method = request.choices[0]
    if len(request.choices) == 1 and (request.insists or request.device == CPU):
        reason = ASKED if request.insists else _USUAL.get(engine, _ONLY)
        return Place(request.device, engine, method, reason)
    if not check:
        return Place(request.device, engine, method, _UNCHECKED)
    with device_lock(request.device):  # two threads would measure each other, and warn twice
        if request.device != CPU:
            return kept.once(request.key, lambda: _measured(request))
        return kept.once(request.key, lambda: _remembered(request))


def preference_order(methods: Sequence[str], device: torch.device) -> tuple[str, ...]:
    """Methods in the order of preference on a device.

    On a CPU, FFTs usually beat a dense product; elsewhere, FFTs and complex numbers are what breaks.
    """
    return tuple(sorted(methods, reverse=device != CPU))


def _remembered(request: StageRequest) -> Place:
    """What another process chose on this very machine; else what is chosen now. A busy machine is not measured."""
    found = kept.read(request.key)
    if found is not None and (found["engine"], found["method"]) in request.choices:
        return Place(CPU, found["engine"], found["method"], found["reason"])
    if workers.is_disturbed():  # times beside other processes would decide for good
        place, reason = Place(CPU, *request.choices[0], BUSY), BUSY
    else:
        place = _measured(request)
        if place.check is None or not place.check.passed:
            return place  # what failed here may pass in the next process
        reason = kept.before(place.reason)
    # kept either way: a batch that goes on in another process must have the same bits
    about = {"engine": place.engine, "method": place.method, "reason": reason}
    kept.write(request.key, about, instead=reason != BUSY)
    return place


def _measured(request: StageRequest) -> Place:
    """Check the choices, in order of preference, and take the first that none beats by a clear margin."""
    stage, home = request.stage, request.device
    trials = [StageTrial(stage, home, *choice, request.dtype, home) for choice in request.choices]
    checks = {trial: trial.check() for trial in trials}
    failed = [check for check in checks.values() if not check.passed]
    if len(failed) == len(trials):
        return _fall_back_to_cpu(request, failed)
    if request.any_device and home != CPU and (not stage.half or dtype_refusal(CPU, request.dtype) is None):
        for choice in _on_cpu(request):
            trial = StageTrial(stage, CPU, *choice, request.dtype, home)
            checks[trial] = trial.check()
    best, *rivals = [trial for trial, check in checks.items() if check.passed]
    for rival in rivals:
        if rival.is_faster_than(best, MARGIN):
            best = rival
    others = [check for trial, check in checks.items() if trial is not best and check.passed]
    reasons = [_faster(checks[best], others) if others else _RIGHT, *(check.problem for check in failed)]
    return Place(best.device, best.engine, best.method, all_of(reasons), checks[best])


def _faster(best: StageCheck, others: Sequence[StageCheck]) -> Sentence:
    """The time of the best beside those of the others."""
    text = "{ms:.2f} on {device} by {how}"
    times = [Sentence(text, code="time-there", ms=one.ms, device=one.device, how=one.how) for one in others]
    return Sentence("{ms:.2f} ms against {others:, }", code="faster", ms=best.ms, others=Several(times))


def all_of(reasons: Sequence[Sentence]) -> Sentence:
    """Several reasons as one."""
    return reasons[0] if len(reasons) == 1 else Sentence("{all:; }", code="all-reasons", all=Several(reasons))


def to_cpu(stage: Stage, reason: str) -> Sentence:
    """The warning about a stage that does not go where the others go."""
    return Sentence("stage {stage!r} goes to the CPU: {reason}", code="stage-to-cpu", stage=stage.name, reason=reason)


def _on_cpu(request: StageRequest) -> tuple[tuple[str, str], ...]:
    """The engines and methods that stand for the requested ones on the CPU, in order of preference."""
    methods = {method for _, method in request.choices}
    engine = usable_engines(request.stage, CPU, request.dtype)[0]
    return tuple((engine, method) for method in preference_order(tuple(methods), CPU))


def _fall_back_to_cpu(request: StageRequest, checks: list[StageCheck]) -> Place:
    """The place of a stage that its device computes wrongly."""
    problem = all_of([check.problem for check in checks])
    if request.insists:
        raise PlacementError("{problem}; place this stage on 'cpu'", code="stage-wrong", problem=problem)
    warnings.warn(to_cpu(request.stage, problem), stacklevel=2)
    reason = Sentence("wrong on {device}: {problem}", code="wrong-there", device=request.device, problem=problem)
    return Place(CPU, *_on_cpu(request)[0], reason, checks[0])
