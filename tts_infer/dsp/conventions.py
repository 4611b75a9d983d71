"""Mel conventions by name, and exact conversions between mels that share a filterbank.

A convention is a `MelConfig`. Two mels of one shape may still differ in filterbank, log floor, logarithm or scale; a
vocoder turns the wrong one into noise.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tts_infer.config import MelConfig, require_finite
from tts_infer.dsp.checks import native, require_dense
from tts_infer.errors import ConfigError, InputError, InputTypeError

_HIFIGAN = MelConfig(
    sample_rate=22050,
    n_mels=80,
    f_max=8000,
    mel_scale="slaney",
    norm="slaney",
    power_eps=1e-9,
    padding="same",
    log_floor=1e-5,
)

# Sources: gemelo-ai/vocos feature_extractors.py; SWivid/F5-TTS model/modules.py (vocos mel, floor 1e-5);
# jik876/hifi-gan meldataset.py with config_v1.json; NVIDIA/BigVGAN configs/*.json.
CONVENTIONS: dict[str, MelConfig] = {
    "vocos-24k": MelConfig(),
    "f5-24k": MelConfig(log_floor=1e-5),
    "vocos-32k": MelConfig(sample_rate=32000, n_fft=2048, hop_length=1024, n_mels=128),
    "vocos-22k": replace(_HIFIGAN, power_eps=0.0),
    "vocos-44k": replace(_HIFIGAN, power_eps=0.0, sample_rate=44100, n_fft=2048, hop_length=512),
    "hifigan-22k": _HIFIGAN,
    "bigvgan-22k-80": replace(_HIFIGAN, f_max=None),
    "bigvgan-24k-100": replace(_HIFIGAN, sample_rate=24000, n_mels=100, f_max=12000),
    "bigvgan-44k-128-256x": replace(_HIFIGAN, sample_rate=44100, n_mels=128, f_max=None),
    "bigvgan-44k-128": replace(_HIFIGAN, sample_rate=44100, n_fft=2048, hop_length=512, n_mels=128, f_max=None),
}

# A config.yaml of the official layout has no key for these two, so they say nothing about which convention it is.
_UNSTATED = ("log_floor", "power_eps")


@dataclass(frozen=True)
class MelUnit:
    """How numbers stand for a natural logarithm: ln(x) = scale * number + offset.

    A mel that was normalised by mean and deviation has `MelUnit(scale=deviation, offset=mean)`; one that was mapped
    from low..high to 0..1 has `MelUnit(scale=high - low, offset=low)`.
    """

    scale: float = 1.0
    offset: float = 0.0

    def __post_init__(self) -> None:
        require_finite("scale", self.scale)
        require_finite("offset", self.offset)


# "linear" is not a logarithm, so it has no entry. Decibels are 20 log10 of a magnitude, or 10 log10 of a power.
MEL_UNITS: dict[str, MelUnit] = {
    "ln": MelUnit(),
    "log2": MelUnit(math.log(2)),
    "log10": MelUnit(math.log(10)),
    "decibels": MelUnit(math.log(10) / 20),
    "x0.1": MelUnit(10.0),  # ZipVoice and LuxTTS keep a tenth of the logarithm
}


def convention(name: str | MelConfig) -> MelConfig:
    """The convention of that name; a `MelConfig` as it is.

    Raises:
        ConfigError: no convention has that name.
    """
    if isinstance(name, MelConfig):
        return name
    if not isinstance(name, str) or name not in CONVENTIONS:
        text, allowed = "mel convention is {name}; allowed: {allowed}, or a MelConfig", ", ".join(CONVENTIONS)
        raise ConfigError(text, code="convention-unknown", name=reprlib.repr(name), allowed=allowed)
    return CONVENTIONS[name]


def convention_name(config: MelConfig) -> str | None:
    """The name of a convention; None if it has none.

    Raises:
        ConfigError: it is no convention.
    """
    config = convention(config)
    return next((name for name, known in CONVENTIONS.items() if _same(config, known, ())), None)


def recognised(config: MelConfig, stated: Collection[str]) -> MelConfig:
    """Complete a convention by the known one that agrees with it in all other respects.

    So a local copy of BSC-LT/vocos-mel-22khz keeps its log floor, 1e-5, which its config.yaml does not state.

    Args:
        config: as read from a file.
        stated: the fields that the file states. They are kept.
    """
    free = tuple(key for key in _UNSTATED if key not in stated)
    for known in CONVENTIONS.values():
        if free and _same(config, known, free):
            return replace(config, **{key: getattr(known, key) for key in free})
    return config


def _same(one: MelConfig, other: MelConfig, free: tuple[str, ...]) -> bool:
    """Whether two conventions are equal but for the fields in `free`; None and the value it stands for are equal."""
    return _explicit(replace(one, **{key: getattr(other, key) for key in free})) == _explicit(other)


def _explicit(config: MelConfig) -> MelConfig:
    f_max = config.sample_rate / 2 if config.f_max is None else config.f_max
    return replace(config, f_max=f_max, win_length=config.win_length or config.n_fft)


def convert_mel(
    mel: Tensor | NDArray[Any], *, from_: str | MelConfig | MelUnit, to: str | MelConfig = "vocos-24k"
) -> Tensor:
    """Convert a mel exactly: logarithm, scale and log floor. The filterbank stays the same.

    Args:
        mel: floating point.
        from_: a unit ("ln", "log2", "log10", "decibels", "x0.1", "linear" or a `MelUnit`) of a mel by the filterbank
            of `to`; or the convention of `mel`, which may differ from `to` in its log floor and epsilon only.
        to: the convention that is wanted. Values below its log floor are raised to the floor.

    Shape: any -> the same, float32
    Raises:
        ConfigError: an unknown name, or scale or offset of a `MelUnit` is no finite number.
        InputTypeError: the mel is no tensor or array, or not floating point.
        InputError: no exact conversion exists; compute the mel from audio by `LogMel` instead. Or the values are
            beyond float32.
    """
    wanted = convention(to)
    values = torch.from_numpy(_native(mel)) if isinstance(mel, np.ndarray) else mel
    if not isinstance(values, Tensor):
        text = "mel is {got}; expected a tensor or an array of numbers"
        raise InputTypeError(text, code="mel-convert-type", got=reprlib.repr(mel))
    if not values.is_floating_point():
        raise InputTypeError(
            "mel has dtype {dtype}; expected a floating-point type", code="mel-convert-dtype", dtype=values.dtype
        )
    require_dense(values, "mel")
    values = values.float()
    if isinstance(from_, str) and from_ == "linear":
        return values.clamp_min(wanted.log_floor).log()
    unit = from_ if isinstance(from_, MelUnit) else _unit_of(from_, wanted)
    # decibels of a magnitude are those of its power: twice the logarithm, where the mel is one of powers
    scale = unit.scale * (wanted.power if isinstance(from_, str) and from_ == "decibels" else 1)
    made = (values * float(scale) + float(unit.offset)).clamp_min(math.log(wanted.log_floor))
    if not torch.isfinite(made[torch.isfinite(values)]).all():
        text = "converted, the mel is beyond what float32 holds; check scale {scale} and offset {offset}"
        raise InputError(text, code="mel-convert-range", scale=unit.scale, offset=unit.offset)
    return made


def _native(array: NDArray[Any]) -> NDArray[Any]:
    """The array as torch takes it: of this machine's byte order, writeable, and float32 if it is a number.

    Raises:
        InputTypeError: it holds something else.
    """
    if array.dtype.kind not in "fiub":
        text = "mel has dtype {dtype}; expected a floating-point type"
        raise InputTypeError(text, code="mel-convert-dtype", dtype=array.dtype)
    return native(array, np.float32)


def _unit_of(source: str | MelConfig, wanted: MelConfig) -> MelUnit:
    if isinstance(source, str) and source in MEL_UNITS:
        return MEL_UNITS[source]
    if not isinstance(source, MelConfig) and not (isinstance(source, str) and source in CONVENTIONS):
        allowed = ", ".join([*MEL_UNITS, "linear", *CONVENTIONS])
        text = "from_ is {source}; allowed: {allowed}, a MelUnit or a MelConfig"
        raise ConfigError(text, code="mel-unit-unknown", source=reprlib.repr(source), allowed=allowed)
    given = convention(source)
    fields = [key for key in vars(given) if getattr(_explicit(given), key) != getattr(_explicit(wanted), key)]
    differing = [key for key in fields if key not in _UNSTATED]
    if differing:
        text = "these mel conventions differ in {fields}, so no exact conversion exists; compute the mel from audio "
        text += "by tts_infer.LogMel, or use a vocoder of the mel's convention"
        raise InputError(text, code="mel-convert-inexact", fields=", ".join(differing))
    return MelUnit()
