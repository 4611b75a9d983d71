"""What was measured on this machine, kept in the process and on disk: one small JSON file in the user's cache folder.

An entry holds for one processor, one release of this package, of torch and of each engine's package, and one number
of threads. A file that cannot be read or written is as good as none: then every process measures.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

import torch

from tts_infer import sentences
from tts_infer.engines import ENGINES
from tts_infer.io.writer import whole_file
from tts_infer.sentences import Sentence

T = TypeVar("T")
Entry = dict[str, str]
FIELDS = {"engine", "method", "reason"}
# Entries in the file; the oldest go.
_MOST = 200

_answers: dict[object, Any] = {}  # of this process
_ignored = False  # what the file says, after `forget`, until this process has measured anew


def file() -> Path:
    """Where it is: in XDG_CACHE_HOME, or where the system keeps caches."""
    default = Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache")
    return Path(os.environ.get("XDG_CACHE_HOME") or default) / "tts-infer" / "choices.json"


def forget() -> None:
    """Measure anew from now on in this process, and leave the file unread: what is measured now replaces it."""
    global _ignored
    _ignored = True
    _answers.clear()


def once(key: object, find: Callable[[], T]) -> T:
    """The answer to a question, which this process looks for once."""
    if key not in _answers:
        _answers[key] = find()
    found: T = _answers[key]
    return found


def read(key: object) -> Entry | None:
    """The entry of a question, if there is one."""
    entry = None if _ignored else _entries().get(_name(key))
    if not isinstance(entry, dict) or set(entry) != FIELDS or not all(isinstance(one, str) for one in entry.values()):
        return None
    try:
        return {**entry, "reason": sentences.from_json(entry["reason"])}
    except ValueError:
        return None


def write(key: object, entry: Entry, instead: bool = True) -> None:
    """Keep an answer for other processes; without `instead` only if there is none yet."""
    entries = _entries()
    if not instead and _name(key) in entries:
        return
    entries.pop(_name(key), None)
    written = {**entry, "reason": sentences.as_json(entry["reason"])}
    newest = dict(list({**entries, _name(key): written}.items())[-_MOST:])
    with suppress(OSError, RuntimeError):  # RuntimeError: nobody's home
        file().parent.mkdir(parents=True, exist_ok=True)
        with whole_file(file()) as part:
            part.write_text(json.dumps(newest, indent=1), encoding="utf-8")


def before(reason: str) -> Sentence:
    """A reason as later processes give it."""
    return Sentence("{reason}; measured before", code="measured-before", reason=reason)


def _entries() -> dict[str, Any]:
    try:
        found = json.loads(file().read_text(encoding="utf-8"))
    except (OSError, ValueError, RuntimeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _name(key: object) -> str:
    about = [processor(), torch.__version__, torch.get_num_threads(), *_versions(), key]
    return hashlib.blake2b(repr(about).encode(), digest_size=16).hexdigest()


@cache
def processor() -> str:
    """The processor's name."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return f"{line.partition(':')[2].strip()} x {os.cpu_count()}"
    return f"{platform.machine()} {platform.processor()} x {os.cpu_count()}"


@cache
def _versions() -> tuple[str, ...]:
    found = []
    for package in ("tts-infer", *sorted(engine.package for engine in ENGINES.values() if engine.package is not None)):
        with suppress(PackageNotFoundError):
            found.append(f"{package} {version(package)}")
    return tuple(found)
