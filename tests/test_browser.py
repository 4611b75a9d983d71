"""The page in a real browser: real uploads, real clicks, real pixels."""

from __future__ import annotations

import base64
import io
import re
import zipfile
from pathlib import Path
from urllib.parse import urlsplit

import gradio as gr
import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

import app
import tts_infer
from tests.page import (  # noqa: F401  fixtures are used by name
    CLIP,
    DESKTOP,
    PATIENCE_MS,
    PHONE,
    choose,
    collected_errors,
    downloaded,
    figures,
    message,
    open_tab,
    opened_page,
    quiet_browser,
    synthesize,
    upload,
    upload_files,
)
from ui.api import SNIPPETS

from playwright.sync_api import Browser, Page, expect  # isort: skip  tests.page skips without it

MANY = 200  # files of a batch that still runs when somebody has pressed Cancel


def stage_times_ms(page: Page) -> tuple[dict[str, float], float]:
    rows = page.locator("#result tbody tr").all()
    times = {str(row.locator("th").text_content()): float(str(row.locator("td").nth(2).text_content())) for row in rows}
    return times, float(str(page.locator("#result tfoot td").first.text_content()))


def picture(page: Page, panel: str) -> np.ndarray:
    """The brightness of a mel as the browser painted it, without its axis and the playhead."""
    page.wait_for_function("document.querySelector('#result .tts-scope').dataset.window")
    page.wait_for_timeout(150)  # it is painted with the next frame
    canvas = page.locator(f"#result [data-panel={panel}] canvas")
    data = canvas.evaluate("canvas => canvas.toDataURL().split(',')[1]")
    pixels = Image.open(io.BytesIO(base64.b64decode(data))).convert("L")
    gutter = round(52 * pixels.width / canvas.evaluate("canvas => canvas.getBoundingClientRect().width"))
    return np.asarray(pixels, dtype=np.float64)[:, gutter:]


def likeness(pixels: np.ndarray, mel: torch.Tensor) -> float:
    """Correlation of painted brightness with the values of a mel, low frequencies at the bottom."""
    level = Image.fromarray(mel.flip(0).numpy()).resize((pixels.shape[1], pixels.shape[0]))
    return float(np.corrcoef(pixels.ravel(), np.asarray(level).ravel())[0, 1])


def expected() -> tuple[tts_infer.Synthesis, torch.Tensor]:
    vocoder = tts_infer.load_vocoder()
    audio = torch.from_numpy(tts_infer.read_audio(CLIP, sample_rate=vocoder.sample_rate).samples)
    result = vocoder.synthesize(audio=audio[None])
    return result, vocoder.mel(result.audio)[0]


def test_clip_to_waveform_pictures_and_stage_table(page: Page, tmp_path: Path) -> None:
    synthesize(page, CLIP)
    times, total_ms = stage_times_ms(page)
    assert 0 < sum(times.values()) <= total_ms + 0.005 * (len(times) + 1)  # each is rounded to 0.01 ms
    result, output_mel = expected()
    assert list(times) == [stage["stage"] for stage in result.stages]

    for panel, mel in zip(("input", "output"), (result.features[0], output_mel), strict=True):
        # brightness rises with level but not in proportion, and the browser smooths: 0.9, where upside down gives < 0.5
        assert likeness(picture(page, panel), mel) > 0.9

    np.testing.assert_array_equal(downloaded(page, tmp_path), tts_infer.to_int16(result.audio[0])[0])


def test_example_is_one_click_away(page: Page) -> None:
    page.locator("#examples").get_by_text("German").click()
    expect(page.locator("#input-audio")).to_contain_text(re.compile(r"\d:\d\d"))
    page.locator("#synthesize").click()
    expect(page.locator("#result")).to_contain_text("x real time", timeout=PATIENCE_MS)


def test_mel_file_to_waveform(page: Page, tmp_path: Path) -> None:
    result, _ = expected()
    np.save(tmp_path / "mel.npy", result.features.numpy())
    open_tab(page, "Mel file")
    upload_files(page, "#input-mel", tmp_path / "mel.npy")
    page.locator("#decode").click()
    expect(figures(page)).to_be_visible(timeout=PATIENCE_MS)
    assert list(stage_times_ms(page)[0]) == [stage["stage"] for stage in result.stages[1:]]
    np.testing.assert_array_equal(downloaded(page, tmp_path), tts_infer.to_int16(result.audio[0])[0])


