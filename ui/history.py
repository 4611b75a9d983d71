"""The last results of each page or program: their names. The rest is read from their files; see `ui.scenes`."""

from __future__ import annotations

import csv
import io
import tempfile
import threading
import zipfile
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

import tts_infer
from ui.names import free_names, in_short
from ui.scenes import facts_of
from ui.session import Report

MOST = 10  # results of a page
MOST_PAGES = 1000  # of which some went away without a word
COLUMNS = ("file", "settings", "seconds", "total_ms", "log_mel_error_db")
Rows = list[dict[str, Any]]


class History:
    """The last results of every page, the newest first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._scenes: OrderedDict[str, list[str]] = OrderedDict()

    def add(self, request: gr.Request | None, scene: str) -> None:
        """Note a result, for a page or a program that may ask for it later."""
        if request is None or request.session_hash is None:
            return
        with self._lock:
            known = self._scenes.pop(request.session_hash, [])
            self._scenes[request.session_hash] = [scene, *known][:MOST]
            while len(self._scenes) > MOST_PAGES:
                self._scenes.popitem(last=False)

    def remove(self, request: gr.Request, scene: str) -> None:
        """Forget a result."""
        with self._lock:
            known = self._scenes.get(str(request.session_hash), [])
            if scene in known:
                known.remove(scene)

    def of(self, request: gr.Request) -> dict[str, Report]:
        """The results of a page whose files are still there, of equal ones the newest: facts by scene."""
        with self._lock:
            known = list(self._scenes.get(str(request.session_hash), []))
        found: dict[str, Report] = {}
        seen = set()
        for scene in known:
            try:
                facts = facts_of(scene)
            except tts_infer.InputError:  # its hour is over
                self.remove(request, scene)
                continue
            report = facts["report"]
            what = (Path(facts["sounds"][-1]["file"]).name, in_short(report), report["seconds"], report["peak"])
            if what not in seen:
                found[scene] = facts
            seen.add(what)
        return found


decoded, spoken = History(), History()


def rows_of(results: Sequence[Report]) -> Rows:
    """What the strip and the zip say of results, under names that differ."""
    stems = [Path(facts["sounds"][-1]["file"]).stem for facts in results]
    return [
        {
            "file": file,
            "settings": in_short(facts["report"]),
            **{key: facts["report"].get(key) for key in ("seconds", "total_ms", "log_mel_error_db")},
        }
        for facts, file in zip(results, free_names(stems), strict=True)
    ]


def packed(results: Sequence[Report], rows: Rows) -> str:
    """A zip of the results and of what is said of them; its path."""
    path = Path(tempfile.mkdtemp(dir=gr.utils.get_upload_folder())) / "results.zip"
    table = io.StringIO()
    writer = csv.DictWriter(table, COLUMNS)
    writer.writeheader()
    writer.writerows(rows)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for facts, row in zip(results, rows, strict=True):
            archive.write(facts["sounds"][-1]["file"], row["file"])
        archive.writestr("results.csv", table.getvalue())
    return str(path)
