"""The journal holds what was said, belongs to one process, and to one set of settings."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tts_infer.errors import FileError, InputError
from tts_infer.journal import Entry, Journal

ROOT = Path(__file__).parent.parent


def test_entries_are_kept_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "j"
    with Journal(path, {"vocoder": "a"}) as journal:
        journal.record([Entry("x", "f1", 1), Entry("y", "f2", 1)])
        journal.record([Entry("x", "f1", 1, seconds=2.5), Entry("y", "f2", 1, error="why")])
    with Journal(path, {"vocoder": "a"}) as journal:
        assert journal.entries() == {"x": Entry("x", "f1", 1, 2.5), "y": Entry("y", "f2", 1, None, "why")}


def test_other_settings_are_refused(tmp_path: Path) -> None:
    with Journal(tmp_path / "j", {"vocoder": "a", "dtype": "float32"}):
        pass
    with pytest.raises(InputError, match="begun with dtype 'float32', now it is 'bfloat16'; use the same settings, an"):
        Journal(tmp_path / "j", {"vocoder": "a", "dtype": "bfloat16"})


HOLD = """
import sys, time
from pathlib import Path
from tts_infer.journal import Journal
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
    with pytest.raises(FileError, match="cannot use .* as a journal: unable to open"):
        Journal(tmp_path / "no" / "j", {})
