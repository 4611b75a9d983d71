"""What a visitor meets first: an example decoded, presets, the card of the vocoder, settings in the link and kept."""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import gradio as gr
import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

import app
import tts_infer
from tests.page import (  # noqa: F401  fixtures are used by name
    CLIP,
    DESKTOP,
    PATIENCE_MS,
    choose,
    collected_errors,
    expect_file,
    figures,
    message,
    open_tab,
    opened_page,
    quiet_browser,
    small_targets,
    synthesize,
)
from tts_infer.runtime.selftest import Size
from ui.card import draw_card
from ui.remember import usable
from ui.session import offered
from ui.settings import advise, show_vocoder
from ui.texts import Translator
from ui.work import PIECE_S, Desk

from playwright.sync_api import Browser, Page, expect  # isort: skip  tests.page skips without it

READY = "document.querySelector('#result .tts-scope').dataset.ready"
EMBEDDED = Path(tts_infer.__file__).parent / "assets" / "vocos-mini-24khz"


@pytest.fixture(autouse=True)
def _patience() -> Iterator[None]:
    expect.set_options(timeout=PATIENCE_MS)
    yield
    expect.set_options(timeout=5000)


@pytest.fixture(name="first", scope="module")
def with_example() -> Iterator[str]:
    """The page as visitors open it."""
    demo = app.build_demo()
    demo.launch(prevent_thread_lock=True, quiet=True, **app.launch_options())
    yield str(demo.local_url)
    demo.close()


@pytest.fixture(name="visitor")
def new_visitor(first: str, browser: Browser) -> Iterator[Page]:
    context = browser.new_context(**DESKTOP)
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(first)
    yield page
    context.close()
    assert errors == []


def saved_as(page: Page) -> Any:
    """The name under which the result can be saved, once it is there."""
    page.wait_for_function(READY)
    return page.locator("#result [data-save]").get_attribute("download")


def await_name(page: Page, name: str) -> None:
    expect(page.locator("#result [data-save]")).to_have_attribute("download", name)


def test_an_example_is_decoded_and_can_be_heard(visitor: Page) -> None:
    expect(visitor.get_by_role("heading", name="Hear what a vocoder does to speech")).to_be_visible()
    expect(figures(visitor)).to_be_visible()
    assert saved_as(visitor) == "english-refine16.wav"
    expect(visitor.locator("#result [data-play]")).to_have_text("Play")  # nobody is startled
    visitor.locator("#result [data-play]").click()
    expect(visitor.locator("#result [data-play]")).to_have_text("Pause")
    assert visitor.locator("button.primary:visible").all_inner_texts() == ["Decode"]
    visitor.locator("#to-speak").click()
    expect(visitor.locator("button#speak")).to_be_visible()


def test_presets_are_passes_and_run_at_once(visitor: Page) -> None:
    preset = visitor.locator("#preset")
    expect(preset.get_by_label("Balanced")).to_be_checked()
    for name, passes in (("Fast", 0), ("Best", 24)):
        preset.get_by_text(name).click()
        await_name(visitor, f"english-refine{passes}.wav")
    visitor.keyboard.press("o")  # keys switch sounds although the preset has the focus
    expect(visitor.locator("#result [data-sound='0']")).to_have_attribute("aria-pressed", "true")
    visitor.locator("#settings").get_by_role("button").first.click()
    choose(visitor, "#refine", "2")
    await_name(visitor, "english-refine2.wav")
    expect(preset.locator("input:checked")).to_have_count(0)


@pytest.mark.slow
def test_settings_are_in_the_link_and_come_back(visitor: Page, first: str, browser: Browser) -> None:
    await_name(visitor, "english-refine16.wav")
    visitor.locator("#preset").get_by_text("Best").click()
    await_name(visitor, "english-refine24.wav")
    link = f"{first}?refine=24"
    expect(visitor).to_have_url(link)
    visitor.goto(first)  # the same visitor, without a link
    await_name(visitor, "english-refine24.wav")
    other = browser.new_context(**DESKTOP).new_page()
    other.goto(f"{first}?__theme=light&refine=0&istft=matmul")
    await_name(other, "english-refine0-istft-matmul.wav")
    expect(other.locator("#result tr", has_text="istft")).to_contain_text("matmul")
    expect(other.locator("#preset").get_by_label("Fast")).to_be_checked()
    other.locator("#preset").get_by_text("Balanced").click()
    expect(other).to_have_url(re.compile(r"__theme=light.*istft=matmul.*refine=16"))
    other.context.close()


