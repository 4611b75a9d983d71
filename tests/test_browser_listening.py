"""The listening tests in a real browser: what is heard, what is answered, and what the page makes of it."""

from __future__ import annotations

import re
from pathlib import Path

import gradio as gr
import numpy as np
import pytest

import tts_infer
from tests.page import (  # noqa: F401  fixtures are used by name
    CLIP,
    PATIENCE_MS,
    collected_errors,
    message,
    open_tab,
    opened_page,
    quiet_browser,
    upload,
)
from tests.test_browser_sound import CLOSE, EAR, aligned, outside, recorded
from tests.test_listen import tiled
from tts_infer.evaluation import AbxTrial, MushraScore, abx_result, mushra_result, read_listening_csv
from ui.compare import compare, names_of
from ui.listening import MOST_ROWS, prepared, scored
from ui.texts import Translator

from playwright.sync_api import Page, expect  # isort: skip  tests.page skips without it


@pytest.fixture(scope="module")
def scene(demo: gr.Blocks) -> tuple[str, list[str]]:
    """A comparison without a browser, and the names of its sounds."""
    comparison = compare(str(CLIP), ["vocos-mini-24khz"], ["auto"], ["fft"], ["float32"], refine=["0", "16"])[-1]
    return comparison.scene, names_of(comparison, Translator("en"))


def levels(value: dict[str, object]) -> list[tuple[str, int, float]]:
    """Name, length and level of the sounds of a test."""
    sounds: list[dict[str, object]] = value["sounds"]  # type: ignore[assignment]
    clips = [(str(one["name"]), tts_infer.read_audio(one["file"]["path"]).samples) for one in sounds]  # type: ignore[index]
    return [(name, len(samples), float(np.sqrt(np.mean(samples**2)))) for name, samples in clips]


def test_what_is_played_has_one_level_and_one_length(scene: tuple[str, list[str]]) -> None:
    for kind, names in (
        ("abx", ["refine 0", "refine 16"]),
        ("mushra", ["reference", "anchor", "refine 0", "refine 16"]),
    ):
        value = prepared(*scene, kind, 1, 2, 10)  # type: ignore[arg-type]
        found = levels(value)
        assert [name for name, _, _ in found] == names
        assert len({length for _, length, _ in found}) == 1
        assert [level for _, _, level in found] == pytest.approx([found[0][2]] * len(found), rel=1e-3)  # of 16 bits
        assert value["clip"] == "english"


@pytest.mark.parametrize(
    ("kind", "one", "other", "trials"),
    [("abx", 1, 1, 10), ("abx", 1, 7, 10), ("abx", None, 1, 10), ("abx", 1, 2, 0), ("abx", 1, 2, 2.5), ("ab", 1, 2, 5)],
)
def test_wrong_choices_are_explained(
    scene: tuple[str, list[str]], kind: str, one: int | None, other: int, trials: float
) -> None:
    with pytest.raises(tts_infer.InputError, match="needs two different sounds, and 1 to 100 trials"):
        prepared(*scene, kind, one, other, trials)  # type: ignore[arg-type]


def test_too_many_answers_and_hostile_names() -> None:
    say = Translator("en")
    row = {"clip": "c", "trial": 1, "system": "<b onload=x>", "score": 50}
    found = scored("mushra", [row], say)
    assert "<b onload" not in found["html"] and "&lt;b onload=x&gt;" in found["html"]
    with pytest.raises(tts_infer.InputError, match="2001 answers"):
        scored("mushra", [row] * (MOST_ROWS + 1), say)


def start(page: Page, folder: Path, kind: str, trials: int) -> None:
    """Compare a short clip, and start a test."""
    page.evaluate(EAR)
    open_tab(page, "Compare")
    upload(page, "#compare-audio", tiled(folder / "short.wav", 1.2))
    expect(page.locator("#compare-audio")).to_contain_text("0:01", timeout=PATIENCE_MS)
    page.locator("button#compare").click()
    expect(page.locator("#comparison table")).to_be_visible(timeout=PATIENCE_MS)
    page.locator("#listening-panel").get_by_role("button").first.click()
    page.get_by_role("radio", name=kind).check()
    page.locator("#listening-trials input[type=number]").fill(str(trials))
    page.locator("#listening-trials input[type=number]").press("Tab")
    page.locator("button#listening-start").click()
    expect(page.locator("#listening")).to_contain_text(f"Trial 1 of {trials}", timeout=PATIENCE_MS)
    expect(page.locator("#samples")).to_be_hidden()  # its names would tell


