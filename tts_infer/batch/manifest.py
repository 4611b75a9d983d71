"""What a batch is to do: inputs as users name them, turned into pairs of a source and an output name.

Everything that can be refused is refused here, before any work: names that collide, outputs that would leave the
folder or replace an input, inputs that do not exist.
"""

from __future__ import annotations

import csv
import errno
import glob
import json
import os
import reprlib
import stat
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePath
from typing import Literal, NoReturn, TextIO

from tts_infer.errors import FileError, InputError
from tts_infer.io.features import FEATURE_SUFFIXES

Container = Literal["wav", "flac"]
AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")
MANIFEST_SUFFIXES = (".jsonl", ".csv")
_NAME_BYTES = 255  # that a file system allows a name
_NOTHING_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


@dataclass(frozen=True)
class Item:
    """One file to make: where it comes from, and its name below the output folder."""

    source: Path
    output: PurePath


Name = str | os.PathLike[str]
Names = Name | Sequence[Name]


def as_names(given: Names) -> list[str]:
    """One name or several, as a list."""
    return [os.fspath(name) for name in ([given] if isinstance(given, (str, os.PathLike)) else given)]


def list_items(inputs: Names, out_dir: Path, container: Container) -> list[Item]:
    """Find everything that `inputs` name.

    Args:
        inputs: one or several. Files; folders, whose structure is kept and whose other files are passed over; glob
            patterns, kept from their first wildcard on; and manifests (.jsonl or .csv), whose rows hold "input" and,
            if they like, "output", both relative to the manifest and to `out_dir`.
        out_dir: where outputs will be.
        container: suffix of outputs that have none.

    Returns:
        The items, in order of their output names.

    Raises:
        FileError: an input or manifest that does not exist or cannot be read, a manifest whose row says no name, or a
            manifest, folder or pattern without inputs.
        InputError: two items with one output name, or one within another's; or an output that no file can be called,
            or that would leave `out_dir`, replace an input, be of another container, or be an input of the next run,
            as everything in an `out_dir` within a folder of inputs would: called again, a batch must have the same to
            do.
    """
    names = as_names(inputs)
    items = [item for name in names for item in _expand(name, container)]
    for item in items:
        _refuse_bad_name(item, out_dir)
    _refuse_collisions(items)
    _refuse_found(items, names, out_dir)
    _refuse_replacing(items, out_dir)
    return sorted(items, key=lambda item: item.output)


def _expand(given: str, container: Container) -> Iterator[Item]:
    path, mode = Path(given), mode_of(given)
    if stat.S_ISREG(mode) and path.suffix.lower() in MANIFEST_SUFFIXES:
        yield from _read_manifest(path, container)
    elif stat.S_ISREG(mode):
        yield Item(path, PurePath(path.name).with_suffix(f".{container}"))
    elif reach := _reach(given, mode):
        next(os.walk(reach[0], onerror=_refuse_unreadable), None)  # a glob passes over what it cannot read
        paths = walk(path) if stat.S_ISDIR(mode) else map(Path, glob.glob(given, recursive=True))
        yield from _below(reach[0], paths, given, container)
    else:
        raise FileError(f"no such file: {given}")


def mode_of(path: Name) -> int:
    """What kind of thing a path leads to; 0 if there is nothing.

    Raises:
        FileError: the system does not say.
    """
    try:
        return os.stat(path).st_mode
    except ValueError:  # characters that are in no name
        return 0
    except OSError as error:
        if error.errno in _NOTHING_THERE:
            return 0
        raise FileError(f"cannot read {os.fspath(path)}: {error.strerror}") from None


def _reach(given: str, mode: int) -> tuple[Path, tuple[str, ...]] | None:
    """Where a folder or a pattern finds files: below which folder, and by which pattern from there on."""
    if stat.S_ISDIR(mode):
        return Path(given), ("**",)
    if mode or not glob.has_magic(given):
        return None
    parts = Path(given).parts
    first = next(i for i, part in enumerate(parts) if glob.has_magic(part))
    return Path(*parts[:first]), parts[first:]


def walk(folder: Path) -> Iterator[Path]:
    """Every file below a folder.

    Raises:
        FileError: a folder that the system does not open.
    """
    for where, _, names in os.walk(folder, onerror=_refuse_unreadable):
        yield from (Path(where, name) for name in names)


def _refuse_unreadable(error: OSError) -> NoReturn:
    raise FileError(f"cannot read {error.filename}: {error.strerror}") from None


def _below(root: Path, paths: Iterable[Path], given: str, container: Container) -> list[Item]:
    wanted = (*AUDIO_SUFFIXES, *FEATURE_SUFFIXES)
    files = [path for path in sorted(paths) if path.suffix.lower() in wanted and stat.S_ISREG(mode_of(path))]
    if not files:
        raise FileError(f"{given} holds no inputs; wanted: {', '.join(wanted)}")
    return [Item(path, PurePath(path.relative_to(root)).with_suffix(f".{container}")) for path in files]


