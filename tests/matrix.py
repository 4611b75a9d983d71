"""Run a short selection of tests with other releases of what we depend on.

python -m tests.matrix lowest newest                    the two ends of the bounds in pyproject.toml
python -m tests.matrix lowest --python 3.10 --torch 2.14.1
python -m tests.matrix here                             this environment, as it is

An end is an environment of its own. On most machines other releases of torch are builds for CUDA, of gigabytes, so the
torch that is here is linked into it, unless --torch names another. Each run prints a row of docs/dependencies.md.
"""

from __future__ import annotations

import argparse
import glob
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from setuptools.config.pyprojecttoml import read_configuration

from tests.distributions import ROOT, link, needed_by, of_file

TOOLS = ("pytest", "hypothesis", "pytest-timeout")  # besides packaging and setuptools, which the tests of bounds use
# Loading, whole decodes, streams, reading and writing: what other releases have broken. The page's tests are not here.
TESTS = ("embedded", "checkpoint", "streaming", "stft", "audio", "writer", "features", "config", "devices")
ROW = """
import importlib.metadata as m, platform
names = {names!r}
shown = [m.version(name) if name == "torch" else m.version(name).partition("+")[0] for name in names]
print("|", platform.python_version(), platform.machine(), "|", " | ".join(shown), "|")
"""


def bounds(end: str, extras: tuple[str, ...] = ()) -> list[str]:
    """Requirements for one end: every package at its lower bound, or as new as its bounds allow."""
    project: dict[str, Any] = read_configuration(ROOT / "pyproject.toml")["project"]
    lines = [*project["dependencies"], *(line for extra in extras for line in project["optional-dependencies"][extra])]
    return [lower(line) if end == "lowest" else line for line in lines]


def lower(line: str) -> str:
    """`numpy>=1.26,<3` as `numpy==1.26`."""
    wanted = Requirement(line)
    (least,) = (spec.version for spec in wanted.specifier if spec.operator in (">=", "=="))
    return f"{wanted.name}=={least}"


def python_of(version: str) -> str:
    """The interpreter of a version like 3.10: on the path, or of pyenv."""
    if version in ("", f"{sys.version_info.major}.{sys.version_info.minor}"):
        return sys.executable
    root = os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")
    found = [shutil.which(f"python{version}"), *glob.glob(f"{root}/versions/{version}.*/bin/python")]
    for path in filter(None, found):
        if not subprocess.run([path, "-c", ""], capture_output=True).returncode:  # pyenv's shims may lead nowhere
            return path
    raise SystemExit(f"no Python {version} on this machine")


def made(end: str, python: str, torch: str, folder: Path) -> Path:
    """The interpreter of a fresh environment for one end."""
    subprocess.run([python, "-m", "venv", folder], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    wanted = [line for line in bounds(end) if Requirement(line).name != "torch"]
    if torch:
        wanted.append(f"torch=={torch}")
    else:
        for name in needed_by("torch"):
            link(name, site)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    tools = [line for line in of_file("requirements-test.txt") if Requirement(line).name in TOOLS]
    subprocess.run([*pip, *wanted, *tools, "packaging", "setuptools>=77"], check=True)
    return folder / "bin" / "python"


def run(python: str | Path) -> int:
    """Run the selection, decode a batch on the command line, and print the row. Returns the exit status."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    names = [Requirement(line).name for line in bounds("newest")]
    with tempfile.TemporaryDirectory(prefix="tts-infer-matrix-") as out:
        commands: tuple[list[str | Path], ...] = (
            [python, "-m", "pytest", "-q", "-m", "not slow", *(f"tests/test_{name}.py" for name in TESTS)],
            [python, "-m", "tts_infer", "batch", "examples", "--out", out],
            [python, "-c", ROW.format(names=names)],
        )
        return max(subprocess.run(command, cwd=ROOT, env=environment).returncode for command in commands)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="matrix", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("ends", nargs="+", choices=["lowest", "newest", "here"])
    parser.add_argument("--python", default="", help="a version, such as 3.10; default: the one that is running")
    parser.add_argument(
        "--torch", default="", help="a release to install, of gigabytes as a rule; default: the one here"
    )
    asked = parser.parse_args(arguments)
    failed = []
    for end in asked.ends:
        if end == "here":
            status = run(sys.executable)
        else:
            with tempfile.TemporaryDirectory(prefix="tts-infer-matrix-") as folder:
                status = run(made(end, python_of(asked.python), asked.torch, Path(folder)))
        failed += [end] * (status != 0)
    print(
        f"{len(asked.ends) - len(failed)} ends passed, {len(failed)} failed: {', '.join(failed) or 'none'}", flush=True
    )
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
