"""Configuration as data: frozen dataclasses, and a strict reader of YAML and JSON.

The reader refuses unknown keys, missing keys, repeated keys and wrong types with a `ConfigError`. It never imports
anything that a file names.
"""

from __future__ import annotations

import dataclasses
import json
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
    floor, nor for the filterbanks of third-party forks. What `config.yaml` does state must agree with the entry.
    """

    name: str
    source: Literal["embedded", "hub"]
    description: str
    license: str
    mel: MelConfig
    repo_id: str | None = None
    revision: str | None = None
    refine: int = 0  # default number of refinement passes, see `tts_infer.dsp.refine`

    def __post_init__(self) -> None:
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
    entries = [build(VocoderPreset, load_yaml(p), str(p)) for p in sorted((configs_dir() / "vocoders").glob("*.yaml"))]
    return {e.name: e for e in sorted(entries, key=lambda e: (e.source != "embedded", e.name))}


# The loader written in C, if the yaml package has it: as safe, and ten times as fast.
_SAFE_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _StrictLoader(_SAFE_LOADER):
    """A safe loader that refuses repeated keys; the plain one silently keeps the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        repeated = [name for name, count in names.items() if count > 1]
        if repeated:
            raise yaml.constructor.ConstructorError(None, None, f"key {repeated[0]!r} is given twice", node.start_mark)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping


def load_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file whose top level is a mapping, with the safe loader.

    Raises:
        ConfigError: the file cannot be read, is not YAML, or holds something other than a mapping.
    """
    text = _text(path)
    try:
        document = yaml.load(text, _StrictLoader)
    # yaml raises ValueError and AttributeError for malformed numbers and dates, RecursionError for deep nesting
    except (yaml.YAMLError, ValueError, AttributeError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError("{path} is not valid YAML: {reason}", code="yaml-invalid", path=path, reason=reason) from None
    return as_mapping(document, str(path))


def load_json(path: Path) -> dict[str, Any]:
    """Read a JSON file whose top level is a mapping.

    Raises:
        ConfigError: the file cannot be read, is not JSON, repeats a key, or holds something other than a mapping.
    """
    text = _text(path)
    try:
        document = json.loads(text, object_pairs_hook=_unrepeated)
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError("{path} is not valid JSON: {reason}", code="json-invalid", path=path, reason=reason) from None
    return as_mapping(document, str(path))


def _unrepeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    repeated = [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]
    if repeated:
        raise ValueError(f"key {repeated[0]!r} is given twice")
    return dict(pairs)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise ConfigError("cannot read {path}: {reason}", code="config-unreadable", path=path, reason=reason) from None
    except ValueError as error:  # the path contains a NUL character
        raise ConfigError(
            "cannot read {path!r}: {reason}", code="config-path-invalid", path=str(path), reason=str(error)
        ) from None


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
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return build(hint, value, f"{where}: {key}")
    if get_origin(hint) is tuple and isinstance(value, list):
        return tuple(_typed(one, get_args(hint)[0], f"{key}[{i}]", where) for i, one in enumerate(value))
    if get_origin(hint) is dict:
        inner = as_mapping(value, f"{where}: {key}")
        return {name: _typed(one, get_args(hint)[1], f"{key}.{name}", where) for name, one in inner.items()}
    if get_origin(hint) is list and isinstance(value, list):
        return [_typed(one, get_args(hint)[0], f"{key}[{i}]", where) for i, one in enumerate(value)]
    options = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    for option in options:
        if get_origin(option) is Literal and any(value == a and type(value) is type(a) for a in get_args(option)):
            return value
        if option is float and type(value) in (int, float):
            return float(value)
        if isinstance(option, type) and type(value) is option:
            return value
    allowed = " or ".join(_describe(option) for option in options)
    raise ConfigError(
        "{key} is {got}; allowed: {allowed}",
        code="config-type",
        where=where,
        key=key,
        got=reprlib.repr(value),
        allowed=allowed,
    )


def _describe(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return " or ".join(repr(a) for a in get_args(hint))
    if get_origin(hint) is tuple:
        return f"list of {_describe(get_args(hint)[0])}"
    return "null" if hint is type(None) else hint.__name__


def as_mapping(value: Any, where: str) -> dict[str, Any]:
    """The value, if it is a mapping with strings as keys.

    Raises:
        ConfigError: it is something else.
    """
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise ConfigError(
            "expected a mapping of names to values, got {got}",
            code="config-mapping",
            where=where,
            got=type(value).__name__,
        )
    return value


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
            keys=", ".join(map(repr, unknown)),
            allowed=", ".join(sorted(allowed)),
        )
    if missing:
        raise ConfigError(
            "missing key {keys}", code="config-key-missing", where=where, keys=", ".join(map(repr, missing))
        )


def require_positive(config: object, *names: str) -> None:
    """Refuse attributes that are not greater than 0.

    Raises:
        ConfigError: names the first of them.
    """
    for name in names:
        if not getattr(config, name) > 0:
            raise ConfigError(
                "{key} is {got}; it must be greater than 0", code="config-positive", key=name, got=getattr(config, name)
            )
