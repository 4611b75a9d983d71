"""Nothing is told to anybody: no engine, voice or page asks a network, or leaves a number that stands for its user."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# Python's own sockets are seen here. ONNX Runtime, whose sockets are not Python's, first writes what it will send.
WATCHED = """
import sys
asked = []
def look(event, arguments):
    if event in ("socket.getaddrinfo", "socket.connect", "socket.sendto") and "127.0.0.1" not in str(arguments):
        asked.append((event, str(arguments)))
sys.addaudithook(look)
import torch, tts_infer
mel = torch.full((1, 100, 20), -5.0)
{script}
assert not asked, asked
"""


def files_of(script: str, home: Path) -> list[str]:
    """The files that a script leaves in its home folder."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("ORT_", "HF_", "GRADIO_", "XDG_"))
    }
    env = kept | {"HOME": str(home), "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-c", WATCHED.format(script=script)]
    done = subprocess.run(words, env=env, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return [path.relative_to(home).as_posix() for path in home.rglob("*") if path.is_file()]


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_engines_tell_nobody(engine: str, tmp_path: Path) -> None:
    pytest.importorskip(engine)
    script = f"tts_infer.load_vocoder(device='cpu', engine='{engine}').decode(mel)"
    assert set(files_of(script, tmp_path)) <= {".cache/tts-infer/choices.json"}


@pytest.mark.slow
def test_voices_tell_nobody(tmp_path: Path) -> None:
    pytest.importorskip("hibari")
    assert set(files_of("tts_infer.speak('Hello.')", tmp_path)) <= {".cache/tts-infer/choices.json"}


@pytest.mark.slow
def test_the_page_tells_nobody(tmp_path: Path) -> None:
    script = """
import app
demo = app.build_demo(example=False)
demo.launch(prevent_thread_lock=True, quiet=True, server_name="127.0.0.1", **app.launch_options())
demo.close()
"""
    assert set(files_of(script, tmp_path)) <= {".cache/tts-infer/choices.json"}
