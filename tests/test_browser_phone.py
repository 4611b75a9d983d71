"""The page under a finger: on a phone, everything that can be pressed is 44 px wide and high, on every tab."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.page import (  # noqa: F401  fixtures are used by name
    CLIP,
    PATIENCE_MS,
    collected_errors,
    open_tab,
    opened_page,
    quiet_browser,
    small_targets,
    synthesize,
    upload,
    upload_files,
)

from playwright.sync_api import Page, expect  # isort: skip  tests.page skips without it

NARROW: dict[str, Any] = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2, "has_touch": True}
pytestmark = pytest.mark.slow


def unfold(page: Page) -> None:
    """Open every part that is folded."""
    page.evaluate("document.querySelectorAll('button.label-wrap:not(.open)').forEach((one) => one.click())")
    page.evaluate("document.querySelectorAll('details').forEach((one) => (one.open = true))")


def small_on_decode(page: Page, folder: Path) -> dict[str, list[str]]:
    found = {"empty": small_targets(page)}
    synthesize(page, CLIP)
    unfold(page)
    found["Decode"] = small_targets(page)
    picture = page.locator("#result [data-panel=output] canvas")
    picture.evaluate("canvas => canvas.scrollIntoView({ block: 'center', behavior: 'instant' })")
    box = picture.bounding_box()
    assert box
    page.mouse.move(box["x"] + 100, box["y"] + 10)
    page.mouse.down()
    page.mouse.move(box["x"] + 200, box["y"] + 12)
    page.mouse.up()
    expect(page.locator("#result [data-do=zoom]")).to_be_visible()
    found["selected"] = small_targets(page)
    page.locator("#placement input").click()
    found["options"] = small_targets(page)
    page.keyboard.press("Escape")
    np.save(folder / "mel.npy", np.full((100, 40), -5.0, np.float32))
    open_tab(page, "Mel file")
    found["no mel"] = small_targets(page)
    upload_files(page, "#input-mel", folder / "mel.npy")
    found["Mel file"] = small_targets(page)
    return found


def small_on_compare(page: Page) -> dict[str, list[str]]:
    open_tab(page, "Compare")
    upload(page, "#compare-audio", CLIP)
    expect(page.locator("#compare-audio")).to_contain_text(re.compile(r"\d:\d\d"), timeout=PATIENCE_MS)
    page.locator("#compare-blind input").check()
    page.locator("button#compare").click()
    expect(page.locator("#compare-reveal")).to_be_visible(timeout=PATIENCE_MS)
    unfold(page)
    found = {"Compare": small_targets(page)}
    for kind in ("ABX", "MUSHRA"):
        page.get_by_role("radio", name=kind).check()
        page.locator("button#listening-start").click()
        expect(page.locator("#listening")).to_contain_text("Trial 1 of 10", timeout=PATIENCE_MS)
        found[kind] = small_targets(page)
        page.locator("#listening [data-stop]").click()
    return found


@pytest.mark.parametrize("page", [NARROW], indirect=True)
def test_fingers_find_everything_on_every_tab(page: Page, tmp_path: Path) -> None:
    found = small_on_decode(page, tmp_path)
    open_tab(page, "Speak")
    page.locator("#speak-text textarea").fill("Hello.")
    page.locator("button#speak").click()
    expect(page.locator("#speak-result-history li")).to_have_count(1, timeout=PATIENCE_MS)
    unfold(page)
    found["Speak"] = small_targets(page)
    found |= small_on_compare(page)
    open_tab(page, "Batch")
    found["no files"] = small_targets(page)
    upload_files(page, "#batch-files", CLIP)
    page.locator("button#batch").click()
    expect(page.locator("#batch-result table")).to_be_visible(timeout=PATIENCE_MS)
    unfold(page)
    found["Batch"] = small_targets(page)
    open_tab(page, "Device")
    expect(page.locator("#audit table")).to_be_visible(timeout=PATIENCE_MS)
    unfold(page)
    found["Device"] = small_targets(page)
    open_tab(page, "API")
    found["API"] = small_targets(page)
    assert {where: what for where, what in found.items() if what} == {}
