"""What a batch has done, in SQLite, so that it can be killed at any moment and continued.

An item is marked done only after its file bears its final name; so whatever the journal says is true of the files,
and at most the work since its last entry is repeated. The journal lies beside the output folder, not in it. While one
process holds it, another is refused; the system lets go of it when that process dies, however it dies.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tts_infer.errors import FileError, InputError

# As SQLite keeps them: a file that holds anything else is no journal, or one of another release.
_TABLES = (
    "CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
    "CREATE TABLE items (output TEXT PRIMARY KEY, fingerprint TEXT NOT NULL, bucket INTEGER NOT NULL, seconds REAL, "
    "error TEXT, size INTEGER)",
)
_COLUMNS = "output, fingerprint, bucket, seconds, error, size"
_KINDS = (str, str, int, float | None, str | None, int | None)
# Names are bytes to the system, and what is not UTF-8 in them comes to Python as surrogates: SQLite takes it as bytes.
_TEXT = "CAST(? AS TEXT)"
_ENCODING = ("utf-8", "surrogateescape")


@dataclass(frozen=True)
class Entry:
    """What is known of one output."""

    output: str
    fingerprint: str  # of the source: name, size and time of change
    bucket: int  # items of one bucket are always decoded together, so that they get the same bits
    seconds: float | None = None  # of audio made; None until done
    error: str | None = None  # why it failed; None if it did not
    size: int | None = None  # bytes of the file that was made; None if that is not known


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
            with ExitStack() as stack:
                stack.callback(self.close)
                self._begin(settings)
                stack.pop_all()
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            if "locked" in str(error):
                raise InputError(f"another batch is at work with {path}; wait for it, or use another folder") from None
            raise self._unusable(error) from None

    def _begin(self, settings: Mapping[str, str]) -> None:
        """Take hold of the file, and see that it is ours; what is refused is left as it was."""
        self._connection.text_factory = lambda data: data.decode(*_ENCODING)
        self._connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        self._connection.execute("BEGIN EXCLUSIVE")  # held from here on
        tables = {row[0] for row in self._connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")}
        if tables not in (set(), set(_TABLES)):
            raise self._unusable("something else, or another release, made it")
        for table in () if tables else _TABLES:
            self._connection.execute(table)
        kept = dict(self._connection.execute("SELECT name, value FROM settings").fetchall())
        for name in settings:
            if kept.get(name, settings[name]) != settings[name]:
                raise InputError(
                    f"this folder was begun with {name} {kept[name]!r}, now it is {settings[name]!r}; use the same "
                    f"settings, another folder, or remove {self.path} to begin anew"
                )
        self._connection.executemany("INSERT OR IGNORE INTO settings VALUES (?, ?)", settings.items())
        self._connection.execute("COMMIT")

    def _unusable(self, reason: object) -> FileError:
        return FileError(f"cannot use {self.path} as a journal: {reason}; name another file for it (--journal)")

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
        except (sqlite3.DatabaseError, ValueError) as error:  # ValueError: of bytes that SQLite took for text
            raise self._unusable(error) from None
        if not all(isinstance(value, kind) for row in rows for value, kind in zip(row, _KINDS, strict=True)):
            raise self._unusable("it is damaged")
        return {row[0]: Entry(*row) for row in rows}

    def record(self, entries: Iterable[Entry]) -> None:
        """Add or replace entries, all or none of them.

        Raises:
            FileError: the system refuses to write, or the file is damaged.
        """
        rows = [
            (_bytes(e.output), _bytes(e.fingerprint), e.bucket, e.seconds, _bytes(e.error), e.size) for e in entries
        ]
        try:
            with self._connection:
                self._connection.execute("BEGIN")
                self._connection.executemany(
                    f"INSERT OR REPLACE INTO items VALUES ({_TEXT}, {_TEXT}, ?, ?, {_TEXT}, ?)", rows
                )
        except sqlite3.DatabaseError as error:  # a full disk
            raise FileError(f"cannot write journal {self.path}: {error}") from None


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else text.encode(*_ENCODING)
