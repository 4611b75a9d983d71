"""From a name to a model with weights: resolve, fetch or find the files, verify, load strictly.

A name is looked up in this order: a name in `configs/vocoders`, a local directory or file, a Hub id.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tts_infer.config import MelConfig, VocoderPreset, known_vocoder, known_vocoders
from tts_infer.dsp.conventions import convention
from tts_infer.errors import (
    CheckpointError,
    ConfigError,
    InputError,
    VocoderNotFoundError,
    few,
    first_sentence,
    nearest,
)
from tts_infer.io.sources import NO_PATH, is_file, mode_of, require_readable
from tts_infer.vocoders import FAMILIES
from tts_infer.vocoders.family import Family, read_config, read_document
from tts_infer.vocoders.graph import GRAPH_SUFFIX, read_graph
from tts_infer.vocoders.hub import (
    CONFIG_FILE,
    DEFAULT_VOCODER,
    FLAT_CONFIG_FILE,
    FLAT_WEIGHT_FILES,
    NEEDED,
    WEIGHT_FILES,
    from_hub,
    layouts_of,
    may_be_on_hub,
)
from tts_infer.vocoders.layouts import fit, short_path
from tts_infer.vocoders.sizes import check_sizes, document_of
from tts_infer.vocoders.weights import INDEX_SUFFIX, SUFFIXES, read_weights

__all__ = [
    "ASSETS",
    "CONFIG_FILE",
    "DEFAULT_VOCODER",
    "WEIGHT_FILES",
    "CheckpointFiles",
    "check_constants",
    "load_model",
    "resolve",
]

ASSETS = Path(__file__).parent.parent / "assets"

_CONFIG_FILES = (CONFIG_FILE, "config.yml", FLAT_CONFIG_FILE)
_INDEXED = tuple(name + INDEX_SUFFIX for name in WEIGHT_FILES)
_STEPS = "g_" + "[0-9]" * 8  # of the training of HiFi-GAN and BigVGAN; the latest one counts

# Checkpoints store some constants beside the weights, computed in float32 and possibly stored in half precision. Those
# of another mel convention differ from ours by 0.1 or more.
_CONSTANT_TOLERANCE = 2e-3


@dataclass(frozen=True)
class CheckpointFiles:
    """The files of one vocoder, on this machine.

    Attributes:
        name: what users call it.
        config: its configuration; None: the convention is that of `known`, and the weights say the sizes.
        weights: a file of weights, or an index of several.
        known: its entry in `configs/vocoders`.
    """

    name: str
    config: Path | None
    weights: Path
    known: VocoderPreset | None

    def with_convention(self, name: str | MelConfig) -> CheckpointFiles:
        """The same files of a vocoder of that mel convention, which what they state themselves must agree with.

        Raises:
            ConfigError: no convention has that name, or the vocoder is known with another one.
        """
        asked = convention(name)
        if self.known is not None and self.known.mel not in (None, asked):
            text = "the configuration of {vocoder!r} has another mel convention than {asked}; leave out one of the two"
            raise ConfigError(text, code="convention-contradicted", vocoder=self.known.name, asked=name)
        known = self.known or VocoderPreset(self.name, "embedded", "", "", MelConfig())
        return replace(self, known=replace(known, mel=asked))


def resolve(
    name: str | os.PathLike[str], revision: str | None = None, config: str | os.PathLike[str] | None = None
) -> CheckpointFiles:
    """Find the files of a vocoder. Download them if they are on the Hub and not in its cache.

    Args:
        name: a name in `configs/vocoders`, a local directory, a weights file, or a Hub id such as
            "charactr/vocos-mel-24khz".
        revision: branch, tag or commit on the Hub; None: the one in `configs/vocoders`, else the main branch.
        config: in place of the configuration beside the weights: the path of one, or a name in `configs/vocoders`,
            whose convention is taken while the weights say the sizes.

    Raises:
        VocoderNotFoundError: nothing has that name, here or on the Hub; says what was tried.
        InputError: a revision is stated, but the vocoder is not on the Hub.
        ConfigError: `config` is neither a file nor a known name.
    """
    text = text_of("vocoder", name, VocoderNotFoundError)
    entry = known_vocoder(text)
    local = _exists(text) if entry is None else entry.source == "embedded"
    if local and revision is not None:
        raise InputError(
            "revision {revision!r} is asked for, but {name!r} is not on the Hub; leave it out",
            code="revision-local",
            revision=revision,
            name=text,
        )
    given, preset = _given_config(config)
    if local:
        place = ASSETS / entry.name if entry else Path(text)
        weights = _weights_in(place) if place.is_dir() else _weights_file(place)
        own = weights.suffix == GRAPH_SUFFIX  # a graph states everything itself
        if own and config is not None:
            text = "{path} states its own configuration; leave config out"
            raise ConfigError(text, code="graph-config", path=short_path(weights))
        beside = given or (None if preset or own else _config_of(weights))
        return CheckpointFiles(text, beside, weights, preset or (None if given else entry))
    repo_id = entry.repo_id if entry is not None and entry.repo_id else text
    if not may_be_on_hub(repo_id) or text.endswith((*SUFFIXES, GRAPH_SUFFIX)):
        raise VocoderNotFoundError(
            "vocoder {name!r} is neither a local directory or file, nor a Hub id (owner/name), nor one of: {known}",
            code="vocoder-unknown",
            name=short_path(text),
            known=few(nearest(text, known_vocoders())),
        )
    revision = revision or (entry.revision if entry else None)
    fetched, weights = from_hub(repo_id, revision, layouts_of(entry, with_config=config is None))
    name = entry.name if entry else repo_id
    return CheckpointFiles(name, fetched or given, weights, preset or (None if given else entry))


def text_of(what: str, got: Any, refusal: type[VocoderNotFoundError | ConfigError]) -> str:
    """A name or path as text.

    Args:
        what: the argument that it is.
        got: the value of it.
        refusal: the error to raise.

    Raises:
        VocoderNotFoundError, ConfigError: it is neither.
    """
    text = os.fspath(got) if isinstance(got, str | os.PathLike) else None
    if not isinstance(text, str):
        raise refusal("{what} is {got!r}; expected a name or a path", code="name-type", what=what, got=got)
    return text


def _exists(path: str) -> bool:
    return stat.S_IFMT(mode_of(path, NO_PATH)) in (stat.S_IFDIR, stat.S_IFREG)


def _given_config(config: str | os.PathLike[str] | None) -> tuple[Path | None, VocoderPreset | None]:
    """The path or the known vocoder that `config=` means."""
    if config is None:
        return None, None
    text = text_of("config", config, ConfigError)
    if preset := known_vocoder(text):
        return None, preset
    if not stat.S_ISREG(mode_of(text, NO_PATH)):
        raise ConfigError(
            "config {got!r} is neither a file nor one of: {known}",
            code="config-not-found",
            got=short_path(text),
            known=few(known_vocoders()),
        )
    return Path(text), None


def _weights_in(directory: Path) -> Path:
    """The weights of a directory: those with a usual name, or the only ones."""
    steps = sorted((path.name for path in directory.glob(_STEPS)), reverse=True)
    usual = (WEIGHT_FILES[0], _INDEXED[0], WEIGHT_FILES[1], _INDEXED[1], *FLAT_WEIGHT_FILES, *steps)
    found = [directory / name for name in usual if is_file(directory / name)]
    if not found:
        require_readable(directory)
    others = [] if found else sorted(path for path in directory.iterdir() if path.suffix in SUFFIXES)
    if len(others) > 1:
        raise VocoderNotFoundError(
            "{directory} holds several files of weights: {files}; give the path of one of them",
            code="vocoder-several-weights",
            directory=directory,
            files=few(path.name for path in others),
        )
    if not found and not others:
        raise VocoderNotFoundError(
            "{folder} is no vocoder: it must hold {files}", code="folder-no-vocoder", folder=directory, files=NEEDED
        )
    return [*found, *others][0]


def _weights_file(path: Path) -> Path:
    flat = path.name in FLAT_WEIGHT_FILES or path.match(_STEPS)
    if not flat and not path.name.endswith((*SUFFIXES, INDEX_SUFFIX, GRAPH_SUFFIX)):
        raise VocoderNotFoundError(
            "{path} is no file of weights; allowed: {suffixes}, or a directory",
            code="vocoder-suffix",
            path=short_path(path),
            suffixes=" ".join((*SUFFIXES, GRAPH_SUFFIX)),
        )
    return path


def _config_of(weights: Path) -> Path:
    """The configuration beside weights: of the same name, or config.yaml; or above a folder of checkpoints."""
    folder = weights.parent
    of_same_name = [] if weights.suffix == ".json" else [weights.stem + Path(name).suffix for name in _CONFIG_FILES]
    names = [*of_same_name, *_CONFIG_FILES]
    places = [folder / name for name in names]
    if folder.name == "checkpoints":  # as Lightning lays out a run
        places += [folder.parent / name for name in _CONFIG_FILES]
    for path in places:
        if is_file(path):
            return path
    raise VocoderNotFoundError(
        "{weights} has no {config} beside it: give config=PATH (--config PATH), or the name of the known vocoder whose "
        "convention it has, for example config='vocos-mel-24khz'",
        code="vocoder-without-config",
        weights=short_path(weights),
        config=CONFIG_FILE,
    )


def load_model(files: CheckpointFiles) -> Any:
    """Build the model of a checkpoint on the CPU, in float32 and evaluation mode, and load its weights strictly.

    Raises:
        ConfigError: see `read_config` and `check_sizes`.
        CheckpointError: see `read_weights`, `fit`, `read_graph`; or stored constants belong to another mel convention.
    """
    if files.weights.suffix == GRAPH_SUFFIX:
        return read_graph(files.weights, files.known.mel if files.known else None)
    families: Iterable[Family] = FAMILIES.values()
    if files.config is not None:
        family, config = read_config(files.config, families, files.known)
        stored, name = read_weights(files.weights), files.config.name
    else:
        assert files.known is not None
        stored, name = read_weights(files.weights), files.known.name
        document = document_of(stored, FAMILIES[files.known.family], files.known, files.weights)
        family, config = read_document(document, families, files.known, files.known.name)
    check_sizes(config, stored.values(), files.config or name)
    model = _build(family, config, files.config or files.weights)
    constants = family.constants(model)
    fitted = fit(stored, model.state_dict(), constants.keys(), files.weights, name)
    check_constants(constants, {key: fitted.pop(key) for key in constants if key in fitted}, files.weights, name)
    model.load_state_dict(fitted, assign=True)
    return model.eval().requires_grad_(False)


def _build(family: Family, config: Any, path: Path) -> Any:
    try:
        with torch.device("meta"):  # the weights replace all parameters, so allocate and draw none
            return family.build(config)
    except (MemoryError, RuntimeError, OverflowError, TypeError) as error:
        raise ConfigError(
            "no model can have these sizes: {reason}",
            code="config-sizes",
            where=str(path),
            reason=first_sentence(error)[:150],
        ) from None


def check_constants(computed: Mapping[str, Tensor], constants: Mapping[str, Tensor], path: Path, config: str) -> None:
    """Compare stored windows and filterbanks with ours.

    Raises:
        CheckpointError: one differs.
    """
    for key, stored in constants.items():
        ours = computed[key]
        fits = stored.shape == ours.shape and stored.is_floating_point()
        if not fits or not (stored.float() - ours).abs().max() <= _CONSTANT_TOLERANCE * ours.abs().max():  # NaN, too
            raise CheckpointError(
                "stored {key} differs from the one that {config} describes; the checkpoint was trained on another mel "
                "convention: state mel_scale, norm, f_min and f_max in its feature_extractor",
                code="constants-differ",
                where=short_path(path),
                key=key,
                config=config,
            )
