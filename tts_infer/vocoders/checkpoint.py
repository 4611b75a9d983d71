"""Checkpoints: find or download their files, check them, and load them strictly.

A name is looked up in this order: a name in `configs/vocoders`, a local directory, a Hub id. Files in the Hub cache are
used without asking the network.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from tts_infer.config import VocoderPreset, known_vocoders
from tts_infer.errors import CheckpointError, ConfigError, InputError, VocoderNotFoundError, first_sentence
from tts_infer.io.features import UNREADABLE
from tts_infer.vocoders import FAMILIES
from tts_infer.vocoders.family import read_config
from tts_infer.vocoders.weight_norm import fold_weight_norm

DEFAULT_VOCODER = "vocos-mini-24khz"
CONFIG_FILE = "config.yaml"
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")  # in order of preference
# The same of BigVGAN and HiFi-GAN. Their training writes g_00000000 and so on; the latest one counts.
FLAT_CONFIG_FILE = "config.json"
FLAT_WEIGHT_FILES = ("model.safetensors", "bigvgan_generator.pt", "generator_v1", "generator_v2", "generator_v3")
_STEPS = "g_" + "[0-9]" * 8
_NEEDED = f"{CONFIG_FILE} and {' or '.join(WEIGHT_FILES)}, or {FLAT_CONFIG_FILE} and bigvgan_generator.pt"
ASSETS = Path(__file__).parent.parent / "assets"

# Checkpoints store some constants beside the weights. They are compared with ours: another filterbank means another mel
# convention. The stored ones were computed in float32 and may be stored in half precision; those of another convention
# differ by 0.1 or more.
_CONSTANT_TOLERANCE = 2e-3


@dataclass(frozen=True)
class CheckpointFiles:
    """The files of one vocoder, on this machine."""

    name: str
    config: Path
    weights: Path
    known: VocoderPreset | None


def resolve(name: str | os.PathLike[str], revision: str | None = None) -> CheckpointFiles:
    """Find the files of a vocoder. Download them if they are on the Hub and not in its cache.

    Args:
        name: a name in `configs/vocoders`, a local directory, or a Hub id such as "charactr/vocos-mel-24khz".
        revision: branch, tag or commit on the Hub; None: the one in `configs/vocoders`, else the main branch.

    Raises:
        VocoderNotFoundError: nothing has that name, here or on the Hub; says what was tried.
        InputError: a revision is stated, but the vocoder is not on the Hub.
    """
    if not isinstance(name, str | os.PathLike):
        raise VocoderNotFoundError(
            "vocoder is {got!r}; expected a name, a local directory or a Hub id (owner/name)",
            code="vocoder-type",
            got=name,
        )
    text = os.fspath(name)
    known = known_vocoders()
    entry = known.get(text) or next((k for k in known.values() if k.repo_id == text), None)
    local = os.path.isdir(text) if entry is None else entry.source == "embedded"
    if local and revision is not None:
        raise InputError(
            "revision {revision!r} is asked for, but {name!r} is not on the Hub; leave it out",
            code="revision-local",
            revision=revision,
            name=text,
        )
    if entry is not None and local:
        return _in_directory(ASSETS / entry.name, entry.name, entry)
    if local:
        return _in_directory(Path(text), text, None)
    repo_id = entry.repo_id if entry is not None and entry.repo_id else text
    if not _may_be_on_hub(repo_id):
        raise VocoderNotFoundError(
            "vocoder {name!r} is neither a local directory, nor a Hub id (owner/name), nor one of: {known}",
            code="vocoder-unknown",
            name=text,
            known=", ".join(known),
        )
    return _on_hub(repo_id, revision or (entry.revision if entry else None), entry)


def _may_be_on_hub(repo_id: str) -> bool:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repo_id)
    except HFValidationError:
        return False
    return repo_id.count("/") == 1


def _in_directory(directory: Path, name: str, known: VocoderPreset | None) -> CheckpointFiles:
    config, names = CONFIG_FILE, [*WEIGHT_FILES]
    if not (directory / CONFIG_FILE).is_file():
        steps = sorted((path.name for path in directory.glob(_STEPS)), reverse=True)
        config, names = FLAT_CONFIG_FILE, [*FLAT_WEIGHT_FILES, *steps]
    weights = next((directory / f for f in names if (directory / f).is_file()), None)
    if weights is None or not (directory / config).is_file():
        raise VocoderNotFoundError(
            "{folder} is no vocoder: it must hold {files}", code="folder-no-vocoder", folder=directory, files=_NEEDED
        )
    return CheckpointFiles(name, directory / config, weights, known)


def _on_hub(repo_id: str, revision: str | None, known: VocoderPreset | None) -> CheckpointFiles:
    """The files in the Hub cache, or from the Hub if one is missing. The Hub client reads its tokens and settings."""
    from huggingface_hub.errors import EntryNotFoundError

    try:
        config, weights = _fetch(repo_id, revision, local_files_only=True)
    except EntryNotFoundError:
        config, weights = _download(repo_id, revision)
    return CheckpointFiles(known.name if known else repo_id, config, weights, known)


def _download(repo_id: str, revision: str | None) -> tuple[Path, Path]:
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.constants import HF_HUB_CACHE
    from huggingface_hub.errors import HTTPError, RemoteEntryNotFoundError  # HTTPError: of the client in use

    try:
        # Ask for metadata first: without a network it fails at once, while a download retries for a long time.
        with suppress(RemoteEntryNotFoundError):  # it may have the other configuration
            get_hf_file_metadata(hf_hub_url(repo_id, CONFIG_FILE, revision=revision))
        return _fetch(repo_id, revision, local_files_only=False)
    except RemoteEntryNotFoundError:
        raise VocoderNotFoundError(
            "{repo_id} on the Hub is no vocoder: it must hold {files}",
            code="repository-no-vocoder",
            repo_id=repo_id,
            files=_NEEDED,
        ) from None
    except (HTTPError, OSError, ValueError) as error:  # no network, no such repository or revision, no access
        raise VocoderNotFoundError(
            "vocoder {repo_id!r} is not in the Hub cache ({cache}) and could not be downloaded: {reason}; give a local "
            "directory with {config} and {weights}, or use the embedded {embedded!r}",
            code="hub-unreachable",
            repo_id=repo_id,
            cache=HF_HUB_CACHE,
            reason=_one_line(error),
            config=CONFIG_FILE,
            weights=WEIGHT_FILES[0],
            embedded=DEFAULT_VOCODER,
        ) from None


def _fetch(repo_id: str, revision: str | None, local_files_only: bool) -> tuple[Path, Path]:
    """Get both files through the Hub's client: the configuration, and the preferred weights if they exist.

    Raises:
        EntryNotFoundError: a file does not exist, or is not in the cache.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    def get(filename: str) -> Path:
        return Path(hf_hub_download(repo_id, filename, revision=revision, local_files_only=local_files_only))

    names: tuple[str, ...]
    try:
        config, names = get(CONFIG_FILE), WEIGHT_FILES
    except EntryNotFoundError:
        config, names = get(FLAT_CONFIG_FILE), FLAT_WEIGHT_FILES
    for name in names[:-1]:
        with suppress(EntryNotFoundError):
            return config, get(name)
    return config, get(names[-1])


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {first_sentence(error)}"


