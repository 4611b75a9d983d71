"""What the shapes of weights say about a configuration: bounds for its sizes, or the sizes if there is none.

A configuration is checked before a model is built, so that no number in a file makes it large or slow.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from tts_infer.config import VocoderPreset
from tts_infer.errors import CheckpointError, ConfigError
from tts_infer.vocoders.family import Family, SelfSizedFamily
from tts_infer.vocoders.layouts import Parts, by_name, of_model, short_path

# Sizes that no tensor of a checkpoint bounds: windows, bases and filterbanks are computed from them. The largest in use
# are 4096 samples in a window, and 256 mels.
_LARGEST = (
    (re.compile(r".*(n_fft|win_length|hop_length|frame_len|hop_size|win_size).*"), 8192),
    (re.compile(r".*(n_mels|num_mels).*"), 1024),
    (re.compile(r".*(sample|sampling)_rate.*"), 1_000_000),
    (re.compile(r".*(dilation|upscale).*"), 1024),
)
_LARGEST_OVERLAP = 64  # windows over one sample; 16 is the most in use
_LAYERS, _DIMS = re.compile(r".*(layers|blocks|depth).*"), re.compile(r".*(dim|channel|hidden|kernel).*")
_LARGEST_NUMBER = 2**31


def check_sizes(config: Any, stored: Collection[Tensor], path: Path | str) -> None:
    """Refuse sizes that no model with these weights can have.

    Args:
        config: a dataclass of dataclasses.
        stored: the tensors of the weights.
        path: of the configuration, for messages.

    Raises:
        ConfigError: names the first of them.
    """
    largest_axis = max((length for tensor in stored for length in tensor.shape), default=0)
    in_lists = sum("[" in key for key, _ in _numbers("", config))
    if in_lists > len(stored):  # each of these numbers is about a layer
        raise ConfigError(
            "its lists hold {got} numbers; with these weights it can be at most {limit}: the config is that of another "
            "model",
            code="config-lists",
            where=str(path),
            got=in_lists,
            limit=len(stored),
        )
    for key, value in _numbers("", config):
        name = key.rpartition(".")[2].partition("[")[0]
        limit = next((limit for pattern, limit in _LARGEST if pattern.fullmatch(name)), _LARGEST_NUMBER)
        if _LAYERS.fullmatch(name):
            limit = len(stored)
        elif _DIMS.fullmatch(name):
            limit = largest_axis
        if not -limit <= value <= limit:
            raise ConfigError(
                "{key} is {got}; with these weights it can be at most {limit}: the config is that of another model",
                code="config-size",
                where=str(path),
                key=key,
                got=value,
                limit=limit,
            )
    for section in _sections(config):
        n_fft, hop = getattr(section, "n_fft", None), getattr(section, "hop_length", None)
        if isinstance(n_fft, int) and isinstance(hop, int) and n_fft > _LARGEST_OVERLAP * max(1, hop):
            raise ConfigError(
                "n_fft is {n_fft} and hop_length is {hop}; at most {limit} windows may overlap",
                code="config-overlap",
                where=str(path),
                n_fft=n_fft,
                hop=hop,
                limit=_LARGEST_OVERLAP,
            )


def _numbers(key: str, value: Any) -> Iterator[tuple[str, int]]:
    """Every whole number in a configuration, with its name."""
    if isinstance(value, int) and not isinstance(value, bool):
        yield key, value
    elif isinstance(value, list | tuple):
        for i, one in enumerate(value):
            yield from _numbers(f"{key}[{i}]", one)
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from _numbers(f"{key}.{field.name}".lstrip("."), getattr(value, field.name))


def _sections(value: Any) -> Iterator[Any]:
    if dataclasses.is_dataclass(value):
        yield value
        for field in dataclasses.fields(value):
            yield from _sections(getattr(value, field.name))


def document_of(stored: Mapping[str, Tensor], family: Family, preset: VocoderPreset, path: Path) -> dict[str, Any]:
    """What the config.yaml of a vocoder would hold, from the shapes of its weights and its entry in `configs/vocoders`.

    Args:
        stored: all tensors of a file.
        family: of the vocoder.
        preset: its entry.
        path: of the file, for messages.

    Raises:
        CheckpointError: these are no weights of such a vocoder, or those of its family do not say all sizes.
    """
    if not isinstance(family, SelfSizedFamily):
        text = "weights of the family {family} do not say all sizes of {name!r}; give the path of its config"
        raise CheckpointError(text, code="config-not-in-weights", family=preset.family, name=preset.name)
    own = of_model(by_name(stored), family.told_by)
    document = family.document({name: _shape(parts) for name, parts in own.items()}, preset)
    if document is None:
        raise CheckpointError(
            "{path} does not hold weights like those of {name!r}, which takes {inputs} and has {rate} Hz; give the "
            "path of its config",
            code="config-unlike-weights",
            path=short_path(path),
            name=preset.name,
            inputs=preset.inputs,
            rate=preset.sample_rate,
        )
    return document


def _shape(parts: Parts) -> tuple[int, ...]:
    return tuple((parts.get("v") if "v" in parts else next(iter(parts.values()))).shape)  # type: ignore[union-attr]
