"""Configuration as data: frozen dataclasses, built strictly from what a file holds.

Unknown keys, missing keys and wrong types are refused with a `ConfigError`. Nothing that a file names is imported.
"""

from __future__ import annotations

import dataclasses
import reprlib
import types
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np

from tts_infer.documents import as_mapping, load_yaml
from tts_infer.errors import ConfigError, few

Padding = Literal["center", "same"]
MelScale = Literal["htk", "slaney"]
SpectralMethod = Literal["matmul", "fft"]
DTypeName = Literal["float32", "bfloat16", "float16"]

T = TypeVar("T")

# Far beyond what is in use: 4096 samples in a window, 256 mels, 192 kHz.
_MOST = {"sample_rate": 1_000_000, "n_fft": 2**16, "hop_length": 2**16, "win_length": 2**16, "n_mels": 2**12}


@dataclass(frozen=True)
class MelConfig:
    """The convention of a log-mel spectrogram; the defaults are those of charactr/vocos-mel-24khz.

    mel = ln(max(filterbank @ (|STFT|^2 + power_eps)^(power / 2), log_floor))
    """

    sample_rate: int = 24000
    n_fft: int = 1024
    hop_length: int = 256
    win_length: int | None = None  # None: n_fft
    n_mels: int = 100
    f_min: float = 0.0
    f_max: float | None = None  # None: sample_rate / 2
    mel_scale: MelScale = "htk"
    norm: Literal["slaney"] | None = None
    power: Literal[1, 2] = 1
    power_eps: float = 0.0  # 1e-9 in HiFi-GAN and BigVGAN
    padding: Padding = "center"
    log_floor: float = 1e-7

    def __post_init__(self) -> None:
        for name, most in _MOST.items():
            if name != "win_length" or self.win_length is not None:
                require_whole(name, getattr(self, name), most)
        for name in ("f_min", "f_max", "power_eps", "log_floor"):
            if name != "f_max" or self.f_max is not None:
                require_finite(name, getattr(self, name))
        require_positive(self, "sample_rate", "n_fft", "hop_length", "n_mels", "log_floor")
        f_max = self.sample_rate / 2 if self.f_max is None else self.f_max
        if not 0 <= self.f_min < f_max <= self.sample_rate / 2:
            raise ConfigError(
                "mel range {f_min} to {f_max} Hz must lie within 0 to {nyquist} Hz",
                code="mel-range",
                f_min=self.f_min,
                f_max=f_max,
                nyquist=self.sample_rate / 2,
            )

    @property
    def db_per_unit(self) -> float:
        """Decibels per unit of log-mel: 20 / ln 10 for magnitudes, half of it for powers."""
        return 8.685889638065035 / self.power


@dataclass(frozen=True)
class VocoderPreset:
    """An entry of `configs/vocoders`: where a checkpoint is, and the mel convention that it was trained on.

    The entry states the whole convention, because a checkpoint's own `config.yaml` cannot: it has no key for the log
    floor, nor for the filterbanks of third-party forks. What `config.yaml` does state must agree with the entry. An
    entry without a convention is that of a vocoder that takes something else; it says what, and its sample rate.
    """

    name: str
    source: Literal["embedded", "hub"]
    description: str
    license: str
    mel: MelConfig | None = None
    repo_id: str | None = None
    revision: str | None = None
    refine: int = 0  # default number of refinement passes, see `tts_infer.dsp.refine`
    size_mb: float | None = None  # of the files, in millions of bytes; None: not known
    family: str = "vocos"  # the entry of `FAMILIES`
    takes: str = ""  # what it decodes, in two or three words; "": mels
    audio_rate: int | None = None  # samples per second of its audio; None: as in the mel
    config_file: str | None = None  # in the repository, if `weights_file` is stated; None: the weights say the sizes
    weights_file: str | None = None  # in the repository; None: where vocoders usually have them

    @property
    def sample_rate(self) -> int:
        """Samples per second of its audio."""
        rate = self.audio_rate or (self.mel and self.mel.sample_rate)
        assert rate, "see __post_init__"
        return rate

    @property
    def inputs(self) -> str:
        """What it decodes, in two or three words."""
        return self.takes or f"{self.mel.n_mels if self.mel else 'no'} mels"

    def __post_init__(self) -> None:
        if self.mel is None and not (self.takes and self.audio_rate):
            raise ConfigError(
                "vocoder {name!r} states no mel convention; then it must state takes and audio_rate",
                code="preset-inputs",
                name=self.name,
            )
        if (self.source == "hub") != (self.repo_id is not None):
            raise ConfigError(
                "vocoder {name!r}: repo_id goes with source 'hub', and only with it",
                code="preset-repo-id",
                name=self.name,
            )


def configs_dir() -> Path:
    """The folder of YAML data: beside the package in a source tree, inside it when installed."""
    installed = Path(__file__).parent / "configs"
    return installed if installed.is_dir() else Path(__file__).parent.parent / "configs"


def known_vocoders() -> dict[str, VocoderPreset]:
    """All vocoders that `configs/vocoders` describes, by name, the embedded one first."""
    entries = map(_preset, _preset_files().values())
    return {e.name: e for e in sorted(entries, key=lambda e: (e.source != "embedded", e.name))}