def load_model(files: CheckpointFiles) -> Any:
    """Build the model of a checkpoint on the CPU, in float32 and evaluation mode, and load its weights strictly.

    Raises:
        ConfigError: see `read_config`.
        CheckpointError: the file cannot be read without running code; a tensor is missing, surplus, of another shape,
            not floating point, NaN or infinite; or stored constants belong to another mel convention.
    """
    family, config = read_config(files.config, FAMILIES.values(), files.known)
    try:
        with torch.device("meta"):  # the weights replace all parameters, so allocate and draw none
            model = family.build(config)
    except (MemoryError, RuntimeError, OverflowError) as error:
        raise ConfigError(
            "no model can have these sizes: {reason}",
            code="config-sizes",
            where=str(files.config),
            reason=first_sentence(error),
        ) from None
    weights, constants = fold_weight_norm(read_weights(files.weights)), family.constants(model)
    stored = {key: weights.pop(key) for key in constants if key in weights}
    _check_constants(constants, stored, files.weights)
    _check_weights(model.state_dict(), weights, files.weights)
    model.load_state_dict({key: tensor.float() for key, tensor in weights.items()}, assign=True)
    return model.eval().requires_grad_(False)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a `.safetensors` file, or of a pickled state dict with torch's weights-only unpickler.

    Raises:
        CheckpointError: the file is damaged, holds something other than named tensors, or needs code to be run.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        raise CheckpointError(
            "cannot read weights from {path}: {reason}; fetch the file again",
            code="weights-unreadable",
            path=path,
            reason=_one_line(error),
        ) from None
    if isinstance(content, dict) and isinstance(content.get("generator"), dict):  # HiFi-GAN, BigVGAN
        content = content["generator"]
    if not isinstance(content, dict) or not all(map(_is_named_tensor, content, content.values())):
        raise CheckpointError(
            "{path} holds no state dict (a mapping of names to dense tensors)", code="weights-no-state-dict", path=path
        )
    return content


def _is_named_tensor(name: object, value: object) -> bool:
    return isinstance(name, str) and isinstance(value, Tensor) and value.layout == torch.strided and not value.is_meta


def _check_weights(expected: dict[str, Tensor], weights: dict[str, Tensor], path: Path) -> None:
    """Refuse weights that do not fit. The error names every wrong tensor."""
    shapes = {
        key: f"{tuple(weights[key].shape)} instead of {tuple(expected[key].shape)}"
        for key in expected
        if key in weights and weights[key].shape != expected[key].shape
    }
    problems = {
        "missing": sorted(set(expected) - set(weights)),
        "surplus": sorted(set(weights) - set(expected)),
        "of another shape": [f"{key} {shapes[key]}" for key in shapes],
        "not floating point": [key for key, t in weights.items() if not t.is_floating_point()],
        "NaN or infinite": [
            key for key, t in weights.items() if t.is_floating_point() and not torch.isfinite(t.float().sum())
        ],
    }
    found = [f"{kind}: {', '.join(keys)}" for kind, keys in problems.items() if keys]
    if found:
        raise CheckpointError(
            "weights in {path} do not fit {config}; {problems}",
            code="weights-misfit",
            path=path,
            config=CONFIG_FILE,
            problems="; ".join(found),
        )


def _check_constants(computed: Mapping[str, Tensor], constants: Mapping[str, Tensor], path: Path) -> None:
    """Compare stored windows and filterbanks with ours."""
    for key, stored in constants.items():
        ours = computed[key]
        fits = stored.shape == ours.shape and stored.is_floating_point()
        if not fits or not (stored.float() - ours).abs().max() <= _CONSTANT_TOLERANCE * ours.abs().max():  # NaN, too
            raise CheckpointError(
                "stored {key} differs from the one that {config} describes; the checkpoint was trained on another mel "
                "convention: state mel_scale, norm, f_min and f_max in its feature_extractor",
                code="constants-differ",
                where=str(path),
                key=key,
                config=CONFIG_FILE,
            )