@pytest.mark.slow
def test_a_link_with_settings_of_elsewhere_says_so(visitor: Page, first: str) -> None:
    visitor.goto(f"{first}?vocoder=banana&refine=0")
    expect(visitor.get_by_text("This page does not offer: vocoder=banana")).to_be_visible()
    await_name(visitor, "english-refine0.wav")


def test_kept_settings_are_checked() -> None:
    offers = [["a"], ["auto", "cpu"], ["auto"], ["auto", "fft"], ["auto", "8"], ["float32"]]
    kept = {"vocoder": "a", "placement": "istft=cpu/fft", "refine": 8, "dtype": "float32", "colour": "red"}
    assert usable(kept, offers) == ({"vocoder": "a", "placement": "istft=cpu/fft", "dtype": "float32"}, ["refine=8"])
    assert usable({"placement": "/etc/secret.yaml"}, offers) == ({}, ["placement=/etc/secret.yaml"])


def test_the_example_mel_is_that_of_the_example(page: Page) -> None:
    vocoder = tts_infer.load_vocoder()
    mel = tts_infer.read_mel(CLIP.with_name("english-mel.npy"), vocoder.n_mels)
    expected = vocoder.mel(tts_infer.read_audio(CLIP, vocoder.sample_rate).samples)
    np.testing.assert_allclose(mel.numpy(), expected.numpy(), atol=4.1e-3)  # half floats between 8 and 16: 2 ** -8
    open_tab(page, "Mel file")
    page.locator("#mel-examples").get_by_role("button", name="English mel").click()
    expect_file(page, "#input-mel", "english-mel.npy")
    page.locator("#decode").click()
    expect(figures(page)).to_be_visible()


def test_the_card_says_what_the_catalogue_says(page: Page) -> None:
    facts = tts_infer.describe_vocoder("vocos-mini-24khz")
    card = page.locator("#card")
    for text in ("Ready", "24 kHz", "3.6 M", f"{facts['delay_ms']:.0f} ms with 16 passes", facts["license"]):
        expect(card).to_contain_text(text)
    choose(page, "#vocoder", "vocos-mel-24khz")
    expect(card).to_contain_text("Needs a download of 54.4 MB")
    expect(card).not_to_contain_text("Parameters")


