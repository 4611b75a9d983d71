"""What a batch has done, kept in SQLite, so that the batch can be killed at any moment and continued.

An item is marked done only after its file has its final name. So the journal is always true of the files, and at most
the work since its last entry is repeated. The journal lies beside the output folder, not in it. While one process
holds it, every other is refused; the system releases it when that process ends, however it ends.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tts_infer.errors import FileError, InputError, few

# A file with other tables is no journal, or one of another release. Names are bytes to the system, so they are BLOBs.
_TABLES = (
    "CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
    "CREATE TABLE items (output BLOB PRIMARY KEY, fingerprint BLOB NOT NULL, bucket INTEGER NOT NULL, seconds REAL, "
    "error BLOB, size INTEGER)",
)
_COLUMNS = "output, fingerprint, bucket, seconds, error, size"
_KINDS = (bytes, bytes, int, float | None, bytes | None, int | None)


@dataclass(frozen=True)
class Entry:
    """What is known of one output."""

    output: str
    fingerprint: str  # of the source: name, size and time of change
    bucket: int  # items of one bucket are always decoded together, so that they get the same bits
    seconds: float | None = None  # of audio made; None until done
    error: str | None = None  # why it failed; None if it did not
    size: int | None = None  # bytes of the file that was made


class Journal:
    """Use as a context manager.

    Raises:
        InputError: another process uses this journal, or it was begun with other settings.
        FileError: the file cannot be used as a journal.
    """

    def __init__(self, path: Path, settings: Mapping[str, str]) -> None:
        self.path = path
        try:
            self._connection = sqlite3.connect(path, timeout=0, isolation_level=None)
            with ExitStack() as stack:
                stack.callback(self.close)
                self._begin(settings)
                stack.pop_all()
        except sqlite3.DatabaseError as error:
            if "locked" in str(error):
                text = "another batch is at work with {path}; wait for it, or use another folder"
                raise InputError(text, code="journal-in-use", path=str(path)) from None
            raise self._unusable(str(error)) from None

    def _begin(self, settings: Mapping[str, str]) -> None:
        """Lock the file and check that it is a journal of these settings. A file that is refused stays unchanged."""
        self._connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        self._connection.execute("BEGIN EXCLUSIVE")  # locked from here on
        tables = {row[0] for row in self._connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")}
        if tables not in (set(), set(_TABLES)):
            raise self._unusable("something else, or another release, made it")
        for table in () if tables else _TABLES:
            self._connection.execute(table)
        kept = dict(self._connection.execute("SELECT name, value FROM settings").fetchall())
        for name, value in settings.items():
            if kept.get(name, value) != value:
                text = (
                    "this folder was begun with {name} {before!r}, now it is {now!r}; use the same settings, another "
                    "folder, or remove {path} to begin anew"
                )
                before, now = (few([setting], length=70) for setting in (kept[name], value))
                fields = {"name": name, "before": before, "now": now, "path": str(self.path)}
                raise InputError(text, code="journal-settings", **fields)
        self._connection.executemany("INSERT OR IGNORE INTO settings VALUES (?, ?)", settings.items())
        self._connection.execute("COMMIT")

    def _unusable(self, reason: str) -> FileError:
        text = "cannot use {path} as a journal: {reason}; name another file for it (--journal)"
        return FileError(text, code="journal-unusable", path=str(self.path), reason=reason)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    def entries(self) -> dict[str, Entry]:
        """Everything known, by output name.

        Raises:
            FileError: the file is damaged.
        """
        try:
            rows = self._connection.execute(f"SELECT {_COLUMNS} FROM items").fetchall()
        except sqlite3.DatabaseError as error:
            raise self._unusable(str(error)) from None
        if not all(isinstance(value, kind) for row in rows for value, kind in zip(row, _KINDS, strict=True)):
            raise self._unusable("it is damaged")
        return {entry.output: entry for entry in map(_entry, rows)}

    def record(self, entries: Iterable[Entry]) -> None:
        """Add or replace entries, all or none of them.

        Raises:
            FileError: the system refuses to write, or the file is damaged.
        """
        rows = [
            [os.fsencode(value) if isinstance(value, str) else value for value in vars(entry).values()]
            for entry in entries
        ]
        try:
            with self._connection:
                self._connection.execute("BEGIN")
                self._connection.executemany("INSERT OR REPLACE INTO items VALUES (?, ?, ?, ?, ?, ?)", rows)
        except sqlite3.DatabaseError as error:  # a full disk
            text = "cannot write journal {path}: {reason}"
            raise FileError(text, code="journal-unwritable", path=str(self.path), reason=str(error)) from None


def _entry(row: tuple[Any, ...]) -> Entry:
    values: list[Any] = [os.fsdecode(value) if isinstance(value, bytes) else value for value in row]
    return Entry(*values)
