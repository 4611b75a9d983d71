"""The interface of a family of vocoders, and the reader of configurations.

A family is one file in this folder. It says how its checkpoints are read, and which stages its models have.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from tts_infer.config import MelConfig, VocoderPreset, as_mapping, build, check_keys, load_yaml
from tts_infer.errors import ConfigError
from tts_infer.stages import Stage
from tts_infer.vocoders.features import FeatureSpec


class Family(Protocol):
    """One entry of `FAMILIES`. No code outside the family's own file knows its stages by name.

    Attributes:
        class_paths: for each section of config.yaml, the class paths that it may name, and the dataclass that reads the
            init_args of each. A class path is only a key of this table; it is never imported.
        model: the class of its models.
    """

    @property
    def class_paths(self) -> Mapping[str, Mapping[str, type]]: ...
    @property
    def model(self) -> type[nn.Module]: ...

    def configure(self, sections: Mapping[str, Any]) -> Any:
        """The configuration of a model, made of one dataclass for each section.

        Raises:
            ConfigError: the sections do not fit each other.
        """
        ...

    def features(self, config: Any) -> FeatureSpec:
        """The features that a model with this configuration decodes."""
        ...

    def build(self, config: Any) -> nn.Module:
        """Build a model. It has an attribute `config`, and its state dict has the keys of the checkpoints."""
        ...

    def stages(self, model: Any) -> list[Stage]:
        """The stages of a model in order: first those that make features of audio, then those that make audio."""
        ...

    def n_samples(self, config: Any, frames: int) -> int:
        """Number of samples that a number of frames gives."""
        ...

    def constants(self, model: Any) -> dict[str, Tensor]:
        """Constants that checkpoints store and our models compute: checkpoint key -> our value."""
        ...


def read_config(path: Path, families: Iterable[Family], preset: VocoderPreset | None = None) -> tuple[Family, Any]:
    """Read a config.yaml in the layout of the official vocos package.

    Args:
        path: the file.
        families: the families to choose from; the one that knows most of the file reads it.
        preset: the entry of this checkpoint in `configs/vocoders`; it completes the mel convention.

    Raises:
        ConfigError: the file is missing or not YAML; it contains a class or key that is unknown, or a wrong type; or it
            contradicts the preset.

    Source: layout of charactr/vocos-mel-24khz `config.yaml`, read by `Vocos.from_hparams` of gemelo-ai/vocos.
    """
    document = load_yaml(path)
    family = max(families, key=lambda one: _known_parts(one, document))
    check_keys(document, set(family.class_paths), set(family.class_paths), str(path))
    parts: dict[str, Any] = {}
    for section, classes in family.class_paths.items():
        where = f"{path}: {section}"
        body = as_mapping(document[section], where)
        check_keys(body, {"class_path", "init_args"}, {"class_path"}, where)
        if not isinstance(body["class_path"], str) or body["class_path"] not in classes:
            raise ConfigError(
                "class_path {got!r} is not supported; allowed: {allowed}",
                code="class-path-unknown",
                where=where,
                got=body["class_path"],
                allowed=", ".join(map(repr, classes)),
            )
        parts[section] = build(classes[body["class_path"]], body.get("init_args") or {}, where)
        if preset is not None and isinstance(parts[section], MelConfig):
            parts[section] = _agreed_mel(preset, body.get("init_args") or {}, parts[section], where)
    try:
        return family, family.configure(parts)
    except ConfigError as error:
        raise error.within(path) from None


def _known_parts(family: Family, document: Mapping[str, Any]) -> int:
    """How many of a document's sections and classes a family knows."""
    known = 0
    for section, classes in family.class_paths.items():
        body = document.get(section)
        path = body.get("class_path") if isinstance(body, dict) else None
        known += (section in document) + (isinstance(path, str) and path in classes)
    return known


def _agreed_mel(preset: VocoderPreset, stated: Mapping[str, Any], mel: MelConfig, where: str) -> MelConfig:
    """The convention of the preset. Everything that the file states must agree with it."""
    for key in stated:
        if getattr(mel, key) != getattr(preset.mel, key):
            raise ConfigError(
                "{key} is {got!r}, but vocoder {name!r} is known with {known!r}; load another revision, or the files "
                "from a local directory",
                code="preset-contradicted",
                where=where,
                key=key,
                got=getattr(mel, key),
                name=preset.name,
                known=getattr(preset.mel, key),
            )
    return preset.mel