def test_a_vocoder_that_is_not_there_is_explained_without_the_servers_affairs(
    client: Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(AppError, match="must be downloaded") as error:
        client.predict(audio=handle_file(str(CLIP)), vocoder="vocos-mel-24khz", api_name="/synthesize")
    assert not re.search(r"/|\w+Error|huggingface_hub", str(error.value))


def test_a_local_vocoder_keeps_its_path_to_itself(tmp_path: Path) -> None:
    shutil.copytree(EMBEDDED, tmp_path / "mine")
    assert offered("vocos-mini-24khz") == "vocos-mini-24khz"
    name = offered(str(tmp_path / "mine"))
    assert name == "mine (local)"
    demo = app.build_demo(str(tmp_path / "mine"), example=False)
    demo.launch(prevent_thread_lock=True, quiet=True)
    try:
        client = Client(str(demo.local_url), verbose=False)
        _, report = client.predict(audio=handle_file(str(CLIP)), vocoder=name, refine="0", api_name="/synthesize")
        assert report["vocoder"] == name
        assert str(tmp_path) not in str(demo.config)
    finally:
        demo.close()
    card, _ = show_vocoder(name, "auto", gr.Request(headers={}))
    assert name in card
    assert str(tmp_path) not in card


def test_a_card_in_chinese() -> None:
    facts = tts_infer.describe_vocoder("vocos-mini-24khz")
    card = draw_card("vocos-mini-24khz", facts, Translator("zh"))
    assert "可用" in card
    assert facts["description"] not in card
    for row in tts_infer.list_vocoders():
        assert Translator("zh").about(row["description"]) != row["description"], row["name"]


@pytest.mark.slow
def test_the_advice_of_the_device_tab_is_one_click_away(page: Page) -> None:
    page.locator("#settings").get_by_role("button").first.click()
    choose(page, "#istft-method", "matmul")
    page.locator("#use-advice").click()
    expect(page.locator("#istft-method input")).to_have_value("auto")
    best = tts_infer.doctor.advise()
    expect(page.locator("#number-format input")).to_have_value(best["dtype"])
    assert advise("vocos-mini-24khz") == ("auto", "auto", "auto", best["dtype"])
    assert best["dtype"] == tts_infer.doctor.examine()["dtype"]["best"]


@pytest.mark.parametrize("page", [{"viewport": {"width": 390, "height": 844}, "has_touch": True}], indirect=True)
def test_on_a_phone_the_result_comes_into_sight_and_fingers_find_what_they_need(page: Page) -> None:
    synthesize(page, CLIP)
    page.wait_for_function("Math.abs(document.querySelector('#result').getBoundingClientRect().top) < 60")
    page.locator("#settings").get_by_role("button").first.click()
    expect(page.locator("#use-advice")).to_be_visible()
    assert small_targets(page) == []


def test_on_a_phone_the_page_begins_at_its_top(first: str, browser: Browser) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True)
    page = context.new_page()
    page.goto(first)
    expect(figures(page)).to_have_count(1)
    page.wait_for_timeout(500)
    assert page.evaluate("scrollY") == 0
    context.close()


@pytest.mark.slow
def test_who_logged_in_can_log_out(browser: Browser) -> None:
    demo = app.build_demo(example=False)
    demo.launch(prevent_thread_lock=True, quiet=True, **(app.launch_options() | {"auth": ("ada", "secret")}))
    context = browser.new_context(**DESKTOP)
    try:
        page = context.new_page()
        page.goto(str(demo.local_url))
        page.get_by_label("username").fill("ada")
        page.get_by_label("password").fill("secret")
        page.get_by_role("button", name="Login").click()
        expect(page.locator("#account")).to_contain_text("ada")
        page.get_by_role("link", name="Log out").click()
        expect(page.get_by_label("password")).to_be_visible()
    finally:
        context.close()
        demo.close()


def test_the_page_has_its_own_icon(page: Page, demo: gr.Blocks) -> None:
    answer = page.request.get(f"{demo.local_url}favicon.ico")
    assert answer.headers["content-type"].startswith("image/svg")
    assert answer.body() == app.FAVICON.read_bytes()
    expect(page.locator("#account")).to_be_hidden()  # nobody had to log in


@pytest.mark.slow  # the tab tests itself
def test_the_advice_on_the_device_tab_goes_to_decode(page: Page) -> None:
    page.locator("#settings").get_by_role("button").first.click()
    choose(page, "#istft-method", "fft")
    open_tab(page, "Device")
    page.locator("#doctor-use-advice").click()
    expect(page.locator("#synthesize")).to_be_visible()
    expect(page.locator("#istft-method input")).to_have_value("auto")


@pytest.mark.slow
def test_the_self_test_takes_turns() -> None:
    taken: list[int] = []

    @contextmanager
    def turn() -> Iterator[None]:
        taken.append(1)
        yield

    report = tts_infer.doctor.examine("cpu", turn=turn)
    measured = len(report["checks"]) + sum(len(get_args(Size)) for _ in report["speed"])
    assert len(taken) == measured + 1  # the placement comes from what was measured


def test_who_waits_is_told_for_how_long() -> None:
    desk = Desk()
    with desk.job(gr.Request(session_hash="one")) as busy, desk.job(gr.Request(session_hash="two")), desk.turn(busy):
        (waiting,) = desk.seen_by("two")
    assert (waiting["ahead"], waiting["wait_s"]) == (1, PIECE_S)
    said = Translator("en")("ahead", ahead=waiting["ahead"], seconds=math.ceil(waiting["wait_s"]))
    assert said == "Waiting: 1 ahead, about 1 s"