@pytest.mark.parametrize("button", ["#decode", "#listen-mel"])
def test_a_mel_of_another_convention_is_warned_of(page: Page, tmp_path: Path, button: str) -> None:
    result, _ = expected()
    np.save(tmp_path / "other.npy", result.features.numpy() / np.log(10).astype(np.float32))
    open_tab(page, "Mel file")
    upload_files(page, "#input-mel", tmp_path / "other.npy")
    page.locator(button).click()
    expect(figures(page)).to_be_visible(timeout=PATIENCE_MS)  # it is decoded all the same
    expect(page.locator("#result .tts-notes")).to_contain_text("log10")


def test_settings_change_what_runs(page: Page) -> None:
    page.locator("#settings").get_by_role("button").first.click()
    choose(page, "#istft-method", "matmul")
    synthesize(page, CLIP)
    row = page.locator("#result tbody tr", has_text="istft")
    expect(row).to_contain_text("matmul")

    # from now on a change is enough: the same input runs again
    choose(page, "#istft-method", "fft")
    expect(row).to_contain_text("fft")


def test_a_placement_may_be_written(page: Page) -> None:
    page.locator("#settings").get_by_role("button").first.click()
    synthesize(page, CLIP)
    row = page.locator("#result tbody tr", has_text="istft")
    for method in ("matmul", "fft"):
        page.locator("#placement input").fill(f"istft=cpu/{method}")
        page.locator("#placement input").press("Enter")
        expect(row).to_contain_text(method)
    measured = page.locator("#result table").inner_text()
    page.locator("#placement input").press("Tab")  # a field that is only left runs nothing
    page.wait_for_timeout(1000)
    assert page.locator("#result table").inner_text() == measured
    page.locator("#placement input").fill("istft=banana")
    page.locator("#placement input").press("Enter")
    expect(message(page, "banana")).to_be_visible(timeout=PATIENCE_MS)


@pytest.mark.parametrize("page", [{"locale": "fr-FR"}], indirect=True)
def test_other_languages_see_english(page: Page) -> None:
    expect(page.locator("#synthesize")).to_have_text("Decode")


def test_refinement_shows_what_it_costs(page: Page) -> None:
    page.locator("#settings").get_by_role("button").first.click()
    choose(page, "#refine", "8")
    synthesize(page, CLIP)
    times, total_ms = stage_times_ms(page)
    assert list(times) == ["mel", "backbone", "head", "refine", "istft"]
    assert 0 < times["refine"] < total_ms
    expect(page.locator("#result .tts-waterfall")).to_contain_text(re.compile(r"head.*refine \d.*istft", re.S))
    choose(page, "#refine", "0")
    expect(page.locator("#result tr", has_text="refine")).to_have_count(0)
    assert list(stage_times_ms(page)[0]) == ["mel", "backbone", "head", "istft"]


def test_a_change_of_settings_reruns_what_made_the_result(page: Page, tmp_path: Path) -> None:
    np.save(tmp_path / "mel.npy", expected()[0].features.numpy())
    refined = page.locator("#result tr", has_text="refine")
    page.locator("#settings").get_by_role("button").first.click()
    choose(page, "#refine", "0")
    synthesize(page, CLIP)
    open_tab(page, "Mel file")
    choose(page, "#refine", "8")
    expect(refined).to_have_count(1, timeout=PATIENCE_MS)
    assert list(stage_times_ms(page)[0]) == ["mel", "backbone", "head", "refine", "istft"]

    # without its input, or with another one, it stays as it is
    open_tab(page, "Audio")
    page.locator("#input-audio").get_by_role("button", name=re.compile("clear|remove", re.I)).click()
    for clip in (None, CLIP.with_name("german.wav")):
        if clip:
            upload(page, "#input-audio", clip)
            expect(page.locator("#input-audio")).to_contain_text(re.compile(r"\d:\d\d"), timeout=PATIENCE_MS)
        choose(page, "#refine", "0")
        page.wait_for_timeout(1500)
        expect(refined).to_have_count(1)
        expect(page.get_by_role("status").filter(has_text="There is no")).to_have_count(0)

    open_tab(page, "Mel file")
    upload_files(page, "#input-mel", tmp_path / "mel.npy")
    page.locator("#decode").click()
    expect(refined).to_have_count(0, timeout=PATIENCE_MS)
    open_tab(page, "Audio")
    choose(page, "#refine", "2")
    expect(refined).to_have_count(1, timeout=PATIENCE_MS)
    assert list(stage_times_ms(page)[0]) == ["backbone", "head", "refine", "istft"]


