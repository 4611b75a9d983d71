"""Memory of this process, from Linux; nan on other systems.

The peak of `getrusage` is no use here: it is at least the peak of the parent process. This module imports next to
nothing, so that the cost of other imports can be measured.
"""

from __future__ import annotations

import re
from pathlib import Path

_STATUS = Path("/proc/self/status")


def resident_mb() -> float:
    """Megabytes in memory now."""
    return _read("VmRSS")


def peak_mb() -> float:
    """The most megabytes in memory so far."""
    return _read("VmHWM")


def _read(name: str) -> float:
    found = re.search(rf"{name}:\s+(\d+) kB", _STATUS.read_text()) if _STATUS.exists() else None
    return int(found[1]) / 1024 if found else float("nan")
