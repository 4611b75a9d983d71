"""How a comparison shares the machine on the page: in turns, piece by piece, until it is told to stop."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import tts_infer
from tests.test_listen import tiled
from ui.comparison import reports_of
from ui.contest import RUNS, Choices, compared
from ui.session import load
from ui.work import Desk, Job, Stopped, desk

VOCODER = tts_infer.DEFAULT_VOCODER
TWO = Choices([VOCODER], ["auto"], ["fft"], ["float32"], ["0", "2"])
VISITOR: Any = SimpleNamespace(session_hash="visitor")


def after_pieces(count: int, then: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Do something in the piece of that number; returns the numbers of the pieces that were decoded."""
    pieces: list[int] = []
    push = tts_infer.StreamingDecoder.push

    def counted(stream: Any, *given: Any) -> torch.Tensor:
        made = push(stream, *given)
        pieces.append(len(pieces) + 1)
        if len(pieces) == count:
            then()
        return made

    monkeypatch.setattr(tts_infer.StreamingDecoder, "push", counted)
    return pieces


def test_it_stops_after_the_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within a run, of which there are eight. The person is told that it was cancelled, and not what was running."""
    pieces = after_pieces(3, lambda: desk.stop("visitor"), monkeypatch)
    with desk.job(VISITOR) as job, pytest.raises(Stopped, match=r"^This was cancelled\.$"):
        compared(str(tiled(tmp_path / "long.wav", 40)), TWO.systems(job), job)
    assert pieces == [1, 2, 3]


def test_it_stops_before_the_next_vocoder_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []

    def load_and_stop(name: str, device: str, placement: str, istft: Any, dtype: Any) -> tts_infer.Vocoder:
        loaded.append(istft)
        desk.stop("visitor")
        return load(name, device, placement, istft, dtype)

    monkeypatch.setattr("ui.contest.load", load_and_stop)
    choices = Choices([VOCODER], ["auto"], ["fft", "matmul"], ["float32"], ["0"])
    with desk.job(VISITOR) as job, pytest.raises(Stopped, match=r"^This was cancelled\.$"):
        choices.systems(job)
    assert loaded == ["fft"]


def test_the_page_is_told_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[dict[str, Any]] = []
    after_pieces(2, lambda: said.extend(desk.seen_by("visitor")), monkeypatch)
    with desk.job(VISITOR) as job:
        found = compared(str(tiled(tmp_path / "long.wav", 40)), TWO.systems(job), job)
        runs = 2 * (1 + RUNS)
        assert job.done == job.total == runs * 30
    assert (said[0]["what"], said[0]["total"]) == ("comparing", runs * 30) and 0 < said[0]["done"] < 30
    reports = reports_of(TWO.combinations(), found)
    assert [report["seconds"] for report in reports] == [pytest.approx(30, abs=0.02)] * 2
    assert [note["code"] for note in reports[0]["notes"]] == ["first-seconds"]


def test_every_piece_is_computed_in_a_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that other jobs have theirs in between."""
    busy: list[Job | None] = []
    push, mel = tts_infer.StreamingDecoder.push, tts_infer.Vocoder.mel

    def noted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            busy.append(desk._busy)
            return function(*given, **named)

        return call

    monkeypatch.setattr(tts_infer.StreamingDecoder, "push", noted(push))
    monkeypatch.setattr(tts_infer.Vocoder, "mel", noted(mel))
    turns: list[Job] = []
    turn = Desk.turn

    def counted(self: Desk, job: Job) -> Any:
        turns.append(job)
        return turn(self, job)

    monkeypatch.setattr(Desk, "turn", counted)
    with desk.job(VISITOR) as job:
        compared(str(tiled(tmp_path / "long.wav", 10)), TWO.systems(job), job)
    assert busy and set(map(id, busy)) == {id(job)}
    assert len(turns) > 2 * (1 + RUNS) * 2


@pytest.mark.parametrize("seconds", [4, 10])  # at once, and in pieces
def test_the_mel_of_an_output_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: int) -> None:
    made: list[str] = []
    for name in ("mel", "mel_stream"):
        function = getattr(tts_infer.Vocoder, name)

        def counted(*given: Any, name: str = name, function: Callable[..., Any] = function, **named: Any) -> Any:
            made.append(name)
            return function(*given, **named)

        monkeypatch.setattr(tts_infer.Vocoder, name, counted)
    with desk.job(VISITOR) as job:
        compared(str(tiled(tmp_path / "clip.wav", seconds)), TWO.systems(job), job)
    of_inputs = 0 if seconds == 4 else 2 * (1 + RUNS)  # in pieces, each run reads its own
    assert (made.count("mel"), made.count("mel_stream")) == (2, of_inputs)


def test_in_pieces_the_audio_is_that_of_one_decode(tmp_path: Path) -> None:
    path = tiled(tmp_path / "long.wav", 10)
    with desk.job(VISITOR) as job:
        found = compared(str(path), TWO.systems(job), job)
    for sound, passes in zip(found.sounds, (0, 2), strict=True):
        model = tts_infer.load_vocoder(istft="fft", refine=passes)
        expected = model(tts_infer.read_audio(path, model.sample_rate).samples)[0].numpy()
        assert np.abs(sound.audio - expected).max() < 1e-4 * np.abs(expected).max()  # float32 sums


def test_numbers_of_passes_that_the_page_does_not_offer() -> None:
    with desk.job(VISITOR) as job, pytest.raises(tts_infer.InputError, match="refine is '3'; allowed: auto, 0, 1"):
        Choices([VOCODER], ["auto"], ["fft"], ["float32"], ["0", "3"]).systems(job)