@pytest.mark.parametrize("content", [b"not a sound at all\n" * 9, b"RIFF\x24\0\0\0WA"], ids=["text", "10 bytes"])
def test_broken_file_is_explained_and_the_page_goes_on(
    page: Page, tmp_path: Path, console_errors: list[str], content: bytes
) -> None:
    broken = tmp_path / "broken.wav"
    broken.write_bytes(content)
    upload(page, "#input-audio", broken)
    page.locator("#synthesize").click()
    expect(message(page, "broken.wav")).to_be_visible(timeout=PATIENCE_MS)
    page.locator("#input-audio").get_by_role("button", name=re.compile("clear|remove", re.I)).click()
    synthesize(page, CLIP)
    console_errors.remove("Waveform load error: MediaError")  # the player, too, says that it cannot play this file


def test_no_input_and_wrong_bins_are_explained(page: Page, tmp_path: Path) -> None:
    page.locator("#synthesize").click()
    expect(message(page, "no audio")).to_be_visible()
    np.save(tmp_path / "wrong.npy", np.zeros((80, 30), np.float32))
    open_tab(page, "Mel file")
    upload_files(page, "#input-mel", tmp_path / "wrong.npy")
    page.locator("#decode").click()
    expect(message(page, "80")).to_be_visible()


def test_a_mistake_takes_the_old_result_away(page: Page) -> None:
    synthesize(page, CLIP)
    page.locator("#input-audio").get_by_role("button", name=re.compile("clear|remove", re.I)).click()
    page.locator("#synthesize").click()
    expect(message(page, "no audio")).to_be_visible(timeout=PATIENCE_MS)
    expect(page.locator("#result .tts-scope")).to_be_hidden()
    expect(page.locator("#result [data-empty]")).to_be_visible()


def test_a_mistake_takes_the_old_batch_away(page: Page) -> None:
    open_tab(page, "Batch")
    files = page.locator("#batch-files")
    files.locator("input[type=file]").set_input_files(CLIP)
    expect(files).to_contain_text("english")
    page.locator("button#batch").click()
    expect(page.locator("#batch-result table")).to_be_visible(timeout=PATIENCE_MS)
    page.get_by_role("button", name="Report as JSON").filter(visible=True).click()
    expect(page.locator("#batch-report")).to_contain_text("clipped_samples")
    files.get_by_role("button", name=re.compile("clear|remove", re.I)).first.click()
    page.locator("button#batch").click()
    expect(message(page, "no files")).to_be_visible(timeout=PATIENCE_MS)
    expect(page.locator("#batch-result")).to_contain_text("The results appear here")
    expect(page.locator("#batch-result table")).to_have_count(0)
    expect(page.locator("#batch-output a")).to_have_count(0)
    expect(page.locator("#batch-report")).not_to_contain_text("clipped_samples")


def compare_blind(page: Page) -> None:
    open_tab(page, "Compare")
    upload(page, "#compare-audio", CLIP)
    expect(page.locator("#compare-audio")).to_contain_text(re.compile(r"\d:\d\d"), timeout=PATIENCE_MS)
    page.locator("#compare-blind input").check()
    page.locator("button#compare").click()


