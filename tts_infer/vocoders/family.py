"""The interface of a family of vocoders, and the reader of configurations.

A family is one file in this folder. It says how its checkpoints are read, and which stages its models have.
"""

from __future__ import annotations

import dataclasses
import re
import reprlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from tts_infer.config import MelConfig, VocoderPreset, build, check_keys
from tts_infer.documents import as_mapping, load_json, load_yaml
from tts_infer.dsp.conventions import recognised
from tts_infer.errors import ConfigError, few
from tts_infer.stages import Stage
from tts_infer.vocoders.features import FeatureSpec, MelSpec

Shapes = Mapping[str, tuple[int, ...]]  # of tensors, by name


class Family(Protocol):
    """One entry of `FAMILIES`. No code outside the family's own file knows its stages by name.

    It also says how its configurations are read: it is a `SectionFamily` or a `FlatFamily`.

    Attributes:
        model: the class of its models.
    """

    @property
    def model(self) -> type[nn.Module]: ...

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


@runtime_checkable
class SectionFamily(Family, Protocol):
    """A family whose config.yaml has sections that name classes, as that of the official vocos package.

    Attributes:
        class_paths: for each section of config.yaml, the class paths that it may name, and the dataclass that reads the
            init_args of each. A class path is only a key of this table; it is never imported.
    """

    @property
    def class_paths(self) -> Mapping[str, Mapping[str, type]]: ...

    def configure(self, sections: Mapping[str, Any]) -> Any:
        """The configuration of a model, made of one dataclass for each section.

        Raises:
            ConfigError: the sections do not fit each other.
        """
        ...


@runtime_checkable
class ExtendedFamily(SectionFamily, Protocol):
    """A family whose config.yaml may say what the official layout has no words for, under keys of its own.

    Attributes:
        extensions: for each such top-level key, the dataclass that reads it. `configure` gets it if it is there.
    """

    @property
    def extensions(self) -> Mapping[str, type]: ...


@runtime_checkable
class FlatFamily(Family, Protocol):
    """A family whose config.json is one mapping of names to values, as those of HiFi-GAN and BigVGAN."""

    def matches(self, document: Mapping[str, Any]) -> bool:
        """Whether a document is of this family."""
        ...

    def read(self, document: Mapping[str, Any], where: str) -> Any:
        """The configuration of a model. It states the whole mel convention.

        Args:
            document: for which `matches` is true.
            where: the file, for messages.

        Raises:
            ConfigError: a key is unknown or missing, or a value is wrong.
        """
        ...


@runtime_checkable
class SelfSizedFamily(Family, Protocol):
    """A family whose weights say the sizes of a model, so that people keep them without a configuration.

    Attributes:
        told_by: names of tensors whose shapes say the sizes. Weights that have none of them are of another family.
    """

    @property
    def told_by(self) -> tuple[str, ...]: ...

    def document(self, shapes: Shapes, preset: VocoderPreset) -> dict[str, Any] | None:
        """What the configuration of a model would hold; None if these are no weights of such a model.

        Args:
            shapes: of all tensors of the weights.
            preset: says what shapes do not.
        """
        ...


def count_of(shapes: Shapes, name: str) -> int:
    """How many tensors have this name, in which {} stands for a number: the layers of a model."""
    before, after = map(re.escape, name.split("{}"))
    return sum(bool(re.fullmatch(rf"{before}\d+{after}", one)) for one in shapes)


def read_config(path: Path, families: Iterable[Family], preset: VocoderPreset | None = None) -> tuple[Family, Any]:
    """Read a configuration: YAML, or JSON in a file with that suffix.

    Args:
        path: the file.
        families: the families to choose from. A flat family that matches the file reads it; else the family that knows
            most of its sections and classes.
        preset: the entry of this checkpoint in `configs/vocoders`; it completes the mel convention.

    Raises:
        ConfigError: the file is missing or damaged; it contains a class or key that is unknown, or a wrong type; or it
            contradicts the preset.
    """
    document = load_json(path) if path.suffix.lower() == ".json" else load_yaml(path)
    return read_document(document, families, preset, path)


def read_document(
    document: dict[str, Any], families: Iterable[Family], preset: VocoderPreset | None, path: Path | str
) -> tuple[Family, Any]:
    """As `read_config`, of what a configuration holds. `path` is for messages."""
    sectioned: list[SectionFamily] = []
    for one in families:
        if isinstance(one, FlatFamily) and one.matches(document):
            return one, _agreed(one, _read_flat(one, document, preset, str(path)), preset, path)
        sectioned += [one] if isinstance(one, SectionFamily) else []
    possible = ((one, part) for one in sectioned for part in _possible_parts(one, document))
    family, part = max(possible, key=lambda pair: _known_parts(*pair))
    return family, _agreed(family, _read_sections(family, part, preset, path), preset, path)


