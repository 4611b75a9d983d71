"""The page in a real browser: real uploads, real clicks, real pixels."""

from __future__ import annotations

import io
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import gradio as gr
import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

import app
import tts_infer

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
if CHROMIUM is None and not os.environ.get("CI"):
    pytest.skip("no Chromium on this machine", allow_module_level=True)

from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright  # noqa: E402

CLIP = Path(app.__file__).parent / "examples" / "english.wav"
# A browser that phones home would hide a page that does.
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-sync",
    "--no-first-run",
]
# Loading the page and the vocoder on a busy 2-core machine takes seconds, not milliseconds.
PATIENCE_MS = 60_000


@pytest.fixture(scope="module")
def demo() -> Iterator[gr.Blocks]:
    demo = app.build_demo()
    demo.launch(prevent_thread_lock=True, quiet=True, **app.launch_options())
    yield demo
    demo.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture
def console_errors() -> list[str]:
    """What the browser's console calls an error; a test that provokes one takes it off this list."""
    return []


@pytest.fixture
def page(demo: gr.Blocks, browser: Browser, console_errors: list[str]) -> Iterator[Page]:
    """The page, freshly opened; afterwards: no request left this machine, and the console holds no error."""
    assert demo.local_url
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    requests: list[str] = []
    context.on("request", lambda request: requests.append(request.url))
    context.on("console", lambda message: console_errors.append(message.text) if message.type == "error" else None)
    context.on("weberror", lambda error: console_errors.append(str(error.error)))
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.goto(demo.local_url)
    expect(page.locator("#synthesize")).to_be_visible(timeout=PATIENCE_MS)
    yield page
    context.close()
    hosts = {urlsplit(url).netloc for url in requests if urlsplit(url).scheme not in ("data", "blob")}
    assert hosts == {urlsplit(demo.local_url).netloc}
    assert console_errors == []


def upload(page: Page, where: str, file: Path) -> None:
    page.locator(f"{where} input[type=file]").set_input_files(file)


def message(page: Page, text: str) -> Locator:
    """A message box that says `text`."""
    return page.get_by_role("status").filter(has_text=text)


def synthesize(page: Page, file: Path) -> None:
    upload(page, "#input-audio", file)
    expect(page.locator("#input-audio")).to_contain_text(re.compile(r"\d:\d\d"), timeout=PATIENCE_MS)
    page.locator("#synthesize").click()
    expect(page.locator("#result table")).to_be_visible(timeout=PATIENCE_MS)


def stage_times_ms(page: Page) -> tuple[dict[str, float], float]:
    rows = page.locator("#result tbody tr").all()
    times = {row.locator("th").inner_text(): float(row.locator("td").nth(2).inner_text()) for row in rows}
    return times, float(page.locator("#result tfoot td").first.inner_text())


def drawn(image: Locator) -> np.ndarray:
    """The brightness of an element as the browser painted it."""
    return np.asarray(Image.open(io.BytesIO(image.screenshot())).convert("L"), dtype=np.float64)


def likeness(pixels: np.ndarray, mel: torch.Tensor) -> float:
    """Correlation of painted brightness with the levels of a mel, low frequencies at the bottom."""
    level = Image.fromarray(mel.flip(0).numpy()).resize((pixels.shape[1], pixels.shape[0]))
    return float(np.corrcoef(pixels.ravel(), np.asarray(level).ravel())[0, 1])


def expected() -> tuple[tts_infer.Synthesis, torch.Tensor]:
    vocoder = tts_infer.load_vocoder()
    audio = torch.from_numpy(tts_infer.read_audio(CLIP, sample_rate=vocoder.sample_rate).samples)
    result = vocoder.synthesize(audio=audio[None])
    return result, vocoder.mel(result.audio)[0]


def downloaded(page: Page, folder: Path) -> np.ndarray:
    with page.expect_download() as download:
        page.locator("#output-audio a[download]").click()
    download.value.save_as(folder / "download.wav")
    samples, _ = soundfile.read(folder / "download.wav", dtype="int16")
    return samples


