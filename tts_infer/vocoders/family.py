"""A family of vocoders: what a file of this package must say so that a checkpoint loads, runs and streams."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from tts_infer.config import MelConfig, VocoderPreset, build, check_keys
from tts_infer.documents import as_mapping, load_yaml
from tts_infer.errors import ConfigError, few
from tts_infer.stages import Stage
from tts_infer.vocoders.features import FeatureSpec


class Family(Protocol):
    """One entry of `FAMILIES`. Nothing outside of the family's own file knows its stages by name.

    Attributes:
        class_paths: for each section of config.yaml the class paths that it may name, and the dataclass that reads the
            init_args of each. The names are keys of this table: nothing that a file says is imported.
        model: the class of its models.
    """

    @property
    def class_paths(self) -> Mapping[str, Mapping[str, type]]: ...
    @property
    def model(self) -> type[nn.Module]: ...

    def configure(self, sections: Mapping[str, Any]) -> Any:
        """The configuration, from one dataclass for each section.

        Raises:
            ConfigError: sections that do not fit each other.
        """
        ...

    def features(self, config: Any) -> FeatureSpec:
        """What it decodes."""
        ...

    def build(self, config: Any) -> nn.Module:
        """The model, with its configuration as attribute `config`; its keys are those of the checkpoints."""
        ...

    def stages(self, model: Any) -> list[Stage]:
        """The steps of the model in order, those included that make features of audio."""
        ...

    def n_samples(self, config: Any, frames: int) -> int:
        """Samples of audio that `frames` give."""
        ...

    def constants(self, model: Any) -> dict[str, Tensor]:
        """What checkpoints store beside the weights and is computed here: checkpoint key -> our value."""
        ...


def read_config(path: Path, families: Iterable[Family], preset: VocoderPreset | None = None) -> tuple[Family, Any]:
    """Read a config.yaml in the layout of the official vocos package, by the family that knows its classes.

    Args:
        path: the file.
        families: to choose from.
        preset: the entry of this checkpoint in `configs/vocoders`; it completes the mel convention.

    Raises:
        ConfigError: the file is missing or no YAML; it names a class that no family has, an unknown key or a wrong
            type; or it contradicts the preset.

    Source: layout of charactr/vocos-mel-24khz `config.yaml`, read by `Vocos.from_hparams` of gemelo-ai/vocos.
    """
    return read_document(load_yaml(path), families, preset, path)


def read_document(
    document: dict[str, Any], families: Iterable[Family], preset: VocoderPreset | None, path: Path | str
) -> tuple[Family, Any]:
    """As `read_config`, of what a config.yaml holds. `path` is for messages."""
    family, document = max(
        ((one, part) for one in families for part in _possible_parts(one, document)),
        key=lambda pair: _known_parts(*pair),
    )
    check_keys(document, set(family.class_paths), set(family.class_paths), str(path))
    parts: dict[str, Any] = {}
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
        if preset is not None and isinstance(parts[section], MelConfig):
            parts[section] = _agreed_mel(preset, body.get("init_args") or {}, parts[section], where)
    try:
        return family, family.configure(parts)
    except ConfigError as error:
        raise error.within(path) from None


def _possible_parts(family: Family, document: dict[str, Any]) -> list[dict[str, Any]]:
    """The document, and the sections in it where a training run of LightningCLI states its model.

    Source: configs/vocos.yaml of gemelo-ai/vocos (model: class_path, init_args).
    """
    model = document.get("model")
    inner = model.get("init_args") if isinstance(model, dict) else None
    places = [place for place in (inner, model) if isinstance(place, dict)]
    return [document, *({key: place[key] for key in family.class_paths if key in place} for place in places)]


def _known_parts(family: Family, document: Mapping[str, Any]) -> int:
    """How much of a document a family knows: its sections, and the classes that they name."""
    known = 0
    for section, classes in family.class_paths.items():
        body = document.get(section)
        path = body.get("class_path") if isinstance(body, dict) else None
        known += (section in document) + (isinstance(path, str) and path in classes)
    return known


def _agreed_mel(preset: VocoderPreset, stated: Mapping[str, Any], mel: MelConfig, where: str) -> MelConfig:
    """The preset's convention, once everything that the file itself states agrees with it."""
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
