"""What the page does while it works: audio before the end, cancelling, waiting, the self-test; in a real browser."""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
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
    figures,
    message,
    open_tab,
    opened_page,
    quiet_browser,
    synthesize,
    upload,
    upload_files,
)
from tests.test_listen import pushes, tiled
from ui import status

from playwright.sync_api import Browser, Page, expect  # isort: skip  tests.page skips without it

# Chromium divides positive samples by 32767 and negative ones by 32768.
# What is played, when, and what the page said then: noted where the page hands samples to the browser.
EAR = """
window.heard = [];
const start = AudioBufferSourceNode.prototype.start;
AudioBufferSourceNode.prototype.start = function (at, ...rest) {
    const pcm = Int16Array.from(this.buffer.getChannelData(0), (x) => Math.round(x * (x < 0 ? 32768 : 32767)));
    const text = document.querySelector('#status').innerText;
    window.ear = this.context;
    heard.push({ at, pcm, text, now: this.context.currentTime, rate: this.context.sampleRate });
    return start.call(this, at, ...rest);
};
window.notes = () => heard.map(({ pcm, ...note }) => ({ ...note, length: pcm.length }));
window.digest = async (count) => {
    const bytes = await new Blob(heard.slice(0, count).map(({ pcm }) => pcm)).arrayBuffer();
    const sum = await crypto.subtle.digest('SHA-256', bytes);
    return Array.from(new Uint8Array(sum), (byte) => byte.toString(16).padStart(2, '0')).join('');
};
"""
READY = "document.querySelector('#result .tts-scope').dataset.ready"
# A piece takes 0.12 s, the page asks every 0.2 s, and other tests may run at the same time.
AT_ONCE_MS = 300


@pytest.fixture
def ear(page: Page) -> Page:
    page.evaluate(EAR)
    return page


def listen(page: Page, file: Path, length: str) -> None:
    give(page, file, length)
    page.locator("#listen").click()


def give(page: Page, file: Path, length: str) -> None:
    upload(page, "#input-audio", file)
    expect(page.locator("#input-audio")).to_contain_text(length, timeout=PATIENCE_MS)


def test_two_minutes_start_playing_before_they_are_decoded(ear: Page, tmp_path: Path) -> None:
    long = tiled(tmp_path / "long.wav", 120)
    listen(ear, long, "2:00")
    expect(ear.locator("#result [data-clock]")).to_have_text("0:01 / 2:00")
    expect(ear.locator("#status")).to_have_text(re.compile(r"Decoding [\d.]+ of 120 s"))
    expect(figures(ear)).to_be_visible(timeout=3 * PATIENCE_MS)  # refinement doubles the work and more
    ear.wait_for_function(READY)
    notes: list[dict[str, Any]] = ear.evaluate("notes()")[:-1]  # the last one is the original, which joins in
    assert notes[-1]["now"] > notes[0]["at"]  # the audio was running while pieces were still to come
    ends = [note["at"] + note["length"] / note["rate"] for note in notes]
    assert [note["at"] for note in notes[1:]] == pytest.approx(ends[:-1], abs=1e-6)  # a sample is 4e-5 s

    vocoder = tts_infer.load_vocoder()
    audio = torch.from_numpy(tts_infer.read_audio(long, vocoder.sample_rate).samples)[None]
    once = tts_infer.to_int16(vocoder(audio)[0])[0]
    whole = downloaded(ear, tmp_path)
    assert whole.shape == once.shape
    assert np.abs(whole.astype(int) - once).max() <= 1
    heard = ear.evaluate(f"digest({len(notes)})")
    assert heard == hashlib.sha256(whole.tobytes()).hexdigest()  # what was heard, to the last bit
    expect(ear.locator("#result")).to_contain_text("120.00 s of audio in")
    expect(ear.locator("#result [data-play]")).to_have_text("Pause")  # it goes on