def known_vocoder(name: str) -> VocoderPreset | None:
    """The vocoder that `configs/vocoders` describes by this name, or of this repository. Other files stay unread."""
    if path := _preset_files().get(name):
        return _preset(path)
    return next((one for one in known_vocoders().values() if name in (one.name, one.repo_id)), None)


def _preset_files() -> dict[str, Path]:
    """The files of `configs/vocoders`, by their names without suffix: those of the vocoders."""
    return {path.stem: path for path in sorted((configs_dir() / "vocoders").glob("*.yaml"))}


def _preset(path: Path) -> VocoderPreset:
    return build(VocoderPreset, load_yaml(path), str(path))


def build(cls: type[T], data: Mapping[str, Any], where: str) -> T:
    """Make a dataclass from a mapping.

    Args:
        cls: the dataclass. Fields may be plain types, `Literal`, unions, dataclasses, dicts with string keys,
            and tuples of any length, which are lists in the file.
        data: its values by name.
        where: the file and section that the values come from, for messages.

    Raises:
        ConfigError: a key is unknown or missing, or a value has the wrong type.
    """
    data = as_mapping(data, where)
    fields = dataclasses.fields(cls)  # type: ignore[arg-type]
    required = {f.name for f in fields if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING}
    check_keys(data, {f.name for f in fields}, required, where)
    hints = get_type_hints(cls)
    values = {key: _typed(value, hints[key], key, where) for key, value in data.items()}
    try:
        return cls(**values)
    except ConfigError as error:
        raise error.within(where) from None


def _typed(value: Any, hint: Any, key: str, where: str) -> Any:
    """The value of a key, if it has the type that `hint` states. Integers become floats where floats are due."""
    options = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    for option in options:
        if (
            dataclasses.is_dataclass(option)
            and isinstance(option, type)
            and (option is hint or isinstance(value, dict))
        ):
            return build(option, value, f"{where}: {key}")
    if get_origin(hint) is tuple and isinstance(value, list):
        return tuple(_typed(one, get_args(hint)[0], f"{key}[{i}]", where) for i, one in enumerate(value))
    if get_origin(hint) is dict:
        inner = as_mapping(value, f"{where}: {key}")
        return {name: _typed(one, get_args(hint)[1], f"{key}.{name}", where) for name, one in inner.items()}
    if get_origin(hint) is list and isinstance(value, list):
        return [_typed(one, get_args(hint)[0], f"{key}[{i}]", where) for i, one in enumerate(value)]
    for option in options:
        same = [a for a in get_args(option) if value == a and type(value) in (type(a), _wider(type(a)))]
        if get_origin(option) is Literal and same:
            return same[0]
        if type(value) in (int, float) and not abs(value) < 2**63:  # NaN, too
            continue
        if option is float and type(value) in (int, float):
            return float(value)
        if isinstance(option, type) and type(value) is option:
            return value
    allowed = " or ".join(_describe(option) for option in options)
    if type(value) in (int, float) and not abs(value) < 2**63:
        allowed += " below 2**63"
    raise ConfigError(
        "{key} is {got}; allowed: {allowed}",
        code="config-type",
        where=where,
        key=key,
        got=few([reprlib.repr(value)], length=100),
        allowed=allowed,
    )


def _wider(kind: type) -> type:
    """The type that may stand for a value of another type: 1.0 for 1."""
    return float if kind is int else kind


def _describe(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return " or ".join(repr(a) for a in get_args(hint))
    if get_origin(hint) is tuple:
        return f"list of {_describe(get_args(hint)[0])}"
    return "null" if hint is type(None) else hint.__name__


def check_keys(data: Mapping[str, Any], allowed: set[str], required: set[str], where: str) -> None:
    """Refuse keys that are not allowed, and the absence of keys that are required.

    Raises:
        ConfigError: names all of them.
    """
    unknown, missing = sorted(set(data) - allowed), sorted(required - set(data))
    if unknown:
        raise ConfigError(
            "unknown key {keys}; allowed: {allowed}",
            code="config-key-unknown",
            where=where,
            keys=few(map(repr, unknown)),
            allowed=", ".join(sorted(allowed)),
        )
    if missing:
        raise ConfigError("missing key {keys}", code="config-key-missing", where=where, keys=few(map(repr, missing)))


def require_whole(name: str, value: Any, most: int) -> None:
    """Refuse what is no whole number, and what is too large to be meant.

    Raises:
        ConfigError: names it.
    """
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or abs(int(value)) > most:
        text = "{key} is {got}; allowed: a whole number up to {most}"
        raise ConfigError(text, code="config-whole", key=name, got=reprlib.repr(value), most=most)


def require_finite(name: str, value: Any) -> None:
    """Refuse what is no finite number.

    Raises:
        ConfigError: names it.
    """
    real = isinstance(value, (int, float, np.number)) and not isinstance(value, (bool, complex))
    if not (real and abs(value) < float("inf")):  # NaN, too
        text = "{key} is {got}; allowed: a finite number"
        raise ConfigError(text, code="config-finite", key=name, got=reprlib.repr(value))


def require_positive(config: object, *names: str) -> None:
    """Refuse attributes that are not greater than 0.

    Raises:
        ConfigError: names the first of them.
    """
    for name in names:
        value = getattr(config, name)
        if not (isinstance(value, (int, float, np.number)) and value > 0):
            raise ConfigError(
                "{key} is {got}; it must be greater than 0", code="config-positive", key=name, got=reprlib.repr(value)
            )
