"""What a batch has done, in SQLite, so that it can be killed at any moment and continued.

An item is marked done only after its file bears its final name; so whatever the journal says is true of the files,
and at most the work since its last entry is repeated. The journal lies beside the output folder, not in it. While one
process holds it, another is refused; the system lets go of it when that process dies, however it dies.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tts_infer.errors import FileError, InputError

_SETTINGS = "CREATE TABLE IF NOT EXISTS settings (name TEXT PRIMARY KEY, value TEXT NOT NULL)"
_ITEMS = (
    "CREATE TABLE IF NOT EXISTS items "
    "(output TEXT PRIMARY KEY, fingerprint TEXT NOT NULL, bucket INTEGER NOT NULL, seconds REAL, error TEXT)"
)


@dataclass(frozen=True)
class Entry:
    """What is known of one output."""

    output: str
    fingerprint: str  # of the source: name, size and time of change
    bucket: int  # items of one bucket are always decoded together, so that they get the same bits
    seconds: float | None = None  # of audio made; None until done
    error: str | None = None  # why it failed; None if it did not


class Journal:
    """Use as a context manager.

    Raises:
        InputError: another process is at work with this journal, or it was begun with other settings.
        FileError: the file cannot be used as a journal.
    """

    def __init__(self, path: Path, settings: Mapping[str, str]) -> None:
        self.path = path
        try:
            self._connection = sqlite3.connect(path, timeout=0, isolation_level=None)
            self._connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._connection.execute("BEGIN EXCLUSIVE")  # held from here on
            self._connection.execute(_SETTINGS)
            self._connection.execute(_ITEMS)
            kept = dict(self._connection.execute("SELECT name, value FROM settings").fetchall())
            self._connection.executemany("INSERT OR IGNORE INTO settings VALUES (?, ?)", settings.items())
            self._connection.execute("COMMIT")
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise InputError(f"another batch is at work with {path}; wait for it, or use another folder") from None
            raise FileError(f"cannot use {path} as a journal: {error}") from None
        except sqlite3.DatabaseError as error:
            raise FileError(f"cannot use {path} as a journal: {error}") from None
        changed = [name for name in settings if kept.get(name, settings[name]) != settings[name]]
        if changed:
            self.close()
            name = changed[0]
            raise InputError(
                f"this folder was begun with {name} {kept[name]!r}, now it is {settings[name]!r}; use the same "
                f"settings, another folder, or remove {path} to begin anew"
            )

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    def entries(self) -> dict[str, Entry]:
        """Everything known, by output name."""
        rows = self._connection.execute("SELECT output, fingerprint, bucket, seconds, error FROM items")
        return {row[0]: Entry(*row) for row in rows}

    def record(self, entries: Iterable[Entry]) -> None:
        """Add or replace entries, all or none of them.

        Raises:
            FileError: the system refuses to write.
        """
        rows = [(e.output, e.fingerprint, e.bucket, e.seconds, e.error) for e in entries]
        try:
            with self._connection:
                self._connection.execute("BEGIN")
                self._connection.executemany("INSERT OR REPLACE INTO items VALUES (?, ?, ?, ?, ?)", rows)
        except sqlite3.OperationalError as error:  # a full disk
            raise FileError(f"cannot write journal {self.path}: {error}") from None
