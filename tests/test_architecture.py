"""What keeps the package readable: levels, no work at import, only public names at the top."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

import tts_infer

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "tts_infer"

# A room imports from itself and from the rooms before it; the public module stands between the last library and `cli`.
ROOMS = [
    *("sentences", "errors", "imports", "locks", "arguments", "deprecated", "documents", "config", "devices"),
    *("stages", "dsp", "losses", "io", "vocoders", "engines", "runtime", "frontends", "streaming", "live", "decoding"),
    *("facts", "modulelike", "vocoder", "warm", "loading", "integrations", "speech", "speaker", "files", "batch"),
    *("evaluation", "report", "diagnose", "export", "server", "cli"),
]


MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE or path.stem.strip("_") == path.stem)


def name_of(path: Path) -> str:
    """As in `LEVELS`: dotted, without the package."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def room(name: str) -> str:
    return name.partition(".")[0]


def is_module(name: str) -> bool:
    return (ROOT / name.replace(".", "/")).with_suffix(".py").is_file()


def imported(path: Path) -> set[str]:
    """Modules of the package that a file imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        found = []
        if isinstance(node, ast.ImportFrom):
            inside = [f"{node.module}.{alias.name}" for alias in node.names]
            found = [name if is_module(name) else node.module or "" for name in inside]
        found += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names |= {name.partition(".")[2] for name in found if name.startswith("tts_infer.")}
    return names


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_rooms_import_from_rooms_below(path: Path) -> None:
    here = ROOMS.index(room(name_of(path)))
    upward = {other for other in imported(path) if ROOMS.index(room(other)) > here}
    assert not upward, f"{name_of(path)} imports from rooms above it: {upward}"


def test_no_circles() -> None:
    graph = {name_of(path).removesuffix(".__init__"): imported(path) for path in MODULES}
    list(graphlib.TopologicalSorter(graph).static_order())


@pytest.mark.parametrize(
    "path", [ROOT / "app.py", *(ROOT / "ui").glob("*.py"), *(PACKAGE / "cli").glob("*.py")], ids=lambda p: p.stem
)
def test_the_top_uses_public_names_only(path: Path) -> None:
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "tts_infer":
            public = node.module == "tts_infer" and {a.name for a in node.names} <= set(tts_infer.__all__)
            assert public or (str(node.module).startswith("tts_infer.cli") and path.parent.name == "cli")
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "tts_infer":
            assert node.attr in tts_infer.__all__, f"tts_infer.{node.attr} is not public"


def test_importing_does_nothing_else() -> None:
    """No page, no plots, no peers, no Hub client; no choice of device or threads, no environment."""
    code = """
import os, sys, torch
before, threads = dict(os.environ), torch.get_num_threads()
import tts_infer
assert dict(os.environ) == before and torch.get_num_threads() == threads
heavy = {"gradio", "matplotlib", "vocos", "torchaudio", "huggingface_hub", "librosa", "scipy", "ray"} & set(sys.modules)
assert not heavy, heavy
assert "tts_infer.losses" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("collects", [True, False])
def test_importing_leaves_the_search_for_garbage_as_it_was(collects: bool) -> None:
    """Also in a program that embeds Python, which has no command line."""
    before = (
        f"import gc, sys; sys.argv = []; gc.{'enable' if collects else 'disable'}(); frozen = gc.get_freeze_count()"
    )
    after = f"assert gc.isenabled() is {collects} and gc.get_freeze_count() == frozen"
    subprocess.run([sys.executable, "-c", f"{before}; import tts_infer; {after}"], check=True, cwd=ROOT)
