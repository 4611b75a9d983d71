"""Memory of this process, as Linux tells it; nan elsewhere.

Not by `getrusage`, whose peak is at least that of whoever began the process. Imports next to nothing, so that what
other imports cost can be measured.
"""

from __future__ import annotations

import re
from pathlib import Path

_STATUS = Path("/proc/self/status")


def resident_mb() -> float:
    """Now."""
    return _read("VmRSS")


def peak_mb() -> float:
    """The most so far."""
    return _read("VmHWM")


def _read(name: str) -> float:
    found = re.search(rf"{name}:\s+(\d+) kB", _STATUS.read_text()) if _STATUS.exists() else None
    return int(found[1]) / 1024 if found else float("nan")
