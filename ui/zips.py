"""Zip files that visitors give, unpacked within bounds."""

from __future__ import annotations

import itertools
import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

import tts_infer

MOST_FILES = 1000
MOST_BYTES = 1_000_000_000  # unpacked: a small zip can hold a lot of nothing
_BLOCK_BYTES = 2**20
# What the standard library raises where the bytes of a zip are wrong, or are packed by an unknown method.
DAMAGED = (
    *(ArithmeticError, EOFError, LookupError, MemoryError, OSError, RuntimeError, TypeError, ValueError),
    *(lzma.LZMAError, struct.error, zipfile.BadZipFile, zlib.error),
)
_LONGEST_SUFFIX = 20  # longer than those of all inputs, and short enough for a name


def unpacked(files: Sequence[str], folder: Path) -> Iterator[tuple[str, Path]]:
    """Name and path of every input, those inside zips included.

    Members are written under numbers, so that no name in a zip can reach outside the folder.

    Raises:
        FileError, InputError: a zip cannot be unpacked, or there are too many files.
    """
    zips = {file: members_of(file) for file in files if Path(file).suffix.lower() == ".zip"}
    require_few([member for members in zips.values() for member in members], len(files) - len(zips))
    count = itertools.count()
    for file in files:
        if file not in zips:
            yield Path(file).name, Path(file)
            continue
        with zipfile.ZipFile(file) as archive:
            for member in zips[file]:
                suffix = PurePosixPath(member.filename).suffix[:_LONGEST_SUFFIX]
                target = folder / f"{next(count)}{suffix if suffix.isprintable() else ''}"
                unpack(archive, member, target, file)
                yield shown_name(member), target


def require_few(members: Sequence[zipfile.ZipInfo], others: int) -> None:
    """Refuse too many files before the first one is unpacked.

    Args:
        members: of all zips.
        others: files beside them.

    Raises:
        InputError: there are more than `MOST_FILES`, or they have more than `MOST_BYTES`.
    """
    if len(members) + others > MOST_FILES or sum(member.file_size for member in members) > MOST_BYTES:
        raise tts_infer.InputError(
            "these are more than {count} files, or {megabytes} MB unpacked; give fewer at once",
            code="page-zip-size",
            count=MOST_FILES,
            megabytes=MOST_BYTES // 10**6,
        )


def members_of(file: str) -> list[zipfile.ZipInfo]:
    """The files in a zip, without those that systems add.

    Raises:
        FileError: it is no zip, or its list of files is damaged.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
    except DAMAGED:
        raise tts_infer.FileError(
            "cannot read {file} as a zip file; pack it again", code="page-zip", file=file
        ) from None
    paths = [PurePosixPath(member.filename) for member in members]
    return [
        member
        for member, path in zip(members, paths, strict=True)
        if not (member.is_dir() or path.name.startswith(".") or "__MACOSX" in path.parts)
    ]


def unpack(archive: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path, file: str) -> None:
    """Write a member to disk, of as many bytes as the zip states.

    Raises:
        FileError: it is damaged, or needs a password.
    """
    try:
        with archive.open(member) as packed, open(target, "wb") as out:
            while block := packed.read(_BLOCK_BYTES):
                out.write(block)
    except DAMAGED as error:
        raise tts_infer.FileError(
            "cannot unpack {member} from {file}: {reason}; pack it again, without a password",
            code="page-zip-member",
            member=shown_name(member),
            file=file,
            reason=str(error) or "it is damaged",
        ) from None


def shown_name(member: zipfile.ZipInfo) -> str:
    """The name of a file in a zip, in characters that can be shown."""
    return member.filename.encode("utf-8", "replace").decode()
