"""From a name to a model with weights: resolve, fetch or find the files, verify, load strictly.

Order of resolution: a name in `configs/vocoders`; a local directory; a Hub id. What the Hub cache holds is used
without asking the network.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
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

DEFAULT_VOCODER = "vocos-mini-24khz"
CONFIG_FILE = "config.yaml"
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")  # in order of preference
ASSETS = Path(__file__).parent.parent / "assets"

# Constants that checkpoints store beside the weights are computed here and compared: a filterbank that differs means a
# mel convention that differs.
# They were computed in float32, and may be stored in half precision; another convention differs by 0.1 and more.
_CONSTANT_TOLERANCE = 2e-3


@dataclass(frozen=True)
class CheckpointFiles:
    """The files of one vocoder, on this machine."""

    name: str
    config: Path
    weights: Path
    known: VocoderPreset | None


def resolve(name: str | os.PathLike[str], revision: str | None = None) -> CheckpointFiles:
    """Find the files of a vocoder, downloading them if they are on the Hub and not in its cache.

    Args:
        name: a name in `configs/vocoders`, a local directory, or a Hub id such as "charactr/vocos-mel-24khz".
        revision: branch, tag or commit on the Hub; None: the one in `configs/vocoders`, else the main branch.

    Raises:
        VocoderNotFoundError: nothing of that name, here or there; says what was tried.
        InputError: a revision of what is not on the Hub.
    """
    if not isinstance(name, str | os.PathLike):
        raise VocoderNotFoundError(f"vocoder is {name!r}; expected a name, a local directory or a Hub id (owner/name)")
    text = os.fspath(name)
    known = known_vocoders()
    entry = known.get(text) or next((k for k in known.values() if k.repo_id == text), None)
    local = os.path.isdir(text) if entry is None else entry.source == "embedded"
    if local and revision is not None:
        raise InputError(f"revision {revision!r} is asked for, but {text!r} is not on the Hub; leave it out")
    if entry is not None and local:
        return _in_directory(ASSETS / entry.name, entry.name, entry)
    if local:
        return _in_directory(Path(text), text, None)
    repo_id = entry.repo_id if entry is not None and entry.repo_id else text
    if not _may_be_on_hub(repo_id):
        raise VocoderNotFoundError(
            f"vocoder {text!r} is neither a local directory, nor a Hub id (owner/name), nor one of: {', '.join(known)}"
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
    weights = next((directory / f for f in WEIGHT_FILES if (directory / f).is_file()), None)
    if weights is None or not (directory / CONFIG_FILE).is_file():
        raise VocoderNotFoundError(
            f"{directory} is no vocoder: it must hold {CONFIG_FILE} and {' or '.join(WEIGHT_FILES)}"
        )
    return CheckpointFiles(name, directory / CONFIG_FILE, weights, known)


def _on_hub(repo_id: str, revision: str | None, known: VocoderPreset | None) -> CheckpointFiles:
    """Files from the Hub cache; if they are not all there, from the Hub. Its tokens and switches are honoured."""
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
        # Asked first because it answers at once when there is no network, where a download retries for long.
        get_hf_file_metadata(hf_hub_url(repo_id, CONFIG_FILE, revision=revision))
        return _fetch(repo_id, revision, local_files_only=False)
    except RemoteEntryNotFoundError:
        raise VocoderNotFoundError(
            f"{repo_id} on the Hub is no vocoder: it must hold {CONFIG_FILE} and {' or '.join(WEIGHT_FILES)}"
        ) from None
    except (HTTPError, OSError, ValueError) as error:  # no network, no such repository or revision, no access
        raise VocoderNotFoundError(
            f"vocoder {repo_id!r} is not in the Hub cache ({HF_HUB_CACHE}) and could not be downloaded: "
            f"{_one_line(error)}; give a local directory with {CONFIG_FILE} and {WEIGHT_FILES[0]}, or use the embedded "
            f"{DEFAULT_VOCODER!r}"
        ) from None


def _fetch(repo_id: str, revision: str | None, local_files_only: bool) -> tuple[Path, Path]:
    """Both files by the Hub's own client, the preferred weights if the repository has them.

    Raises:
        EntryNotFoundError: a file is not there, or not in the cache.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    def get(filename: str) -> Path:
        return Path(hf_hub_download(repo_id, filename, revision=revision, local_files_only=local_files_only))

    config = get(CONFIG_FILE)
    try:
        return config, get(WEIGHT_FILES[0])
    except EntryNotFoundError:
        return config, get(WEIGHT_FILES[1])


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {first_sentence(error)}"


def load_model(files: CheckpointFiles) -> Any:
    """Build the model of a checkpoint on the CPU, in float32 and evaluation mode, and load its weights strictly.

    Raises:
        ConfigError: see `read_config`.
        CheckpointError: the file cannot be read without running code; tensors are missing, surplus, of another
            shape, not floating point, NaN or infinite; or stored constants belong to another mel convention.
    """
    family, config = read_config(files.config, FAMILIES.values(), files.known)
    try:
        with torch.device("meta"):  # no memory and no random numbers for parameters that are replaced at once
            model = family.build(config)
    except (MemoryError, RuntimeError, OverflowError) as error:
        raise ConfigError(
            "{path}: its sizes are those of no model: {reason}",
            code="config-sizes",
            path=files.config,
            reason=first_sentence(error),
        ) from None
    weights, constants = read_weights(files.weights), family.constants(model)
    stored = {key: weights.pop(key) for key in constants if key in weights}
    _check_constants(constants, stored, files.weights)
    _check_weights(model.state_dict(), weights, files.weights)
    model.load_state_dict({key: tensor.float() for key, tensor in weights.items()}, assign=True)
    return model.eval().requires_grad_(False)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a `.safetensors` file, or of a pickled state dict with torch's weights-only unpickler.

    Raises:
        CheckpointError: the file is damaged, holds something else than named tensors, or would have to run code.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        raise CheckpointError(f"cannot read weights from {path}: {_one_line(error)}; fetch the file again") from None
    if not isinstance(content, dict) or not all(map(_is_named_tensor, content, content.values())):
        raise CheckpointError(f"{path} holds no state dict (a mapping of names to dense tensors)")
    return content


def _is_named_tensor(name: object, value: object) -> bool:
    return isinstance(name, str) and isinstance(value, Tensor) and value.layout == torch.strided and not value.is_meta


def _check_weights(expected: dict[str, Tensor], weights: dict[str, Tensor], path: Path) -> None:
    """Refuse weights that do not fit, naming every tensor that is wrong."""
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
        raise CheckpointError(f"weights in {path} do not fit {CONFIG_FILE}; {'; '.join(found)}")


def _check_constants(computed: Mapping[str, Tensor], constants: Mapping[str, Tensor], path: Path) -> None:
    """Compare stored windows and filterbanks with ours."""
    for key, stored in constants.items():
        ours = computed[key]
        fits = stored.shape == ours.shape and stored.is_floating_point()
        if not fits or not (stored.float() - ours).abs().max() <= _CONSTANT_TOLERANCE * ours.abs().max():  # NaN, too
            raise CheckpointError(
                f"{path}: stored {key} differs from the one that {CONFIG_FILE} describes; the checkpoint was trained "
                "on another mel convention: state mel_scale, norm, f_min and f_max in its feature_extractor"
            )