def test_a_mistake_takes_the_old_comparison_away(page: Page) -> None:
    compare_blind(page)
    expect(page.locator("#compare-preferred")).to_be_visible(timeout=PATIENCE_MS)
    page.locator("#compare-audio").get_by_role("button", name=re.compile("clear|remove", re.I)).click()
    page.locator("button#compare").click()
    expect(message(page, "no audio")).to_be_visible(timeout=PATIENCE_MS)
    expect(page.locator("#samples [data-empty]")).to_contain_text("Every combination of the chosen settings")
    for gone in ("#samples .tts-scope", "#compare-preferred", "#compare-reveal"):
        expect(page.locator(gone)).to_be_hidden()


@pytest.mark.slow
def test_what_has_expired_is_not_revealed(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ui.compare.KEEP_S", 3)
    demo = app.build_demo(example=False)
    demo.launch(prevent_thread_lock=True, quiet=True, **app.launch_options())
    context = browser.new_context(**DESKTOP)
    try:
        page = context.new_page()
        page.goto(str(demo.local_url))
        open_tab(page, "Compare")
        upload(page, "#compare-audio", CLIP)
        expect(page.locator("#compare-audio")).to_contain_text(re.compile(r"\d:\d\d"), timeout=PATIENCE_MS)
        page.locator("#compare-blind input").check()
        page.locator("button#compare").click()
        expect(page.locator("#samples")).to_contain_text("Listen", timeout=PATIENCE_MS)
        page.wait_for_timeout(6000)
        page.locator("button#compare-reveal").click()
        expect(message(page, "expired")).to_be_visible(timeout=PATIENCE_MS)
    finally:
        context.close()
        demo.close()


def test_snippets_call_the_address_of_the_page(browser: Browser, demo: gr.Blocks) -> None:
    address = str(demo.local_url).replace("127.0.0.1", "localhost")
    context = browser.new_context(**DESKTOP)
    try:
        page = context.new_page()
        page.goto(f"{address}?__theme=light")
        open_tab(page, "API")
        codes = page.locator(".cm-content", has_text=f'Client("{address}")')
        expect(codes).to_have_count(len(SNIPPETS), timeout=PATIENCE_MS)
    finally:
        context.close()


def test_compare_blind_and_reveal(page: Page) -> None:
    compare_blind(page)
    expect(page.locator("#samples")).to_contain_text("Listen", timeout=PATIENCE_MS)
    expect(page.locator("#samples [data-sound]")).to_have_count(3)
    for where in ("#samples", "#comparison"):
        assert "refine" not in page.locator(where).inner_text()
    assert not re.search("refine", str(page.locator("#samples [data-save]").get_attribute("href")))
    pictures = page.locator("#samples [data-panel=difference], #samples [data-panel=output]")
    expect(pictures.locator("visible=true")).to_have_count(0)  # they would tell
    page.get_by_role("radio", name="Sample 2").check()
    page.locator("button#compare-reveal").click()
    expect(page.locator("#comparison")).to_contain_text("You preferred: Sample 2")
    expect(pictures.locator("visible=true")).to_have_count(3)
    names = page.locator("#samples [data-sound]").all_inner_texts()[1:]
    assert sorted(re.findall("refine [0-9]+", " ".join(names))) == ["refine 0", "refine 16"]
    rows = page.locator("#comparison tbody tr").all_inner_texts()
    assert [re.findall("refine .", row) for row in rows] == [re.findall("refine .", name) for name in names]
    expect(page.locator("#comparison .tts-waterfall")).to_have_count(1)  # one chart of all samples
    captions = page.locator("#samples [data-panel=difference] figcaption").all_inner_texts()
    assert [re.findall("refine .", caption) for caption in captions] == [re.findall("refine .", name) for name in names]


def test_batch_of_files(page: Page, tmp_path: Path) -> None:
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"no sound")
    open_tab(page, "Batch")
    upload_files(page, "#batch-files", CLIP, broken)
    page.locator("button#batch").click()
    expect(page.locator("#batch-result")).to_contain_text("1 of 2 files decoded.", timeout=PATIENCE_MS)
    expect(page.locator("#batch-result tr", has_text="broken.wav")).to_contain_text("cannot read")
    with page.expect_download() as download:
        page.locator("#batch-output a").first.click()
    with zipfile.ZipFile(download.value.path()) as archive:
        samples, _ = soundfile.read(io.BytesIO(archive.read("english-refine16.wav")), dtype="int16")
    np.testing.assert_array_equal(samples, tts_infer.to_int16(expected()[0].audio[0])[0])
    # and it can be heard where it stands
    with page.expect_response(lambda response: response.url.endswith("english-refine16.wav")) as played:
        page.get_by_role("button", name="Play: english-refine16.wav").click()
    expect(page.get_by_role("button", name="Pause: english-refine16.wav")).to_be_visible()
    assert played.value.ok
    page.get_by_role("button", name="Pause: english-refine16.wav").click()
    expect(page.get_by_role("button", name="Play: english-refine16.wav")).to_be_visible()
    # paused before it has begun, which is no error
    page.get_by_role("button", name="Play: english-refine16.wav").evaluate("one => { one.click(); one.click(); }")
    expect(page.get_by_role("button", name="Play: english-refine16.wav")).to_be_visible()


