"""Take pictures of the real page: the README's, or with --all every screen. Needs Chromium.

python -m tests.screenshots docs
python -m tests.screenshots --all FOLDER
"""

from __future__ import annotations

import argparse
import re
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, expect, sync_playwright

import app
from tests.page import (
    CHROMIUM,
    CLIP,
    DESKTOP,
    PATIENCE_MS,
    PHONE,
    QUIET,
    figures,
    message,
    open_tab,
    upload,
    upload_files,
)
from tests.test_listen import tiled
from ui.texts import Translator

DARK: dict[str, Any] = {"color_scheme": "dark"}
CHINESE: dict[str, Any] = {"locale": "zh-CN"}
STYLES = {
    "light": DESKTOP,
    "dark": DESKTOP | DARK,
    "phone": PHONE,
    "phone-dark": PHONE | DARK,
    "chinese": DESKTOP | CHINESE,
    "phone-chinese": PHONE | CHINESE,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--all", action="store_true", help="every tab, light and dark, wide and narrow, in English and Chinese"
    )
    parser.add_argument("--styles", nargs="+", choices=STYLES, default=list(STYLES), help="with --all: only these")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    demo = app.build_demo()
    demo.launch(prevent_thread_lock=True, quiet=True, **app.launch_options())
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
            page = opened(browser, str(demo.local_url), DESKTOP)
            page.wait_for_timeout(700)
            page.screenshot(path=args.folder / "screenshot.png", full_page=True)
            if args.all:
                take_all(browser, str(demo.local_url), args.folder, args.styles)
            browser.close()
    finally:
        demo.close()


def take_all(browser: Browser, url: str, folder: Path, styles: list[str]) -> None:
    for style in styles:
        options = STYLES[style]
        say = Translator("zh" if "locale" in options else "en")
        with tempfile.TemporaryDirectory() as temporary:
            broken = Path(temporary) / "broken.wav"
            broken.write_bytes(b"no sound")
            page = opened(browser, url, options)
            take_tabs(page, say, broken, folder / style)
            page.reload()
            expect(figures(page)).to_be_visible(timeout=PATIENCE_MS)
            listen_and_fail(page, tiled(Path(temporary) / "long.wav", 120), broken, folder / style)
            page.context.close()


def take_tabs(page: Page, say: Translator, broken: Path, stem: Path) -> None:
    """Every tab, with something in it."""
    save(page, stem, "start")
    page.locator("#settings").get_by_role("button").first.click()
    page.locator("#preset").get_by_text(say("best")).click()
    expect(page.locator("#result-history li")).to_have_count(2, timeout=PATIENCE_MS)
    save(page, stem, "decode")
    open_tab(page, say("mel-file"))
    save(page, stem, "mel")
    open_tab(page, say("speak"))
    save(page, stem, "speak-start")
    page.locator("button#speak").click()
    expect(page.locator("#speak-result-history li")).to_have_count(1, timeout=PATIENCE_MS)
    save(page, stem, "speak")
    open_tab(page, say("compare"))  # the example is compared
    expect(page.locator("#comparison table")).to_be_visible(timeout=PATIENCE_MS)
    save(page, stem, "compare")
    page.locator("#listening-panel").get_by_role("button").first.click()
    page.locator("button#listening-start").click()
    expect(page.locator("#listening [data-answer]").first).to_be_visible(timeout=PATIENCE_MS)
    save(page, stem, "listening")
    open_tab(page, say("batch"))
    page.locator("#batch-settings").get_by_role("button").first.click()
    upload_files(page, "#batch-files", CLIP, broken)
    page.locator("button#batch").click()
    expect(page.locator("#batch-result table")).to_be_visible(timeout=PATIENCE_MS)
    save(page, stem, "batch")
    open_tab(page, say("device"))
    expect(page.locator("#audit table")).to_be_visible(timeout=PATIENCE_MS)
    save(page, stem, "device")
    open_tab(page, say("api"))
    save(page, stem, "api")


def listen_and_fail(page: Page, long: Path, broken: Path, stem: Path) -> None:
    """The player while it plays, and a message."""
    give(page, long)
    expect(page.locator("#input-audio")).to_contain_text("2:00", timeout=PATIENCE_MS)
    page.locator("#listen").click()
    expect(page.locator("#result [data-clock]")).to_contain_text("0:01", timeout=PATIENCE_MS)
    page.screenshot(path=f"{stem}-listening.png")
    expect(figures(page)).to_be_visible(timeout=3 * PATIENCE_MS)
    save(page, stem, "listened")
    page.reload()
    expect(figures(page)).to_be_visible(timeout=PATIENCE_MS)
    give(page, broken)
    page.locator("#synthesize").click()
    expect(message(page, "broken.wav")).to_be_visible(timeout=PATIENCE_MS)
    save(page, stem, "error")


def give(page: Page, file: Path) -> None:
    """In place of the example."""
    page.locator("#input-audio").get_by_role("button", name=re.compile("clear|remove|清除", re.I)).click()
    upload(page, "#input-audio", file)


def opened(browser: Browser, url: str, options: dict[str, Any]) -> Page:
    page = browser.new_context(**options).new_page()
    page.goto(url)
    expect(figures(page)).to_be_visible(timeout=PATIENCE_MS)  # of the example
    return page


def save(page: Page, stem: Path, screen: str) -> None:
    page.wait_for_timeout(700)  # Gradio fades and unfolds for about half a second
    path = f"{stem}-{screen}.png"
    page.screenshot(path=path, full_page=True)
    print(path)


if __name__ == "__main__":
    main()
