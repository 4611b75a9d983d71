"""What the page does while it works: audio before the end, cancelling, the self-test; in a real browser."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pytest
import torch

import tts_infer
from tests.page import (  # noqa: F401  fixtures are used by name
    CLIP,
    DESKTOP,
    PATIENCE_MS,
    choose,
    collected_errors,
    downloaded,
    message,
    open_tab,
    opened_page,
    quiet_browser,
    synthesize,
    upload,
)
from tests.test_listen import pushes, tiled

from playwright.sync_api import Browser, Page, expect  # isort: skip  tests.page skips without it

# Chromium divides positive samples by 32767 and negative ones by 32768.
# What is played, when, and what the page said then: noted where the page hands samples to the browser.
EAR = """
window.heard = [];
const start = AudioBufferSourceNode.prototype.start;
AudioBufferSourceNode.prototype.start = function (at) {
    const pcm = Int16Array.from(this.buffer.getChannelData(0), (x) => Math.round(x * (x < 0 ? 32768 : 32767)));
    const text = document.querySelector('#player [data-text]').textContent;
    window.ear = this.context;
    heard.push({ at, pcm, text, now: this.context.currentTime, rate: this.context.sampleRate });
    return start.call(this, at);
};
window.notes = () => heard.map(({ pcm, ...note }) => ({ ...note, length: pcm.length }));
window.digest = async () => {
    const sum = await crypto.subtle.digest('SHA-256', await new Blob(heard.map(({ pcm }) => pcm)).arrayBuffer());
    return Array.from(new Uint8Array(sum), (byte) => byte.toString(16).padStart(2, '0')).join('');
};
"""


@pytest.fixture
def ear(page: Page) -> Page:
    page.evaluate(EAR)
    return page


def listen(page: Page, file: Path, length: str) -> None:
    upload(page, "#input-audio", file)
    expect(page.locator("#input-audio")).to_contain_text(length, timeout=PATIENCE_MS)
    page.locator("#listen").click()


def test_two_minutes_start_playing_before_they_are_decoded(ear: Page, tmp_path: Path) -> None:
    long = tiled(tmp_path / "long.wav", 120)
    listen(ear, long, "2:00")
    expect(ear.locator("#result table")).to_be_visible(timeout=3 * PATIENCE_MS)  # refinement doubles the work and more
    ear.wait_for_function("heard.at(-1).text.startsWith('Decoded 120.0')")
    notes: list[dict[str, Any]] = ear.evaluate("notes()")
    assert re.match(r"Decoded [1-9]\.\d of 120\.0 s", notes[0]["text"])
    assert notes[-1]["now"] > notes[0]["at"]  # the audio was running while pieces were still to come
    ends = [note["at"] + note["length"] / note["rate"] for note in notes]
    assert [note["at"] for note in notes[1:]] == pytest.approx(ends[:-1], abs=1e-6)  # a sample is 4e-5 s

    vocoder = tts_infer.load_vocoder()
    audio = torch.from_numpy(tts_infer.read_audio(long, vocoder.sample_rate).samples)[None]
    once = tts_infer.to_int16(vocoder(audio)[0])[0]
    whole = downloaded(ear, tmp_path)
    assert whole.shape == once.shape
    assert np.abs(whole.astype(int) - once).max() <= 1
    assert ear.evaluate("digest()") == hashlib.sha256(whole.tobytes()).hexdigest()  # what was heard, to the last bit
    expect(ear.locator("#result")).to_contain_text("120.00 s of audio in")


def test_cancel_and_go_on(ear: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = pushes(monkeypatch)
    listen(ear, tiled(tmp_path / "long.wav", 120), "2:00")
    ear.wait_for_function("heard.length > 0")
    ear.get_by_role("button", name="Cancel").click()
    expect(ear.locator("#player button").first).to_be_hidden()
    expect(ear.locator("#result")).to_contain_text("Drop, record or pick")
    assert ear.evaluate("ear.state") == "closed"
    ear.wait_for_timeout(1000)  # the piece at hand ends
    pieces, worked = ear.evaluate("heard.length"), sum(done)
    assert worked < 120 * 24000 // 256
    ear.wait_for_timeout(500)
    assert sum(done) == worked
    ear.locator("#input-audio").get_by_role("button", name="Clear").click()
    synthesize(ear, CLIP)
    expect(ear.locator("#result")).to_contain_text(re.compile(r"^\s*3\.\d+ s of audio|[1-9]\.\d\d s of audio"))
    assert ear.evaluate("heard.length") == pieces


def test_pressed_again_while_it_plays_it_goes_on(ear: Page, tmp_path: Path) -> None:
    listen(ear, tiled(tmp_path / "long.wav", 40), "0:40")
    ear.wait_for_function("heard.length > 0")
    ear.locator("#listen").click()
    expect(ear.locator("#result table")).to_be_visible(timeout=2 * PATIENCE_MS)
    assert ear.evaluate("ear.state") == "running"
    assert downloaded(ear, tmp_path).size == sum(note["length"] for note in ear.evaluate("notes()"))


def test_pause_and_play_to_the_end(ear: Page, tmp_path: Path) -> None:
    listen(ear, tiled(tmp_path / "short.wav", 3), "0:03")
    ear.get_by_role("button", name="Pause").click()
    expect(ear.get_by_role("button", name="Play", exact=True).last).to_be_visible()
    expect(ear.locator("#result table")).to_be_visible(timeout=PATIENCE_MS)
    assert ear.evaluate("ear.state") == "suspended"
    ear.locator("#player").get_by_role("button", name="Play").click()
    expect(ear.locator("#player")).to_contain_text("0:01")
    expect(ear.locator("#player button").first).to_be_hidden()  # what is played to its end goes
    assert ear.evaluate("ear.currentTime") > 2.9


def test_a_change_of_settings_runs_what_was_listened_to_without_a_sound(ear: Page, tmp_path: Path) -> None:
    listen(ear, tiled(tmp_path / "short.wav", 1), "0:01")
    refined = ear.locator("#result tr", has_text="refine")
    expect(refined).to_have_count(1, timeout=PATIENCE_MS)
    pieces = ear.evaluate("heard.length")
    ear.locator("#settings").get_by_role("button").first.click()
    open_tab(ear, "Mel file")
    choose(ear, "#refine", "0")
    expect(refined).to_have_count(0, timeout=PATIENCE_MS)
    expect(ear.locator("#result tr", has_text="mel")).to_have_count(1)
    assert ear.evaluate("heard.length") == pieces


def test_a_mistake_is_explained_and_clears_the_player(page: Page) -> None:
    page.locator("#listen").click()
    expect(message(page, "no audio")).to_be_visible()
    expect(page.locator("#player button").first).to_be_hidden()
    open_tab(page, "Mel file")
    page.locator("#listen-mel").click()
    expect(message(page, "no mel")).to_be_visible()


def test_one_listens_and_another_synthesizes(ear: Page, browser: Browser, demo: gr.Blocks, tmp_path: Path) -> None:
    other = browser.new_context(**DESKTOP).new_page()
    other.goto(str(demo.local_url))
    upload(other, "#input-audio", CLIP)
    expect(other.locator("#input-audio")).to_contain_text(re.compile(r"0:0[1-9]"), timeout=PATIENCE_MS)
    listen(ear, tiled(tmp_path / "long.wav", 40), "0:40")
    other.locator("#synthesize").click()
    expect(other.locator("#result table")).to_be_visible(timeout=PATIENCE_MS)
    expect(other.locator("#player button").first).to_be_hidden()
    expect(ear.locator("#result")).to_contain_text("40.00 s of audio", timeout=PATIENCE_MS)
    other.context.close()


def test_device_tab_tests_itself_again(page: Page) -> None:
    open_tab(page, "Device")
    report = page.locator("#doctor")
    expect(report.locator("table")).to_have_count(5, timeout=PATIENCE_MS)
    for stage, place in tts_infer.doctor.examine()["placement"].items():
        row = report.locator("table").first.locator("tr", has_text=stage)
        expect(row).to_contain_text(place["reason"])  # of the same measurement: the server is this process
    measured = report.locator("table").first.inner_text()
    page.locator("#self-test").click()
    # the reasons hold times, to a hundredth of a millisecond
    expect(report.locator("table").first).not_to_have_text(measured, use_inner_text=True, timeout=PATIENCE_MS)
    for name in tts_infer.known_vocoders():
        expect(report).to_contain_text(name)
    audit = page.locator("#audit")
    expect(audit.locator("tr", has_text="official vocos: head")).to_contain_text("unfold_backward", timeout=PATIENCE_MS)
    for way in ("matmul", "matmul, ragged batch", "matmul, in pieces", "fft"):
        expect(audit.locator("tr", has_text=re.compile(rf"^\s*{way}: refine"))).to_have_count(1)
    for row in audit.locator("tr", has_text="matmul").all():
        assert "⚠" not in row.inner_text()


@pytest.mark.parametrize("page", [{"locale": "zh-CN"}], indirect=True)
def test_chinese(page: Page) -> None:
    expect(page.locator("#listen")).to_have_text("边解码边听")
    page.locator("#examples button").first.click()
    expect(page.locator("#input-audio")).to_contain_text(re.compile(r"0:0[1-9]"), timeout=PATIENCE_MS)
    page.locator("#listen").click()
    expect(page.locator("#player")).to_contain_text("已解码", timeout=PATIENCE_MS)
    expect(page.locator("#player")).to_contain_text("停止")
    open_tab(page, "设备")
    expect(page.locator("#doctor")).to_contain_text("已知声码器", timeout=PATIENCE_MS)
