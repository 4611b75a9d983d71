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
from dataclasses import dataclass, field
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
        _require_positive(self, "sample_rate", "n_fft", "hop_length", "n_mels", "log_floor")
        f_max = self.sample_rate / 2 if self.f_max is None else self.f_max
        if not 0 <= self.f_min < f_max <= self.sample_rate / 2:
            raise ConfigError(f"mel range {self.f_min} to {f_max} Hz must lie within 0 to {self.sample_rate / 2} Hz")

    @property
    def db_per_unit(self) -> float:
        """Decibels per unit of log-mel: 20 / ln 10 for magnitudes, half of it for powers."""
        return 8.685889638065035 / self.power


@dataclass(frozen=True)
class BackboneConfig:
    """`VocosBackbone`: ConvNeXt blocks at the frame rate. Source: arXiv 2306.00814, section 3."""

    input_channels: int = 100
    dim: int = 512
    intermediate_dim: int = 1536
    num_layers: int = 8
    layer_scale_init_value: float | None = None  # of interest to training only
    adanorm_num_embeddings: int | None = None

    def __post_init__(self) -> None:
        _require_positive(self, "input_channels", "dim", "intermediate_dim", "num_layers")
        if self.adanorm_num_embeddings is not None:
            raise ConfigError(
                f"adanorm_num_embeddings={self.adanorm_num_embeddings}: conditional (EnCodec) backbones are not "
                "supported yet; use a vocoder with mel input"
            )


@dataclass(frozen=True)
class HeadConfig:
    """`ISTFTHead`: one linear layer to log-magnitude and phase, then the inverse STFT."""

    dim: int = 512
    n_fft: int = 1024
    hop_length: int = 256
    padding: Padding = "same"

    def __post_init__(self) -> None:
        _require_positive(self, "dim", "n_fft", "hop_length")


@dataclass(frozen=True)
class VocoderConfig:
    """A whole vocoder: how its mel is made, its backbone, its head."""

    mel: MelConfig = field(default_factory=MelConfig)
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    head: HeadConfig = field(default_factory=lambda: HeadConfig(padding="center"))

    def __post_init__(self) -> None:
        pairs = (
            (
                "feature_extractor.n_mels",
                self.mel.n_mels,
                "backbone.input_channels",
                self.backbone.input_channels,
            ),
            ("backbone.dim", self.backbone.dim, "head.dim", self.head.dim),
            ("feature_extractor.hop_length", self.mel.hop_length, "head.hop_length", self.head.hop_length),
        )
        for left, a, right, b in pairs:
            if a != b:
                raise ConfigError(f"{left} is {a} but {right} is {b}; they must be equal")


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


# section of config.yaml -> the one class path it may name, and the dataclass that reads its init_args
_OFFICIAL_CLASSES: dict[str, tuple[str, type]] = {
    "feature_extractor": ("vocos.feature_extractors.MelSpectrogramFeatures", MelConfig),
    "backbone": ("vocos.models.VocosBackbone", BackboneConfig),
    "head": ("vocos.heads.ISTFTHead", HeadConfig),
}


def read_vocoder_config(path: Path, known: VocoderPreset | None = None) -> VocoderConfig:
    """Read an official Vocos `config.yaml`.

    Args:
        path: the file.
        known: the entry of this checkpoint in `configs/vocoders`; completes the mel convention.

    Raises:
        ConfigError: the file is missing or no YAML; it names another class, an unknown key or a wrong type; or it
            contradicts `known`.

    Source: layout of charactr/vocos-mel-24khz `config.yaml`, read by `Vocos.from_hparams` of gemelo-ai/vocos.
    """
    document = load_yaml(path)
    _check_keys(document, set(_OFFICIAL_CLASSES), set(_OFFICIAL_CLASSES), str(path))
    parts: dict[str, Any] = {}
    for section, (class_path, cls) in _OFFICIAL_CLASSES.items():
        where = f"{path}: {section}"
        body = _mapping(document[section], where)
        _check_keys(body, {"class_path", "init_args"}, {"class_path"}, where)
        if body["class_path"] != class_path:
            raise ConfigError(f"{where}: class_path {body['class_path']!r} is not supported; allowed: {class_path!r}")
        parts[section] = build(cls, body.get("init_args") or {}, where)
    mel = parts["feature_extractor"]
    if known is not None:
        mel = _agreed_mel(known, document["feature_extractor"].get("init_args") or {}, mel, path)
    try:
        return VocoderConfig(mel=mel, backbone=parts["backbone"], head=parts["head"])
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def _agreed_mel(known: VocoderPreset, stated: Mapping[str, Any], mel: MelConfig, path: Path) -> MelConfig:
    """The known convention, once everything that the file itself states agrees with it."""
    for key in stated:
        if getattr(mel, key) != getattr(known.mel, key):
            raise ConfigError(
                f"{path}: feature_extractor.{key} is {getattr(mel, key)!r}, but vocoder {known.name!r} is known with "
                f"{getattr(known.mel, key)!r}; load another revision, or the files from a local directory"
            )
    return known.mel


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
    return _mapping(document, str(path))


def build(cls: type[T], data: Mapping[str, Any], where: str) -> T:
    """Make a dataclass from a mapping, refusing unknown keys, missing keys and wrong types.

    Raises:
        ConfigError: names `where`, the key, what was got and what is allowed.
    """
    data = _mapping(data, where)
    fields = dataclasses.fields(cls)  # type: ignore[arg-type]
    required = {f.name for f in fields if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING}
    _check_keys(data, {f.name for f in fields}, required, where)
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
        return {key: _typed(v, get_args(hint)[1], f"{where}.{key}") for key, v in _mapping(value, where).items()}
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


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise ConfigError(f"{where}: expected a mapping of names to values, got {type(value).__name__}")
    return value


def _check_keys(data: Mapping[str, Any], allowed: set[str], required: set[str], where: str) -> None:
    unknown, missing = sorted(set(data) - allowed), sorted(required - set(data))
    if unknown:
        raise ConfigError(
            f"{where}: unknown key {', '.join(map(repr, unknown))}; allowed: {', '.join(sorted(allowed))}"
        )
    if missing:
        raise ConfigError(f"{where}: missing key {', '.join(map(repr, missing))}")


def _require_positive(config: object, *names: str) -> None:
    for name in names:
        if not getattr(config, name) > 0:
            raise ConfigError(f"{name} is {getattr(config, name)}; it must be greater than 0")