def test_a_cancelled_batch_keeps_what_is_done(page: Page, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "many.zip", "w") as archive:
        for i in range(MANY):
            archive.write(CLIP, f"{i:03}.wav")
    open_tab(page, "Batch")
    upload_files(page, "#batch-files", tmp_path / "many.zip")
    status = page.locator("#status")
    page.locator("button#batch").click()
    expect(status).to_contain_text(re.compile(rf"File [1-9]\d* of {MANY}"), timeout=PATIENCE_MS)
    status.get_by_role("button").click()
    expect(page.locator("#batch-result tr", has_text="cancelled").last).to_be_visible(timeout=PATIENCE_MS)
    with page.expect_download() as download:
        page.locator("#batch-output a").first.click()
    with zipfile.ZipFile(download.value.path()) as archive:
        made = len(archive.namelist()) - 1  # results.csv
    assert 0 < made < MANY
    expect(page.locator("#batch-result")).to_contain_text(f"{made} of {MANY} files decoded.")
    page.locator("#batch-files").get_by_label("Clear").click()
    upload_files(page, "#batch-files", CLIP)
    page.locator("button#batch").click()  # the next one is not cancelled
    expect(page.locator("#batch-result")).to_contain_text("1 of 1 files decoded.", timeout=PATIENCE_MS)


def test_a_change_of_settings_counts_during_the_first_run(page: Page, tmp_path: Path) -> None:
    clip = tts_infer.read_audio(CLIP)
    tts_infer.write_audio(tmp_path / "long.wav", np.tile(clip.samples, 20), clip.sample_rate)
    upload(page, "#input-audio", tmp_path / "long.wav")
    expect(page.locator("#input-audio")).to_contain_text(re.compile(r"\d:\d\d"), timeout=PATIENCE_MS)
    page.locator("#settings").get_by_role("button").first.click()
    page.locator("#synthesize").click()
    choose(page, "#refine", "0")
    expect(figures(page)).to_be_visible(timeout=2 * PATIENCE_MS)
    expect(page.locator("#result tr", has_text="refine")).to_have_count(0, timeout=PATIENCE_MS)


@pytest.mark.slow
@pytest.mark.parametrize("page", [PHONE], indirect=True)
def test_phone_scrolls_in_one_direction_only(page: Page) -> None:
    synthesize(page, CLIP)
    page.locator("#settings").get_by_role("button").first.click()
    for name in ("Decode", "Speak", "Compare", "Batch", "Device", "API"):
        open_tab(page, name)
        if name == "Device":
            expect(page.locator("#audit table")).to_be_visible(timeout=PATIENCE_MS)
        page.wait_for_timeout(300)  # Gradio lays a tab out when it is shown
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        # Gradio cuts off what is too wide, so nothing may reach beyond the edge either; the audit scrolls by itself
        beyond = page.evaluate(
            """[...document.querySelectorAll('main *')]
                .filter(e => e.offsetParent && !e.closest('#audit table'))
                .filter(e => e.getBoundingClientRect().right > window.innerWidth + 1)
                .map(e => e.outerHTML.slice(0, 100))"""
        )
        assert beyond == []
    open_tab(page, "Decode")
    page.locator("#result details").evaluate("details => (details.open = true)")
    table = page.locator("#result .tts-table")
    assert table.evaluate("table => table.scrollWidth <= table.clientWidth")


