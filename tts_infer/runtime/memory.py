"""How much memory a call needs at most, on Linux."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

_PROCESS = Path("/proc/self")
NO_PEAK = "the peak of memory is known on Linux only, where /proc/self/clear_refs can be written"


def with_peak(run: Callable[[], T]) -> tuple[T, int | None]:
    """Run, and say how many bytes the process had more than before, at most; None: the system does not say.

    Freed memory that the C library keeps is given back first, else the run would use it without a trace. What other
    threads allocate meanwhile is counted, too.

    Source: proc(5), clear_refs and VmHWM; malloc_trim(3).
    """
    with suppress(AttributeError, OSError, TypeError):  # other C libraries have no such function; Windows, no such name
        ctypes.CDLL(None).malloc_trim(0)
    before = _bytes("VmRSS") if _reset_peak() else None
    result = run()
    peak = _bytes("VmHWM")
    return result, None if before is None or peak is None else max(0, peak - before)


def _reset_peak() -> bool:
    try:
        (_PROCESS / "clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def _bytes(name: str) -> int | None:
    try:
        found = re.search(
            rf"^{name}:\s+(\d+) kB", (_PROCESS / "status").read_text(encoding="utf-8"), flags=re.MULTILINE
        )
    except OSError:
        return None
    return int(found[1]) * 1024 if found else None
