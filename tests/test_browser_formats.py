"""Files as people have them: the browser decodes what the server cannot, and sends WAV."""

from __future__ import annotations

import base64
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from tests.page import (  # noqa: F401  fixtures are used by name
    CLIP,
    PATIENCE_MS,
    collected_errors,
    expect_file,
    figures,
    message,
    open_tab,
    opened_page,
    quiet_browser,
    upload,
)

from playwright.sync_api import Page, expect  # isort: skip  tests.page skips without it

av = pytest.importorskip("av", reason="PyAV makes the files: pip install 'tts-infer[av]'")
RATE = 48000
CODECS = {"m4a": ("aac", "ipod"), "webm": ("libopus", "webm"), "opus": ("libopus", "ogg"), "aac": ("aac", "adts")}


@pytest.fixture(scope="module")
def voices(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The clip as people have it, by suffix."""
    folder = tmp_path_factory.mktemp("voices")
    return {suffix: compressed(folder, suffix) for suffix in CODECS}


@pytest.fixture(autouse=True)
def _the_server_has_no_av(voices: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)


def clip() -> np.ndarray:
    samples, rate = soundfile.read(CLIP, dtype="float32")
    return soxr.resample(samples, rate, RATE).astype(np.float32)


def compressed(folder: Path, suffix: str) -> Path:
    """Encode the clip."""
    codec, container = CODECS[suffix]
    path = folder / f"voice.{suffix}"
    with av.open(str(path), "w", format=container) as file:
        stream = file.add_stream(codec, rate=RATE)
        stream.layout = "mono"
        whole = av.AudioFrame.from_ndarray(clip()[None], format="fltp", layout="mono")
        whole.sample_rate = RATE
        for frame in av.AudioResampler(stream.codec_context.format, "mono", RATE).resample(whole):
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


def likeness(page: Page) -> float:
    """Correlation of what the server read with the clip, at the best of all delays."""
    page.wait_for_function("document.querySelector('#result .tts-scope').dataset.ready")
    page.locator("#result [data-sound='0']").click()
    body = page.request.get(str(page.locator("#result [data-save]").get_attribute("href"))).body()
    found = np.frombuffer(body[44:], "<i2").astype(np.float32)
    wanted = soxr.resample(clip(), RATE, 24000)
    size = 1 << (len(found) + len(wanted)).bit_length()
    match = np.fft.irfft(np.fft.rfft(found, size) * np.conj(np.fft.rfft(wanted, size)), size)
    return float(match.max() / np.sqrt((found**2).sum() * (wanted**2).sum()))


def decode(page: Page) -> None:
    expect(page.locator("#input-audio")).to_contain_text(re.compile(r"\d:\d\d"), timeout=PATIENCE_MS)
    page.locator("#synthesize").click()
    expect(figures(page)).to_be_visible(timeout=PATIENCE_MS)


@pytest.mark.parametrize(
    "suffix", ["m4a", *(pytest.param(one, marks=pytest.mark.slow) for one in CODECS if one != "m4a")]
)
def test_chosen_files_are_decoded_by_the_browser(page: Page, voices: dict[str, Path], suffix: str) -> None:
    upload(page, "#input-audio", voices[suffix])
    decode(page)
    assert likeness(page) > 0.95  # a codec of 64 to 128 kbit/s changes speech by some percent


@pytest.mark.slow
def test_dropped_files_too(page: Page, voices: dict[str, Path]) -> None:
    content = base64.b64encode(voices["webm"].read_bytes()).decode()
    page.evaluate(
        """(content) => {
            const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
            const dataTransfer = new DataTransfer();
            dataTransfer.items.add(new File([bytes], "voice.webm", { type: "video/webm" }));
            const target = document.querySelector("#input-audio input[type=file]").closest("button");
            target.dispatchEvent(new DragEvent("drop", { bubbles: true, cancelable: true, dataTransfer }));
        }""",
        content,
    )
    decode(page)
    assert likeness(page) > 0.95


@pytest.mark.slow
def test_in_a_batch_and_what_no_browser_decodes(page: Page, tmp_path: Path, voices: dict[str, Path]) -> None:
    broken = tmp_path / "broken.m4a"
    broken.write_bytes(b"no sound")
    open_tab(page, "Batch")
    page.locator("#batch-files input[type=file]").set_input_files([voices["m4a"], broken])
    for name in ("voice.wav", "broken.m4a"):
        expect_file(page, "#batch-files", name)
    page.locator("button#batch").click()
    expect(page.locator("#batch-result")).to_contain_text("1 of 2 files decoded.", timeout=PATIENCE_MS)
    expect(page.locator("#batch-result tr", has_text="broken.m4a")).to_contain_text("give a WAV file")
