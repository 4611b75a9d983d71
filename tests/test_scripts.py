"""The page's scripts and styles: linted as Gradio runs them, and small enough to read."""

from __future__ import annotations

import subprocess
from pathlib import Path

import gradio as gr
import pytest

import app
from tests.conftest import ROOT

STATIC = sorted(path for path in (ROOT / "ui" / "static").iterdir() if path.suffix in (".js", ".css"))
BIOME = ROOT / "node_modules" / ".bin" / "biome"  # see package.json; .ci/run installs it
needs_biome = pytest.mark.skipif(
    not BIOME.exists(), reason="biome is not in node_modules: npm install, see package.json"
)


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """Lint the scripts and styles in a folder by the rules of biome.json; warnings count."""
    files = [str(path) for kind in ("js", "css") for path in sorted(folder.glob(f"*.{kind}"))]
    command = [str(BIOME), "lint", f"--config-path={ROOT}", "--error-on-warnings", "--colors=off", *files]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.fixture(scope="module")
def as_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the scripts and styles of all components. Gradio makes functions of scripts, and nests styles."""
    folder, default = tmp_path_factory.mktemp("scripts"), gr.HTML().js_on_load
    for block in app.build_demo().blocks.values():
        name = getattr(block, "elem_id", None) or type(block).__name__
        script = getattr(block, "js_on_load", None)
        if script and script != default:
            (folder / f"{name}.js").write_text(f"(() => {{\n{script}\n}})();\n")
        if style := getattr(block, "css_template", None):
            (folder / f"{name}.css").write_text(f"#component {{\n{style}\n}}\n")
    return folder


@needs_biome
def test_what_the_page_runs_is_linted(as_run: Path) -> None:
    assert {"result.js", "result.css", "samples.js", "status.js"} <= {path.name for path in as_run.iterdir()}
    found = lint(as_run)
    assert found.returncode == 0, found.stdout + found.stderr


@needs_biome
def test_the_exported_page_is_linted() -> None:
    found = lint(ROOT / "tts_infer" / "export" / "web")
    assert found.returncode == 0, found.stdout + found.stderr


@needs_biome
@pytest.mark.parametrize(
    ("name", "text", "rule"),
    [
        ("name.js", "console.log(nobody);", "noUndeclaredVariables"),
        ("unused.js", "(() => { const unused = 1; })();", "noUnusedVariables"),
        ("colour.css", "p { color: #12; }", "Invalid color"),
        ("property.css", "p { colour: red; }", "noUnknownProperty"),
    ],
)
def test_the_linter_sees_mistakes(tmp_path: Path, name: str, text: str, rule: str) -> None:
    (tmp_path / name).write_text(text)
    found = lint(tmp_path)
    assert found.returncode == 1 and rule in found.stdout + found.stderr


@pytest.mark.parametrize("path", STATIC, ids=lambda path: path.name)
def test_a_file_says_what_it_does_and_is_small(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith(("// ", "/* "))
    assert len(lines) <= 300
    assert max(len(line) for line in lines if "data:image" not in line) <= 120
