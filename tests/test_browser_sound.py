"""What is heard: the samples that reach the loudspeaker, read from the page's AudioContext."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.page import (  # noqa: F401  fixtures are used by name
    CLIP,
    PATIENCE_MS,
    collected_errors,
    figures,
    open_tab,
    opened_page,
    quiet_browser,
    upload,
)
from tests.test_listen import tiled

from playwright.sync_api import Page, expect  # isort: skip  tests.page skips without it

# Whatever goes to the loudspeaker is recorded, too. `sounding` counts the gains that let something through.
EAR = """
window.heard = [];
window.gains = new Set();
const connect = AudioNode.prototype.connect;
AudioNode.prototype.connect = function (to, ...rest) {
    if (to instanceof AudioDestinationNode && this instanceof GainNode) {
        if (!to.context.ear) {
            const ear = (to.context.ear = to.context.createScriptProcessor(16384, 1, 1));
            ear.onaudioprocess = (event) => heard.push(Float32Array.from(event.inputBuffer.getChannelData(0)));
            connect.call(ear, to);
        }
        gains.add(this);
        connect.call(this, to.context.ear);
    }
    return connect.call(this, to, ...rest);
};
window.recorded = async () => {
    const bytes = new Uint8Array(await new Blob(heard).arrayBuffer());
    let text = '';
    for (let i = 0; i < bytes.length; i += 32768) text += String.fromCharCode(...bytes.subarray(i, i + 32768));
    return btoa(text);
};
"""
pytestmark = pytest.mark.alone  # the recorder of a busy browser loses blocks
# 16 bits, by the two scales that Chromium reads them with, and float32
CLOSE = 2e-4


def recorded(page: Page) -> np.ndarray:
    page.wait_for_timeout(900)  # the last block of the recorder
    return np.frombuffer(base64.b64decode(page.evaluate("recorded()")), np.float32)


def decoded(page: Page, file: Path) -> list[np.ndarray]:
    """Decode a clip, and give the sounds of the result."""
    page.evaluate(EAR)
    upload(page, "#input-audio", file)
    expect(page.locator("#input-audio")).to_contain_text(re.compile(r"\d:\d\d"), timeout=PATIENCE_MS)
    page.locator("#synthesize").click()
    expect(figures(page)).to_be_visible(timeout=PATIENCE_MS)
    page.wait_for_function("document.querySelector('#result .tts-scope').dataset.ready")
    return sounds(page, "#result")


def sounds(page: Page, where: str) -> list[np.ndarray]:
    """The sounds of a result, as the server keeps them."""
    found = []
    for button in page.locator(f"{where} [data-sound]").all():
        button.click()
        url = page.locator(f"{where} [data-save]").get_attribute("href")
        body = page.request.get(str(url)).body()
        found.append(np.frombuffer(body[44:], "<i2").astype(np.float32) / 32768)
    return found


def aligned(heard: np.ndarray, sound: np.ndarray) -> np.ndarray:
    """What was heard from the moment at which the beginning of a sound is found in it."""
    probe = sound[2000:10000]
    size = 1 << (len(heard) + len(probe)).bit_length()
    match = np.fft.irfft(np.fft.rfft(heard, size) * np.conj(np.fft.rfft(probe, size)), size)[: len(heard)]
    return heard[int(match.argmax()) - 2000 :]


def outside(heard: np.ndarray, between: Sequence[np.ndarray]) -> np.ndarray:
    """By how much each sample is outside the range between sounds; those of a cross-fade of two are inside."""
    length = min(len(heard), *map(len, between))
    stack = np.stack([sound[:length] for sound in between])
    return np.maximum(stack.min(0) - heard[:length], heard[:length] - stack.max(0))


def test_ears_switch_in_place_without_a_step(page: Page) -> None:
    original, output = decoded(page, CLIP)
    page.locator("#result [data-sound='0']").click()
    page.evaluate("heard.length = 0")
    page.locator("#result [data-play]").click()
    for key in ("1", "o", "1", "o"):
        page.wait_for_timeout(500)
        page.keyboard.press(key)
    page.wait_for_timeout(1400)
    heard = aligned(recorded(page), original)
    assert outside(heard, (original, output)).max() < CLOSE  # never both, never louder, never a gap
    # and both were heard: for long stretches it is the one and not the other
    length = min(len(heard), len(original), len(output))
    is_original, is_output = (np.abs(heard[:length] - sound[:length]) < CLOSE for sound in (original, output))
    assert (is_output & ~is_original).mean() > 0.2 and (is_original & ~is_output).mean() > 0.2
    assert (is_original | is_output).mean() > 0.95  # the rest are cross-fades of 8 ms


@pytest.mark.slow
def test_keys_play_seek_and_loop(page: Page) -> None:
    _, output = decoded(page, CLIP)
    clock, play = page.locator("#result [data-clock]"), page.locator("#result [data-play]")
    page.locator("#result [data-panel=input] canvas").hover()
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press(" ")
    expect(play).to_have_text("Pause")
    expect(clock).to_have_text("0:01 / 0:03")
    page.keyboard.press(" ")
    expect(play).to_have_text("Play")
    for _ in range(30):
        page.keyboard.press("ArrowLeft")
    expect(clock).to_have_text("0:00 / 0:03")
    # a selection is heard again and again
    box = page.locator("#result [data-panel=output] canvas").bounding_box()
    assert box
    across = (box["x"] + 52 + share * (box["width"] - 52) for share in (0.25, 0.4))
    page.mouse.move(next(across), box["y"] + 60)
    page.mouse.down()
    page.mouse.move(next(across), box["y"] + 60, steps=4)
    page.mouse.up()
    said = page.locator("#result [data-selected] b").inner_text()
    begin, end = (float(value) for value in re.findall(r"[\d.]+", said))
    assert (begin, end) == pytest.approx((0.25 * 3.42, 0.4 * 3.42), abs=0.02)
    page.evaluate("heard.length = 0")
    page.keyboard.press("l")
    page.keyboard.press(" ")
    page.wait_for_timeout(1600)
    page.keyboard.press(" ")
    heard = recorded(page)
    part = output[round(begin * 24000) + 500 : round(end * 24000) - 500]
    match = np.correlate(heard, part[:4000])
    peaks = np.flatnonzero(match > 0.99 * float((part[:4000] ** 2).sum()))
    assert len({round(peak / ((end - begin) * 24000)) for peak in peaks}) >= 3


@pytest.mark.slow
def test_only_one_thing_sounds(page: Page) -> None:
    decoded(page, CLIP)
    playing = page.locator("#result [data-play]")
    own = page.locator("#input-audio").get_by_role("button", name=re.compile("^play", re.I))
    own.click()
    expect(page.locator("#input-audio").get_by_role("button", name=re.compile("^pause", re.I))).to_be_visible()
    playing.click()
    expect(playing).to_have_text("Pause")
    expect(own).to_be_visible()  # it has stopped
    own.click()
    expect(playing).to_have_text("Play")


@pytest.mark.slow
def test_zoom_asks_for_the_window(page: Page, tmp_path: Path) -> None:
    decoded(page, tiled(tmp_path / "long.wav", 120))
    scope = page.locator("#result .tts-scope")
    expect(page.locator("#result [data-panel=input] figcaption")).to_contain_text("each column is the mean of")
    canvas = page.locator("#result [data-panel=input] canvas")
    canvas.hover()
    for _ in range(22):
        page.mouse.wheel(0, -100)
    page.wait_for_function("parseFloat(document.querySelector('#result .tts-scope').dataset.window) > 55")
    low, high = map(float, str(scope.get_attribute("data-window")).split("-"))
    assert high - low < 2 and low < 57.4 < high  # in the middle of the picture with its axis
    expect(page.locator("#result [data-panel=input] figcaption")).to_have_text("Input mel")
    page.mouse.move(*center(page, "#result [data-panel=output] canvas"))
    reading = page.locator("#result [data-reading]")
    pattern = r"\d\d\.\d\d s, [\d.]+ k?Hz, −?\d+ dB, difference [+−]?\d+ dB"
    expect(reading).to_have_text(re.compile(pattern))
    page.locator("#result [data-f0]").click()
    expect(scope).to_have_attribute("data-f0", "2")
    canvas.dblclick()
    page.wait_for_function("document.querySelector('#result .tts-scope').dataset.window.startsWith('0.000')")
    expect(reading).to_contain_text("zoom in")  # F0 of two minutes is too much


def center(page: Page, where: str) -> tuple[float, float]:
    box = page.locator(where).bounding_box()
    assert box
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


@pytest.mark.slow
def test_measure_says_the_spread(page: Page) -> None:
    upload(page, "#input-audio", CLIP)
    expect(page.locator("#input-audio")).to_contain_text(re.compile(r"\d:\d\d"), timeout=PATIENCE_MS)
    page.locator("#synthesize").click()
    expect(page.locator("#result [data-details]")).to_contain_text("1 run:", timeout=PATIENCE_MS)
    page.locator("#measure").click()
    found = page.locator("#result [data-details]")
    expect(found).to_contain_text("5 runs: median", timeout=PATIENCE_MS)
    numbers = re.search(r"median ([\d.]+) ms \(([\d.]+) ms to ([\d.]+) ms\)", found.inner_text())
    assert numbers
    median, least, most = map(float, numbers.groups())
    assert 0 < least <= median <= most


@pytest.mark.slow
def test_compare_has_the_original_and_every_sample(page: Page) -> None:
    page.evaluate(EAR)
    open_tab(page, "Compare")
    upload(page, "#compare-audio", CLIP)
    expect(page.locator("#compare-audio")).to_contain_text(re.compile(r"\d:\d\d"), timeout=PATIENCE_MS)
    page.locator("button#compare").click()
    page.wait_for_function("document.querySelector('#samples .tts-scope').dataset.ready", timeout=PATIENCE_MS)
    original, first, second = sounds(page, "#samples")
    assert np.abs(first - second[: len(first)]).max() > 0.01
    page.locator("#samples [data-sound='0']").click()
    page.evaluate("heard.length = 0")
    page.locator("#samples [data-play]").click()
    for key in ("1", "2"):
        page.wait_for_timeout(700)
        page.keyboard.press(key)
    expect(page.locator("#samples [data-panel=output] figcaption")).to_contain_text("refine 16")
    page.wait_for_timeout(1500)
    heard = aligned(recorded(page), original)
    assert outside(heard, (original, first, second)).max() < CLOSE
    assert len(heard) > 2 * 24000
