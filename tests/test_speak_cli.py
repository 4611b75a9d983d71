"""`python -m tts_infer speak`, and the endpoint of the page."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Generator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import tts_infer
from tts_infer.cli import main
from ui.speak import LONGEST, speak

pytest.importorskip("hibari")
HELLO = "Hello there. How are you?"


def test_a_text_becomes_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.wav"
    assert main(["speak", HELLO, "-o", str(out), "--seed", "1", "--speed", "1.2", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    expected = tts_infer.to_int16(tts_infer.speak(HELLO, seed=1, speed=1.2).audio[0])[0]
    np.testing.assert_array_equal(soundfile.read(out, dtype="int16")[0], expected)
    assert (report["voice"], report["vocoder"], report["clipped_samples"]) == ("hibari/heart", None, 0)
    assert report["seconds"] == len(expected) / 24000 and 0 < report["first_audio_ms"] < report["total_ms"]
    assert main(["speak", HELLO, "-o", str(out)]) == 0
    assert "s of speech in" in capsys.readouterr().out


@pytest.mark.parametrize("source", ["stdin", "file"])
def test_a_stream_is_a_wav_of_the_same_samples(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    (tmp_path / "hello.txt").write_text(f"\ufeff{HELLO}\n", encoding="utf-8")
    monkeypatch.setattr(sys, "stdin", io.StringIO(HELLO))
    assert main(["speak", "-" if source == "stdin" else str(tmp_path / "hello.txt"), "--stream", "--seed", "1"]) == 0
    made = capfdbinary.readouterr().out
    expected = tts_infer.to_int16(tts_infer.speak(HELLO, seed=1).audio[0])[0]
    assert made[:4] == b"RIFF" and b"hibari/heart (synthetic voice)" in made[:400]
    assert made.endswith(expected.astype("<i2").tobytes())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["Hi.", "-o", "x.wav", "--raw"], "--raw goes with --stream"),
        (["Hi.", "--stream", "--json"], "--json goes with -o OUT"),
        (["Hi."], "give either -o OUT, or --stream"),
        (["", "-o", "x.wav"], "the text is empty"),
        (["😀", "-o", "x.wav"], "there is nothing to say in"),
        (["😀", "-o", "x.wav", "--vocoder", "vocos-mini-24khz"], "there is nothing to say in"),
        (["Hi.", "-o", "x.wav", "--voice", "emma"], "'emma' must be downloaded first (7.9 MB, Apache-2.0)"),
        (["Hi.", "-o", "x.wav", "--speed", "nan"], "speed is nan; allowed"),
        (["stroy.txt", "-o", "x.wav"], "no such text file: stroy.txt; give a file, or these words by standard input"),
        (["latin.txt", "-o", "x.wav"], "latin.txt is no text in UTF-8"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_no_file(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HIBARI_HOME", str(tmp_path))
    (tmp_path / "latin.txt").write_bytes("caf\xe9".encode("latin-1"))
    assert main(["speak", *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["latin.txt"]


@pytest.mark.filterwarnings("default::tts_infer.TextLeftOutWarning")
def test_what_is_left_out_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["speak", "Hello 你好.", "-o", str(tmp_path / "x.wav")]) == 0
    assert capsys.readouterr().err == (
        "tts-infer: warning: left out of the speech, because the voice cannot read it: 你好\n"
    )


def test_the_endpoint_gives_pieces_and_then_the_whole() -> None:
    *pieces, last = speak(HELLO, "heart")
    assert [piece.index for piece, *_ in (*pieces, last)] == [0, 1, 2]  # two sentences, and the end
    assert [piece.last for piece, *_ in (*pieces, last)] == [False, False, True]
    assert soundfile.info(last[0].file.path).frames == 0
    path, report = last[1], last[2]
    assert path is not None and report is not None
    joined = np.concatenate([soundfile.read(piece.file.path, dtype="int16")[0] for piece, *_ in (*pieces, last)])
    np.testing.assert_array_equal(soundfile.read(path, dtype="int16")[0], joined)
    for one in (path, pieces[0][0].file.path):
        with soundfile.SoundFile(one) as file:
            assert "synthetic" in file.copy_metadata()["artist"]
    assert [row["stage"] for row in report["stages"]] == ["phonemes", "acoustic", "source", "istft"]


def test_a_piece_is_given_before_the_next_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    step = tts_infer.SpeechStream.__next__

    def counted(self: tts_infer.SpeechStream) -> torch.Tensor:
        made.append(self.samples)
        return step(self)

    monkeypatch.setattr(tts_infer.SpeechStream, "__next__", counted)
    spoken = speak(HELLO, "heart")
    next(spoken)
    assert made == [0]
    assert isinstance(spoken, Generator)
    spoken.close()


def test_the_page_bounds_a_text() -> None:
    with pytest.raises(Exception, match=f"{LONGEST + 1} characters; at most {LONGEST}"):
        next(speak("a" * (LONGEST + 1), "heart"))
