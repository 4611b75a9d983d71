"""Fetch the files of a vocoder from the Hugging Face Hub, or find them in its cache.

What the cache holds is used without asking the network. The client's own tokens, switches and folders are honoured.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from tts_infer.config import VocoderPreset
from tts_infer.errors import VocoderNotFoundError, first_sentence
from tts_infer.vocoders.weights import INDEX_SUFFIX, shards

CONFIG_FILE = "config.yaml"
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")  # in order of preference
_SHARDED = "model.safetensors" + INDEX_SUFFIX
_LOG_IN = "log in with 'hf auth login', or set HF_TOKEN"
DEFAULT_VOCODER = "vocos-mini-24khz"

Where = Literal["embedded", "cached", "not cached"]


def may_be_on_hub(repo_id: str) -> bool:
    """Whether this is the form of a Hub id: owner/name."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repo_id)
    except HFValidationError:
        return False
    return repo_id.count("/") == 1


def where(preset: VocoderPreset) -> Where:
    """Where the files of a known vocoder are. Nothing is fetched."""
    if preset.repo_id is None:
        return "embedded"
    from huggingface_hub import try_to_load_from_cache

    def cached(filename: str) -> bool:
        return isinstance(try_to_load_from_cache(str(preset.repo_id), filename, revision=preset.revision), str)

    weights = (preset.weights_file,) if preset.weights_file else WEIGHT_FILES
    return "cached" if cached(preset.config_file) and any(map(cached, weights)) else "not cached"


def from_hub(
    repo_id: str, revision: str | None, preset: VocoderPreset | None, with_config: bool
) -> tuple[Path | None, Path]:
    """The configuration (if asked for) and the weights: from the cache; if they are not all there, from the Hub.

    Raises:
        VocoderNotFoundError: they are not there, or this machine may not or cannot fetch them.
    """
    from huggingface_hub.errors import EntryNotFoundError

    config = (preset.config_file if preset else CONFIG_FILE) if with_config else None
    weights = (preset.weights_file,) if preset and preset.weights_file else (WEIGHT_FILES[0], _SHARDED, WEIGHT_FILES[1])
    try:
        return _fetch(repo_id, revision, config, weights, local_files_only=True)
    except EntryNotFoundError:
        return _download(repo_id, revision, config, weights)


def _fetch(
    repo_id: str, revision: str | None, config: str | None, weights: tuple[str, ...], local_files_only: bool
) -> tuple[Path | None, Path]:
    """The files by the Hub's own client, the first of the weights that the repository has.

    Raises:
        EntryNotFoundError: a file is not there, or not in the cache.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    def get(filename: str) -> Path:
        return Path(hf_hub_download(repo_id, filename, revision=revision, local_files_only=local_files_only))

    found = get(config) if config else None
    for name in weights:
        try:
            path = get(name)
        except EntryNotFoundError:
            if name == weights[-1]:
                raise
        else:
            for shard in shards(path) if name.endswith(INDEX_SUFFIX) else ():
                get(shard)
            return found, path
    raise AssertionError("no names of weights")


def _download(
    repo_id: str, revision: str | None, config: str | None, weights: tuple[str, ...]
) -> tuple[Path | None, Path]:
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import HTTPError, RemoteEntryNotFoundError  # HTTPError: of the client in use

    try:
        if config is not None:
            # Asked first because it answers at once when there is no network, where a download retries for long.
            get_hf_file_metadata(hf_hub_url(repo_id, config, revision=revision))
        return _fetch(repo_id, revision, config, weights, local_files_only=False)
    except RemoteEntryNotFoundError:
        files = f"{config} and " if config else ""
        raise VocoderNotFoundError(
            "{repo_id} on the Hub is no vocoder: it must hold {files}",
            code="hub-no-vocoder",
            repo_id=repo_id,
            files=files + " or ".join(name for name in weights if name != _SHARDED),
        ) from None
    except (HTTPError, OSError, ValueError) as error:
        raise _refused(repo_id, revision, error) from None


def _refused(repo_id: str, revision: str | None, error: Exception) -> VocoderNotFoundError:
    """What the Hub's refusal means, and what helps."""
    from huggingface_hub.constants import ENDPOINT, HF_HUB_CACHE
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    about: dict[str, Any] = {"repo_id": repo_id, "page": f"{ENDPOINT}/{repo_id}", "said": _said_by_hub(error)}
    status = getattr(getattr(error, "response", None), "status_code", 0)
    if isinstance(error, GatedRepoError):
        return VocoderNotFoundError(
            "{repo_id} is gated: ask for access on its page, {page}, then {log_in}{said}",
            code="hub-gated",
            log_in=_LOG_IN,
            **about,
        )
    if isinstance(error, RevisionNotFoundError):
        return VocoderNotFoundError(
            "{repo_id} has no revision {revision}; its branches and tags are on its page, {page}{said}",
            code="hub-revision",
            revision=repr(revision or "main"),
            **about,
        )
    if isinstance(error, RepositoryNotFoundError):
        return VocoderNotFoundError(
            "{repo_id} is not on the Hub, or is private: check the name; if it is private, {log_in}{said}",
            code="hub-not-found",
            log_in=_LOG_IN,
            **about,
        )
    if status == 429:
        return VocoderNotFoundError(
            "the Hub limits how often this address may ask ({repo_id}): wait some minutes; for a higher limit, "
            "{log_in}{said}",
            code="hub-rate",
            log_in=_LOG_IN,
            **about,
        )
    if status >= 500:
        return VocoderNotFoundError(
            "the Hub does not work at the moment ({repo_id}: status {status}); try again later{said}",
            code="hub-down",
            status=status,
            **about,
        )
    return VocoderNotFoundError(
        "vocoder {repo_id!r} is not in the Hub cache ({cache}) and could not be downloaded: {reason}; give a local "
        "directory with {config} and {weights}, or use the embedded {default!r}",
        code="hub-unreachable",
        repo_id=repo_id,
        cache=HF_HUB_CACHE,
        reason=f"{type(error).__name__}: {first_sentence(error)[:120]}",
        config=CONFIG_FILE,
        weights=WEIGHT_FILES[0],
        default=DEFAULT_VOCODER,
    )


def _said_by_hub(error: Exception) -> str:
    """The Hub's own words, for the end of a sentence."""
    said = " ".join(str(getattr(error, "server_message", None) or "").split())
    return f". The Hub says: {said[:100]}" if said else ""
