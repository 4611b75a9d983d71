"""The page at 390 px: nothing is cut off at its edges, on any tab, in English and in Chinese. And at 1440 px."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

import tts_infer
from tests.page import (  # noqa: F401  fixtures are used by name
    CLIP,
    PATIENCE_MS,
    collected_errors,
    open_tab,
    opened_page,
    quiet_browser,
    synthesize,
    upload,
    upload_files,
)
from tests.test_browser_phone import NARROW, unfold
from ui.texts import Translator

from playwright.sync_api import Page, expect  # isort: skip  tests.page skips without it

pytestmark = pytest.mark.slow
# Boxes that hide what does not fit into them, or have to be scrolled sideways; code and JSON may be.
_CUT_OFF = """() => {
    const hides = (e) => e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).overflowX !== 'visible';
    const free = '.cm-editor, .json-holder, input, textarea';
    const seen = (e) => e.checkVisibility() && e.clientWidth > 1 && !e.closest(free);
    const told = (e) => `${e.id || e.className} ${e.scrollWidth} > ${e.clientWidth}: ${e.innerText.slice(0, 60)}`;
    const cut = [...document.querySelectorAll('.gradio-container *')].filter((e) => hides(e) && seen(e)).map(told);
    const beyond = [...document.querySelectorAll('.tts-table :is(th, td), .tts-tiles *, .bar *, h1, h2, h3, p, li')]
        .filter((e) => e.checkVisibility() && e.getBoundingClientRect().right > innerWidth + 1)
        .filter((e) => !e.closest('thead')).map((e) => `beyond the edge: ${e.outerHTML.slice(0, 80)}`);
    const inside = (a, b) => Math.min(a.left - b.left, b.right - a.right, a.top - b.top, b.bottom - a.bottom) > -2;
    const astray = [...document.querySelectorAll('.tts-table :is(th, td)')].filter((e) => e.checkVisibility())
        .filter((e) => !inside(e.getBoundingClientRect(), e.closest('tr').getBoundingClientRect()))
        .filter((e) => !e.closest('thead')).map((e) => `outside of its row: ${e.outerHTML.slice(0, 80)}`);
    beyond.push(...astray);
    if (document.documentElement.scrollWidth > innerWidth) beyond.push('the page scrolls sideways');
    return [...cut, ...beyond];
}"""


def cut_off(page: Page) -> list[str]:
    """What does not fit into the window, or into a box."""
    unfold(page)
    page.wait_for_timeout(700)  # Gradio fades and unfolds for about half a second
    return sorted(set(page.evaluate(_CUT_OFF)))


@pytest.mark.parametrize("page", [NARROW, NARROW | {"locale": "zh-CN"}], ids=["English", "Chinese"], indirect=True)
def test_nothing_is_cut_off_on_any_tab(page: Page, tmp_path: Path) -> None:
    language: Any = "zh" if page.evaluate("navigator.language").startswith("zh") else "en"
    say = Translator(language)
    synthesize(page, CLIP)
    found = {"decode": cut_off(page)}
    open_tab(page, say("speak"))
    page.locator("#speak-text textarea").fill("Hello.")
    page.locator("button#speak").click()
    expect(page.locator("#speak-result-history li")).to_have_count(1, timeout=PATIENCE_MS)
    found["speak"] = cut_off(page)
    open_tab(page, say("compare"))
    upload(page, "#compare-audio", CLIP)
    expect(page.locator("#compare-audio")).to_contain_text(re.compile(r"\d:\d\d"), timeout=PATIENCE_MS)
    page.locator("button#compare").click()
    expect(page.locator("#comparison table")).to_be_visible(timeout=PATIENCE_MS)
    found["compare"] = cut_off(page)
    open_tab(page, say("batch"))
    tts_infer.write_audio(tmp_path / "a silent clip with a long name.wav", torch.zeros(24000), 24000)
    upload_files(page, "#batch-files", CLIP, *tmp_path.iterdir())
    page.locator("button#batch").click()
    said = say.note({"code": "silent-input", "text": "the input is silent (below -90 dBFS)", "fields": {"db": -90}})
    expect(page.locator("#batch-result table")).to_contain_text(said, timeout=PATIENCE_MS)
    found["batch"] = cut_off(page)
    open_tab(page, say("device"))
    expect(page.locator("#audit table")).to_be_visible(timeout=PATIENCE_MS)
    found["device"] = cut_off(page)
    open_tab(page, say("api"))
    found["api"] = cut_off(page)
    assert {where: what for where, what in found.items() if what} == {}


@pytest.mark.parametrize("page", [{"viewport": {"width": 1440, "height": 900}}], indirect=True)
def test_pictures_use_the_width_of_the_window(page: Page) -> None:
    synthesize(page, CLIP)
    for panel in ("wave", "input", "output", "difference"):
        box = page.locator(f"#result [data-panel={panel}] canvas").bounding_box()
        assert box and box["width"] > 0.9 * 1440
