"""What is known of vocoders: the list of all, and one in full. Nothing is downloaded."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

from tts_infer.config import MelConfig, VocoderPreset, known_vocoder, known_vocoders
from tts_infer.dsp.conventions import convention_name
from tts_infer.errors import VocoderNotFoundError, few, nearest
from tts_infer.io.sources import NO_PATH, mode_of
from tts_infer.loading import load_vocoder
from tts_infer.vocoder import Vocoder
from tts_infer.vocoders import FAMILIES, family_of
from tts_infer.vocoders.checkpoint import text_of
from tts_infer.vocoders.features import CodesSpec, FeatureSpec, MelSpec
from tts_infer.vocoders.hub import where
from tts_infer.vocoders.layouts import short_path


def list_vocoders() -> list[dict[str, Any]]:
    """The known vocoders in the order of `known_vocoders`: what each is, and whether it must be downloaded."""
    return [_of_preset(preset) for preset in known_vocoders().values()]


def describe_vocoder(name: str | os.PathLike[str], *, config: str | os.PathLike[str] | None = None) -> dict[str, Any]:
    """All that is known of one vocoder.

    Args:
        name: a name in `configs/vocoders`, a local directory or a weights file.
        config: as for `load_vocoder`.

    Returns:
        As a row of `list_vocoders`, and its mel convention: name (None: it has none), values. If it needs no download,
        also its architecture, number of parameters, stages, receptive field (frames on each side of one) and the delay
        of its streams; else these are None. The last two are also None if it computes over whole signals only.

    Raises:
        VocoderNotFoundError: there is nothing of that name on this machine, and it is not a known one.
        ConfigError, CheckpointError: see `load_vocoder`.
    """
    text = text_of("vocoder", name, VocoderNotFoundError)
    preset = known_vocoder(text)
    if preset is None and not mode_of(text, NO_PATH):
        raise VocoderNotFoundError(
            "{name!r} is no local directory or file, and none of: {known}", code="vocoder-unshown",
            name=short_path(text), known=few(nearest(text, known_vocoders()), 5),
        )  # fmt: skip
    if preset is not None and where(preset) == "not cached":
        nothing = ("architecture", "parameters", "stages", "receptive_field", "refine", "delay_frames", "delay_ms")
        return _of_preset(preset) | _convention(preset.mel) | dict.fromkeys(nothing)
    return _of_vocoder(load_vocoder(name, device="cpu", config=config, check=False), preset)


def _of_preset(preset: VocoderPreset) -> dict[str, Any]:
    return {
        "name": preset.name,
        "where": preset.repo_id or "embedded",
        "status": where(preset),
        "size_mb": preset.size_mb,
        "sample_rate": preset.sample_rate,
        "takes": preset.inputs,
        "n_mels": preset.mel and preset.mel.n_mels,
        "license": preset.license,
        "family": preset.family,
        "description": preset.description,
    }


def _of_vocoder(vocoder: Vocoder, preset: VocoderPreset | None) -> dict[str, Any]:
    family = family_of(vocoder.model)
    stages = family.stages(vocoder.model)
    chosen: dict[str, Any] = {condition.name: 0 for condition in vocoder.features.conditions}
    whole = any(stage.whole for stage in stages)
    delay = None if whole else vocoder.stream(**chosen).delay_frames
    name = next(key for key, one in FAMILIES.items() if one is family)
    local = {
        "name": vocoder.name,
        "where": vocoder.name,
        "status": "local",
        "size_mb": None,
        "sample_rate": vocoder.sample_rate,
        "takes": _inputs(vocoder.features),
        "n_mels": vocoder.n_mels if isinstance(vocoder.features, MelSpec) else None,
        "license": "",
        "family": name,
        "description": "",
    }
    return (_of_preset(preset) if preset else local) | {
        **_convention(family.features(vocoder.model.config)),
        "architecture": f"{name}: {_sizes(vocoder.model.config)}",
        "parameters": sum(parameter.numel() for parameter in vocoder.model.parameters()),
        "stages": [stage.name for stage in stages],
        "receptive_field": None if whole else sum(stage.receptive_field for stage in stages),
        "refine": vocoder.refine,
        "delay_frames": delay,
        "delay_ms": None if delay is None else 1000 * delay * vocoder.hop_length / vocoder.sample_rate,
    }


def _inputs(features: FeatureSpec) -> str:
    """What a vocoder decodes, in two or three words."""
    if isinstance(features, CodesSpec):
        return f"codes, at most {features.codebooks}"
    return f"{features.n_channels} {'mels' if isinstance(features, MelSpec) else 'channels'}"


def _convention(features: FeatureSpec | MelConfig | None) -> dict[str, Any]:
    """The convention's name, and the values of it that are not left open."""
    config: Any = getattr(features, "config", features)
    stated = dataclasses.asdict(config) if config is not None else {}
    return {
        "convention_name": convention_name(config) if isinstance(config, MelConfig) else None,
        "convention": {key: value for key, value in stated.items() if value is not None},
    }


def _sizes(config: Any) -> str:
    """The sizes of a configuration's sections, without those of its mels."""
    sections = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    return ", ".join(
        f"{name} {value}" if not dataclasses.is_dataclass(value) else f"{name} ({_flat(value)})"
        for name, value in sections.items()
        if name != "mel"
    )


def _flat(section: Any) -> str:
    stated = {field.name: getattr(section, field.name) for field in dataclasses.fields(section)}
    return ", ".join(f"{key} {value}" for key, value in stated.items() if value is not None)
