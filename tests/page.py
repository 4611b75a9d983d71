"""What the browser tests share: the page, served and opened, and hands to use it with."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import gradio as gr
import numpy as np
import pytest
import soundfile

import app

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
if CHROMIUM is None and not os.environ.get("CI"):
    pytest.skip("no Chromium on this machine", allow_module_level=True)

from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright  # noqa: E402

CLIP = Path(app.__file__).parent / "examples" / "english.wav"
# A browser that phones home would hide a page that does.
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-sync",
    "--no-first-run",
]
# Loading the page and the vocoder on a busy 2-core machine takes seconds, not milliseconds.
PATIENCE_MS = 60_000
DESKTOP: dict[str, Any] = {"viewport": {"width": 1280, "height": 900}}
PHONE: dict[str, Any] = {"viewport": {"width": 375, "height": 800}, "device_scale_factor": 2, "has_touch": True}


@pytest.fixture(scope="module", name="browser")
def quiet_browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture(name="console_errors")
def collected_errors() -> list[str]:
    """What the browser's console calls an error; a test that provokes one takes it off this list."""
    return []


@pytest.fixture(name="page")
def opened_page(
    demo: gr.Blocks, browser: Browser, console_errors: list[str], request: pytest.FixtureRequest
) -> Iterator[Page]:
    """The page, freshly opened; afterwards: no request left this machine, and the console holds no error.

    A test may ask for another browser context: `@pytest.mark.parametrize("page", [PHONE], indirect=True)`.
    """
    assert demo.local_url
    context = browser.new_context(**(DESKTOP | getattr(request, "param", {})))
    requests: list[str] = []
    context.on("request", lambda request: requests.append(request.url))
    context.on("console", lambda message: console_errors.append(message.text) if message.type == "error" else None)
    context.on("weberror", lambda error: console_errors.append(str(error.error)))
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.goto(demo.local_url)
    expect(page.locator("#synthesize")).to_be_visible(timeout=PATIENCE_MS)
    yield page
    context.cookies()  # what the console has said comes before this answer
    said = list(console_errors)
    context.close()  # this ends the requests of the page, which it then calls errors
    hosts = {urlsplit(url).netloc for url in requests if urlsplit(url).scheme not in ("data", "blob")}
    assert hosts == {urlsplit(demo.local_url).netloc}
    assert said == []


def upload(page: Page, where: str, file: Path) -> None:
    page.locator(f"{where} input[type=file]").set_input_files(file)


def upload_files(page: Page, where: str, *files: Path) -> None:
    """Put files into a list of files and wait until the server has them.

    A list names a file while it is still on its way, as one word; after that as two words, "mel" and ".npy".
    """
    page.locator(f"{where} input[type=file]").set_input_files(files)
    for file in files:
        expect_file(page, where, file.name)


def expect_file(page: Page, where: str, name: str) -> None:
    """The server has a file of this name: the list links to it."""
    expect(page.locator(f"{where} a[download='{name}']")).to_be_visible(timeout=PATIENCE_MS)


def message(page: Page, text: str) -> Locator:
    """The error beside an input that says `text`."""
    return page.get_by_role("alert").filter(has_text=text)


def synthesize(page: Page, file: Path) -> None:
    upload(page, "#input-audio", file)
    expect(page.locator("#input-audio")).to_contain_text(re.compile(r"\d:\d\d"), timeout=PATIENCE_MS)
    page.locator("#synthesize").click()
    expect(figures(page)).to_be_visible(timeout=PATIENCE_MS)


def figures(page: Page) -> Locator:
    """The main figures of a result."""
    return page.locator("#result .tts-tiles")


def choose(page: Page, where: str, option: str) -> None:
    """Click an option of a dropdown; one that takes several gets one more."""
    page.locator(f"{where} input").click()
    page.get_by_role("option", name=option, exact=True).click()


def open_tab(page: Page, name: str) -> None:
    page.get_by_role("tab", name=name, exact=True).first.click()


def downloaded(page: Page, folder: Path) -> np.ndarray:
    with page.expect_download() as download:
        page.locator("#result [data-save]").click()
    download.value.save_as(folder / "download.wav")
    samples, _ = soundfile.read(folder / "download.wav", dtype="int16")
    return samples


# What a finger meets: of a box, a dot or a choice it is the label or the whole field. Gradio has copies that are 1 px.
_SMALL = """() => {
    const seen = (e) => e.checkVisibility({ opacityProperty: true, visibilityProperty: true });
    const field = (e) => (e.matches('[type=checkbox], [type=radio]') ? e.closest('label')
        : e.matches('input') && e.closest('.wrap:has(> .wrap-inner)')) || e;
    const all = 'a[href], button, summary, textarea, select, input:not([type=file])'
        + ', [role=tab], [role=option], [role=button]';
    return [...document.querySelectorAll(all)].filter(seen).map(field)
        .map((e) => [e, e.getBoundingClientRect()])
        .filter(([, box]) => box.width > 1 && box.height > 1 && Math.min(box.width, box.height) < 43.5)
        .map(([e, box]) => [
            e.closest('[id]')?.id, e.outerHTML.replace(/<svg.*?<\\/svg>/gs, '').slice(0, 110),
            e.ariaLabel ?? e.innerText.trim(), `${box.width.toFixed(0)} x ${box.height.toFixed(0)}`,
        ].join(' | '));
}"""


def small_targets(page: Page) -> list[str]:
    """What can be pressed, moved or filled in, is in sight, and has less than 44 px for a finger."""
    page.wait_for_timeout(700)  # Gradio fades and unfolds for about half a second
    return sorted(set(page.evaluate(_SMALL)))
