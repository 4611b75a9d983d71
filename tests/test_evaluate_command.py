"""`python -m tts_infer evaluate`, in this process."""

from __future__ import annotations

import json
import os
import re
import resource
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

import tts_infer
from tests.conftest import QUICK_MEASURES
from tts_infer.cli import main
from tts_infer.evaluation.dnsmos import _session
from tts_infer.evaluation.metrics import _visqol
from tts_infer.evaluation.speaker import _encoder

QUICK = ["--pitch-tracker", "none", "--device", "cpu", "--measures", ",".join(QUICK_MEASURES)]


@pytest.fixture
def folder(tmp_path: Path, speech: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> Path:
    for number in range(3):
        (tmp_path / f"voice{number % 2}").mkdir(exist_ok=True)
        piece = speech[0, 12000 * number : 12000 * number + 18000]
        tts_infer.write_audio(tmp_path / f"voice{number % 2}" / f"{number}.wav", piece, 24000)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_table(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", ".", "--limit", "1", *QUICK, "--pitch-tracker", "pyin"]) == 0
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert [line.split()[:2] for line in lines[:5]] == [
        ["file", "by"],
        ["0.wav", "vocos-mini-24khz"],
        ["0.wav", "griffin-lim"],
        ["1.wav", "vocos-mini-24khz"],
        ["1.wav", "griffin-lim"],
    ]
    pesqs = [float(line.split()[2]) for line in lines[1:5]]
    (mean,) = (line for line in lines if line.startswith("PESQ (MOS)"))
    first, second = re.findall(r"(?<= )(\d\.\d\d) [±(]", mean)  # with their intervals
    assert float(first) == pytest.approx((pesqs[0] + pesqs[2]) / 2, abs=0.011)
    assert float(second) == pytest.approx((pesqs[1] + pesqs[3]) / 2, abs=0.011)
    assert mean.split()[-5:] == ["higher", "is", "better", "pesq", version("pesq")]
    assert "not measured: whistle_db, seam_click_db: it is defined for none of these copies" in lines
    assert "Periodicity, V/UV F1, F0 RMSE by pYIN (librosa)" in captured.out and captured.err == ""


def test_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--vocoder", "vocos-mini-24khz", "--vocoder", "vocos-mini-24khz", "--no-baseline", "--json"]
    assert main(["evaluate", "voice0", *arguments, *QUICK]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["systems"] == ["vocos-mini-24khz", "vocos-mini-24khz (2)"]
    assert [row["file"] for row in document["rows"][::2]] == ["voice0/0.wav", "voice0/2.wav"]
    assert document["means"]["vocos-mini-24khz"]["stoi"]["count"] == 2
    difference = document["differences"]["vocos-mini-24khz (2)"]["stoi"]
    assert difference == {"mean": 0.0, "low": 0.0, "high": 0.0, "count": 2}


def test_a_broken_file_is_told_and_the_others_go_on(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("broken.wav").write_text("no audio")
    assert main(["evaluate", "broken.wav", "voice1", "--no-baseline", *QUICK]) == 1
    captured = capsys.readouterr()
    assert "failed: broken.wav: cannot read broken.wav as audio" in captured.out and "1.wav" in captured.out
    assert captured.err == ""


def test_missing_packages_are_told(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("pesq", "pystoi", "librosa", "scipy.stats"):
        monkeypatch.setitem(sys.modules, package, None)
    assert main(["evaluate", "voice1", *QUICK]) == 0
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("not measured: ")]
    names = [
        "confidence interval",
        "pesq_wb",
        "stoi",
        "periodicity_error, vuv_f1, f0_rmse_cents",
        "whistle_db, seam_click_db",  # of less than a second, of one piece
    ]
    assert [line.split(": ")[1] for line in told] == names
    assert sum("pip install 'tts-infer[evaluate]'" in line for line in told) == 3


def test_what_the_extra_quality_brings_is_told(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line for each package, and no column."""
    for cached in (_session, _encoder, _visqol):
        cached.cache_clear()
    for package in ("speechmos", "visqol", "resemblyzer"):
        monkeypatch.setitem(sys.modules, package, None)
    assert main(["evaluate", "voice1", "--no-baseline", "--pitch-tracker", "none", "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    told = [line for line in out.splitlines() if "pip install 'tts-infer[quality]'" in line]
    names = ["visqol", "dnsmos_ovrl, dnsmos_sig, dnsmos_bak", "speaker_similarity"]
    assert [line.split(": ")[1] for line in told] == names
    assert "DNSMOS" not in out and "ViSQOL" not in out and "Speaker" not in out


def test_against_an_earlier_evaluation(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As good as before passes; a decoder with a worse mel does not; and the JSON says it, too."""
    arguments = ["evaluate", ".", "--no-baseline", *QUICK, "--measures", "stoi,log_mel_l1,level_db"]
    assert main([*arguments, "--json"]) == 0
    Path("before.json").write_text(capsys.readouterr().out)
    assert main([*arguments, "--against", "before.json"]) == 0
    out = capsys.readouterr().out
    assert "against before" in out and "no difference beyond its interval" in out and "WORSE" not in out
    assert main([*arguments, "--refine", "0", "--against", "before.json", "--json"]) == 1
    against = json.loads(capsys.readouterr().out)["against"]
    verdicts = {one["measure"]: one["verdict"] for one in against}
    assert verdicts["log_mel_l1"] == "worse" and set(verdicts.values()) <= {"same", "worse", "better"}
    assert main(["evaluate", "voice0", *arguments[2:], "--against", "before.json"]) == 2
    assert "of which 2 of 2 are measured here; give the same" in capsys.readouterr().err
    Path("other.json").write_text("{}")
    assert main([*arguments, "--against", "other.json"]) == 2
    assert "other.json is no evaluation" in capsys.readouterr().err


def test_without_pillow_a_report_is_refused_before_any_work(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    assert main(["evaluate", "voice1", "--vocoder", "nope", "--report", "r.html"]) == 2
    captured = capsys.readouterr()
    assert "needs pillow" in captured.err and "tts-infer[evaluate]" in captured.err and captured.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "no such file: nowhere"),
        (["empty"], "empty holds no audio; wanted: .wav, .flac, .ogg, .mp3"),
        (["voice0", "--limit", "0"], "limit is 0; it must be a whole number of at least 1"),
        (["voice0", "--report", "r.pdf"], "extension '.pdf'; allowed: .html"),
        (["voice0", "--report", "r.pdf", "--vocoder", "nope"], "extension '.pdf'"),  # before any work
        (["voice0", "--report", "no/r.html"], "no such folder: no"),
        (["voice0", "--vocoder", "nope"], "vocoder 'nope' is neither"),
        (["voice0", "--vocoder", "a", "--vocoder", "b", "--revision", "main"], "--revision goes with one --vocoder"),
        (["voice0", "--refine", "-1"], "refine is -1"),
        (["voice0", "--measures", "mos"], "measure 'mos' is unknown; allowed: dnsmos_ovrl, dnsmos_sig"),
        (["voice0", "--against", "nothing.json"], "cannot read nothing.json: No such file"),
    ],
)
def test_mistakes_are_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    (folder / "empty").mkdir()
    assert main(["evaluate", *arguments]) == 2
    captured = capsys.readouterr()
    assert message in captured.err and captured.err.count("\n") == 1 and captured.out == ""
    assert not list(folder.glob("r.*"))


@pytest.mark.parametrize(
    "arguments", [[], ["a", "--pitch-tracker", "x"], ["a", "--limit", "x"], ["a", "--refine", "x"]]
)
def test_bad_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["evaluate", *arguments])
    assert exit_.value.code == 2 and capsys.readouterr().err.count("\n") == 1


def test_what_was_measured_is_told_even_if_the_report_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))  # bytes that a file may have
    try:
        assert main(["evaluate", "voice1", "--no-baseline", "--report", "r.html", *QUICK]) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    captured = capsys.readouterr()
    assert "PESQ (MOS)" in captured.out and captured.err == "tts-infer: cannot write r.html: File too large\n"
    assert not list(folder.glob("*r.html*"))


def test_names_of_any_bytes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = os.fsdecode(b"\xff.wav")
    (folder / "voice1" / "1.wav").rename(folder / name)
    assert main(["evaluate", name, "--no-baseline", "--report", "r.html", *QUICK]) == 0
    page = (folder / "r.html").read_text(encoding="utf-8")
    assert "\\udcff.wav" in page and page.count("<audio") == 2  # original and copy