def _read_manifest(path: Path, container: Container) -> list[Item]:
    rows = _read_rows(path)
    if not rows:
        raise FileError(f"manifest {path} holds no rows; give each input a row with its 'input' name")
    return [_item(row, path, f"manifest {path}, row {i}", container) for i, row in enumerate(rows, start=1)]


def _read_rows(path: Path) -> list[object]:
    rows: list[object] = []
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            for row in _csv_rows(file) if path.suffix.lower() == ".csv" else map(json.loads, filter(str.strip, file)):
                rows.append(row)
    except OSError as error:
        raise FileError(f"cannot read manifest {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise FileError(f"cannot read manifest {path}: it is not UTF-8 text; save it as UTF-8") from None
    except (ValueError, RecursionError, csv.Error) as error:
        raise FileError(f"cannot read manifest {path}, row {len(rows) + 1}: {_reason(error)}") from None
    return rows


def _csv_rows(file: TextIO) -> csv.DictReader[str]:
    """Rows by the names in the first one; people write spaces after commas."""
    reader = csv.DictReader(file, skipinitialspace=True)
    reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
    return reader


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return f"{error.msg}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)


def _item(row: object, manifest: Path, where: str, container: Container) -> Item:
    if not isinstance(row, dict) or not row.get("input"):
        raise FileError(f"{where}: expected an 'input' name, and if wanted an 'output' name")
    for key in ("input", "output"):
        if row.get(key) not in (None, "") and not _names_a_file(row[key]):
            raise FileError(f"{where}: {key} {reprlib.repr(row[key])} names no file; give its name as text")
    output = PurePath(row.get("output") or PurePath(row["input"]).name)
    if not row.get("output") or not output.suffix:
        output = output.with_suffix(f".{container}")
    return Item(manifest.parent / row["input"], output)


def _names_a_file(value: object) -> bool:
    if not isinstance(value, str) or "\0" in value or PurePath(value).name in ("", ".."):
        return False
    try:
        return bool(os.fsencode(value))
    except UnicodeEncodeError:  # half a character
        return False


def _refuse_bad_name(item: Item, out_dir: Path) -> None:
    what = f"output {str(item.output)!r} of {item.source}"
    if item.output.is_absolute() or ".." in item.output.parts:
        raise InputError(f"{what} would leave {out_dir}; give a name below it")
    if item.output.suffix.lower() not in (".wav", ".flac"):
        raise InputError(f"{what}: allowed: .wav, .flac")
    if any(len(os.fsencode(part)) > _NAME_BYTES for part in item.output.parts):
        raise InputError(f"{what}: a name may have {_NAME_BYTES} bytes; give a shorter one in a manifest")


def _refuse_collisions(items: Sequence[Item]) -> None:
    names = {os.path.normcase(item.output) for item in items}
    for item in items:
        if within := [folder for folder in item.output.parents if os.path.normcase(folder) in names]:
            raise InputError(f"output {str(item.output)!r} would lie in {str(within[0])!r}, which is an output, too")
    twice = [name for name, count in Counter(os.path.normcase(item.output) for item in items).items() if count > 1]
    if twice:
        sources = ", ".join(str(i.source) for i in items if os.path.normcase(i.output) == twice[0])
        raise InputError(
            f"{len(twice)} output names are taken twice, {twice[0]!r} by {sources}; name them in a manifest"
        )


def _refuse_found(items: Sequence[Item], inputs: Sequence[str], out_dir: Path) -> None:
    """Refuse outputs where a folder or a pattern among the inputs finds files."""
    out = Path(os.path.realpath(out_dir))
    patterns = defaultdict(list)
    for given in inputs:
        if reach := _reach(given, mode_of(given)):
            root = Path(os.path.realpath(reach[0]))
            if root.is_relative_to(out) or out.is_relative_to(root):  # else they cannot meet
                patterns[root].append((reach[1], given))
    for item in items if patterns else ():
        target = out / item.output
        for root in target.parents:
            for pattern, given in patterns.get(root, ()):
                if _matches(target.relative_to(root).parts, pattern):
                    raise InputError(
                        f"output {out_dir / item.output} lies where {given!r} finds inputs, so the next run would take "
                        "it for one; choose a folder elsewhere"
                    )


def _matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether a recursive glob would find a path."""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(_matches(parts[start:], pattern[1:]) for start in range(len(parts) + 1))
    return bool(parts) and fnmatch(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])


def _refuse_replacing(items: Sequence[Item], out_dir: Path) -> None:
    sources = {os.path.realpath(item.source) for item in items}
    for item in items:
        if os.path.realpath(out_dir / item.output) in sources:
            raise InputError(f"output {out_dir / item.output} would replace an input; choose another folder")
