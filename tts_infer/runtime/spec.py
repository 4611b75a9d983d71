"""Placements as users write them: text, a named one, a YAML file, or a mapping of stages to places."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from tts_infer.config import configs_dir
from tts_infer.deprecated import warn_renamed
from tts_infer.documents import load_yaml
from tts_infer.engines import ENGINES
from tts_infer.errors import PlacementError, few
from tts_infer.stages import Stage

# Spellings of the release before.
_RENAMED = {"packed": "onednn", "graph": "cuda_graphs"}


def named_placements() -> dict[str, dict[str, str]]:
    """The placements of `configs/placements.yaml`."""
    return load_yaml(configs_dir() / "placements.yaml")


def parse(spec: str | os.PathLike[str] | Mapping[str, str] | None) -> Mapping[str, str]:
    """Any written form as a mapping of stage to "device[/engine][/method]".

    Raises:
        PlacementError: another form; no such name or file; or a stage named twice.
    """
    if spec is None:
        return {}
    if isinstance(spec, (str, os.PathLike)):
        spec = _parse_text(os.fspath(spec))
    if not isinstance(spec, Mapping) or not all(isinstance(part, str) for pair in spec.items() for part in pair):
        raise PlacementError(
            "placement is {got!r}; expected text, a YAML file, or a mapping of stage names to devices",
            code="placement-form",
            got=spec,
        )
    return spec


def parse_place(stage: Stage, text: str) -> tuple[str, str, str]:
    """Device, engine and method of "device[/engine][/method]"; "" for what is left out or "auto".

    Raises:
        PlacementError: neither an engine nor a method of this stage.
    """
    device, *ways = text.split("/")
    engine = method = ""
    for way in ways:
        if way in _RENAMED:
            warn_renamed(f"engine {way!r}", repr(_RENAMED[way]))
            way = _RENAMED[way]
        if way in ENGINES:
            engine = way
        elif way in stage.methods:
            method = way
        elif way not in ("", "auto"):
            raise PlacementError(
                "{stage!r} is placed by {way!r}; allowed: auto, {allowed}",
                code="way-unknown",
                stage=stage.name,
                way=way,
                allowed=", ".join((*ENGINES, *stage.methods)),
            )
    return device, engine, method


def _parse_text(text: str) -> Mapping[str, str]:
    named = named_placements()
    if text in named:
        return named[text]
    if text.endswith((".yaml", ".yml")):
        return load_yaml(Path(text))
    pairs = [part.partition("=") for part in text.split(",")]
    if not all(separator for _, separator, _ in pairs):
        raise PlacementError(
            "placement {text!r} is unknown; give stage=device[,stage=device...], a YAML file, or one of: {names}",
            code="placement-unknown",
            text=few([text]),
            names=", ".join(named),
        )
    places = {stage.strip(): where.strip() for stage, _, where in pairs}
    if len(places) < len(pairs):
        raise PlacementError(
            "placement {text!r} names a stage twice; give each one device", code="stage-twice", text=text
        )
    return places
