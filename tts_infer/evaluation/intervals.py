"""Means with confidence intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """The mean of `count` values, and where the mean of all such values lies with 95 % confidence.

    `low` and `high` are None for one value, of which nothing can be said.
    """

    mean: float
    low: float | None
    high: float | None
    count: int

    @property
    def half_width(self) -> float | None:
        return None if self.high is None else self.high - self.mean


def mean_interval(values: Sequence[float | None]) -> Interval | None:
    """Mean and 95 % confidence interval by Student's t: mean -+ t s / sqrt(n), s with n - 1 degrees of freedom.

    Args:
        values: those that are None are left out.

    Returns:
        None where there is no value.
    """
    known = [value for value in values if value is not None]
    count = len(known)
    if not count:
        return None
    mean = math.fsum(known) / count
    if count == 1:
        return Interval(mean, None, None, 1)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in known) / (count - 1))
    half = student_t(count - 1) * deviation / math.sqrt(count)
    return Interval(mean, mean - half, mean + half, count)


def student_t(freedom: int, confidence: float = CONFIDENCE) -> float:
    """The t within whose -+ a variable of that many degrees of freedom lies with that confidence, by bisection."""
    low, high = 0.0, 1e4
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (low, middle) if _within(middle, freedom) > confidence else (middle, high)
    return high


def _within(t: float, freedom: int) -> float:
    """P(|T| < t), in closed form. Source: Abramowitz and Stegun, 26.7.3 and 26.7.4."""
    angle = math.atan(t / math.sqrt(freedom))
    cosine, sine = math.cos(angle), math.sin(angle)
    odd = freedom % 2
    term = cosine if odd else 1.0
    total = term if freedom > 1 else 0.0
    for k in range(2 + odd, freedom - 1, 2):
        term *= cosine * cosine * (k - 1) / k
        total += term
    return 2 / math.pi * (angle + sine * total) if odd else sine * total