def test_cancel_and_go_on(ear: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = pushes(monkeypatch)
    listen(ear, tiled(tmp_path / "long.wav", 240), "4:00")
    ear.wait_for_function("heard.length > 0")
    ear.locator("#status").get_by_role("button").click()
    ear.wait_for_timeout(AT_ONCE_MS)
    worked = sum(done)
    assert 0 < worked < 240 * 24000 // 256
    expect(ear.locator("#status span")).to_have_text("Cancelled.")
    ear.wait_for_timeout(700)
    assert sum(done) == worked
    ear.locator("#input-audio").get_by_role("button", name="Clear").click()
    give(ear, CLIP, "0:03")
    ear.locator("#synthesize").click()
    expect(figures(ear)).to_contain_text("3.4", timeout=PATIENCE_MS)


def test_what_was_seen_before_a_stop_does_not_count(ear: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page asks what runs while the server has not answered its stop yet."""
    session_of = status.session_of

    async def late(request: gr.Request) -> str | None:
        if (await request.json())["fn_name"] == "stop_jobs":
            await asyncio.sleep(0.7)
        return await session_of(request)

    monkeypatch.setattr(status, "session_of", late)
    listen(ear, tiled(tmp_path / "long.wav", 600), "10:00")
    ear.wait_for_function("heard.length > 0")
    ear.locator("#status").get_by_role("button").click()
    expect(ear.locator("#status span")).to_have_text("Cancelled.")


@pytest.mark.slow
def test_cancel_a_batch(page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = pushes(monkeypatch)
    open_tab(page, "Batch")
    files = [tiled(tmp_path / f"{name}.wav", 240) for name in ("one", "two")]
    upload_files(page, "#batch-files", *files)
    page.locator("button#batch").click()
    deadline = time.monotonic() + 30
    while not done and time.monotonic() < deadline:
        page.wait_for_timeout(20)
    page.locator("#status").get_by_role("button").click()
    page.wait_for_timeout(AT_ONCE_MS)
    worked = sum(done)
    assert 0 < worked < 240 * 24000 // 256
    expect(page.locator("#batch-result")).to_contain_text("0 of 2 files decoded.", timeout=PATIENCE_MS)
    assert sum(done) == worked


@pytest.mark.parametrize("leave", ["reload", "close"])
def test_who_leaves_keeps_nobody_waiting(
    page: Page, browser: Browser, demo: gr.Blocks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, leave: str
) -> None:
    done = pushes(monkeypatch)
    context = browser.new_context(**DESKTOP)
    other = context.new_page()
    other.goto(str(demo.local_url))
    give(other, tiled(tmp_path / "long.wav", 240), "4:00")
    other.locator("#synthesize").click()
    deadline = time.monotonic() + 30
    while not done and time.monotonic() < deadline:
        other.wait_for_timeout(20)
    other.reload() if leave == "reload" else other.close()
    page.wait_for_timeout(AT_ONCE_MS)
    worked = sum(done)
    assert 0 < worked < 240 * 24000 // 256
    page.wait_for_timeout(700)
    assert sum(done) == worked
    context.close()


def test_a_second_press_ends_the_first(ear: Page, tmp_path: Path) -> None:
    listen(ear, tiled(tmp_path / "long.wav", 40), "0:40")
    ear.wait_for_function("heard.length > 0")
    ear.locator("#listen").click()
    expect(figures(ear)).to_be_visible(timeout=2 * PATIENCE_MS)
    ear.wait_for_function(READY)
    assert ear.evaluate("ear.state") == "running"
    expect(ear.locator("#status .tts-status")).to_be_hidden(timeout=PATIENCE_MS)
    assert downloaded(ear, tmp_path).size == 40 * 24000 // 256 * 256


def test_a_result_may_be_replaced_while_its_pictures_are_asked_for(page: Page, tmp_path: Path) -> None:
    """The page asks once nothing has moved for 40 ms: here, once nothing is shown. The console stays empty."""
    page.evaluate("""() => {
      const [later, held] = [window.setTimeout, []];
      window.setTimeout = (run, ms, ...rest) => (ms === 40 ? held.push(run) : later(run, ms, ...rest));
      window.released = 0;
      setInterval(() => {
        if (!document.querySelector("#result [data-ready]")?.hidden) return;
        released += held.length;
        for (const run of held.splice(0)) run();
      }, 2);
    }""")
    give(page, tiled(tmp_path / "long.wav", 40), "0:40")
    page.locator("#synthesize").click()
    page.wait_for_function(READY)
    page.locator("#listen").click()
    expect(figures(page)).to_be_visible(timeout=2 * PATIENCE_MS)
    assert page.evaluate("released") > 0


@pytest.mark.slow
def test_short_jobs_pass_between_the_pieces_of_long_ones(
    page: Page, browser: Browser, demo: gr.Blocks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = pushes(monkeypatch)
    context = browser.new_context(**DESKTOP)
    other = context.new_page()
    other.goto(str(demo.local_url))
    open_tab(other, "Compare")
    upload(other, "#compare-audio", tiled(tmp_path / "long.wav", 600))
    expect(other.locator("#compare-audio")).to_contain_text("10:00", timeout=PATIENCE_MS)
    other.locator("button#compare").click()
    expect(other.locator("#status")).to_contain_text(
        re.compile(r"Comparing [1-9][\d.]* of 240 s.*s left"), timeout=PATIENCE_MS
    )
    synthesize(page, CLIP)
    assert sum(done) < 240 * 24000 // 256  # the long one was not at its end
    expect(other.locator("#status")).to_contain_text("Comparing")
    other.locator("#status").get_by_role("button").click()
    expect(other.locator("#status span")).to_have_text("Cancelled.")
    context.close()


def test_a_change_of_settings_runs_what_was_listened_to_without_a_sound(ear: Page, tmp_path: Path) -> None:
    listen(ear, tiled(tmp_path / "short.wav", 1), "0:01")
    refined = ear.locator("#result tr", has_text="refine")
    expect(refined).to_have_count(1, timeout=PATIENCE_MS)
    expect(ear.locator("#result [data-play]")).to_have_text("Play")  # what is played to its end stops
    ear.wait_for_function(READY)
    pieces = ear.evaluate("heard.length")
    ear.locator("#settings").get_by_role("button").first.click()
    open_tab(ear, "Mel file")
    choose(ear, "#refine", "0")
    expect(refined).to_have_count(0, timeout=PATIENCE_MS)
    expect(ear.locator("#result tr", has_text="mel")).to_have_count(1)
    assert ear.evaluate("heard.length") == pieces


def test_results_play_at_once_for_who_wants_that(ear: Page) -> None:
    synthesize(ear, CLIP)
    ear.wait_for_function(READY)
    assert ear.evaluate("heard.length") == 0
    ear.locator("#result [data-auto]").check()
    ear.locator("#synthesize").click()
    expect(ear.locator("#result [data-play]")).to_have_text("Pause", timeout=PATIENCE_MS)
    ear.reload()
    synthesize(ear, CLIP)
    expect(ear.locator("#result [data-auto]")).to_be_checked()


def test_an_error_stays_beside_the_input_until_that_changes(page: Page, tmp_path: Path) -> None:
    for button, said in (("#listen", "no audio"), ("#listen-mel", "no mel")):
        if button == "#listen-mel":
            open_tab(page, "Mel file")
        page.locator(button).click()
        expect(message(page, said)).to_be_visible()
        expect(page.locator("#result .tts-scope")).to_be_hidden()
    open_tab(page, "Audio")
    page.wait_for_timeout(1000)
    expect(message(page, "no mel")).to_be_visible()
    give(page, CLIP, "0:03")
    expect(message(page, "no mel")).to_have_count(0)


def test_one_listens_and_another_synthesizes(ear: Page, browser: Browser, demo: gr.Blocks, tmp_path: Path) -> None:
    other = browser.new_context(**DESKTOP).new_page()
    other.goto(str(demo.local_url))
    give(other, CLIP, "0:03")
    listen(ear, tiled(tmp_path / "long.wav", 40), "0:40")
    other.locator("#synthesize").click()
    expect(figures(other)).to_be_visible(timeout=PATIENCE_MS)
    expect(other.locator("#result [data-play]")).to_have_text("Play")
    expect(ear.locator("#result")).to_contain_text("40.00 s of audio", timeout=PATIENCE_MS)
    other.context.close()


@pytest.mark.slow
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
    expect(page.locator("#result")).to_contain_text("暂停", timeout=PATIENCE_MS)
    expect(page.locator("#result")).to_contain_text("原声", timeout=PATIENCE_MS)
    open_tab(page, "设备")
    expect(page.locator("#doctor")).to_contain_text("已知声码器", timeout=PATIENCE_MS)
