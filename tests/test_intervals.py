"""Means and their intervals, against tables of Student's t."""

from __future__ import annotations

import sys

import pytest

from tts_infer.evaluation.intervals import Interval, mean_interval, missing_interval, student_t


@pytest.mark.parametrize(
    ("freedom", "expected"),
    [(1, 12.7062), (2, 4.3027), (3, 3.1824), (4, 2.7764), (5, 2.5706), (30, 2.0423), (79, 1.9905), (1000, 1.9623)],
)
def test_tabulated_values(freedom: int, expected: float) -> None:
    assert student_t(freedom) == pytest.approx(expected, abs=1e-4)


def test_a_mean() -> None:
    found = mean_interval([1.0, None, 2.0, 3.0])
    assert found is not None and (found.mean, found.count) == (2.0, 3)
    assert found.half_width == pytest.approx(4.3027 * 1.0 / 3**0.5, abs=1e-4)
    assert found.low == pytest.approx(2.0 - 2.4841, abs=1e-4) and found.high == pytest.approx(2.0 + 2.4841, abs=1e-4)


def test_without_scipy_there_is_a_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.stats", None)
    assert mean_interval([1.0, 2.0, 3.0]) == Interval(2.0, None, None, 3)
    assert "needs scipy" in str(missing_interval()) and "pip install 'tts-infer[evaluate]'" in str(missing_interval())


def test_an_interval_stays_in_the_range_of_the_measure() -> None:
    """It keeps its other end, and always holds the mean."""
    free, cut = mean_interval([4.0, 4.6]), mean_interval([4.0, 4.6], (1.0, 4.65))
    assert free is not None and cut is not None and free.low is not None and free.low < 1.0
    assert (cut.mean, cut.low, cut.high) == (free.mean, 1.0, 4.65)
    wide = mean_interval([4.0, 4.2, 4.6], (1.0, 4.65))
    assert wide is not None and (wide.low, wide.high) == (pytest.approx(3.5077, abs=1e-4), 4.65)
    assert wide.half_width == pytest.approx(4.2667 - 3.5077, abs=1e-4)
    beyond = mean_interval([1.0000001, 1.0000001], (0.0, 1.0))
    assert beyond is not None and beyond.low == beyond.mean == beyond.high


def test_zero_is_a_value() -> None:
    found = mean_interval([0.0, 2.0])
    assert found is not None and (found.mean, found.count) == (1.0, 2)


def test_one_value_and_none() -> None:
    one = mean_interval([5.0])
    assert one is not None and one.mean == 5.0 and one.low is None and one.high is None and one.half_width is None
    assert mean_interval([]) is None and mean_interval([None]) is None


def test_equal_values_have_an_interval_of_no_width() -> None:
    found = mean_interval([0.1] * 10)
    assert found is not None and found.half_width == pytest.approx(0.0, abs=1e-12)
