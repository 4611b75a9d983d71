"""Files in, figures out: with copiers whose faults are known."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import tts_infer
from tests.conftest import QUICK_MEASURES
from tts_infer.evaluation import Row, System, find_audio

GAIN_DB = 6.0206


@pytest.fixture
def folder(tmp_path: Path, speech: torch.Tensor) -> Path:
    """Two recordings of 0.75 s, each in its own folder, and a file that is no audio."""
    for number, name in enumerate(("one/b.wav", "two/a.flac")):
        (tmp_path / name).parent.mkdir()
        piece = speech[0, 24000 * number + 12000 : 24000 * number + 30000]
        tts_infer.write_audio(tmp_path / name, piece, 24000)
    (tmp_path / "two" / "notes.txt").write_text("no audio")
    return tmp_path


def test_known_faults(folder: Path, echo: Callable[..., System]) -> None:
    seen: list[tuple[int, int]] = []
    found = tts_infer.evaluate(
        [folder],
        [echo(), echo(label="twice", gain=2)],
        baseline=False,
        pitch_tracker="crepe-tiny",
        measures=QUICK_MEASURES,
        progress=lambda *counts: seen.append(counts),
    )
    assert found.systems == ("echo", "twice") and not found.failed and not found.missing
    files = [str(folder / "one/b.wav"), str(folder / "two/a.flac")]
    assert [(row.file, row.system) for row in found.rows] == [(f, c) for f in files for c in found.systems]
    assert all(row.seconds == 0.75 and row.rtfx > 0 for row in found.rows)
    same, loud = found.means["echo"], found.means["twice"]
    for key, best in (("level_db", 0), ("mcd_db", 0), ("vuv_f1", 1), ("periodicity_error", 0), ("pesq_wb", 4.644)):
        interval = same[key]
        assert interval is not None and interval.count == 2, key
        assert (interval.mean, interval.half_width) == pytest.approx((best, 0), abs=1e-3), key
    for interval in (loud["level_db"], found.differences["twice"]["level_db"]):
        assert interval is not None and (interval.mean, interval.half_width) == pytest.approx((GAIN_DB, 0), abs=1e-4)
    assert list(found.differences) == ["twice"] and seen == [(1, 2), (2, 2)]
    assert found.pitch_tracker == "CREPE tiny (torchcrepe), Viterbi"


def test_it_is_strict_json(folder: Path, echo: Callable[..., System]) -> None:
    silence = folder / "silence.wav"
    tts_infer.write_audio(silence, np.zeros(24000, np.float32), 24000)
    found = tts_infer.evaluate([folder], [echo()], baseline=False, pitch_tracker="none", measures=QUICK_MEASURES)
    document = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    (row,) = (row for row in document["rows"] if row["file"] == str(silence))
    assert row["measures"]["pesq_wb"] is None and row["measures"]["mr_stft_db"] == 0.0
    assert document["means"]["echo"]["pesq_wb"]["count"] == 2  # of three files
    assert document["means"]["echo"]["vuv_f1"] is None and document["missing"]["vuv_f1"]
    assert document["confidence"] == 0.95 and document["measures"]["stoi"]["best"] == "high"
    assert (
        document["measures"]["stoi"]["range"] == [-1.0, 1.0] and document["measures"]["level_db"]["range"] == [None] * 2
    )
    assert document["measured_by"]["stoi"] == f"pystoi {version('pystoi')}"
    assert document["measured_by"]["level_db"].startswith("tts-infer")
    assert document["systems"] == document["candidates"] == ["echo"]  # the second under its old name
    assert {row["system"] for row in document["rows"]} == {row["candidate"] for row in document["rows"]} == {"echo"}


def test_without_scipy_there_are_means_and_no_intervals(
    folder: Path, echo: Callable[..., System], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "scipy.stats", None)
    found = tts_infer.evaluate(
        [folder], [echo(), echo(label="twice", gain=2)], baseline=False, pitch_tracker="none", measures=QUICK_MEASURES
    )
    assert "needs scipy" in found.missing["confidence interval"]
    for interval in (found.means["twice"]["level_db"], found.differences["twice"]["level_db"]):
        assert interval is not None and (interval.low, interval.high, interval.count) == (None, None, 2)
        assert interval.mean == pytest.approx(GAIN_DB, abs=1e-4)


def test_old_names_warn() -> None:
    row = Row("a.wav", "echo", 1.0, 2.0, {})
    found = tts_infer.Evaluation(("echo",), (row,), {}, {}, {}, {}, (), "none")
    with pytest.warns(DeprecationWarning, match=r"Row\.candidate is now system"):
        assert row.candidate == "echo"
    with pytest.warns(DeprecationWarning, match=r"Evaluation\.candidates is now systems"):
        assert found.candidates == ("echo",)


def test_broken_files_are_recorded_and_the_others_go_on(folder: Path, vocoder: tts_infer.Vocoder) -> None:
    (folder / "broken.wav").write_text("no audio")
    soundfile.write(folder / "nan.wav", np.full(9000, np.nan), 24000, subtype="FLOAT")
    found = tts_infer.evaluate([folder], [vocoder], baseline=False, pitch_tracker="none", measures=QUICK_MEASURES)
    assert set(found.failed) == {str(folder / "broken.wav"), str(folder / "nan.wav")}
    assert "as audio" in found.failed[str(folder / "broken.wav")]
    assert "NaN" in found.failed[str(folder / "nan.wav")]
    assert len(found.rows) == 2


def test_a_file_that_one_candidate_cannot_copy_counts_for_none(folder: Path, echo: Callable[..., System]) -> None:
    def refuse(mel: torch.Tensor) -> torch.Tensor:
        raise tts_infer.InputError("not this one")

    found = tts_infer.evaluate(
        [folder / "one"], [echo(), replace(echo(label="twice"), decode=refuse)], baseline=False, pitch_tracker="none"
    )
    assert not found.rows and list(found.failed.values()) == ["not this one"]
    assert set(found.means["echo"].values()) == {None} and found.rtfx("echo") is None


def test_what_is_long_and_what_is_short(
    tmp_path: Path, vocoder: tts_infer.Vocoder, echo: Callable[..., System]
) -> None:
    tts_infer.write_audio(tmp_path / "long.wav", np.zeros(8000 * 31, np.float32), 8000)
    tts_infer.write_audio(tmp_path / "short.wav", np.full(100, 0.1, np.float32), 24000)
    found = tts_infer.evaluate([tmp_path], [echo()], baseline=False, pitch_tracker="none", measures=QUICK_MEASURES)
    assert found.shortened == (str(tmp_path / "long.wav"),) and found.rows[0].seconds == 30.0
    found = tts_infer.evaluate([tmp_path / "short.wav"], [vocoder], measures=QUICK_MEASURES)
    assert [set(row.measures.values()) for row in found.rows] == [{None}, {None}]  # one frame, decoded to nothing
    assert found.pitch_tracker == "CREPE full (torchcrepe), Viterbi"  # the paper's, unless another is asked for


def test_finding_audio(folder: Path) -> None:
    for name in ("c.WAV", "d.mp3", ".part"):
        (folder / "one" / name).write_bytes(b"")
    names = [path.name for path in find_audio([folder])]
    assert names == ["b.wav", "c.WAV", "d.mp3", "a.flac"]
    assert [path.name for path in find_audio([folder], limit=1)] == ["b.wav", "a.flac"]
    assert [path.name for path in find_audio([folder / "two" / "notes.txt", folder / "two", folder / "two"])] == [
        "notes.txt",
        "a.flac",
    ]


def test_mistakes(folder: Path, tmp_path: Path, echo: Callable[..., System]) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(tts_infer.FileError, match=r"no such file: nowhere"):
        tts_infer.evaluate(["nowhere"], [echo()])
    with pytest.raises(tts_infer.FileError, match=r"holds no audio; wanted: .wav, .flac, .ogg, .mp3"):
        tts_infer.evaluate([tmp_path / "empty"], [echo()])
    with pytest.raises(tts_infer.InputError, match="limit is 0; it must be a whole number of at least 1"):
        tts_infer.evaluate([folder], [echo()], limit=0)
    for files, copiers in (([], [echo()]), ([folder], [])):
        with pytest.raises(tts_infer.InputError, match="give at least one file and one vocoder"):
            tts_infer.evaluate(files, copiers)
    with pytest.raises(tts_infer.InputError, match="measure 'mos' is unknown; allowed: dnsmos_ovrl, dnsmos_sig"):
        tts_infer.evaluate([folder], [echo()], measures=["stoi", "mos"])
    with pytest.raises(tts_infer.InputError, match="pitch tracker is 'swipe'; allowed: crepe, crepe-tiny, pyin, none"):
        tts_infer.evaluate([folder], [echo()], pitch_tracker="swipe")  # type: ignore[arg-type]


def test_one_name_needs_no_list(folder: Path) -> None:
    assert find_audio(folder) == find_audio(str(folder)) == find_audio([folder])
    assert find_audio(folder / "two" / "notes.txt") == [folder / "two" / "notes.txt"]


def test_what_the_system_does_not_say(folder: Path) -> None:
    with pytest.raises(tts_infer.FileError, match="cannot read x.*: File name too long"):
        find_audio("x" * 300)
    with pytest.raises(tts_infer.FileError, match="no such file"):
        find_audio("a\0b")