def test_clip_to_waveform_pictures_and_stage_table(page: Page, tmp_path: Path) -> None:
    synthesize(page, CLIP)
    times, _ = stage_times_ms(page)
    assert list(times) == list(tts_infer.STAGES)

    result, output_mel = expected()
    for image, mel in zip(page.locator("#result img").all(), (result.features[0], output_mel), strict=True):
        # brightness rises with level but not in proportion, and the browser smooths: 0.9, where upside down gives < 0.5
        assert likeness(drawn(image), mel) > 0.9

    np.testing.assert_array_equal(downloaded(page, tmp_path), tts_infer.to_int16(result.audio[0])[0])


def test_stage_table_adds_up(page: Page, tmp_path: Path) -> None:
    # half a minute: the server's other threads take a millisecond or two between stages, whatever the length
    samples, rate = soundfile.read(CLIP)
    soundfile.write(tmp_path / "long.wav", np.tile(samples, 10), rate)
    synthesize(page, tmp_path / "long.wav")
    times, total_ms = stage_times_ms(page)
    assert sum(times.values()) == pytest.approx(total_ms, rel=0.05)


def test_example_is_one_click_away(page: Page) -> None:
    page.locator("#examples").get_by_text("German").click()
    expect(page.locator("#input-audio")).to_contain_text(re.compile(r"\d:\d\d"))
    page.locator("#synthesize").click()
    expect(page.locator("#result")).to_contain_text("x real time", timeout=PATIENCE_MS)


def test_mel_file_to_waveform(page: Page, tmp_path: Path) -> None:
    result, _ = expected()
    np.save(tmp_path / "mel.npy", result.features.numpy())
    page.get_by_role("tab", name="Mel file").click()
    upload(page, "#input-mel", tmp_path / "mel.npy")
    expect(page.locator("#input-mel")).to_contain_text("mel")
    page.locator("#decode").click()
    expect(page.locator("#result table")).to_be_visible(timeout=PATIENCE_MS)
    assert list(stage_times_ms(page)[0]) == ["backbone", "head", "istft"]
    np.testing.assert_array_equal(downloaded(page, tmp_path), tts_infer.to_int16(result.audio[0])[0])


def test_settings_change_what_runs(page: Page) -> None:
    page.locator("#settings").get_by_role("button").first.click()
    page.locator("#istft-method input").click()
    page.get_by_role("option", name="matmul").click()
    synthesize(page, CLIP)
    row = page.locator("#result tbody tr", has_text="istft")
    expect(row).to_contain_text("matmul")


@pytest.mark.parametrize("content", [b"not a sound at all\n" * 9, b"RIFF\x24\0\0\0WA"], ids=["text", "10 bytes"])
def test_broken_file_is_explained_and_the_page_goes_on(
    page: Page, tmp_path: Path, console_errors: list[str], content: bytes
) -> None:
    broken = tmp_path / "broken.wav"
    broken.write_bytes(content)
    upload(page, "#input-audio", broken)
    page.locator("#synthesize").click()
    expect(message(page, "broken.wav")).to_be_visible(timeout=PATIENCE_MS)
    page.get_by_role("button", name="Error Close").click()
    page.locator("#input-audio").get_by_role("button", name=re.compile("clear|remove", re.I)).click()
    synthesize(page, CLIP)
    console_errors.remove("Waveform load error: MediaError")  # the player, too, says that it cannot play this file


def test_no_input_and_wrong_bins_are_explained(page: Page, tmp_path: Path) -> None:
    page.locator("#synthesize").click()
    expect(message(page, "no audio")).to_be_visible()
    np.save(tmp_path / "wrong.npy", np.zeros((80, 30), np.float32))
    page.get_by_role("tab", name="Mel file").click()
    upload(page, "#input-mel", tmp_path / "wrong.npy")
    expect(page.locator("#input-mel")).to_contain_text("wrong")
    page.locator("#decode").click()
    expect(message(page, "80")).to_be_visible()
