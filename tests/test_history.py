"""The last results of a page: a strip that plays, removes, packs, and is there again after a reload."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pytest
import soundfile
import torch
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

import tts_infer
from tests.page import (  # noqa: F401  fixtures are used by name
    CLIP,
    PATIENCE_MS,
    collected_errors,
    downloaded,
    figures,
    open_tab,
    opened_page,
    quiet_browser,
    synthesize,
)
from ui.history import MOST, History, rows_of
from ui.names import in_short, named
from ui.results import stage_line
from ui.scenes import Sound, keep
from ui.strip import draw_strip
from ui.texts import Translator

from playwright.sync_api import Locator, Page, expect  # isort: skip  tests.page skips without it

NAMES = ["english-refine24.wav", "english-refine0.wav", "english-refine16.wav"]


@pytest.fixture(autouse=True)
def _patience() -> Iterator[None]:
    expect.set_options(timeout=PATIENCE_MS)
    yield
    expect.set_options(timeout=5000)


def cards(page: Page) -> Locator:
    return page.locator("#result-history li")


def three_results(page: Page) -> None:
    synthesize(page, CLIP)
    expect(cards(page)).to_have_count(1)
    for i, name in enumerate(("Fast", "Best")):
        page.locator("#preset").get_by_text(name).click()
        expect(cards(page)).to_have_count(i + 2)


@pytest.mark.slow
def test_results_can_be_played_removed_and_packed(page: Page) -> None:
    three_results(page)
    assert cards(page).locator("b").all_inner_texts() == NAMES
    assert "Error" in cards(page).first.inner_text()
    assert "refine 24" in cards(page).first.inner_text()

    cards(page).nth(1).get_by_role("button", name="Play").click()
    expect(page.locator("#result [data-save]")).to_have_attribute("download", NAMES[1])
    expect(page.locator("#result [data-play]")).to_have_text("Pause")

    with page.expect_download() as download:
        page.locator("#result-zip").click()
    with zipfile.ZipFile(download.value.path()) as archive:
        assert archive.namelist() == [*NAMES, "results.csv"]
        table = list(csv.DictReader(io.StringIO(archive.read("results.csv").decode())))
        samples, _ = soundfile.read(io.BytesIO(archive.read(NAMES[2])), dtype="int16")
    assert [row["file"] for row in table] == NAMES
    assert float(table[0]["log_mel_error_db"]) < float(table[1]["log_mel_error_db"])
    vocoder = tts_infer.load_vocoder()
    audio = torch.from_numpy(tts_infer.read_audio(CLIP, vocoder.sample_rate).samples)[None]
    np.testing.assert_array_equal(samples, tts_infer.to_int16(vocoder(audio, refine=16)[0])[0])

    cards(page).nth(1).get_by_role("button", name="Remove").click()
    expect(cards(page)).to_have_count(2)
    assert cards(page).locator("b").all_inner_texts() == [NAMES[0], NAMES[2]]
    page.reload()
    expect(cards(page)).to_have_count(2)
    assert cards(page).locator("b").all_inner_texts() == [NAMES[0], NAMES[2]]


def test_what_was_spoken_is_kept_by_name(page: Page) -> None:
    open_tab(page, "Speak")
    page.locator("button#speak").click()
    expect(page.locator("#speak-result-history li b")).to_have_text(["speech-heart.wav"])
    expect(page.locator("#speak-result-zip")).to_be_visible()
    expect(cards(page)).to_have_count(0)


def test_a_program_gets_its_own_results(demo: gr.Blocks, tmp_path: Path) -> None:
    one, other = (Client(str(demo.local_url), verbose=False) for _ in range(2))
    for client, passes in ((one, "0"), (one, "2"), (other, "1")):
        client.predict(
            audio=handle_file(str(CLIP)), vocoder="vocos-mini-24khz", refine=passes, istft="fft", api_name="/synthesize"
        )
    _, rows = one.predict(api_name="/results")
    assert [row["file"] for row in rows] == ["english-refine2-istft-fft.wav", "english-refine0-istft-fft.wav"]
    assert rows[0]["settings"] == "vocos-mini-24khz · refine 2 · istft fft"
    assert [row["file"] for row in other.predict(api_name="/results")[1]] == ["english-refine1-istft-fft.wav"]
    with pytest.raises(AppError, match="no results yet"):
        Client(str(demo.local_url), verbose=False).predict(api_name="/results")


def scene(tmp_path: Path, seconds: float, refine: int = 0) -> str:
    samples = torch.zeros(int(24000 * seconds))
    report = {"vocoder": "<v>", "refine": refine, "seconds": seconds, "peak": 0.0, "total_ms": 1.0, "notes": []}
    mel = torch.zeros(100, 9)
    return keep([Sound("out", "a.wav", samples)], 24000, [mel], tts_infer.MelConfig(), {"report": report})


def test_ten_are_kept_equal_ones_once_and_lost_ones_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    request: Any = gr.Request(session_hash="me")
    history = History()
    scenes = [scene(tmp_path, 0.1 * (i + 1)) for i in range(MOST + 2)]
    for one in scenes:
        history.add(request, one)
    assert list(history.of(request)) == scenes[: -MOST - 1 : -1]
    newest = scene(tmp_path, 0.1 * (MOST + 2))  # as the last one
    history.add(request, newest)
    assert list(history.of(request))[:2] == [newest, scenes[-2]]
    for file in (tmp_path / scenes[-2]).iterdir():
        file.unlink()
    assert scenes[-2] not in history.of(request)
    history.add(None, newest)  # of a program without a page
    assert list(history.of(gr.Request(session_hash="other"))) == []
    rows = rows_of(list(history.of(request).values()))
    assert [row["file"] for row in rows[:3]] == ["a.wav", "a-2.wav", "a-3.wav"]
    drawn = draw_strip(history.of(request), Translator("zh"))
    assert "&lt;v&gt;" in drawn and "播放" in drawn
    assert draw_strip({}, Translator("en")) == ""


def test_settings_in_short() -> None:
    settings = {"device": "auto", "placement": "istft-on-cpu", "istft": "fft", "dtype": "bfloat16"}
    report = {"vocoder": "v", "refine": 8, "settings": settings}
    assert in_short(report) == "v · refine 8 · placement istft-on-cpu · istft fft · bfloat16"
    assert in_short({"voice": "heart", "vocoder": None}) == "heart"


def test_names_carry_the_settings() -> None:
    report = {"vocoder": tts_infer.DEFAULT_VOCODER, "refine": 8, "settings": {"device": "auto", "dtype": "float32"}}
    assert named("english", report) == "english-refine8"
    chosen = {"placement": "istft=cpu/fft", "istft": "matmul", "dtype": "bfloat16"}
    other = report | {"vocoder": "mine (local)", "settings": chosen}
    assert named("english", other) == "english-mine-local-refine8-placement-istft-cpu-fft-istft-matmul-bfloat16"
    assert named("é" * 200, report) == f"{'é' * 116}-refine8"  # 240 bytes
    spoken = {"voice": "f5-tts/me.wav", "vocoder": None, "speed": 1.5}
    assert named("speech", spoken) == "speech-me.wav-speed1.5"
    assert named("speech", spoken | {"vocoder": tts_infer.DEFAULT_VOCODER, "speed": 1.0}).endswith("-vocos-mini-24khz")
    assert len(named("a", report | {"settings": {"placement": "backbone=cpu," * 20}})) < 60


@pytest.mark.parametrize(
    ("ms", "said"), [(0.44, "0.4 ms"), (999.9, "999.9 ms"), (2312.0, "2.31 s"), (29_912.0, "29.9 s")]
)
def test_times_have_the_unit_that_suits_them(ms: float, said: str) -> None:
    report = {"stages": [{"stage": "mel", "ms": ms}], "total_ms": ms, "least_ms": ms, "most_ms": ms}
    assert stage_line(report, Translator("en")) == f"1 run: mel {said}"
    several = f"5 runs: median {said} ({said} to {said}): mel {said}"
    assert stage_line(report | {"runs": 5}, Translator("en")) == several
