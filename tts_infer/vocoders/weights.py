"""Read the tensors of a weights file, whatever they are wrapped in. No code of a file is ever run.

    .safetensors                      tensors only
    .bin .pt .pth .ckpt               pickles, read by torch's weights-only unpickler
    *.index.json                      several of these files as one

What nested mappings hold becomes flat: {"state_dict": {"a": t}} is "state_dict.a": t. `tts_infer.vocoders.layouts`
finds the tensors of a model in that.
"""

from __future__ import annotations

import json
import pickle
import re
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from tts_infer.errors import CheckpointError, few, first_sentence
from tts_infer.io.sources import UNREADABLE
from tts_infer.locks import ProcessLock

SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")
INDEX_SUFFIX = ".index.json"

_MAX_ENTRIES = 200_000  # of all nested mappings; a checkpoint with its optimizer has some thousands
_MAX_DEPTH = 4
_MAX_NAME = 500
_MAX_INDEX_BYTES = 20_000_000
_GIT_LFS, _ZIP = b"version https://git-lfs", b"PK\x03\x04"
_SAVE_WEIGHTS = "where it was made, save the weights alone: torch.save(model.state_dict(), 'weights.pt')"
_safe_globals = ProcessLock()  # torch keeps one list of them for the process


class _Unread:
    """Takes the place of every object of a class that torch does not allow. It has no code and keeps nothing."""

    def __new__(cls, *_: object, **__: object) -> _Unread:
        return object.__new__(cls)

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read the named tensors of a file, or of the files that an index lists.

    Objects of unknown classes beside the tensors, such as the hyper-parameters of a training run, are passed over.

    Raises:
        CheckpointError: the file is damaged or is something else; it holds no tensors, or tensors that are not plain;
            or its tensors cannot be told from objects that need code.
    """
    if path.name.endswith(INDEX_SUFFIX):
        return {name: tensor for shard in shards(path) for name, tensor in read_weights(path.parent / shard).items()}
    try:
        _refuse_other_files(path)
        content, unread = (load_file(path), []) if path.suffix == ".safetensors" else _read_pickle(path)
    except CheckpointError:
        raise
    except UNREADABLE as error:
        if refusal := unopened(path, error):
            raise refusal from None
        reason = f"{type(error).__name__}: {first_sentence(error)[:120]}"
        raise CheckpointError(
            "cannot read weights from {path}: {reason}; fetch the file again",
            code="weights-unreadable",
            path=path,
            reason=reason,
        ) from None
    tensors = _flatten(content, path)
    if not tensors:
        raise _without_tensors(path, content, unread)
    return tensors


def shards(index: Path) -> list[str]:
    """The names of the files that an index lists.

    Raises:
        CheckpointError: it is no index, or names files outside of its folder.
    Source: the layout of huggingface/transformers (weight_map: tensor -> file).
    """
    try:
        with open(index, "rb") as file:
            names = list(dict.fromkeys(json.loads(file.read(_MAX_INDEX_BYTES))["weight_map"].values()))
        inside = all(isinstance(name, str) and Path(name).name == name and name.endswith(SUFFIXES) for name in names)
    except UNREADABLE as error:
        if refusal := unopened(index, error):
            raise refusal from None
        names, inside = [], False
    if not names or not inside:
        raise CheckpointError(
            "{path} is no index of weights; it must have a weight_map of tensors to files beside it",
            code="weights-index",
            path=index,
        )
    return names


def unopened(path: Path, error: Exception) -> CheckpointError | None:
    """The error about a file that the system does not open; None if it is the content that is wrong."""
    if not isinstance(error, OSError) or error.strerror is None:
        return None
    text = "cannot read {path}: {reason}"
    return CheckpointError(text, code="weights-unopened", path=path, reason=error.strerror)


def _refuse_other_files(path: Path) -> None:
    """Say what a file is that is often found in the place of weights."""
    with open(path, "rb") as file:
        head = file.read(512).lstrip()
    if not head:
        raise CheckpointError("{path} is empty; fetch the file again", code="weights-empty", path=path)
    if head.startswith(_GIT_LFS):
        raise CheckpointError(
            "{path} is a git-lfs pointer, not the weights themselves: run 'git lfs pull' in its repository, or "
            "download the file from its page",
            code="weights-lfs-pointer",
            path=path,
        )
    if head[:1] == b"<":
        raise CheckpointError(
            "{path} is a web page, not weights: download the file itself (on the Hub, the address has 'resolve' in "
            "place of 'blob')",
            code="weights-web-page",
            path=path,
        )


def _read_pickle(path: Path) -> tuple[Any, list[str]]:
    """The content of a file of torch.save, and the names of the classes in it that were passed over."""
    _refuse_repacked(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True), []
    except pickle.UnpicklingError as error:
        unknown = _unknown_globals(path, error)
        if not unknown:
            raise
    try:
        # Each unknown name stands for `_Unread`, so nothing that the file names is looked up, let alone called.
        with _safe_globals, torch.serialization.safe_globals([(_Unread, name) for name in unknown]):
            return torch.load(path, map_location="cpu", weights_only=True), unknown
    except UNREADABLE:
        raise _needs_code(path, unknown) from None


def _unknown_globals(path: Path, error: Exception) -> list[str]:
    """The classes and functions that the unpickler does not allow."""
    known = getattr(torch.serialization, "get_unsafe_globals_in_checkpoint", None)  # since torch 2.6
    try:
        names = known(path) if known else []
    except UNREADABLE:  # a file of before torch 1.6
        names = []
    found = names or re.findall(r"GLOBAL (\w+(?:\.\w+)+)", str(error))
    # Where a file was cut, a name in it that torch would allow is cut, too.
    return sorted(
        name for name in found if not re.match(r"torch\.(?!nn\.|optim\.)|collections\.(?!defaultdict$)", name)
    )


def _refuse_repacked(path: Path) -> None:
    """Refuse archives that would unpack to more than they are, and programs of TorchScript."""
    with open(path, "rb") as file:
        if file.read(4) != _ZIP:
            return
        entries = zipfile.ZipFile(file).infolist()
        size = file.seek(0, 2)
    if any(entry.filename.endswith("/constants.pkl") for entry in entries):
        raise CheckpointError(
            "{path} is a program of TorchScript, which is never run; " + _SAVE_WEIGHTS, code="weights-script", path=path
        )
    packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
    if packed or sum(entry.file_size for entry in entries) > size:
        raise CheckpointError(
            "{path} is an archive that was packed again, and unpacks to {unpacked} bytes; fetch the original file",
            code="weights-packed",
            path=path,
            unpacked=sum(entry.file_size for entry in entries),
        )


def _flatten(content: Any, path: Path) -> dict[str, Tensor]:
    """All tensors in nested mappings, by their names with dots between."""
    found: dict[str, Tensor] = {}
    todo = [("", content, 0)] if isinstance(content, dict) else []
    seen = 0
    while todo:
        prefix, mapping, depth = todo.pop()
        seen += len(mapping)
        if seen > _MAX_ENTRIES:
            raise CheckpointError(
                "{path} holds more than {limit} entries; it is no checkpoint of a vocoder",
                code="weights-entries",
                path=path,
                limit=_MAX_ENTRIES,
            )
        for name, value in mapping.items():
            if not isinstance(name, str) or len(prefix) + len(name) > _MAX_NAME:
                continue
            if isinstance(value, Tensor):
                found.setdefault(prefix + name, _plain(value, prefix + name, path))
            elif isinstance(value, dict) and depth < _MAX_DEPTH:
                todo.append((f"{prefix}{name}.", value, depth + 1))
    return found


def _plain(tensor: Tensor, name: str, path: Path) -> Tensor:
    """The tensor, if every value of it is stored in the file."""
    checks = {
        "a tensor of another class": type(tensor) not in (Tensor, nn.Parameter),
        "a nested tensor": tensor.is_nested,
        "a sparse tensor": tensor.layout != torch.strided,
        "without values": tensor.is_meta,
        "quantized": tensor.is_quantized,
    }
    wrong = next((what for what, found in checks.items() if found), None)
    if wrong is None and tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        wrong = "few values spread over a larger shape"
    if wrong is not None:
        raise CheckpointError(
            "{path} holds no plain weights: {name} is {wrong}; {help}",
            code="weights-tensor-kind",
            path=path,
            name=few([name]),
            wrong=wrong,
            help="save dense tensors, for example {k: v.clone() for k, v in model.state_dict().items()}",
        )
    return tensor.detach()


def _without_tensors(path: Path, content: Any, unread: Iterable[str]) -> CheckpointError:
    if unread:
        return _needs_code(path, unread)
    return CheckpointError(
        "{path} holds no named tensors, but {got}; it must be a state dict: torch.save(model.state_dict(), ...)",
        code="weights-no-tensors",
        path=path,
        got=f"a {type(content).__name__}" + (f" of {few(map(str, content))}" if isinstance(content, dict) else ""),
    )


def _needs_code(path: Path, unknown: Iterable[str]) -> CheckpointError:
    return CheckpointError(
        "{path} holds whole objects ({classes}), and to read these would run code from the file; " + _SAVE_WEIGHTS,
        code="weights-need-code",
        path=path,
        classes=few(unknown),
    )
