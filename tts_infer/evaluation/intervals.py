"""Means with confidence intervals."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from tts_infer.errors import MissingPackageError, require_package

CONFIDENCE = 0.95
UNBOUNDED = (-math.inf, math.inf)


@dataclass(frozen=True)
class Interval:
    """The mean of `count` values, and its 95 % confidence interval.

    `low` and `high` are None if there is only one value, or if scipy is not installed.
    """

    mean: float
    low: float | None
    high: float | None
    count: int

    @property
    def half_width(self) -> float | None:
        """The distance from the mean to the farther end."""
        return None if self.low is None or self.high is None else max(self.mean - self.low, self.high - self.mean)


def mean_interval(values: Sequence[float | None], range: tuple[float, float] = UNBOUNDED) -> Interval | None:
    """Compute the mean and its 95 % confidence interval: mean +- t s / sqrt(n), within the range.

    s is the standard deviation of the sample, t is Student's t with n - 1 degrees of freedom. The true mean is in the
    range of the values, so the interval loses nothing where the range cuts it off. A bootstrap stays in the range, too,
    but of few files it is much too narrow: of two, it covers the mean half of the time at most.

    Args:
        values: those that are None do not count.
        range: what a value can be.

    Returns:
        None if there is no value.
    """
    known = [value for value in values if value is not None]
    count = len(known)
    if not count:
        return None
    mean = statistics.fmean(known)
    if count == 1 or missing_interval() is not None:
        return Interval(mean, None, None, count)
    half = student_t(count - 1) * statistics.stdev(known, mean) / math.sqrt(count)
    # the mean is always inside, even if rounding or a package has left the range
    return Interval(mean, min(mean, max(mean - half, range[0])), max(mean, min(mean + half, range[1])), count)


def student_t(freedom: int, confidence: float = CONFIDENCE) -> float:
    """The t for which P(|T| < t) is the confidence, for T with so many degrees of freedom."""
    return float(require_package("scipy.stats", "evaluate").t.ppf((1 + confidence) / 2, freedom))


def missing_interval() -> str | None:
    """Why no interval can be computed on this machine; None if it can."""
    try:
        require_package("scipy.stats", "evaluate")
    except MissingPackageError as error:
        return str(error)
    return None
