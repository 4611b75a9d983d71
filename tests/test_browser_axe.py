"""Accessibility, as axe-core judges it: no serious fault on any tab, with results, light and dark, wide and narrow."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.page import (  # noqa: F401  fixtures are used by name
    CLIP,
    DESKTOP,
    PATIENCE_MS,
    PHONE,
    collected_errors,
    figures,
    open_tab,
    opened_page,
    quiet_browser,
    synthesize,
    upload,
    upload_files,
)

from playwright.sync_api import Page, expect  # isort: skip  tests.page skips without it

AXE = ROOT / "node_modules" / "axe-core" / "axe.min.js"  # see package.json; .ci/run installs it
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not AXE.exists(), reason="axe-core is not in node_modules: npm install, see package.json"),
]
DARK: dict[str, Any] = DESKTOP | {"color_scheme": "dark"}
STYLES = [pytest.param(style, id=id) for id, style in (("light", DESKTOP), ("dark", DARK), ("phone", PHONE))]


def faults(page: Page) -> list[str]:
    """Serious and critical faults of what is shown: rule, element, and what axe says of it."""
    page.wait_for_timeout(700)  # Gradio fades and unfolds for about half a second
    if not page.evaluate("Boolean(window.axe)"):
        page.add_script_tag(path=AXE)
    found = page.evaluate("axe.run({ resultTypes: ['violations'] })")
    return [
        f"{rule['id']}: {node['html'][:160]} | {' '.join(node['failureSummary'].split())[:300]}"
        for rule in found["violations"]
        if rule["impact"] in ("serious", "critical")
        for node in rule["nodes"]
    ]


@pytest.mark.parametrize("page", STYLES, indirect=True)
def test_no_serious_fault_on_any_tab(page: Page) -> None:
    found = {"start": faults(page)}
    synthesize(page, CLIP)
    page.locator("#settings").get_by_role("button").first.click()
    found["Decode"] = faults(page)
    for name in ("Speak", "Compare", "Batch", "Device", "API"):
        open_tab(page, name)
        if name == "Compare":
            upload(page, "#compare-audio", CLIP)
            expect(page.locator("#compare-audio")).to_contain_text(re.compile(r"\d:\d\d"), timeout=PATIENCE_MS)
            page.locator("button#compare").click()
            expect(page.locator("#comparison table")).to_be_visible(timeout=PATIENCE_MS)
            page.locator("#listening-panel").get_by_role("button").first.click()
            page.get_by_role("radio", name="MUSHRA").check()
            page.locator("button#listening-start").click()
            expect(page.locator("#listening")).to_contain_text("Trial 1 of 10", timeout=PATIENCE_MS)
            found["Listening test"] = faults(page)
            page.locator("#listening [data-stop]").click()
        if name == "Batch":
            upload_files(page, "#batch-files", CLIP)
            page.locator("button#batch").click()
            expect(page.locator("#batch-result table")).to_be_visible(timeout=PATIENCE_MS)
        if name == "Device":
            expect(page.locator("#audit table")).to_be_visible(timeout=PATIENCE_MS)
        found[name] = faults(page)
    assert {where: what for where, what in found.items() if what} == {}