def _agreed(family: Family, config: Any, preset: VocoderPreset | None, path: Path | str) -> Any:
    """The configuration, if it takes and gives what the preset says. `_agreed_mel` compares mel conventions."""
    if preset is None:
        return config
    features = family.features(config)
    if preset.mel is not None and not isinstance(features, MelSpec):
        text = "it takes {features}, not mels, so it has no mel convention; leave out convention, or config"
        raise ConfigError(text, code="convention-unused", where=str(path), features=features.name)
    if preset.mel is None:
        _require_known("n_mels", features.n_channels if isinstance(features, MelSpec) else None, None, preset, path)
    if preset.audio_rate is not None:
        _require_known("sample_rate", features.sample_rate, preset.audio_rate, preset, path)
    return config


def _read_flat(family: FlatFamily, document: Mapping[str, Any], preset: VocoderPreset | None, where: str) -> Any:
    config = family.read(document, where)
    features = family.features(config)
    if preset is not None and isinstance(features, MelSpec):
        _agreed_mel(preset, dataclasses.asdict(features.config), features.config, where)
    return config


def _read_sections(
    family: SectionFamily, document: Mapping[str, Any], preset: VocoderPreset | None, path: Path | str
) -> Any:
    """Source: layout of charactr/vocos-mel-24khz config.yaml, read by `Vocos.from_hparams` of gemelo-ai/vocos."""
    extensions = family.extensions if isinstance(family, ExtendedFamily) else {}
    check_keys(document, {*family.class_paths, *extensions}, set(family.class_paths), str(path))
    stated = {key: kind for key, kind in extensions.items() if key in document}
    parts: dict[str, Any] = {key: build(kind, document[key], f"{path}: {key}") for key, kind in stated.items()}
    for section, classes in family.class_paths.items():
        where = f"{path}: {section}"
        body = as_mapping(document[section], where)
        check_keys(body, {"class_path", "init_args"}, {"class_path"}, where)
        if not isinstance(body["class_path"], str) or body["class_path"] not in classes:
            raise ConfigError(
                "class_path {got} is not supported; allowed: {allowed}",
                code="class-path-unknown",
                where=where,
                got=few([reprlib.repr(body["class_path"])], length=100),
                allowed=", ".join(map(repr, classes)),
            )
        parts[section] = build(classes[body["class_path"]], body.get("init_args") or {}, where)
        if isinstance(mel := parts[section], MelConfig):
            stated = body.get("init_args") or {}
            parts[section] = _agreed_mel(preset, stated, mel, where) if preset else recognised(mel, stated)
    try:
        return family.configure(parts)
    except ConfigError as error:
        raise error.within(path) from None


def _possible_parts(family: SectionFamily, document: dict[str, Any]) -> list[dict[str, Any]]:
    """The document, and the sections in it where a training run of LightningCLI states its model.

    Source: configs/vocos.yaml of gemelo-ai/vocos (model: class_path, init_args).
    """
    model = document.get("model")
    inner = model.get("init_args") if isinstance(model, dict) else None
    places = [place for place in (inner, model) if isinstance(place, dict)]
    return [document, *({key: place[key] for key in family.class_paths if key in place} for place in places)]


def _known_parts(family: SectionFamily, document: Mapping[str, Any]) -> int:
    """How many of a document's sections and classes a family knows."""
    known = 0
    for section, classes in family.class_paths.items():
        body = document.get(section)
        path = body.get("class_path") if isinstance(body, dict) else None
        known += (section in document) + (isinstance(path, str) and path in classes)
    return known


def _agreed_mel(preset: VocoderPreset, stated: Mapping[str, Any], mel: MelConfig, where: str) -> MelConfig:
    """The convention of the preset, if it has one. Everything that the file states must agree with it."""
    if preset.mel is None:
        return recognised(mel, stated)
    for key in stated:
        _require_known(key, getattr(mel, key), getattr(preset.mel, key), preset, where)
    return preset.mel


def _require_known(key: str, got: Any, known: Any, preset: VocoderPreset, where: Path | str) -> None:
    if got != known:
        raise ConfigError(
            "{key} is {got!r}, but vocoder {name!r} is known with {known!r}; load another revision, or the files "
            "from a local directory",
            code="preset-contradicted",
            where=str(where),
            key=key,
            got=got,
            name=preset.name,
            known=known,
        )
