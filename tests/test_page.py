"""The HTML report: whole or not at all, nothing from elsewhere, and what can be heard is what was measured."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import tts_infer
from tests.conftest import QUICK_MEASURES
from tts_infer.evaluation import Evaluation, System
from tts_infer.evaluation.intervals import mean_interval
from tts_infer.evaluation.systems import systems_of
from tts_infer.report.evaluation import choose_examples, draw, write_report
from tts_infer.report.page import check_report

MadeUp = Callable[..., Evaluation]
VOID = {"meta", "img", "br", "link"}


class Structure(HTMLParser):
    """Notices tags that are not closed, and addresses that lead elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "data", "action")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture
def recording(tmp_path: Path, speech: torch.Tensor) -> Path:
    path = tmp_path / "a<b>.wav"
    tts_infer.write_audio(path, speech[0, 12000:36000], 24000)
    return path


@pytest.fixture
def systems(echo: Callable[..., System]) -> list[System]:
    """A perfect copy, and one that is twice as loud."""
    return [echo(), echo(label="twice", gain=2)]


def evaluation(path: Path, systems: list[System]) -> Evaluation:
    return tts_infer.evaluate([path], systems, baseline=False, pitch_tracker="none", measures=QUICK_MEASURES)


def test_a_whole_page_of_its_own(recording: Path, vocoder: tts_infer.Vocoder) -> None:
    systems, _ = systems_of([vocoder], baseline=False)
    found = tts_infer.evaluate([recording], systems, baseline=False, pitch_tracker="none", measures=QUICK_MEASURES)
    found.failed["broken<1>.wav"] = "is no audio"
    page = draw(found, systems)
    structure = Structure()
    structure.feed(page)
    assert not structure.open
    assert structure.addresses and all(
        a.startswith(("data:image/png;", "data:audio/flac;")) for a in structure.addresses
    )
    assert not re.search(r"https?:|@import|url\(|<script", page)
    assert "a&lt;b&gt;.wav" in page and "broken&lt;1&gt;.wav: is no audio" in page and "<b>.wav" not in page
    assert page.count("<img") == 2 and page.count("<audio") == 2  # original and copy
    assert "periodicity_error" in page or "vuv_f1: no pitch tracker was asked for" in page


def test_what_is_heard(recording: Path, systems: list[System]) -> None:
    page = draw(evaluation(recording, systems), systems)
    stored = re.findall(r'src="data:audio/flac;base64,([^"]+)"', page)
    original, same, loud = (soundfile.read(io.BytesIO(base64.b64decode(data)), dtype="int16") for data in stored)
    expected = soundfile.read(recording, dtype="int16")[0]
    assert original[1] == same[1] == loud[1] == 24000
    assert np.array_equal(original[0], expected) and np.array_equal(same[0], expected)
    doubled = np.clip(2 * expected.astype(int), -32768, 32767)
    assert np.array_equal(loud[0], doubled)


def test_ten_seconds_are_enough_to_hear(tmp_path: Path, systems: list[System]) -> None:
    tts_infer.write_audio(tmp_path / "a.wav", np.full(24000 * 11, 0.1, np.float32), 24000)
    (data, *_) = re.findall(r'base64,([^"]+)"></audio>', draw(evaluation(tmp_path / "a.wav", systems[:1]), systems[:1]))
    assert soundfile.info(io.BytesIO(base64.b64decode(data))).duration == 10.0


def test_which_files_are_chosen(made_up: MadeUp) -> None:
    found = made_up(one=[3.0, 1.0, 2.0, 5.0, 4.0, None], two=[1.0, 2.0, 3.0, 4.0, 0.5, 2.0])
    chosen = {file.removeprefix("dir/"): reason for file, reason in choose_examples(found).items()}
    assert chosen == {
        "<1>.wav": "worst of one",
        "<2>.wav": "second worst of one",
        "<4>.wav": "median of one",
        "<0>.wav": "second worst of two",  # its worst is there already
    }


def test_without_pesq_the_log_mel_decides(made_up: MadeUp) -> None:
    found = made_up(one=[None] * 5)
    found.missing["pesq_wb"] = "needs pesq"
    errors = (1.0, 3.0, 2.0, 0.5, 0.1)
    found.means["one"]["log_mel_error_db"] = mean_interval(errors)
    for row, error in zip(found.rows, errors, strict=True):
        row.measures["log_mel_error_db"] = error
    assert list(choose_examples(found)) == ["dir/<1>.wav", "dir/<2>.wav", "dir/<0>.wav"]


def test_nothing_was_copied(made_up: MadeUp) -> None:
    found = made_up(one=[])
    found.failed["a.wav"] = "is no audio"
    page = draw(found, [])
    assert "a.wav: is no audio" in page and "To hear and see" not in page


def test_short_and_silent_files(tmp_path: Path, vocoder: tts_infer.Vocoder) -> None:
    tts_infer.write_audio(tmp_path / "short.wav", np.full(100, 0.1, np.float32), 24000)
    tts_infer.write_audio(tmp_path / "silent.wav", np.zeros(6000, np.float32), 24000)
    systems, _ = systems_of([vocoder])
    found = tts_infer.evaluate([tmp_path], systems, baseline=False, pitch_tracker="none", measures=QUICK_MEASURES)
    page = draw(found, systems)
    assert page.count("<audio") == 6 and "nan" not in re.sub(r'base64,[^"]+', "", page).lower()


def test_written_whole_or_not_at_all(recording: Path, systems: list[System], monkeypatch: pytest.MonkeyPatch) -> None:
    found, target = evaluation(recording, systems), recording.with_name("report.html")
    write_report(target, found, systems, "A & B")
    first = target.read_text(encoding="utf-8")
    assert first.startswith("<!doctype html>") and first.endswith("</html>\n") and "<h1>A &amp; B</h1>" in first

    def fail(path: Path, text: str, **_: object) -> None:
        path.write_bytes(text[:100].encode())
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", fail)
    with pytest.raises(tts_infer.FileError, match=r"cannot write .*report.html: No space left on device"):
        write_report(target, found, systems, "other")
    assert target.read_text(encoding="utf-8") == first
    assert sorted(path.name for path in target.parent.iterdir()) == ["a<b>.wav", "report.html"]


def test_names_that_are_refused(tmp_path: Path) -> None:
    with pytest.raises(tts_infer.FileError, match=r"extension '.pdf'; allowed: .html"):
        check_report(tmp_path / "report.pdf")
    with pytest.raises(tts_infer.FileError, match="no such folder"):
        check_report(tmp_path / "no" / "report.html")
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(tts_infer.FileError, match="it is a folder"):
        check_report(tmp_path / "folder.html")
