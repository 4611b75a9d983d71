"""The exported page, served by `python -m http.server` and used in a real browser: its audio is that of torch."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import tts_infer
from tests.conftest import ROOT
from tests.helpers import small_vocoder
from tts_infer.cli import main
from tts_infer.stages import relative_error

pytest.importorskip("onnx", reason="onnx is not installed: pip install 'tts-infer[onnx]'")
pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed: pip install 'tts-infer[onnx]'")
RUNTIME = ROOT / "node_modules" / "onnxruntime-web"  # see package.json; .ci/run installs it
needs_runtime = pytest.mark.skipif(not (RUNTIME / "dist").is_dir(), reason="onnxruntime-web is not in node_modules")


def test_what_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["export", "vocos-mini-24khz", "--for", "web", "-o", str(tmp_path / "web"), "--runtime", str(tmp_path)]
    assert main(given) == 2
    said = capsys.readouterr().err
    assert "npm pack onnxruntime-web" in said and said.count("\n") == 1
    assert not list(tmp_path.iterdir())


@needs_runtime
@pytest.mark.slow
def test_another_vocoder(tmp_path: Path) -> None:
    done = tts_infer.export_web(small_vocoder("same"), tmp_path, runtime=RUNTIME, refine=1)
    assert done.stages == ("mel", "backbone", "head", "refine", "istft")
    assert done.size == sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("web")
    assert main(["export", "vocos-mini-24khz", "--for", "web", "--runtime", str(RUNTIME), "-o", str(folder)]) == 0
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 12e6
    command = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout is not None
        port = re.search(r"port (\d+)", server.stdout.readline())
        assert port
        yield f"http://127.0.0.1:{port[1]}/"
        server.terminate()


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@needs_runtime
@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None and not os.environ.get("CI"), reason="no Chromium on this machine")
@pytest.mark.parametrize("threads", [1, 2])
def test_in_a_browser(threads: int, address: str, tmp_path: Path) -> None:
    from playwright.sync_api import expect, sync_playwright

    from tests.page import PATIENCE_MS, QUIET

    vocoder = tts_infer.load_vocoder(device="cpu", refine=0, check=False)
    clip = ROOT / "examples/english.wav"
    mel = vocoder.mel(tts_infer.read_audio(clip, vocoder.sample_rate).samples)
    np.save(tmp_path / "mel.npy", mel[0].numpy())
    np.save(tmp_path / "short.npy", mel[0, :, :1].numpy())
    np.save(tmp_path / "wrong.npy", mel[0, :80].numpy())
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        # http.server sends no headers for threads: the service worker adds them, where the browser allows one
        page = browser.new_context(service_workers="allow" if threads > 1 else "block").new_page()
        page.set_default_timeout(PATIENCE_MS)
        errors: list[str] = []
        requested: set[str] = set()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.context.on(
            "request", lambda request: requested.add(request.url.split("/")[2] if "//" in request.url else "")
        )
        page.goto(f"{address}?threads={threads}")
        expect(page.locator("#status")).to_have_text("Ready.", timeout=PATIENCE_MS)
        assert page.evaluate("crossOriginIsolated") == (threads > 1)
        assert page.locator("#threads").input_value() == str(threads)
        for name, source in (("mel.npy", tmp_path / "mel.npy"), ("english.wav", clip)):
            page.locator("#file").set_input_files(source)
            expect(page.locator("#status")).to_have_text("Done.", timeout=PATIENCE_MS)
            with page.expect_download() as download:
                page.locator("#save").click()
            download.value.save_as(tmp_path / f"{name}.out.wav")
            rows = page.locator("#stages tr").all_inner_texts()
            stages = [row.split()[0] for row in rows]
            assert stages == ["mel", "backbone", "head", "istft"][0 if name.endswith(".wav") else 1 :]
        decoded, copied = (tts_infer.read_audio(tmp_path / f"{name}.out.wav") for name in ("mel.npy", "english.wav"))
        for name, message in (("short.npy", "too short"), ("wrong.npy", "80 channels; expected 100")):
            page.locator("#file").set_input_files(tmp_path / name)
            expect(page.locator("#status.error")).to_contain_text(message, timeout=PATIENCE_MS)
        browser.close()
    assert errors == [] and requested <= {address.split("/")[2], ""}
    # float32 sums in another order, which the trained network magnifies, see `Decoder.tolerance`
    assert relative_error(torch.as_tensor(decoded.samples).reshape(1, -1), vocoder.decode(mel)) <= 1e-4
    again = vocoder.mel(copied.samples)
    # the browser resamples by other filters
    assert tts_infer.log_mel_error_db(mel, again) < tts_infer.log_mel_error_db(mel, vocoder.mel(decoded.samples)) + 0.3
