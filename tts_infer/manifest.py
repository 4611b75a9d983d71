"""What a batch is to do: inputs as users name them, turned into pairs of a source and an output name.

Everything that can be refused is refused here, before any work: names that collide, outputs that would leave the
folder or replace an input, inputs that do not exist.
"""

from __future__ import annotations

import csv
import glob
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Literal

from tts_infer.errors import FileError, InputError
from tts_infer.inputs import FEATURE_SUFFIXES

Container = Literal["wav", "flac"]
AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")
MANIFEST_SUFFIXES = (".jsonl", ".csv")


@dataclass(frozen=True)
class Item:
    """One file to make: where it comes from, and its name below the output folder."""

    source: Path
    output: PurePath


def list_items(inputs: Sequence[str | os.PathLike[str]], out_dir: Path, container: Container) -> list[Item]:
    """Find everything that `inputs` name.

    Args:
        inputs: files; folders, whose structure is kept and whose other files are passed over; glob patterns, kept
            from their first wildcard on; and manifests (.jsonl or .csv), whose rows hold "input" and, if they like,
            "output", both relative to the manifest and to `out_dir`.
        out_dir: where outputs will be.
        container: suffix of outputs that have none.

    Returns:
        The items, in order of their output names.

    Raises:
        FileError: an input or manifest that does not exist or cannot be read, or a folder or pattern without inputs.
        InputError: two items with one output name, or an output that would leave `out_dir`, replace an input, or be
            of another container.
    """
    items = [item for given in inputs for item in _expand(os.fspath(given), container)]
    _refuse_bad_names(items, out_dir)
    return sorted(items, key=lambda item: item.output)


def _expand(given: str, container: Container) -> Iterator[Item]:
    path = Path(given)
    if path.is_dir():
        yield from _below(path, sorted(path.rglob("*")), given, container)
    elif path.is_file() and path.suffix.lower() in MANIFEST_SUFFIXES:
        yield from _read_manifest(path, container)
    elif path.is_file():
        yield Item(path, PurePath(path.name).with_suffix(f".{container}"))
    elif glob.has_magic(given):
        fixed = Path(*_before_wildcard(path.parts))
        yield from _below(fixed, sorted(map(Path, glob.glob(given, recursive=True))), given, container)
    else:
        raise FileError(f"no such file: {given}")


def _before_wildcard(parts: Sequence[str]) -> Iterator[str]:
    for part in parts:
        if glob.has_magic(part):
            return
        yield part


def _below(root: Path, paths: Iterable[Path], given: str, container: Container) -> list[Item]:
    wanted = (*AUDIO_SUFFIXES, *FEATURE_SUFFIXES)
    files = [path for path in paths if path.suffix.lower() in wanted and path.is_file()]
    if not files:
        raise FileError(f"{given} holds no inputs; wanted: {', '.join(wanted)}")
    return [Item(path, PurePath(path.relative_to(root)).with_suffix(f".{container}")) for path in files]


def _read_manifest(path: Path, container: Container) -> Iterator[Item]:
    try:
        with open(path, encoding="utf-8", newline="") as file:
            rows = list(
                csv.DictReader(file) if path.suffix.lower() == ".csv" else map(json.loads, filter(str.strip, file))
            )
    except (OSError, UnicodeDecodeError, csv.Error, json.JSONDecodeError) as error:
        raise FileError(f"cannot read manifest {path}: {str(error).splitlines()[0]}") from None
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict) or not isinstance(row.get("input"), str) or not row["input"]:
            raise FileError(f"manifest {path}, row {number}: expected an 'input' name, and if wanted an 'output' name")
        source = path.parent / row["input"]
        output = PurePath(row.get("output") or PurePath(row["input"]).name)
        if not row.get("output") or not output.suffix:
            output = output.with_suffix(f".{container}")
        yield Item(source, output)


def _refuse_bad_names(items: Sequence[Item], out_dir: Path) -> None:
    for item in items:
        if item.output.is_absolute() or ".." in item.output.parts:
            raise InputError(
                f"output {str(item.output)!r} of {item.source} would leave {out_dir}; give a name below it"
            )
        if item.output.suffix.lower() not in (".wav", ".flac"):
            raise InputError(f"output {str(item.output)!r} of {item.source}: allowed: .wav, .flac")
    twice = [name for name, count in Counter(os.path.normcase(item.output) for item in items).items() if count > 1]
    if twice:
        sources = ", ".join(str(i.source) for i in items if os.path.normcase(i.output) == twice[0])
        raise InputError(
            f"{len(twice)} output names are taken twice, {twice[0]!r} by {sources}; name them in a manifest"
        )
    sources_here = {item.source.resolve() for item in items}
    for item in items:
        if (out_dir / item.output).resolve() in sources_here:
            raise InputError(f"output {out_dir / item.output} would replace an input; choose another folder")
