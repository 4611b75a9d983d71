"""What a vocoder is, as data: frozen dataclasses, the closed table of class names, and strict YAML.

The official `config.yaml` layout names Python classes. Here such a name is only a key of a table: nothing that a
file says is ever imported, and a key, class or type that the table does not hold is a `ConfigError`.
"""

from __future__ import annotations

import dataclasses
import reprlib
import types
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from tts_infer.errors import ConfigError

Padding = Literal["center", "same"]
MelScale = Literal["htk", "slaney"]
SpectralMethod = Literal["matmul", "fft"]
DTypeName = Literal["float32", "bfloat16", "float16"]

T = TypeVar("T")


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
        require_positive(self, "sample_rate", "n_fft", "hop_length", "n_mels", "log_floor")
        f_max = self.sample_rate / 2 if self.f_max is None else self.f_max
        if not 0 <= self.f_min < f_max <= self.sample_rate / 2:
            raise ConfigError(f"mel range {self.f_min} to {f_max} Hz must lie within 0 to {self.sample_rate / 2} Hz")

    @property
    def db_per_unit(self) -> float:
        """Decibels per unit of log-mel: 20 / ln 10 for magnitudes, half of it for powers."""
        return 8.685889638065035 / self.power


@dataclass(frozen=True)
class VocoderPreset:
    """An entry of `configs/vocoders`: where a checkpoint is, and the mel convention that it was trained on.

    The convention is spelt out because a checkpoint's own `config.yaml` cannot state all of it (the log floor, the
    filterbank of third-party forks). What that file does state must agree.
    """

    name: str
    source: Literal["embedded", "hub"]
    description: str
    license: str
    mel: MelConfig
    repo_id: str | None = None
    revision: str | None = None
    refine: int = 0  # passes of refinement that suit it, see `tts_infer.dsp.refine`

    def __post_init__(self) -> None:
        if (self.source == "hub") != (self.repo_id is not None):
            raise ConfigError(f"vocoder {self.name!r}: repo_id goes with source 'hub', and only with it")


def configs_dir() -> Path:
    """The folder of YAML data: beside the package in a source tree, inside it when installed."""
    installed = Path(__file__).parent / "configs"
    return installed if installed.is_dir() else Path(__file__).parent.parent / "configs"


def known_vocoders() -> dict[str, VocoderPreset]:
    """All vocoders that `configs/vocoders` describes, by name, the embedded one first."""
    entries = [build(VocoderPreset, load_yaml(p), str(p)) for p in sorted((configs_dir() / "vocoders").glob("*.yaml"))]
    return {e.name: e for e in sorted(entries, key=lambda e: (e.source != "embedded", e.name))}


# In C where the yaml package was built with it: ten times as fast, and as safe.
_SAFE_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _StrictLoader(_SAFE_LOADER):
    """The safe loader, which would let the last of two equal keys win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        twice = [name for name, count in names.items() if count > 1]
        if twice:
            raise yaml.constructor.ConstructorError(None, None, f"key {twice[0]!r} is given twice", node.start_mark)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping


def load_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file whose top level is a mapping, with the safe loader.

    Raises:
        ConfigError: the file cannot be read, is no YAML, or holds something else than a mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {getattr(error, 'strerror', None) or 'not UTF-8 text'}") from None
    except ValueError as error:  # a NUL in its name
        raise ConfigError(f"cannot read {str(path)!r}: {error}") from None
    try:
        document = yaml.load(text, _StrictLoader)
    except (yaml.YAMLError, ValueError, AttributeError, RecursionError) as error:  # the latter of scalars and depths
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    return as_mapping(document, str(path))


def build(cls: type[T], data: Mapping[str, Any], where: str) -> T:
    """Make a dataclass from a mapping, refusing unknown keys, missing keys and wrong types.

    Raises:
        ConfigError: names `where`, the key, what was got and what is allowed.
    """
    data = as_mapping(data, where)
    fields = dataclasses.fields(cls)  # type: ignore[arg-type]
    required = {f.name for f in fields if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING}
    check_keys(data, {f.name for f in fields}, required, where)
    hints = get_type_hints(cls)
    values = {key: _typed(value, hints[key], f"{where}: {key}") for key, value in data.items()}
    try:
        return cls(**values)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None


def _typed(value: Any, hint: Any, where: str) -> Any:
    """`value` as `hint` says, or a ConfigError. Integers pass as floats; nothing else is converted."""
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return build(hint, value, where)
    if get_origin(hint) is dict:
        return {key: _typed(v, get_args(hint)[1], f"{where}.{key}") for key, v in as_mapping(value, where).items()}
    options = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    for option in options:
        if get_origin(option) is Literal and any(value == a and type(value) is type(a) for a in get_args(option)):
            return value
        if option is float and type(value) in (int, float):
            return float(value)
        if isinstance(option, type) and type(value) is option:
            return value
    allowed = " or ".join(_describe(option) for option in options)
    raise ConfigError(f"{where} is {reprlib.repr(value)}; allowed: {allowed}")


def _describe(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return " or ".join(repr(a) for a in get_args(hint))
    return "null" if hint is type(None) else hint.__name__


def as_mapping(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise ConfigError(f"{where}: expected a mapping of names to values, got {type(value).__name__}")
    return value


def check_keys(data: Mapping[str, Any], allowed: set[str], required: set[str], where: str) -> None:
    unknown, missing = sorted(set(data) - allowed), sorted(required - set(data))
    if unknown:
        raise ConfigError(
            f"{where}: unknown key {', '.join(map(repr, unknown))}; allowed: {', '.join(sorted(allowed))}"
        )
    if missing:
        raise ConfigError(f"{where}: missing key {', '.join(map(repr, missing))}")


def require_positive(config: object, *names: str) -> None:
    for name in names:
        if not getattr(config, name) > 0:
            raise ConfigError(f"{name} is {getattr(config, name)}; it must be greater than 0")
