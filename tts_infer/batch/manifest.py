"""What a batch has to do: inputs as users name them, turned into pairs of a source and an output name.

Bad names are refused here, before any work: outputs that collide, leave the folder or replace an input, and inputs that
do not exist.
"""

from __future__ import annotations

import csv
import glob
import json
import os
import reprlib
import stat
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Literal, TextIO

from tts_infer.errors import FileError, InputError
from tts_infer.io.sources import (
    FEATURE_SUFFIXES,
    INPUT_SUFFIXES,
    Names,
    as_names,
    file_not_found,
    mode_of,
    require_readable,
    select,
    walk,
)

Container = Literal["wav", "flac"]
MANIFEST_SUFFIXES = (".jsonl", ".csv")
_NAME_BYTES = 255  # that a file system allows a name


@dataclass(frozen=True)
class Item:
    """One file to make: its source, and its name below the output folder."""

    source: Path
    output: PurePath
    folder: Path  # of all outputs

    @property
    def name(self) -> str:
        """The output's name, as the journal and the report have it."""
        return str(self.output)

    @property
    def target(self) -> Path:
        """Where the output goes."""
        return self.folder / self.output


@dataclass(frozen=True)
class _Search:
    """Where a folder or a pattern among the inputs looks for files.

    Whether an output would be found is decided by its level alone: a pattern of that depth counts as a match.
    """

    given: str
    root: Path
    levels: int | None  # how far below the root; None: anywhere below it


def list_items(
    inputs: Names, out_dir: Path, container: Container, left_out: dict[str, str] | None = None
) -> list[Item]:
    """Find everything that `inputs` name.

    Args:
        inputs: one or several: files; folders, whose structure is kept and whose other files are left out; glob
            patterns, kept from their first wildcard on; and manifests (.jsonl or .csv), whose rows hold "input" and
            optionally "output", relative to the manifest and to `out_dir`.
        out_dir: folder of the outputs.
        container: suffix of outputs that have none.
        left_out: gets the path of every file that a folder or a pattern holds and that is no input, with the reason.

    Returns:
        The items, in order of their output names.

    Raises:
        FileError: an input or manifest that does not exist or cannot be read, a row without a name, or a manifest,
            folder or pattern without inputs.
        InputError: two items have the same output name, or one lies within another's; or an output has a name that no
            file can have, would leave `out_dir`, would replace an input, is neither .wav nor .flac, or lies where a
            folder or pattern among the inputs searches: the same call again must have the same to do.
    """
    names = as_names(inputs)
    others: dict[str, str] = {} if left_out is None else left_out
    items = [item for name in names for item in _expand(name, out_dir, container, others)]
    for item in items:
        _refuse_bad_name(item)
    _refuse_collisions(items)
    _refuse_searched(items, [search for name in names if (search := _search(name, mode_of(name)))])
    _refuse_replacing(items)
    return sorted(items, key=lambda item: item.output)


def _expand(given: str, out_dir: Path, container: Container, left_out: dict[str, str]) -> Iterator[Item]:
    path, mode = Path(given), mode_of(given)
    if stat.S_ISREG(mode) and path.suffix.lower() in MANIFEST_SUFFIXES:
        yield from _read_manifest(path, out_dir, container)
    elif stat.S_ISREG(mode):
        yield Item(path, PurePath(path.name).with_suffix(f".{container}"), out_dir)
    elif search := _search(given, mode):
        require_readable(search.root)
        paths = walk(path) if stat.S_ISDIR(mode) else map(Path, glob.glob(given, recursive=True))
        for found in _found(paths, given, left_out):
            yield Item(found, found.relative_to(search.root).with_suffix(f".{container}"), out_dir)
    else:
        raise file_not_found(given)


def _search(given: str, mode: int) -> _Search | None:
    """What a folder or a pattern searches; None for a file, and for what does not exist."""
    if stat.S_ISDIR(mode):
        return _Search(given, Path(given), None)
    if mode or not glob.has_magic(given):
        return None
    parts = Path(given).parts
    first = next(i for i, part in enumerate(parts) if glob.has_magic(part))
    return _Search(given, Path(*parts[:first]), None if "**" in parts else len(parts) - first)


def _found(paths: Iterable[Path], given: str, left_out: dict[str, str]) -> list[Path]:
    files = select(paths, INPUT_SUFFIXES, left_out, "audio or features")
    if not files:
        text = "{path} holds no inputs; wanted: audio (.wav, .flac, .mp3, ...), or features ({wanted})"
        raise FileError(text, code="no-inputs", path=given, wanted=", ".join(FEATURE_SUFFIXES))
    return files


def _read_manifest(path: Path, out_dir: Path, container: Container) -> list[Item]:
    rows = _read_rows(path)
    if not rows:
        text = "manifest {path} holds no rows; give each input a row with its 'input' name"
        raise FileError(text, code="manifest-empty", path=str(path))
    items = []
    for number, row in enumerate(rows, start=1):
        try:
            items.append(_item(row, path.parent, out_dir, container))
        except FileError as error:
            raise error.within(f"manifest {path}, row {number}") from None
    return items


