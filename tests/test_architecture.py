"""What keeps the package readable: levels, no work at import, only public names at the top."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import tts_infer

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "tts_infer"

# A module imports from lower levels only.
LEVELS = [
    {"errors", "relative_error"},
    {"config", "constants"},
    {"inputs", "devices"},
    {"audio", "blocks"},
    {"audio_writer"},
    {"timing", "graphs", "dft", "banded"},
    {"spectral"},
    {"mel"},
    {"model", "evaluation.metrics", "evaluation.intervals"},
    {"refine", "checkpoint", "packed", "official", "evaluation.griffin_lim"},
    {"incremental"},
    {"evaluation.pitch"},
    {"evaluation.measures"},
    {"parity", "audit"},
    {"placement"},
    {"pipeline"},
    {"streaming"},
    {"journal", "manifest"},
    {"vocoder"},
    {"buckets", "files", "evaluation.candidates"},
    {"evaluate"},
    {"local_engine", "ray_engine"},
    {"batch"},
    {"pictures", "doctor"},
    {"evaluation.figures"},
    {"evaluation.report"},
    {"evaluation.evaluate_command"},
    {"__init__"},
    {"cli"},
    {"__main__"},
]
LEVEL = {name: i for i, names in enumerate(LEVELS) for name in names}


MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.parent == PACKAGE or path.stem != "__init__")


def name_of(path: Path) -> str:
    """As in `LEVELS`: dotted, without the package."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def imported(path: Path) -> set[str]:
    """Modules of the package that a file imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        found = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        found += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names |= {name.partition(".")[2] or "__init__" for name in found if name.split(".")[0] == "tts_infer"}
    return names


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_go_down(path: Path) -> None:
    name = name_of(path)
    assert name in LEVEL, f"give {name} a level"
    upward = {other for other in imported(path) if LEVEL[other] >= LEVEL[name]}
    assert not upward, f"{name} imports from its own level or above: {upward}"


@pytest.mark.parametrize(
    "path", [ROOT / "app.py", *(ROOT / "ui").glob("*.py"), PACKAGE / "cli.py"], ids=lambda p: p.stem
)
def test_the_top_uses_public_names_only(path: Path) -> None:
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("tts_infer"):
            assert node.module == "tts_infer" and {a.name for a in node.names} <= set(tts_infer.__all__)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "tts_infer":
            assert node.attr in tts_infer.__all__, f"tts_infer.{node.attr} is not public"


def test_every_module_has_its_tests() -> None:
    modules = {path.stem for path in MODULES} - {"__init__", "__main__", "errors"}
    tested = {p.stem.removeprefix("test_") for p in (ROOT / "tests").glob("test_*.py")}
    assert not modules - tested


def test_importing_does_nothing_else() -> None:
    """No page, no plots, no peers, no Hub client; no choice of device or threads, no environment."""
    code = """
import os, sys, torch
before, threads = dict(os.environ), torch.get_num_threads()
import tts_infer
assert dict(os.environ) == before and torch.get_num_threads() == threads
heavy = {"gradio", "matplotlib", "vocos", "torchaudio", "huggingface_hub", "librosa", "scipy", "ray"} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
