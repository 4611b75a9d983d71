"""Fetch the files of a vocoder from the Hugging Face Hub, or find them in its cache.

Files in the Hub cache are used without asking the network. The Hub client reads its own tokens and settings.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from tts_infer.config import VocoderPreset
from tts_infer.errors import CheckpointError, VocoderNotFoundError, few, first_sentence
from tts_infer.vocoders.weights import INDEX_SUFFIX, shards

CONFIG_FILE = "config.yaml"
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")  # in order of preference
_SHARDED = "model.safetensors" + INDEX_SUFFIX
# The same of BigVGAN and HiFi-GAN.
FLAT_CONFIG_FILE = "config.json"
FLAT_WEIGHT_FILES = ("model.safetensors", "bigvgan_generator.pt", "generator_v1", "generator_v2", "generator_v3")
NEEDED = (
    f"{CONFIG_FILE} and {' or '.join(WEIGHT_FILES)}, or {FLAT_CONFIG_FILE} and {' or '.join(FLAT_WEIGHT_FILES[1:3])}"
)
_LOG_IN = "log in with 'hf auth login', or set HF_TOKEN"
DEFAULT_VOCODER = "vocos-mini-24khz"

Layout = tuple[str | None, tuple[str, ...]]  # names of a configuration, and of weights in order of preference
Where = Literal["embedded", "cached", "not cached"]
_LAYOUTS: tuple[Layout, ...] = (
    (CONFIG_FILE, (WEIGHT_FILES[0], _SHARDED, WEIGHT_FILES[1])),
    (FLAT_CONFIG_FILE, FLAT_WEIGHT_FILES),
)
_ALL_WEIGHTS: Layout = (None, tuple(dict.fromkeys(name for _, weights in _LAYOUTS for name in weights)))


def may_be_on_hub(repo_id: str) -> bool:
    """Whether this is the form of a Hub id: owner/name."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repo_id)
    except HFValidationError:
        return False
    return repo_id.count("/") == 1


def layouts_of(preset: VocoderPreset | None, with_config: bool = True) -> tuple[Layout, ...]:
    """The names that the files of a repository may have.

    Args:
        preset: its entry in `configs/vocoders`; None: it has none.
        with_config: whether its configuration is wanted.
    """
    if preset is not None and preset.weights_file is not None:
        return ((preset.config_file if with_config else None, (preset.weights_file,)),)
    return _LAYOUTS if with_config else (_ALL_WEIGHTS,)


def where(preset: VocoderPreset) -> Where:
    """Where the files of a known vocoder are. It downloads nothing."""
    if preset.repo_id is None:
        return "embedded"
    from huggingface_hub import try_to_load_from_cache

    def cached(filename: str) -> bool:
        return isinstance(try_to_load_from_cache(str(preset.repo_id), filename, revision=preset.revision), str)

    layouts = layouts_of(preset)
    found = any((not config or cached(config)) and any(map(cached, weights)) for config, weights in layouts)
    return "cached" if found else "not cached"


def from_hub(repo_id: str, revision: str | None, layouts: tuple[Layout, ...] = _LAYOUTS) -> tuple[Path | None, Path]:
    """The configuration (if asked for) and the weights: from the cache; if they are not all there, from the Hub.

    Args:
        repo_id, revision: of the repository.
        layouts: see `layouts_of`.

    Raises:
        VocoderNotFoundError: they are not there, or this machine may not or cannot fetch them.
    """
    from huggingface_hub.errors import EntryNotFoundError

    try:
        return _fetch(repo_id, revision, layouts, local_files_only=True)
    except CheckpointError:
        raise
    except (EntryNotFoundError, ValueError, OSError):  # not all there, or a damaged cache
        return _download(repo_id, revision, layouts)