@pytest.mark.parametrize("page", [{"locale": "zh-CN"}], indirect=True)
def test_chinese_browser(page: Page) -> None:
    expect(page.locator("#synthesize")).to_have_text("解码")
    page.locator("#settings").get_by_role("button").first.click()
    expect(page.locator("#refine")).to_contain_text("精修")
    expect(page.locator("#settings")).to_contain_text("每次都需要时间")
    page.locator("#synthesize").click()
    expect(message(page, "还没有音频")).to_be_visible(timeout=PATIENCE_MS)
    synthesize(page, CLIP)
    expect(page.locator("#result")).to_contain_text("倍实时")
    expect(page.locator("#result thead")).to_contain_text("阶段")


def test_two_visitors_at_once(page: Page, browser: Browser, demo: gr.Blocks) -> None:
    context = browser.new_context(**DESKTOP)
    other = context.new_page()
    other.goto(str(demo.local_url))
    for visitor, clip in ((page, CLIP), (other, CLIP.with_name("german.wav"))):
        upload(visitor, "#input-audio", clip)
        expect(visitor.locator("#input-audio")).to_contain_text(re.compile(r"\d:\d\d"), timeout=PATIENCE_MS)
    page.locator("#synthesize").click()
    other.locator("#synthesize").click()
    for visitor, clip in ((page, CLIP), (other, CLIP.with_name("german.wav"))):
        hop = tts_infer.load_vocoder().hop_length
        seconds = soundfile.info(clip).frames // hop * hop / 24000
        expect(visitor.locator("#result")).to_contain_text(f"{seconds:.2f} s of audio", timeout=PATIENCE_MS)
    context.close()


def test_keyboard_alone(page: Page) -> None:
    page.locator("#examples").get_by_role("button", name="English").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#input-audio")).to_contain_text(re.compile(r"\d:\d\d"), timeout=PATIENCE_MS)
    for _ in range(10):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "synthesize":
            break
    page.keyboard.press("Enter")
    expect(figures(page)).to_be_visible(timeout=PATIENCE_MS)
    unnamed = page.evaluate(
        """[...document.querySelectorAll('button, input:not([type=file]), textarea, select')]
            .filter(e => e.offsetParent && !e.closest('footer'))
            .filter(e => !(e.ariaLabel || e.title || e.innerText.trim() || e.labels?.length || e.closest('label')))
            .map(e => e.outerHTML.slice(0, 200))"""
    )
    assert unnamed == []


@pytest.mark.slow
def test_behind_a_password(browser: Browser, capsys: pytest.CaptureFixture[str]) -> None:
    demo = app.build_demo(example=False)
    options = app.launch_options() | {"auth": ("ada", "secret")}
    demo.launch(prevent_thread_lock=True, quiet=True, **options)
    context = browser.new_context(**DESKTOP)
    requests: list[str] = []
    context.on("request", lambda request: requests.append(request.url))
    try:
        page = context.new_page()
        page.goto(str(demo.local_url))
        page.get_by_label("username").fill("ada")
        page.get_by_label("password").fill("secret")
        page.get_by_role("button", name="Login").click()
        expect(page.locator("#synthesize")).to_be_visible(timeout=PATIENCE_MS)
        synthesize(page, CLIP)
        open_tab(page, "API")
        codes = page.locator(".cm-content", has_text=f'Client("{demo.local_url}", auth=("ada", "PASSWORD"))')
        expect(codes).to_have_count(len(SNIPPETS), timeout=PATIENCE_MS)
        exec(codes.filter(has_text="/doctor").inner_text().replace("PASSWORD", "secret"), {})
        assert "backbone cpu" in capsys.readouterr().out
    finally:
        context.close()
        demo.close()
    hosts = {urlsplit(url).netloc for url in requests if urlsplit(url).scheme not in ("data", "blob")}
    assert hosts == {urlsplit(str(demo.local_url)).netloc}
