"""Listening tests: the statistics against tables, the anchor against its specification, and the rows as CSV."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import tts_infer
from tts_infer.evaluation.intervals import mean_interval
from tts_infer.evaluation.listening import (
    ANCHOR,
    REFERENCE,
    AbxTrial,
    MushraScore,
    Side,
    abx_result,
    guess_probability,
    level_matched,
    listening_csv,
    listening_row,
    low_passed,
    mushra_result,
    read_listening_csv,
)


@pytest.mark.parametrize(
    ("correct", "trials", "expected"),
    [
        (10, 10, 1 / 1024),
        (9, 10, 11 / 1024),
        (12, 16, 0.0384064),
        (0, 7, 1.0),
        (5, 10, 0.6230469),
        (24, 30, 0.000715453),
    ],
)
def test_tabulated_probabilities(correct: int, trials: int, expected: float) -> None:
    assert guess_probability(correct, trials) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("trials", [1, 4, 9])
def test_probabilities_are_those_of_all_ways_to_guess(trials: int) -> None:
    ways = [sum(way) for way in itertools.product((0, 1), repeat=trials)]
    for correct in range(trials + 1):
        assert guess_probability(correct, trials) == sum(way >= correct for way in ways) / len(ways)


def trials(sides: str, answers: str) -> list[AbxTrial]:
    pairs: Any = enumerate(zip(sides, answers, strict=True))
    return [AbxTrial("clip", i + 1, "refine 0", "refine 8", x, answer) for i, (x, answer) in pairs]


def test_abx_counts_and_survives_csv() -> None:
    rows = trials("abbabab", "abbaaba")
    found = abx_result(rows)
    assert (found.trials, found.correct) == (7, 4)
    assert found.p_value == 64 / 128
    text = listening_csv(rows)
    assert text.splitlines()[:2] == ["clip,trial,a,b,x,answer", "clip,1,refine 0,refine 8,a,a"]
    assert read_listening_csv(text, AbxTrial) == rows
    assert abx_result(read_listening_csv(text, AbxTrial)) == found


def test_mushra_means_and_intervals_survive_csv() -> None:
    given: dict[str, list[float]] = {REFERENCE: [100, 95, 92.5], ANCHOR: [10, 20, 30], 'a "name", odd': [80, 70, 60]}
    rows = [MushraScore("clip", i + 1, system, given[system][i]) for i in range(3) for system in given]
    found = mushra_result(rows)
    assert found.reliable
    assert list(found.scores) == list(given)
    assert found.scores == {system: mean_interval(scores) for system, scores in given.items()}
    assert found.scores[ANCHOR].low == pytest.approx(20 - 4.30265 * 10 / 3**0.5, abs=1e-3)  # Student's t, 2 degrees
    assert mushra_result(read_listening_csv(listening_csv(rows), MushraScore)) == found


def test_who_does_not_find_the_reference_is_not_reliable() -> None:
    scores = [100.0] * 17 + [80.0] * 3
    assert mushra_result([MushraScore("c", i, REFERENCE, score) for i, score in enumerate(scores)]).reliable
    assert not mushra_result([MushraScore("c", i, REFERENCE, score) for i, score in enumerate(scores[1:])]).reliable
    assert not mushra_result([MushraScore("c", 1, "refine 8", 100.0)]).reliable


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"x": "c"}, AbxTrial),
        ({"answer": ""}, AbxTrial),
        ({"trial": "first"}, AbxTrial),
        ({"a": None, "b": None, "x": None}, AbxTrial),
        ({"score": 101}, MushraScore),
        ({"score": "nan"}, MushraScore),
        ({"score": None}, MushraScore),
    ],
)
def test_wrong_answers_are_refused(change: dict[str, Any], kind: Any) -> None:
    side: Side = "a"
    given = {"clip": "c", "trial": 1, "a": "p", "b": "q", "x": side, "answer": side, "system": "p", "score": 50}
    listening_row(given, kind)
    with pytest.raises(tts_infer.InputError, match="listening test is wrong") as caught:
        listening_row(given | change, kind)
    assert len(str(caught.value)) < 300
    with pytest.raises(tts_infer.InputError, match="is wrong at 'clip'"):
        listening_row({}, kind)


def test_no_answers_are_refused() -> None:
    for compute in (abx_result, mushra_result, listening_csv):
        with pytest.raises(tts_infer.InputError, match="no answers"):
            compute([])


@pytest.mark.parametrize("rate", [16000, 24000, 44100])
def test_the_anchor_is_as_the_recommendation_asks(rate: int) -> None:
    impulse = np.zeros(8192, np.float32)
    impulse[4096] = 1
    gains_db = 20 * np.log10(np.abs(np.fft.rfft(low_passed(impulse, rate))) + 1e-9)
    hz = np.fft.rfftfreq(8192, 1 / rate)
    assert np.abs(gains_db[hz <= 3500]).max() < 0.1
    assert gains_db[hz >= 4000].max() < -25
    assert gains_db[hz >= 4500].max() < -50
    assert int(np.abs(low_passed(impulse, rate)).argmax()) == 4096  # no delay
    with pytest.raises(tts_infer.InputError, match="needs a sample rate of 8000"):
        low_passed(impulse, 7999)


def test_levels_and_lengths_are_those_of_the_first() -> None:
    sound = np.sin(np.arange(24000) * 0.05).astype(np.float32)
    made = level_matched([0.5 * sound, 0.01 * sound[:23000], np.zeros(30000, np.float32)])
    assert {len(one) for one in made} == {23000}
    np.testing.assert_allclose(made[1], made[0], atol=1e-6)
    np.testing.assert_array_equal(made[0], 0.5 * sound[:23000])
    assert not made[2].any()


def test_what_would_clip_makes_all_softer() -> None:
    tone, click = np.full(1000, 0.9, np.float32), np.zeros(1000, np.float32)
    click[::100] = 0.5
    one, other = level_matched([tone, click])
    assert np.abs(other).max() == pytest.approx(1.0)
    assert np.sqrt(np.mean(one**2)) == pytest.approx(np.sqrt(np.mean(other**2)), rel=1e-5)
