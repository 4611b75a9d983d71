"""Take pictures of the real page: `python -m tests.screenshots FOLDER`. Needs Chromium."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, expect, sync_playwright

import app
from tests.test_browser import CHROMIUM, CLIP, PATIENCE_MS, QUIET, message, synthesize, upload

DESKTOP: dict[str, Any] = {"viewport": {"width": 1280, "height": 800}}
PHONE: dict[str, Any] = {"viewport": {"width": 375, "height": 800}, "device_scale_factor": 2}
DARK: dict[str, Any] = {"color_scheme": "dark"}


def main() -> None:
    """Take every picture, or only the one for the README."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    demo = app.build_demo()
    demo.launch(prevent_thread_lock=True, quiet=True, **app.launch_options())
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
            take_all(browser, str(demo.local_url), folder)
            browser.close()
    finally:
        demo.close()


def take_all(browser: Browser, url: str, folder: Path) -> None:
    for name, options in (("light", DESKTOP), ("dark", DESKTOP | DARK), ("phone", PHONE), ("phone-dark", PHONE | DARK)):
        page = opened(browser, url, options)
        save(page, folder / f"{name}-start.png")
        synthesize(page, CLIP)
        save(page, folder / f"{name}-result.png")
        page.locator("#settings").get_by_role("button").first.click()
        save(page, folder / f"{name}-settings.png")
        page.context.close()
    page = opened(browser, url, DESKTOP)
    with tempfile.TemporaryDirectory() as temporary:
        broken = Path(temporary) / "broken.wav"
        broken.write_bytes(b"no sound")
        upload(page, "#input-audio", broken)
        page.locator("#synthesize").click()
        expect(message(page, "broken.wav")).to_be_visible(timeout=PATIENCE_MS)
        save(page, folder / "light-error.png")
    page.context.close()


def opened(browser: Browser, url: str, options: dict[str, Any]) -> Page:
    page = browser.new_context(**options).new_page()
    page.goto(url)
    expect(page.locator("#synthesize")).to_be_visible(timeout=PATIENCE_MS)
    return page


def save(page: Page, path: Path) -> None:
    page.wait_for_timeout(700)  # Gradio fades and unfolds for about half a second
    page.screenshot(path=path, full_page=True)
    print(path)


if __name__ == "__main__":
    main()
