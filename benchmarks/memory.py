"""Memory of a process, from Linux; nan on other systems.

The peak of `getrusage` is no use here: it is at least the peak of the parent process. This module imports next to
nothing, so that the cost of other imports can be measured.
"""

from __future__ import annotations

import re
from pathlib import Path


def resident_mb(process: int | None = None) -> float:
    """Megabytes in memory now, of a process by its number; None: of this one."""
    return _read("VmRSS", process)


def peak_mb() -> float:
    """The most megabytes in memory so far."""
    return _read("VmHWM")


def _read(name: str, process: int | None = None) -> float:
    status = Path(f"/proc/{process or 'self'}/status")
    found = re.search(rf"{name}:\s+(\d+) kB", status.read_text()) if status.exists() else None
    return int(found[1]) / 1024 if found else float("nan")