def _fetch(
    repo_id: str, revision: str | None, layouts: tuple[Layout, ...], local_files_only: bool
) -> tuple[Path | None, Path]:
    """Get the files through the Hub's client: the first configuration that exists, and the first of its weights.

    Raises:
        EntryNotFoundError: a file does not exist, or is not in the cache.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    def get(filename: str) -> Path:
        return _inside(Path(hf_hub_download(repo_id, filename, revision=revision, local_files_only=local_files_only)))

    def first(names: tuple[str, ...]) -> Path:
        for name in names[:-1]:
            with suppress(EntryNotFoundError):
                return get(name)
        return get(names[-1])

    configs = tuple(config for config, _ in layouts if config)
    config = first(configs) if configs else None
    of_config = (names for name, names in layouts if config is None or (name and Path(name).name == config.name))
    weights = first(next(of_config))
    for shard in shards(weights) if weights.name.endswith(INDEX_SUFFIX) else ():
        get(shard)
    return config, weights


def _inside(path: Path) -> Path:
    """The file of a snapshot, if it lies in the cache of its repository. A link out of that is no work of the client.

    Raises:
        CheckpointError: it lies elsewhere.
    """
    snapshots = next((folder for folder in path.parents if folder.name == "snapshots"), path.parents[1])
    real, storage = os.path.realpath(path), os.path.realpath(snapshots.parent)
    if os.path.commonpath([real, storage]) != storage:
        text = "{path} in the Hub cache links to {real}, outside of its repository; remove {storage}"
        raise CheckpointError(text, code="hub-link", path=path.name, real=real[-80:], storage=storage[-120:])
    return path


def _cached_revisions(repo_id: str) -> list[str]:
    """The branches, tags and commits of a repository that the cache has."""
    from huggingface_hub.constants import HF_HUB_CACHE

    storage = Path(HF_HUB_CACHE, "models--" + repo_id.replace("/", "--"))
    with suppress(OSError):
        refs = sorted(path.name for path in (storage / "refs").iterdir())
        return refs or sorted(path.name for path in (storage / "snapshots").iterdir())
    return []


def _download(repo_id: str, revision: str | None, layouts: tuple[Layout, ...]) -> tuple[Path | None, Path]:
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import HTTPError, RemoteEntryNotFoundError  # HTTPError: of the client in use

    try:
        # Ask for metadata first: without a network it fails at once, while a download retries for a long time.
        with suppress(RemoteEntryNotFoundError):  # it may have the other configuration
            get_hf_file_metadata(hf_hub_url(repo_id, layouts[0][0] or layouts[0][1][0], revision=revision))
        return _fetch(repo_id, revision, layouts, local_files_only=False)
    except RemoteEntryNotFoundError:
        raise VocoderNotFoundError(
            "{repo_id} on the Hub is no vocoder: it must hold {files}",
            code="repository-no-vocoder",
            repo_id=repo_id,
            files=NEEDED,
        ) from None
    except (HTTPError, OSError, ValueError) as error:
        raise _refused(repo_id, revision, error) from None


def _refused(repo_id: str, revision: str | None, error: Exception) -> VocoderNotFoundError:
    """What the Hub's refusal means, and what helps."""
    from huggingface_hub.constants import ENDPOINT
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    about: dict[str, Any] = {"repo_id": repo_id, "page": f"{ENDPOINT}/{repo_id}", "said": _said_by_hub(error)}
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
    return _unavailable(repo_id, revision, error, about)


def _unavailable(repo_id: str, revision: str | None, error: Exception, about: dict[str, Any]) -> VocoderNotFoundError:
    """What it means that the Hub gave no answer about `repo_id`."""
    from huggingface_hub.constants import HF_HUB_CACHE

    status = getattr(getattr(error, "response", None), "status_code", 0)
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
    cached = _cached_revisions(repo_id)
    if cached:
        return VocoderNotFoundError(
            "{repo_id}, revision {revision}, is not whole in the Hub cache, which has: {cached}; the Hub gives no "
            "answer ({reason}). Name a cached revision (--revision), or remove it from {cache} and go online",
            code="hub-cache-incomplete",
            repo_id=repo_id,
            revision=repr(revision or "main"),
            cached=few(cached, length=20),
            reason=type(error).__name__,
            cache=HF_HUB_CACHE[-60:],
        )
    return _unreachable(repo_id, error)


def _unreachable(repo_id: str, error: Exception) -> VocoderNotFoundError:
    from huggingface_hub.constants import HF_HUB_CACHE

    return VocoderNotFoundError(
        "vocoder {repo_id!r} is not in the Hub cache ({cache}) and could not be downloaded: {reason}; give a local "
        "directory with {config} and {weights}, or use the embedded {embedded!r}",
        code="hub-unreachable",
        repo_id=repo_id,
        cache=HF_HUB_CACHE,
        reason=f"{type(error).__name__}: {first_sentence(error)[:120]}",
        config=CONFIG_FILE,
        weights=WEIGHT_FILES[0],
        embedded=DEFAULT_VOCODER,
    )


def _said_by_hub(error: Exception) -> str:
    """The Hub's own words, for the end of a sentence."""
    said = " ".join(str(getattr(error, "server_message", None) or "").split())
    return f". The Hub says: {said[:100]}" if said else ""
