"""The Compare tab as visitors meet it: something to compare is there at once."""

from __future__ import annotations

import pytest

from tests.page import PATIENCE_MS, figures, open_tab, quiet_browser  # noqa: F401  fixtures are used by name
from tests.test_first_screen import new_visitor, with_example  # noqa: F401  fixtures, too

from playwright.sync_api import Page, expect  # isort: skip  tests.page skips without it


@pytest.mark.slow
def test_compare_begins_with_a_difference_that_can_be_heard(visitor: Page) -> None:
    expect(figures(visitor)).to_be_visible(timeout=PATIENCE_MS)
    open_tab(visitor, "Compare")
    expect(visitor.locator("#compare-audio")).to_contain_text("0:03", timeout=PATIENCE_MS)
    expect(visitor.locator("#comparison table")).to_be_visible(timeout=PATIENCE_MS)
    names = visitor.locator("#samples [data-sound]").all_inner_texts()
    assert [" ".join(name.split()) for name in names] == ["Original O", "refine 0 1", "refine 16 2"]  # with their keys
    visitor.wait_for_function("document.querySelector('#samples .tts-scope').dataset.ready")
    made = visitor.locator("#samples .tts-scope").get_attribute("data-ready")
    open_tab(visitor, "Decode")
    open_tab(visitor, "Compare")  # only the first time
    visitor.wait_for_timeout(1000)
    assert visitor.locator("#samples .tts-scope").get_attribute("data-ready") == made
    expect(visitor.locator("#status .tts-status")).to_be_hidden()
