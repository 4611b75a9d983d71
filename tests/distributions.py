"""Installed distributions: what one needs, how it is linked into another environment, and which versions are here.

python -m tests.distributions > constraints.txt
"""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from setuptools.config.pyprojecttoml import read_configuration

ROOT = Path(__file__).parent.parent
HEAD = """\
# The set that the tests ran on last, for `pip install -c constraints.txt ...`. Made by `make constraints`.
"""


def needed_by(*requirements: str) -> set[str]:
    """Installed distributions, and everything that they require here."""
    found, open_ = set[tuple[str, str]](), [Requirement(text) for text in requirements]
    while open_:
        wanted = open_.pop()
        name = canonicalize_name(wanted.name)
        for extra in {"", *wanted.extras}:
            if (name, extra) not in found:
                found.add((name, extra))
                needs = map(Requirement, importlib.metadata.requires(name) or ())
                open_ += [need for need in needs if need.marker is None or need.marker.evaluate({"extra": extra})]
    return {name for name, _ in found}


def link(name: str, site: Path) -> None:
    """Let another environment's `site-packages` have an installed distribution, without a copy."""
    for entry in {Path(file).parts[0] for file in importlib.metadata.files(name) or ()} - {"..", "__pycache__"}:
        if not (site / entry).exists():
            (site / entry).symlink_to(Path(str(importlib.metadata.distribution(name).locate_file(entry))))


def every_requirement() -> list[str]:
    """Of the core and of every extra, as pyproject.toml has them."""
    project: dict[str, Any] = read_configuration(ROOT / "pyproject.toml")["project"]
    extras = project["optional-dependencies"]
    return [*project["dependencies"], *(line for extra in extras for line in extras[extra] if extra != "all")]


def of_file(name: str) -> list[str]:
    """The requirements in a file, without those of other files."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return [line.split(" #")[0].strip() for line in lines if re.match(r"\w", line)]


def constraints(names: Iterable[str]) -> str:
    """A line for each distribution; of builds of one release, as 2.13.0+cpu, the release."""
    versions = {name: Version(importlib.metadata.version(name)).public for name in names}
    return HEAD + "".join(f"{name}=={version}\n" for name, version in sorted(versions.items()))


if __name__ == "__main__":
    files = ("requirements-test.txt", "training/requirements.txt")
    tested = needed_by(*every_requirement(), *(line for file in files for line in of_file(file)))
    print(constraints(tested), end="")