def _read_rows(path: Path) -> list[object]:
    rows: list[object] = []
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            for row in _csv_rows(file) if path.suffix.lower() == ".csv" else map(json.loads, filter(str.strip, file)):
                rows.append(row)
    except UnicodeDecodeError:
        text = "cannot read manifest {path}: it is not UTF-8 text; save it as UTF-8"
        raise FileError(text, code="manifest-not-utf8", path=str(path)) from None
    except OSError as error:
        text = "cannot read manifest {path}: {reason}"
        raise FileError(text, code="manifest-unreadable", path=str(path), reason=error.strerror) from None
    except (ValueError, RecursionError, csv.Error) as error:
        text = "cannot read manifest {path}, row {row}: {reason}"
        reason = _reason(error)
        raise FileError(text, code="manifest-row", path=str(path), row=len(rows) + 1, reason=reason) from None
    return rows


def _csv_rows(file: TextIO) -> csv.DictReader[str]:
    """Rows by the names in the first one; spaces after commas are ignored."""
    reader = csv.DictReader(file, skipinitialspace=True)
    reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
    return reader


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return f"{error.msg}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)


def _item(row: object, here: Path, out_dir: Path, container: Container) -> Item:
    if not isinstance(row, dict) or not row.get("input"):
        raise FileError("expected an 'input' name, and optionally an 'output' name", code="row-no-input")
    for key in ("input", "output"):
        if row.get(key) not in (None, "") and not _names_a_file(row[key]):
            text = "{key} {value} names no file; give its name as text"
            raise FileError(text, code="row-bad-name", key=key, value=reprlib.repr(row[key]))
    output = PurePath(row.get("output") or PurePath(row["input"]).name)
    if not row.get("output") or not output.suffix:
        output = output.with_suffix(f".{container}")
    return Item(here / row["input"], output, out_dir)


def _names_a_file(value: object) -> bool:
    if not isinstance(value, str) or "\0" in value or PurePath(value).name in ("", ".."):
        return False
    try:
        return bool(os.fsencode(value))
    except UnicodeEncodeError:  # half a character
        return False


def _refuse_bad_name(item: Item) -> None:
    names = {"output": item.name, "source": str(item.source)}
    if item.output.is_absolute() or ".." in item.output.parts:
        text = "output {output!r} of {source} would leave {folder}; give a name below it"
        raise InputError(text, code="output-leaves-folder", folder=str(item.folder), **names)
    if item.output.suffix.lower() not in (".wav", ".flac"):
        raise InputError("output {output!r} of {source}: allowed: .wav, .flac", code="output-extension", **names)
    if any(len(os.fsencode(part)) > _NAME_BYTES for part in item.output.parts):
        text = "output {output!r} of {source}: a name may have {limit} bytes; give a shorter one in a manifest"
        raise InputError(text, code="output-name-long", limit=_NAME_BYTES, **names)


def _refuse_collisions(items: Sequence[Item]) -> None:
    count = Counter(os.path.normcase(item.output) for item in items)
    for item in items:
        if within := [folder for folder in item.output.parents if os.path.normcase(folder) in count]:
            text = "output {output!r} would lie in {other!r}, which is an output, too"
            raise InputError(text, code="output-in-output", output=item.name, other=str(within[0]))
    if twice := [name for name, times in count.items() if times > 1]:
        sources = [str(i.source) for i in items if os.path.normcase(i.output) == twice[0]]
        text = "{count} output names are taken twice, {name!r} by {first}, {second}; name them in a manifest"
        fields = {"name": twice[0], "first": sources[0], "second": sources[1]}
        raise InputError(text, code="outputs-collide", count=len(twice), **fields)


def _refuse_searched(items: Sequence[Item], searches: Sequence[_Search]) -> None:
    """Refuse outputs where a folder or a pattern among the inputs searches."""
    by_root = defaultdict(list)
    for search in searches:
        by_root[Path(os.path.realpath(search.root))].append(search)
    for item in items if searches else ():
        target = Path(os.path.realpath(item.folder)) / item.output
        for root in target.parents:
            for search in by_root.get(root, ()):
                if search.levels in (None, len(target.relative_to(root).parts)):
                    text = (
                        "output {output} lies where {given!r} searches for inputs, so the next run might take it for "
                        "one; choose a folder elsewhere"
                    )
                    raise InputError(text, code="output-searched", output=str(item.target), given=search.given)


def _refuse_replacing(items: Sequence[Item]) -> None:
    sources = {os.path.realpath(item.source) for item in items}
    for item in items:
        if os.path.realpath(item.target) in sources:
            text = "output {output} would replace an input; choose another folder"
            raise InputError(text, code="output-replaces-input", output=str(item.target))
