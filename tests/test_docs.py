"""The README and the pages of docs/ are true: their code runs, their commands work, their links lead somewhere."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

import tts_infer
from tests.conftest import ROOT
from tts_infer import engines, frontends, vocoders
from tts_infer.cli import main

README = ROOT / "README.md"
DOCS = sorted((ROOT / "docs").glob("*.md"))
TEXTS = [README, *DOCS, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", ROOT / "training" / "README.md"]
# Its commands evaluate, which is not the product's core.
RUN = [
    pytest.param(page, marks=[pytest.mark.slow] * (page.stem == "quality"), id=page.stem) for page in (README, *DOCS)
]


@pytest.fixture(autouse=True)
def _tables_as_they_were() -> Iterator[None]:
    """The examples of docs/architecture.md add entries to the three tables, for themselves only."""
    tables: list[dict[str, Any]] = [vocoders.FAMILIES, engines.ENGINES, frontends.FRONTENDS]
    before = [dict(table) for table in tables]
    yield
    for table, entries in zip(tables, before, strict=True):
        table.clear()
        table.update(entries)


Names = dict[str, object]


def blocks(page: Path) -> list[tuple[str, str]]:
    """Language and text of each block of code, in order."""
    found = re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    assert all(language in ("python", "bash") for language, _ in found), "indent what is not run"
    return found


def run_block(language: str, text: str, names: Names) -> None:
    if language == "python":
        exec(compile(text, language, "exec"), names)
        return
    for line in filter(str.strip, text.splitlines()):
        words = shlex.split(line, comments=True)
        assert words[:3] == ["python", "-m", "tts_infer"], line
        assert main(words[3:]) == 0, line


@pytest.fixture(scope="module")
def beginning(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Names]:
    """A folder as a clone is, and the names of Python, after the first block of the README."""
    folder: Path = tmp_path_factory.mktemp("clone")
    shutil.copytree(ROOT / "examples", folder / "examples")
    names: Names = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run_block(*blocks(README)[0], names)
    return folder, names


@pytest.mark.parametrize("page", RUN)
def test_every_block_runs(
    page: Path, beginning: tuple[Path, Names], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In order, in one place, as a reader would who begins with the first block of the README."""
    folder, names = beginning
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    names = dict(names)
    for language, text in blocks(page)[page == README :]:
        run_block(language, text, names)


def test_the_readme_copies_a_clip(beginning: tuple[Path, Names]) -> None:
    folder, _ = beginning
    original, copy = (tts_infer.read_audio(folder / name) for name in ("examples/english.wav", "speech.wav"))
    assert copy.seconds == pytest.approx(original.seconds, abs=0.02)  # whole frames


def test_the_readme_is_one_screen_a_reader() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 150


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#:]*)(?:#([\w-]+))?\)", page.read_text(encoding="utf-8")):
        file = page.parent / target if target else page
        assert file.is_file(), target
        assert not anchor or anchor in anchors(file), f"{target}#{anchor}"


def anchors(page: Path) -> set[str]:
    """Those that GitHub gives the headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_page_is_linked_from_the_readme() -> None:
    assert {f"docs/{page.name}" for page in DOCS} <= set(re.findall(r"\]\(([^)#:]+)\)", README.read_text("utf-8")))


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: page.stem)
def test_commands_that_are_not_run_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    assert set(re.findall(r"(?:^ +|`)make ([a-z]+)", text, flags=re.MULTILINE)) <= targets
    for module in re.findall(r"\b(?:python -m )?((?:benchmarks|training)\.[a-z]+)\b(?!/)", text):
        assert find_spec(module) or (ROOT / module).is_file(), module
    for file in re.findall(r"pip install -r (\S+\.txt)", text):
        assert (ROOT / file).is_file(), file


def test_the_tree_is_that_of_the_repository() -> None:
    tree = re.search(
        r"^## The tree\n(.*?)^## ", (ROOT / "docs" / "architecture.md").read_text(), re.MULTILINE | re.DOTALL
    )
    assert tree is not None
    lines = re.findall(r"^( {4,6})([\w.]+/?)", tree[1], flags=re.MULTILINE)
    listed = {f"tts_infer/{name}" if len(indent) == 6 else name for indent, name in lines}
    assert not {name for name in listed if not (ROOT / name).exists()}
    rooms = {f"tts_infer/{path.parent.name}/" for path in (ROOT / "tts_infer").glob("*/__init__.py")}
    modules = {
        f"tts_infer/{path.name}" for path in (ROOT / "tts_infer").glob("*.py") if path.stem.strip("_") == path.stem
    }
    assert rooms | modules <= listed


def test_front_matter_is_that_of_a_space() -> None:
    front = yaml.safe_load(README.read_text(encoding="utf-8").split("---")[1])
    assert front["sdk"] == "gradio" and (ROOT / front["app_file"]).is_file() and front["license"] == "mit"
    bounds = re.search(r"^gradio>=([\d.]+),<(\d+)", (ROOT / "requirements.txt").read_text(), flags=re.MULTILINE)
    assert bounds is not None and bounds[1].split(".")[0] == front["sdk_version"].split(".")[0]


def test_the_table_of_vocoders_is_that_of_configs() -> None:
    known = tts_infer.known_vocoders()
    text = (ROOT / "docs" / "checkpoints.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([\w-]+)` \| ([\d.]+) kHz \| ([^|]+) \| ([^,| ]+)", text, flags=re.MULTILINE)
    assert len(rows) >= 6
    for name, khz, takes, where in rows:
        entry = known[name]
        assert (float(khz) * 1000, takes) == (entry.sample_rate, entry.inputs)
        assert where == (entry.repo_id or "embedded")


def test_the_table_of_extras_is_that_of_the_project() -> None:
    from tests.test_packaging import EXTRAS

    rows = re.findall(r"^\| `(\w+)` \| ", README.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert rows == list(EXTRAS)
