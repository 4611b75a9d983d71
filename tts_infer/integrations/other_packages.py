"""Other packages: import them, and replace names in them, also where their modules have imported a name by value."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from tts_infer.errors import import_other


def replace(module: str, name: str, new: Any, distribution: str) -> Callable[[], None]:
    """Let a name of another package mean something else in the whole of that package.

    Args:
        module: where the name is defined, dotted.
        name: what is replaced.
        new: what it means from now on.
        distribution: what pip installs.

    Returns:
        A function that takes the replacement back.

    Raises:
        MissingPackageError: see `import_other`.
    """
    package = module.partition(".")[0]
    old = getattr(import_other(module, distribution), name)
    _exchange(package, name, old, new)
    return lambda: _exchange(package, name, new, old)


def _exchange(package: str, name: str, old: Any, new: Any) -> None:
    for dotted, module in list(sys.modules.items()):
        if dotted.partition(".")[0] == package and getattr(module, "__dict__", {}).get(name) is old:
            setattr(module, name, new)
