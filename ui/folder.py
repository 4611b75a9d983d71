"""Uploads and results of a page in a folder of its own, in which nothing grows old."""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import tts_infer
from ui.work import desk

VARIABLE = "GRADIO_TEMP_DIR"  # where Gradio has its files
_PREFIX, _SHARED = "tts-infer-", "shared"


@contextmanager
def own_folder() -> Iterator[Path]:
    """A folder for the files of this process alone, for as long as the page is up.

    Gradio's default is one folder for all its programs of a machine, in which each removes only what it knows of:
    neither uploads that broke off, nor parts of what was cancelled.

    Raises:
        FileError: it cannot be made.
    """
    before = os.environ.get(VARIABLE)
    # what cannot be removed is not worth an error at the end
    with _made(Path(before) if before else None) as folder:
        os.environ[VARIABLE] = folder
        try:
            yield Path(folder)
        finally:
            os.environ.pop(VARIABLE)
            if before:
                os.environ[VARIABLE] = before


def _made(place: Path | None) -> tempfile.TemporaryDirectory[str]:
    try:
        if place:
            place.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryDirectory(prefix=_PREFIX, dir=place, ignore_cleanup_errors=True)
    except OSError as error:
        text = "cannot make a folder for uploads and results: {reason}; set {variable} to a folder that can be written"
        raise tts_infer.FileError(text, code="page-folder", reason=str(error), variable=VARIABLE) from None


def shared(files: Sequence[Path]) -> list[Path]:
    """Copies in the page's own folder: visitors are told the paths of files, but need not know where this program is.

    Where the page has no folder of its own, the files themselves.
    """
    folder = Path(os.environ.get(VARIABLE, ""))
    if not folder.name.startswith(_PREFIX):
        return list(files)
    (folder / _SHARED).mkdir(exist_ok=True)
    return [Path(shutil.copy(file, folder / _SHARED)) for file in files]


async def keep_tidy(folder: Path, age_s: float, every_s: float) -> None:
    """Remove what is older, and give back memory that nobody uses, again and again."""
    while True:
        await asyncio.sleep(every_s)
        await asyncio.to_thread(remove_old, folder, age_s)
        if desk.is_idle():
            await asyncio.to_thread(give_back)


def give_back() -> None:
    """Give memory that nobody uses back to the system.

    Errors hold what the functions had in hand that they went through, in circles that Python looks for rarely.
    """
    gc.collect()
    tts_infer.trim_memory()


def remove_old(folder: Path, age_s: float) -> None:
    """Remove files and empty folders in a folder that were not changed for a time. Links are not followed.

    What is shared stays, and stays young, so that no other program thinks it forgotten.
    """
    newest_s = time.time() - age_s
    for where, folders, files in os.walk(folder, topdown=False):
        if Path(where) == folder / _SHARED:
            for name in files:
                os.utime(Path(where, name))
            continue
        for path in (Path(where, name) for name in files):
            with suppress(OSError):  # somebody else was faster; or it is open, and the system forbids it
                if _changed_s(path) < newest_s:
                    path.unlink()
        for path in (Path(where, name) for name in folders):
            with suppress(OSError):  # it is not empty
                if _changed_s(path) < newest_s:
                    path.rmdir()


def _changed_s(path: Path) -> float:
    """When a file was written or renamed. An upload is written first, and then gets its name."""
    facts = path.lstat()
    return max(facts.st_mtime, facts.st_ctime)