def played(page: Page) -> list[np.ndarray]:
    """The sounds of the test, as the browser fetched them."""
    urls = page.evaluate("performance.getEntriesByType('resource').map((one) => one.name)")
    wavs = sorted({url for url in urls if re.search(r"/\d\.wav$", url)}, key=lambda url: url[-5])
    return [np.frombuffer(page.request.get(url).body()[44:], "<i2").astype(np.float32) / 32768 for url in wavs]


def downloaded(page: Page) -> str:
    with page.expect_download() as download:
        page.locator("#listening [data-csv]").click()
    return Path(download.value.path()).read_text()


@pytest.mark.slow
@pytest.mark.alone
def test_ears_tell_x_and_hear_no_step(page: Page, tmp_path: Path) -> None:
    start(page, tmp_path, "ABX", 2)
    first, second = played(page)
    for trial in (1, 2):
        expect(page.locator("#listening [data-answer=a]")).to_be_disabled()
        page.evaluate("heard.length = 0")
        for key in "abx":
            page.keyboard.press(key)
            page.wait_for_timeout(400)
        page.wait_for_timeout(2200)
        heard = aligned(recorded(page), first)
        loops = [np.tile(sound, 1 + len(heard) // len(sound)) for sound in (first, second)]
        assert outside(heard, loops).max() < CLOSE  # no gap, no step, never both, also where it repeats
        last = slice(len(heard) - 24000, len(heard))  # X has sounded for two seconds
        distances = [np.abs(heard[last] - loop[: len(heard)][last]).mean() for loop in loops]
        assert min(distances) < CLOSE < max(distances)
        page.locator(f"#listening [data-answer={'ab'[int(np.argmin(distances))]}]").click()
        if trial == 1:
            expect(page.locator("#listening")).to_contain_text("Trial 2 of 2")
    result = page.locator("#listening [data-result]")
    expect(result).to_contain_text("2 of 2 right, p = 0.25", timeout=PATIENCE_MS)
    expect(page.locator("#samples")).to_be_visible()
    rows = read_listening_csv(downloaded(page), AbxTrial)
    assert [(row.clip, row.trial, row.a, row.b) for row in rows] == [
        ("short", trial, "refine 0", "refine 16") for trial in (1, 2)
    ]
    found = abx_result(rows)
    assert (found.correct, found.trials, found.p_value) == (2, 2, 0.25)


@pytest.mark.slow
def test_mushra_scores_are_those_of_the_csv(page: Page, tmp_path: Path) -> None:
    start(page, tmp_path, "MUSHRA", 3)
    given = []
    for trial in (1, 2, 3):
        expect(page.locator("#listening")).to_contain_text(f"Trial {trial} of 3")
        for i, line in enumerate(page.locator("#listening .scale").all()):
            expect(page.locator("#listening [data-next]")).to_be_disabled()
            line.get_by_role("button").click()
            line.locator("input").fill(str(20 * i + trial))
            given.append((trial, 20.0 * i + trial))
        page.locator("#listening [data-next]").click()
    expect(page.locator("#listening [data-result] table")).to_be_visible(timeout=PATIENCE_MS)
    rows = read_listening_csv(downloaded(page), MushraScore)
    assert sorted((row.trial, row.score) for row in rows) == given
    systems = ["reference", "anchor", "refine 0", "refine 16"]
    assert [row.system for row in rows] == systems * 3
    shown = {
        line.locator("th").inner_text(): [cell.inner_text() for cell in line.locator("td").all()]
        for line in page.locator("#listening tbody tr").all()
    }
    titles = ["Reference", "Low-pass anchor, 3.5 kHz", "refine 0", "refine 16"]
    for system, title in zip(systems, titles, strict=True):
        found = mushra_result(rows).scores[system]
        assert found.low is not None and found.high is not None
        assert shown[title][:3] == [f"{found.mean:.1f}", f"{found.low:.1f} – {found.high:.1f}", "3"]


@pytest.mark.slow
def test_a_test_can_be_stopped_and_a_wrong_one_is_explained(page: Page, tmp_path: Path) -> None:
    start(page, tmp_path, "ABX", 5)
    page.locator("#listening [data-stop]").click()
    expect(page.locator("#listening [data-answer]")).to_have_count(0)
    expect(page.locator("#samples")).to_be_visible()
    page.locator("#listening-b input").click()
    page.get_by_role("option", name="refine 0", exact=True).click()
    page.locator("button#listening-start").click()
    expect(message(page, "two different sounds")).to_be_visible(timeout=PATIENCE_MS)
