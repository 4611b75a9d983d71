"""What an evaluation found: the measures of every copy, their means, and the differences between systems."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from tts_infer.deprecated import renamed
from tts_infer.evaluation.intervals import CONFIDENCE, Interval, mean_interval
from tts_infer.evaluation.measures import MEASURES, Measure
from tts_infer.evaluation.systems import MAX_SECONDS

Values = dict[str, float | None]  # measure -> value; None: not defined, or its package is missing
Means = dict[str, dict[str, Interval | None]]  # system -> measure -> mean


@dataclass(frozen=True)
class Row:
    """The measures of one copy of one file."""

    file: str
    system: str
    seconds: float
    rtfx: float  # seconds of audio per second of decoding
    measures: Values

    candidate = renamed("candidate", "system")
    xrt = renamed("xrt", "rtfx")


@dataclass(frozen=True)
class Evaluation:
    """The measures of every copy, and their means.

    Means are over the files that every system could copy. Differences are to the first system, file by file.
    """

    systems: tuple[str, ...]
    rows: tuple[Row, ...]
    means: Means
    differences: Means
    failed: dict[str, str]  # file -> reason
    missing: dict[str, str]  # measure, system or interval -> reason
    shortened: tuple[str, ...]  # files of which only the first 30 s were measured
    pitch_tracker: str
    measures: tuple[Measure, ...] = MEASURES  # those that were asked for
    measured_by: dict[str, str] = field(default_factory=dict)  # measure -> package and version

    candidates = renamed("candidates", "systems")
    xrt = renamed("xrt", "rtfx")

    @property
    def shown(self) -> tuple[Measure, ...]:
        """The measures that have a value for at least one copy."""
        return tuple(one for one in self.measures if any(means[one.key] for means in self.means.values()))

    @property
    def left_out(self) -> dict[str, str]:
        """What is not shown, and why. What has one reason is named together."""
        reasons: dict[str, list[str]] = {}
        for what, reason in self.missing.items():
            reasons.setdefault(reason, []).append(what)
        undefined = [one.key for one in self.measures if one not in self.shown and one.key not in self.missing]
        if undefined and self.rows:
            reasons["it is defined for none of these copies"] = undefined
        return {", ".join(names): reason for reason, names in reasons.items()}

    def of(self, system: str) -> list[Row]:
        """The rows of one system, in the order of files."""
        return [row for row in self.rows if row.system == system]

    def rtfx(self, system: str) -> float | None:
        """Seconds of audio per second of decoding, over all files."""
        rows = self.of(system)
        spent = sum(row.seconds / row.rtfx for row in rows if row.rtfx)
        return sum(row.seconds for row in rows) / spent if spent else None

    def as_dict(self) -> dict[str, Any]:
        """The evaluation as a dictionary that strict JSON can hold."""
        document = asdict(replace(self, measures=()))
        for row in document["rows"]:
            row["candidate"] = row["system"]  # the old key, for one release
        return document | {
            "candidates": self.systems,  # the old key, for one release
            "confidence": CONFIDENCE,
            "interval": "Student's t, within the range of the measure",
            "max_seconds": MAX_SECONDS,
            "measures": {one.key: one.as_dict() for one in self.measures},
            "rtfx": {system: self.rtfx(system) for system in self.systems},
        }


def means_and_differences(
    systems: Sequence[str], rows: Sequence[Row], measures: Sequence[Measure] = MEASURES
) -> tuple[Means, Means]:
    """The mean of every measure for each system, and the mean of its difference to the first system."""
    values = {system: [row.measures for row in rows if row.system == system] for system in systems}
    first, *others = systems
    means: Means = {
        system: {one.key: mean_interval([value[one.key] for value in values[system]], one.range) for one in measures}
        for system in systems
    }
    differences: Means = {
        system: {one.key: _difference(one, values[system], values[first]) for one in measures} for system in others
    }
    return means, differences


def _difference(one: Measure, values: Sequence[Values], others: Sequence[Values]) -> Interval | None:
    """The mean of the differences, file by file."""
    pairs = [(a[one.key], b[one.key]) for a, b in zip(values, others, strict=True)]
    return mean_interval([None if a is None or b is None else a - b for a, b in pairs], one.difference_range)
