"""The journal holds what was said, belongs to one process, and to one set of settings."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tts_infer.batch.journal import Entry, Journal
from tts_infer.errors import FileError, InputError

ROOT = Path(__file__).parent.parent


def test_entries_are_kept_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "j"
    with Journal(path, {"vocoder": "a"}) as journal:
        journal.record([Entry("x", "f1", 1), Entry("y", "f2", 1)])
        journal.record([Entry("x", "f1", 1, seconds=2.5, size=44), Entry("y", "f2", 1, error="why")])
    with Journal(path, {"vocoder": "a"}) as journal:
        assert journal.entries() == {"x": Entry("x", "f1", 1, 2.5, None, 44), "y": Entry("y", "f2", 1, None, "why")}


def test_names_of_any_bytes(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.wav")  # Latin-1 on a system that speaks UTF-8
    entry = Entry(name, f"{name}:1:2", 1, error=f"cannot read {name}")
    with Journal(tmp_path / "j", {}) as journal:
        journal.record([entry, Entry("caf\u00e9.wav", "", 1)])
        journal.record([entry])
    with Journal(tmp_path / "j", {}) as journal:
        assert journal.entries() == {name: entry, "caf\u00e9.wav": Entry("caf\u00e9.wav", "", 1)}


def test_other_settings_are_refused(tmp_path: Path) -> None:
    with Journal(tmp_path / "j", {"vocoder": "a", "dtype": "float32"}):
        pass
    with pytest.raises(InputError, match="begun with dtype 'float32', now it is 'bfloat16'; use the same settings, an"):
        Journal(tmp_path / "j", {"vocoder": "a", "dtype": "bfloat16", "refine": "8"})
    with Journal(tmp_path / "j", {"vocoder": "a", "dtype": "float32", "refine": "0"}):
        pass  # what was refused left nothing behind


HOLD = """
import sys, time
from pathlib import Path
from tts_infer.batch.journal import Journal
with Journal(Path(sys.argv[1]), {}):
    print("held", flush=True)
    time.sleep(60)
"""


def test_one_process_at_a_time_and_free_after_a_kill(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, tmp_path / "j"], stdout=subprocess.PIPE, cwd=ROOT) as other:
        assert other.stdout is not None and other.stdout.readline() == b"held\n"
        with pytest.raises(InputError, match="another batch is at work"):
            Journal(tmp_path / "j", {})
        other.kill()
    with Journal(tmp_path / "j", {}) as journal:
        assert journal.entries() == {}


def test_what_is_no_journal(tmp_path: Path) -> None:
    (tmp_path / "j").write_bytes(b"something else" * 100)
    with pytest.raises(FileError, match="cannot use .* as a journal: file is not a database"):
        Journal(tmp_path / "j", {})
    with pytest.raises(
        FileError, match=r"cannot use .* as a journal: unable to open .*; name another file .*--journal"
    ):
        Journal(tmp_path / "no" / "j", {})


@pytest.mark.parametrize("table", ["items (output text)", "settings (a, b, c)", "bookmarks (url text)"])
def test_another_database_is_left_alone(tmp_path: Path, table: str) -> None:
    with closing(sqlite3.connect(tmp_path / "j")) as other:
        other.execute(f"create table {table}")
    before = (tmp_path / "j").read_bytes()
    with pytest.raises(
        FileError, match="cannot use .* as a journal: something else, or another release, made it; name"
    ):
        Journal(tmp_path / "j", {})
    assert (tmp_path / "j").read_bytes() == before


def test_a_damaged_journal_is_one_line(tmp_path: Path) -> None:
    with Journal(tmp_path / "j", {}) as journal:
        journal.record(Entry(f"{i:05}", "f" * 100, 1) for i in range(1000))
    with open(tmp_path / "j", "r+b") as file:
        file.seek(8192)  # behind the first two pages
        file.write(b"\xff" * 65536)
    with pytest.raises(FileError, match="cannot use .* malformed"), Journal(tmp_path / "j", {}) as journal:
        journal.entries()


@pytest.mark.parametrize(("column", "value"), [("bucket", "'one'"), ("fingerprint", "'text'"), ("seconds", "'long'")])
def test_values_of_another_kind(tmp_path: Path, column: str, value: str) -> None:
    with Journal(tmp_path / "j", {}) as journal:
        journal.record([Entry("a.wav", "f", 1)])
    with closing(sqlite3.connect(tmp_path / "j", isolation_level=None)) as other:
        other.execute(f"UPDATE items SET {column} = {value}")
    with (
        pytest.raises(FileError, match="cannot use .* as a journal: it is damaged"),
        Journal(tmp_path / "j", {}) as journal,
    ):
        journal.entries()
