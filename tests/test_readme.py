"""The README is true: its Python runs, its commands work, its files exist."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest
import yaml

import tts_infer
from tts_infer.cli import main

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as a clone is."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_python_blocks_run(workplace: Path) -> None:
    assert len(blocks("python")) >= 3
    names: dict[str, object] = {}
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), names)
    assert tts_infer.read_audio("copy.wav").sample_rate == 24000


def test_commands_run(workplace: Path) -> None:
    lines = [line for block in blocks("bash") for line in block.splitlines() if line.strip()]
    assert len(lines) >= 4
    exec(compile(blocks("python")[0], "README.md", "exec"), {})  # which makes their inputs
    for line in lines:
        words = shlex.split(line, comments=True)
        assert words[:3] == ["python", "-m", "tts_infer"], line
        assert main(words[3:]) == 0, line


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    assert {"app", "test"} <= set(re.findall(r"^ +make ([a-z]+)", TEXT, flags=re.MULTILINE)) <= targets


def test_files_exist() -> None:
    for link in re.findall(r"\]\(([^)#:]+)\)", TEXT):
        assert (ROOT / link).is_file(), link
    tree = re.search(r"^## How it is built\n(.*?)^MIT", TEXT, flags=re.MULTILINE | re.DOTALL)
    assert tree is not None
    folder = ROOT
    for indent, name in re.findall(r"^( {4,6})([\w.]+/?)", tree[1], flags=re.MULTILINE):
        path = (folder if len(indent) == 6 else ROOT) / name
        assert path.exists(), name
        if name.endswith("/") and len(indent) == 4:
            folder = path


def test_front_matter_is_that_of_a_space() -> None:
    front = yaml.safe_load(TEXT.split("---")[1])
    assert front["sdk"] == "gradio" and (ROOT / front["app_file"]).is_file() and front["license"] == "mit"
    bounds = re.search(r"^gradio>=([\d.]+),<(\d+)", (ROOT / "requirements.txt").read_text(), flags=re.MULTILINE)
    assert bounds is not None and bounds[1].split(".")[0] == front["sdk_version"].split(".")[0]


def test_the_table_of_vocoders_is_that_of_configs() -> None:
    known = tts_infer.known_vocoders()
    rows = re.findall(r"^\| `([\w-]+)` \| ([\d.]+) kHz \| (\d+) \| ([^,| ]+)", TEXT, flags=re.MULTILINE)
    assert len(rows) >= 4
    for name, khz, n_mels, where in rows:
        entry = known[name]
        assert (float(khz) * 1000, int(n_mels)) == (entry.mel.sample_rate, entry.mel.n_mels)
        assert where == (entry.repo_id or "embedded")
