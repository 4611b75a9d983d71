"""Which stage runs on which device, and by which method.

A placement is written as `stage=device` or `stage=device/method`, separated by commas; as a name of
`configs/placements.yaml`; as a YAML file; as a dict; or as a `Placement`. What it states is obeyed or refused. Stages
that it does not name, and methods that it leaves out, are chosen, from what is right
(see `tts_infer.runtime.selftest`):

- on the device that the user named, the faster method;
- with device "auto", the faster of that and the CPU;
- a stage that is right by no method there goes to the CPU, with a warning.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Literal, cast, get_args

import torch

from tts_infer.config import DTypeName, configs_dir, load_yaml
from tts_infer.devices import CPU, device_lock, dtype_refusal, require_dtype, resolve_device
from tts_infer.engines.cuda_graphs import problem as graph_problem
from tts_infer.engines.onednn import problem as packed_problem
from tts_infer.errors import PlacementError
from tts_infer.runtime.selftest import STAGES, Method, Stage, StageCheck, StageTrial

MethodChoice = Literal["auto", "matmul", "fft"]
# How many times faster the second choice must be to replace the first: noise must not decide.
MARGIN = 1.5


@dataclass(frozen=True)
class StagePlacement:
    """Where and how one stage runs, and why."""

    device: torch.device
    method: Method
    reason: str
    check: StageCheck | None = None  # None: nothing was checked, because nothing was to be chosen


@dataclass(frozen=True)
class Placement:
    """A device and a method for each stage."""

    mel: StagePlacement
    backbone: StagePlacement
    head: StagePlacement
    istft: StagePlacement

    @classmethod
    def auto(cls, device: str | torch.device = "auto", dtype: DTypeName = "float32", check: bool = True) -> Placement:
        """Choose per stage, see the head of this module.

        Args:
            device: the device wanted.
            dtype: of the matrix products in backbone and head.
            check: whether to prove and time the stages first; if not, the device is trusted.

        Raises:
            PlacementError: no such device here.
        """
        return make_placement(device=device, dtype=dtype, check=check)

    def __getitem__(self, stage: Stage) -> StagePlacement:
        placed: StagePlacement = getattr(self, stage)
        return placed

    @property
    def devices(self) -> set[torch.device]:
        return {self[stage].device for stage in STAGES}

    def __str__(self) -> str:
        return ",".join(f"{stage}={self[stage].device}/{self[stage].method}" for stage in STAGES)


PlacementSpec = str | os.PathLike[str] | Mapping[str, str] | Placement | None


def make_placement(
    spec: PlacementSpec = None,
    device: str | torch.device = "auto",
    mel: MethodChoice = "auto",
    istft: MethodChoice = "auto",
    dtype: DTypeName = "float32",
    check: bool = True,
) -> Placement:
    """Turn what the user wrote into a placement that is obeyed as it stands.

    Args:
        spec: see the head of this module.
        device: for the stages that `spec` does not name.
        mel, istft: method of a spectral stage; "auto" leaves it to `spec`, and if that is silent, to the device.
        dtype: of the matrix products in backbone and head.
        check: whether what is left to choose is proved and timed first. Results are kept for the process.

    Raises:
        PlacementError: unknown stage, device, method or name; a device that this machine lacks; a dtype that is no
            use on its device; two methods asked for one stage; or a spectral stage whose device was stated is wrong
            there by every method.
    """
    methods: dict[Stage, MethodChoice] = {"mel": mel, "istft": istft}
    if isinstance(spec, Placement):
        for stage, method in methods.items():
            _chosen(stage, spec[stage].method, method)
        return spec
    wanted = _parse(spec)
    wishes = [_wish(stage, wanted.get(stage, ""), methods.get(stage), device, dtype) for stage in STAGES]
    placement = Placement(**{wish.stage: _place(wish, check) for wish in wishes})
    if placement.head.method == "graph" and placement.backbone.method != "graph":
        raise PlacementError("method of 'head' is 'graph', but that of 'backbone' is not; use it for both")
    return placement


def named_placements() -> dict[str, dict[str, str]]:
    """The placements of `configs/placements.yaml`."""
    return load_yaml(configs_dir() / "placements.yaml")


def clear_checks() -> None:
    """Prove and time the stages anew from now on. What a process cannot unlearn, such as its operators, stays."""
    _choose.cache_clear()


@dataclass(frozen=True)
class _Wish:
    """What is asked of one stage, and what is left open."""

    stage: Stage
    device: torch.device
    methods: tuple[Method, ...]  # the ones to choose from, in order of preference
    insists: bool  # the device was stated for this very stage
    any_device: bool  # no device was named at all
    dtype: DTypeName


def _wish(stage: Stage, text: str, method: MethodChoice | None, device: str | torch.device, dtype: DTypeName) -> _Wish:
    where, _, stated = text.partition("/")
    target = resolve_device(where or device)
    wish = _Wish(stage, target, ("torch",), where not in ("", "auto"), (where or str(device)) == "auto", dtype)
    if stage in ("backbone", "head"):
        require_dtype(target, dtype)
        return replace(wish, methods=(_method(stage, target, stated, dtype),))
    chosen = _chosen(stage, stated, method)
    return replace(wish, methods=_usual(("fft", "matmul"), target) if chosen == "auto" else (chosen,))


def _chosen(stage: Stage, stated: str, method: MethodChoice | None) -> MethodChoice:
    """The method of a spectral stage that a placement states, or that is asked for beside it."""
    for choice in (stated or "auto", method):
        if choice not in get_args(MethodChoice):
            raise PlacementError(f"method of {stage!r} is {choice!r}; allowed: {', '.join(get_args(MethodChoice))}")
    if stated and method not in ("auto", stated):
        raise PlacementError(f"stage {stage!r} is placed with method {stated!r}, but {method!r} is asked for as well")
    return cast(MethodChoice, stated if stated and method == "auto" else method)


def _method(stage: Stage, device: torch.device, stated: str, dtype: DTypeName) -> Method:
    """How backbone or head is computed: as stated; else by packed products on a CPU that has them, or as torch does.

    Graphs are for who asks for them, see `tts_infer.engines.cuda_graphs`.
    """
    fast: Method = "packed" if device == CPU else "graph"
    if stated not in ("", "auto", fast, "torch"):
        raise PlacementError(f"method of {stage!r} is {stated!r}; allowed on {device}: auto, {fast}, torch")
    if stated == "torch" or (stated != fast and fast == "graph"):
        return "torch"
    refusal = packed_problem(dtype) if fast == "packed" else graph_problem(device)
    if stated == fast and refusal:
        raise PlacementError(f"method of {stage!r} is {fast!r}, but {refusal}; use 'torch'")
    return "torch" if refusal else fast


def _usual(methods: tuple[Method, ...], device: torch.device) -> tuple[Method, ...]:
    """Methods in the order of preference on a device.

    On a CPU, FFTs usually beat a dense product; elsewhere, FFTs and complex numbers are what breaks.
    """
    return tuple(sorted(methods, reverse=device != CPU))


def _on_cpu(wish: _Wish) -> tuple[Method, ...]:
    """The methods that are wished for, or what stands for them, in the order of preference on a CPU."""
    if wish.stage in ("mel", "istft"):
        return _usual(wish.methods, CPU)
    return (_method(wish.stage, CPU, "auto", wish.dtype),)


def _place(wish: _Wish, check: bool) -> StagePlacement:
    if len(wish.methods) == 1 and (wish.insists or wish.device == CPU):
        usual = "fused products, probed here" if wish.methods[0] == "packed" else "the reference"
        return StagePlacement(wish.device, wish.methods[0], "asked for" if wish.insists else usual)
    if not check:
        return StagePlacement(wish.device, wish.methods[0], "preferred there; not checked")
    with device_lock(wish.device):  # two threads would measure each other, and warn twice
        return _choose(wish)


@cache
def _choose(wish: _Wish) -> StagePlacement:
    """Check the candidates, in order of preference, and take the first that none beats by a clear margin."""
    home = wish.device
    trials = [StageTrial(wish.stage, home, method, wish.dtype, home) for method in wish.methods]
    checks = {trial: trial.check() for trial in trials}
    wrong = [check for check in checks.values() if not check.right]
    if len(wrong) == len(trials):
        return _leave(wish, wrong)
    if wish.any_device and home != CPU and dtype_refusal(CPU, wish.dtype) is None:
        for method in _on_cpu(wish):
            trial = StageTrial(wish.stage, CPU, method, wish.dtype, home)
            checks[trial] = trial.check()
    best, *rivals = [trial for trial, check in checks.items() if check.right]
    for rival in rivals:
        if rival.beats(best, MARGIN):
            best = rival
    others = [check for trial, check in checks.items() if trial is not best and check.right]
    against = ", ".join(f"{c.ms:.2f} on {c.device} by {c.method}" for c in others)
    reason = f"{checks[best].ms:.2f} ms against {against}" if others else "right there"
    return StagePlacement(best.device, best.method, "; ".join([reason, *map(str, wrong)]), checks[best])


def _leave(wish: _Wish, checks: list[StageCheck]) -> StagePlacement:
    """What becomes of a stage that its device computes wrongly."""
    problem = "; ".join(map(str, checks))
    if wish.insists:
        raise PlacementError(f"{problem}; place this stage on 'cpu'")
    warnings.warn(f"stage {wish.stage!r} goes to the CPU: {problem}", stacklevel=2)
    return StagePlacement(CPU, _on_cpu(wish)[0], f"wrong on {wish.device}: {problem}", checks[0])


def _parse(spec: str | os.PathLike[str] | Mapping[str, str] | None) -> Mapping[str, str]:
    """Any written form as a mapping of stage to "device" or "device/method"."""
    if spec is None:
        return {}
    if isinstance(spec, (str, os.PathLike)):
        spec = _parse_text(os.fspath(spec))
    if not isinstance(spec, Mapping):
        raise PlacementError(f"placement is {spec!r}; expected text, a YAML file, or a mapping of stages to devices")
    unknown = [stage for stage in spec if stage not in STAGES]
    if unknown or not all(isinstance(where, str) for where in spec.values()):
        raise PlacementError(f"placement {dict(spec)!r}: expected stage names {', '.join(STAGES)} with device names")
    return spec


def _parse_text(text: str) -> Mapping[str, str]:
    named = named_placements()
    if text in named:
        return named[text]
    if text.endswith((".yaml", ".yml")):
        return load_yaml(Path(text))
    pairs = [part.partition("=") for part in text.split(",")]
    if not all(separator for _, separator, _ in pairs):
        raise PlacementError(
            f"placement {text!r} is unknown; give stage=device[,stage=device...], a YAML file, "
            f"or one of: {', '.join(named)}"
        )
    places = {stage.strip(): where.strip() for stage, _, where in pairs}
    if len(places) < len(pairs):
        raise PlacementError(f"placement {text!r} names a stage twice; give each one device")
    return places
