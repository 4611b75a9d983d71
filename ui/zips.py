"""What a batch is made of: files, and the members of zips, unpacked within bounds."""

from __future__ import annotations

import itertools
import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Packed:
    """An input of a batch: a file, or a member of a zip, which is unpacked when its turn comes.

    Attributes:
        source: path of the file, or of the zip that it is in
        target: path that is read: the file itself, or where the member is unpacked to
        member: of the zip; None: the file itself
        fault: why there is nothing to read; None: nothing is known against it
    """

    source: str
    target: Path
    member: zipfile.ZipInfo | None = None
    fault: tts_infer.TTSInferError | None = None

    @property
    def shown(self) -> str:
        """The name of the source without the server's folders."""
        return Path(self.source).name

    @property
    def name(self) -> str:
        """What the input is called: its name, or its path within the zip."""
        return self.shown if self.member is None else shown_name(self.member)

    @property
    def inside(self) -> PurePosixPath:
        """Its path within the zip, without anything that leads out of a folder."""
        parts = PurePosixPath(self.name.replace("\\", "/")).parts
        safe = [part for part in parts if part.strip(". ") and "/" not in part and ":" not in part]
        return PurePosixPath(*safe or ["output"])

    @contextmanager
    def unpacked(self) -> Iterator[Path]:
        """The path of the input, as long as it is needed.

        Raises:
            TTSInferError: its fault, or a member cannot be unpacked.
        """
        if self.fault is not None:
            raise self.fault
        if self.member is None:
            yield self.target
            return
        try:
            unpack(self.member, self.target, self.source)
            yield self.target
        finally:
            self.target.unlink(missing_ok=True)


def contents(files: Sequence[str], folder: Path) -> list[Packed]:
    """Every input, those inside zips included. A zip that cannot be read is one input with a fault.

    Args:
        files: paths.
        folder: where members are unpacked to, under numbers, so that no name in a zip can reach outside of it.

    Raises:
        InputError: there are too many files.
    """
    count, found = itertools.count(), list[Packed]()
    for file in files:
        if Path(file).suffix.lower() != ".zip":
            found.append(Packed(file, Path(file)))
            continue
        try:
            members = members_of(file)
        except tts_infer.FileError as fault:
            found.append(Packed(file, Path(file), fault=fault))
            continue
        for member in members:
            suffix = PurePosixPath(member.filename).suffix[:_LONGEST_SUFFIX]
            target = folder / f"{next(count)}{suffix if suffix.isprintable() else ''}"
            found.append(Packed(file, target, member))
    require_few([one.member for one in found if one.member], sum(one.member is None for one in found))
    return found


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


def unpack(member: zipfile.ZipInfo, target: Path, file: str) -> None:
    """Write a member to disk, of as many bytes as the zip states.

    Raises:
        FileError: it is damaged, or needs a password.
    """
    try:
        with zipfile.ZipFile(file) as archive, archive.open(member) as packed, open(target, "wb") as out:
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
