"""Take pictures of the real page: the README's, or with --all every screen. Needs Chromium.

python -m tests.screenshots docs
python -m tests.screenshots --all FOLDER
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, expect, sync_playwright

import app
from tests.page import CHROMIUM, CLIP, DESKTOP, PATIENCE_MS, PHONE, QUIET, choose, message, open_tab, synthesize, upload
from tests.test_listen import tiled

DARK: dict[str, Any] = {"color_scheme": "dark"}
STYLES = {"light": DESKTOP, "dark": DESKTOP | DARK, "phone": PHONE, "phone-dark": PHONE | DARK}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--all", action="store_true", help="every tab, light and dark, at desktop and phone width")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    demo = app.build_demo()
    demo.launch(prevent_thread_lock=True, quiet=True, **app.launch_options())
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
            page = opened(browser, str(demo.local_url), DESKTOP)
            synthesize(page, CLIP)
            save(page, args.folder / "screenshot.png")
            if args.all:
                take_all(browser, str(demo.local_url), args.folder)
            browser.close()
    finally:
        demo.close()


def take_all(browser: Browser, url: str, folder: Path) -> None:
    for style, options in STYLES.items():
        page = opened(browser, url, options)
        save(page, folder / f"{style}-start.png")
        page.locator("#settings").get_by_role("button").first.click()
        choose(page, "#refine", "8")
        synthesize(page, CLIP)
        save(page, folder / f"{style}-decode.png")
        open_tab(page, "Compare")
        upload(page, "#compare-audio", CLIP)
        expect(page.locator("#compare-audio")).to_contain_text("0:03")
        choose(page, "#compare-refine", "2")
        page.keyboard.press("Escape")
        page.locator("button#compare").click()
        expect(page.locator("#comparison table")).to_be_visible(timeout=PATIENCE_MS)
        save(page, folder / f"{style}-compare.png")
        with tempfile.TemporaryDirectory() as temporary:
            broken = Path(temporary) / "broken.wav"
            broken.write_bytes(b"no sound")
            open_tab(page, "Batch")
            page.locator("#batch-files input[type=file]").set_input_files([CLIP, broken])
            page.locator("button#batch").click()
            expect(page.locator("#batch-result table")).to_be_visible(timeout=PATIENCE_MS)
            save(page, folder / f"{style}-batch.png")
            open_tab(page, "Device")
            expect(page.locator("#audit table")).to_be_visible(timeout=PATIENCE_MS)
            save(page, folder / f"{style}-device.png")
            open_tab(page, "API")
            save(page, folder / f"{style}-api.png")
            open_tab(page, "Decode")
            clear = page.locator("#input-audio").get_by_role("button", name="Clear")
            clear.click()
            upload(page, "#input-audio", tiled(Path(temporary) / "long.wav", 120))
            expect(page.locator("#input-audio")).to_contain_text("2:00", timeout=PATIENCE_MS)
            page.locator("#listen").click()
            expect(page.locator("#player")).to_contain_text("0:01", timeout=PATIENCE_MS)
            page.screenshot(path=folder / f"{style}-listening.png")
            expect(page.locator("#result table")).to_be_visible(timeout=3 * PATIENCE_MS)
            save(page, folder / f"{style}-listened.png")
            clear.click()
            upload(page, "#input-audio", broken)
            page.locator("#synthesize").click()
            expect(message(page, "broken.wav")).to_be_visible(timeout=PATIENCE_MS)
            save(page, folder / f"{style}-error.png")
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
