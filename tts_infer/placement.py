"""Which stage runs on which device, and by which method.

A placement is written as `stage=device` or `stage=device/method`, separated by commas; as a name of
`configs/placements.yaml`; as a YAML file; as a dict; or as a `Placement`. Stages that it does not name, and methods
that it leaves out, are chosen.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import torch

from tts_infer.config import configs_dir, load_yaml
from tts_infer.devices import resolve_device
from tts_infer.errors import PlacementError

Stage = Literal["mel", "backbone", "head", "istft"]
MethodChoice = Literal["auto", "matmul", "fft"]
STAGES: tuple[Stage, ...] = get_args(Stage)


@dataclass(frozen=True)
class StagePlacement:
    """Where and how one stage runs, and why."""

    device: torch.device
    method: str  # "matmul" or "fft"; "torch" where there is no choice
    reason: str


@dataclass(frozen=True)
class Placement:
    """A device and a method for each stage."""

    mel: StagePlacement
    backbone: StagePlacement
    head: StagePlacement
    istft: StagePlacement

    def __getitem__(self, stage: Stage) -> StagePlacement:
        placed: StagePlacement = getattr(self, stage)
        return placed

    def __str__(self) -> str:
        return ",".join(f"{stage}={self[stage].device}/{self[stage].method}" for stage in STAGES)


PlacementSpec = str | os.PathLike[str] | Mapping[str, str] | Placement | None


def make_placement(
    spec: PlacementSpec = None,
    device: str | torch.device = "auto",
    mel: MethodChoice = "auto",
    istft: MethodChoice = "auto",
) -> Placement:
    """Turn what the user wrote into a placement that is obeyed as it stands.

    Args:
        spec: see the head of this module.
        device: for the stages that `spec` does not name.
        mel, istft: method of a spectral stage; "auto" leaves it to `spec`, and if that is silent, to the device.

    Raises:
        PlacementError: unknown stage, device, method or name; a device that this machine lacks; two methods asked
            for one stage.
    """
    if isinstance(spec, Placement):
        return spec
    wanted = _parse(spec)
    methods = {"mel": mel, "istft": istft}
    return Placement(**{stage: _place(stage, wanted.get(stage), device, methods.get(stage)) for stage in STAGES})


def named_placements() -> dict[str, dict[str, str]]:
    """The placements of `configs/placements.yaml`."""
    return load_yaml(configs_dir() / "placements.yaml")


def _place(stage: Stage, wanted: str | None, device: str | torch.device, method: str | None) -> StagePlacement:
    where, _, stated = (wanted or "").partition("/")
    target = resolve_device(where or device)
    reason = "asked for" if where or device != "auto" else "the first device here"
    if method is None:
        if stated not in ("", "torch"):
            raise PlacementError(f"stage {stage!r} has no choice of method, got {stated!r}; leave it out")
        return StagePlacement(target, "torch", reason)
    for text in (stated or "auto", method):
        if text not in get_args(MethodChoice):
            raise PlacementError(f"method of {stage!r} is {text!r}; allowed: {', '.join(get_args(MethodChoice))}")
    if stated and method not in ("auto", stated):
        raise PlacementError(f"stage {stage!r} is placed with method {stated!r}, but {method!r} is asked for as well")
    chosen = stated if method == "auto" else method
    if chosen in ("", "auto"):
        # pocketfft and MKL beat a dense product on a CPU; elsewhere FFTs are what breaks
        chosen = "fft" if target.type == "cpu" else "matmul"
    return StagePlacement(target, chosen, reason)


def _parse(spec: str | os.PathLike[str] | Mapping[str, str] | None) -> Mapping[str, str]:
    """Any written form as a mapping of stage to "device" or "device/method"."""
    if spec is None:
        return {}
    if isinstance(spec, (str, os.PathLike)):
        spec = _parse_text(os.fspath(spec))
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
    return {stage.strip(): where.strip() for stage, _, where in pairs}
