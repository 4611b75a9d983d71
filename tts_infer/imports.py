"""While the package is imported: Ctrl-C ends a command as it does later, and no garbage is looked for."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Names of our own programs, without suffix. "-m": Python imports the package before it knows the module's path.
_PROGRAMS = ("-m", "tts-infer", "app")


@contextmanager
def importing() -> Iterator[None]:
    """Imports of a program. In programs of others, Ctrl-C stays the exception that it is.

    Imports make hundreds of thousands of objects that stay. To look through them for garbage takes a tenth of a second
    each time; our own programs never do.
    """
    called = getattr(sys, "argv", None) or [""]  # a program that embeds Python may have none
    is_ours, collects = Path(called[0]).stem in _PROGRAMS, gc.isenabled()
    gc.disable()
    try:
        yield
    except KeyboardInterrupt:
        if not is_ours:
            raise
        raise SystemExit(130) from None
    finally:
        if is_ours:
            gc.freeze()
        if collects:
            gc.enable()
