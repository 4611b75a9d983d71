"""Ctrl-C while a command still imports: it ends as it does later, and without a traceback."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Names of our own programs, without suffix. "-m": Python imports the package before it knows the module's path.
_PROGRAMS = ("-m", "tts-infer", "app")


@contextmanager
def quiet_start() -> Iterator[None]:
    """Imports of a program. In programs of others, Ctrl-C stays the exception that it is."""
    try:
        yield
    except KeyboardInterrupt:
        if Path(sys.argv[0]).stem not in _PROGRAMS:
            raise
        raise SystemExit(130) from None
